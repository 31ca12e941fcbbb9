"""The SageMaker endpoint of a loop and boto3's clients, from Airflow connections of type aws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import ValidationError

from airflow_mlops.core.declaration.validation_errors import declaration_error
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.rollout.targets.sagemaker.endpoint_settings import ServingPlace
from airflow_mlops.core.rollout.targets.sagemaker.sagemaker_target import AwsClients, SageMakerTarget

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_mlops.core.workspace import Workspace

CONNECTION = "mlops_sagemaker"
"""Connection of the endpoints, where a model has none of its own."""


def sagemaker_target(workspace: Workspace) -> SageMakerTarget:
    """Return the endpoint of a loop, by connection ``mlops_sagemaker_<model>``, or ``mlops_sagemaker`` without it.

    :raises DeclarationError: if there is neither, it says too little, or the amazon provider is missing
    """
    own = f"{CONNECTION}_{workspace.loop.model}"
    for conn_id in (own, CONNECTION):
        try:
            connection = BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            continue
        return SageMakerTarget(workspace, serving_place(connection), aws_clients(conn_id, key="rollout.target"))
    raise DeclarationError(
        f"is sagemaker, and there is no connection {own!r} or {CONNECTION!r} of type aws", key="rollout.target"
    )


def aws_clients(conn_id: str, *, key: str) -> AwsClients:
    """Return how to open boto3's clients with a connection of type aws.

    :param key: of the declaration that asks for AWS, for the error
    :raises DeclarationError: if the amazon provider is missing
    """
    try:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook
    except ImportError as error:
        raise DeclarationError(
            "the amazon provider is not installed: install airflow-mlops[amazon]", key=key
        ) from error
    return AwsClients(
        sagemaker=lambda: SageMakerHook(aws_conn_id=conn_id).get_conn(),
        s3=lambda: S3Hook(aws_conn_id=conn_id).get_conn(),
        cloudwatch=lambda: AwsBaseHook(aws_conn_id=conn_id, client_type="cloudwatch").get_conn(),
    )


def serving_place(connection: Connection) -> ServingPlace:
    """Return the serving settings of a connection.

    :raises DeclarationError: if it is none of type aws, or says too little or something unknown
    """
    name = f"connection {connection.conn_id!r}"
    if connection.conn_type != "aws":
        raise DeclarationError(f"{name} is of type {connection.conn_type!r}; it must be aws", key="rollout.target")
    settings: Any = connection.extra_dejson.get("serving")
    if not isinstance(settings, dict):
        raise DeclarationError(
            f'{name} does not say how to serve; its extra must hold "serving" with image, role and storage',
            key="rollout.target",
        )
    try:
        return ServingPlace(**settings)
    except ValidationError as error:
        wrong = declaration_error(error, ServingPlace)
        raise DeclarationError(f"{name}: serving.{wrong.key} {wrong.message}", key="rollout.target") from error
