"""The SageMaker endpoint of a loop and boto3's clients, by Airflow connections of type aws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import ValidationError

from airflow_mlops.core.declaration.validation_errors import declaration_error
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.lineage.task_lineage import DatasetName
from airflow_mlops.core.rollout.targets.sagemaker.endpoint_settings import EndpointSettings
from airflow_mlops.core.rollout.targets.sagemaker.model import endpoint_name
from airflow_mlops.core.rollout.targets.sagemaker.sagemaker_target import AwsClients, SageMakerTarget

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_mlops.core.workspace import Workspace

CONNECTION = "mlops_sagemaker"
"""Connection of the endpoints of models without a connection of their own."""


def sagemaker_target(workspace: Workspace) -> SageMakerTarget:
    """Return the endpoint target of a loop, by connection ``mlops_sagemaker_<model>`` or else ``mlops_sagemaker``.

    :raises DeclarationError: if there is neither, its settings are incomplete, or the amazon provider is missing
    """
    connection = sagemaker_connection(workspace.loop.model)
    settings = endpoint_settings(connection)
    return SageMakerTarget(workspace, settings, aws_clients(str(connection.conn_id), key="rollout.target"))


def sagemaker_connection(model: str) -> Connection:
    """Return the connection of a model's endpoint: ``mlops_sagemaker_<model>`` or else ``mlops_sagemaker``.

    :raises DeclarationError: if there is neither
    """
    own = f"{CONNECTION}_{model}"
    for conn_id in (own, CONNECTION):
        try:
            connection: Connection = BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            continue
        return connection
    raise DeclarationError(
        f"is sagemaker, and there is no connection {own!r} or {CONNECTION!r} of type aws", key="rollout.target"
    )


def sagemaker_dataset(model: str) -> DatasetName:
    """Return the name of a model's endpoint for records of lineage: ``sagemaker://region``, or without a region.

    :raises DeclarationError: if there is no connection of the endpoint
    """
    region = sagemaker_connection(model).extra_dejson.get("region_name")
    return DatasetName(f"sagemaker://{region}" if region else "sagemaker", endpoint_name(model))


def aws_clients(conn_id: str, *, key: str) -> AwsClients:
    """Return factories of boto3's clients for a connection of type aws.

    :param key: key of the declaration that needs AWS, for the error
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


def endpoint_settings(connection: Connection) -> EndpointSettings:
    """Return the endpoint settings of a connection.

    :raises DeclarationError: if it has another type than aws, or its settings are missing, incomplete or unknown
    """
    name = f"connection {connection.conn_id!r}"
    if connection.conn_type != "aws":
        raise DeclarationError(f"{name} is of type {connection.conn_type!r}; it must be aws", key="rollout.target")
    settings: Any = connection.extra_dejson.get("serving")
    if not isinstance(settings, dict):
        raise DeclarationError(
            f'{name} has no settings of the endpoint; its extra must have "serving" with image, role and storage',
            key="rollout.target",
        )
    try:
        return EndpointSettings(**settings)
    except ValidationError as error:
        problem = declaration_error(error, EndpointSettings)
        raise DeclarationError(f"{name}: serving.{problem.key} {problem.message}", key="rollout.target") from error
