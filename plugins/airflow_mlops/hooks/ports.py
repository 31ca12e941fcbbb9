"""Build the rollout target and the step runner that a loop declares, from Airflow connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops.core.declaration.train import OnSageMaker
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.lineage.dataset_names import champion_dataset, http_dataset
from airflow_mlops.core.open_workspace import default_target

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_mlops.core.lineage.task_lineage import DatasetName
    from airflow_mlops.core.ports.batch_predictor import BatchPredictor
    from airflow_mlops.core.ports.rollout_target import RolloutTarget
    from airflow_mlops.core.ports.step_runner import StepRunner
    from airflow_mlops.core.workspace import Workspace

GATEWAY = "mlops_gateway"
"""Connection of the gateway: host, port, and the control token as password.

``replicas`` in its extra is a list of addresses, or one address whose name has an address for each replica.
"""


def rollout_target(workspace: Workspace) -> RolloutTarget:
    """Return the declared target of a loop.

    :raises DeclarationError: if the connection that it needs is missing or incomplete
    """
    if workspace.loop.rollout.target == "batch":
        return default_target(workspace)
    if workspace.loop.rollout.target == "sagemaker":
        from airflow_mlops.hooks.sagemaker import sagemaker_target

        return sagemaker_target(workspace)
    from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
    from airflow_mlops.core.rollout.targets.gateway.replica_addresses import resolve_replicas

    connection = gateway_connection(workspace.loop.model)
    by_name = isinstance(connection.extra_dejson.get("replicas"), str)
    resolve = resolve_replicas if by_name else None
    return GatewayTarget(workspace, gateway_urls(connection), connection.password or "", resolve=resolve)


def endpoint_dataset(workspace: Workspace) -> DatasetName:
    """Return the name of what serves the model, for records of lineage: the alias champion where the target is batch.

    :raises DeclarationError: if the connection that the target needs is missing or incomplete
    """
    model, target = workspace.loop.model, workspace.loop.rollout.target
    if target == "batch":
        return champion_dataset(workspace)
    if target == "sagemaker":
        from airflow_mlops.hooks.sagemaker import sagemaker_dataset

        return sagemaker_dataset(model)
    return http_dataset(gateway_urls(gateway_connection(model))[0], f"v2/models/{model}")


def step_runner(
    workspace: Workspace, *, poll_seconds: float = 15.0, wait: bool = True, first: int | None = None
) -> StepRunner:
    """Return the step runner that fits the candidates of a loop.

    :param poll_seconds: longest pause between two requests about a remote job
    :param wait: whether to wait for a remote job, or to raise FitUnderWayError while it has not ended
    :param first: ``first`` of the FitUnderWayError after which a task goes on
    """
    train = workspace.loop.train
    if isinstance(train.runs_on, OnSageMaker):
        from airflow_mlops.hooks.sagemaker_training import SageMakerStep

        return SageMakerStep(train.runs_on, train.limits, poll_seconds=poll_seconds, wait=wait, first=first)
    from airflow_mlops.core.training.fit_candidate import runner_of

    return runner_of(workspace)


def batch_predictor(
    workspace: Workspace, *, poll_seconds: float = 15.0, wait: bool = True, waited: Sequence[str] = ()
) -> BatchPredictor:
    """Return the predictor of the partitions of a loop: this process, or the declared jobs.

    :param poll_seconds: longest pause between two requests about a remote job
    :param wait: whether to wait for remote jobs, or to raise TransformUnderWayError while one has not ended
    :param waited: ``jobs`` of the TransformUnderWayError after which a task goes on
    """
    if workspace.loop.score is None:
        from airflow_mlops.core.rollout.worker_predictor import WorkerPredictor

        return WorkerPredictor(workspace)
    from airflow_mlops.hooks.sagemaker_transform import SageMakerTransform

    return SageMakerTransform(
        workspace, workspace.loop.score.runs_on, poll_seconds=poll_seconds, wait=wait, waited=waited
    )


def gateway_connection(model: str) -> Connection:
    """Return the connection of a model's gateway: ``mlops_gateway_<model>`` if there is one, else ``mlops_gateway``.

    :raises DeclarationError: if there is neither, or it has no token
    """
    own = f"{GATEWAY}_{model}"
    for conn_id in (own, GATEWAY):
        try:
            connection: Connection = BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            continue
        if not connection.password:
            raise DeclarationError(
                f"connection {conn_id!r} has no password; it must be the control token of the gateway"
            )
        return connection
    raise DeclarationError(
        f"rollout.target is gateway, and there is no connection {own!r} or {GATEWAY!r}; add one of type http with the "
        "host and port of the gateway, and its control token as password"
    )


def gateway_urls(connection: Connection) -> tuple[str, ...]:
    """Return the address of each replica of a gateway, or the one whose name has all of them.

    :raises DeclarationError: if the connection has none
    """
    replicas: Any = connection.extra_dejson.get("replicas")
    if isinstance(replicas, str) and replicas.startswith("http://"):
        return (replicas.rstrip("/"),)
    if replicas is not None:
        if (
            not isinstance(replicas, list)
            or not replicas
            or not all(isinstance(url, str) and "://" in url for url in replicas)
        ):
            raise DeclarationError(
                f'connection {connection.conn_id!r}: "replicas" in its extra is {replicas!r}; it must be a list of '
                'addresses, as ["http://gateway-1:8080"], or an http address whose name has all of them, as '
                '"http://gateway-control:8080"'
            )
        return tuple(url.rstrip("/") for url in replicas)
    host = connection.host or ""
    if not host:
        raise DeclarationError(f"connection {connection.conn_id!r} has no host; set the host of the gateway")
    base = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    return (base if connection.port is None else f"{base}:{connection.port}",)
