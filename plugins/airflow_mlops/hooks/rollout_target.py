"""Who serves the model of a loop, with what Airflow knows about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.open_workspace import default_target

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_mlops.core.ports.rollout_target import RolloutTarget
    from airflow_mlops.core.workspace import Workspace

GATEWAY = "mlops_gateway"
"""Connection of the gateway: its host and port, its password the control token, its extra ``replicas`` more hosts."""


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

    connection = gateway_connection(workspace.loop.model)
    return GatewayTarget(workspace, gateway_urls(connection), connection.password or "")


def gateway_connection(model: str) -> Connection:
    """Return the connection of a model's gateway: ``mlops_gateway_<model>`` if there is one, else ``mlops_gateway``.

    :raises DeclarationError: if there is neither, or it holds no token
    """
    own = f"{GATEWAY}_{model}"
    for conn_id in (own, GATEWAY):
        try:
            found: Connection = BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            continue
        if not found.password:
            raise DeclarationError(f"connection {conn_id!r} holds no password; it must be the gateway's control token")
        return found
    raise DeclarationError(
        f"rollout.target is gateway, and there is no connection {own!r} or {GATEWAY!r}; add one of type http with the "
        "host and port of the gateway, and its control token as password"
    )


def gateway_urls(connection: Connection) -> tuple[str, ...]:
    """Return the address of each replica of a gateway.

    :raises DeclarationError: if the connection names none
    """
    said: Any = connection.extra_dejson.get("replicas")
    if said is not None:
        if not isinstance(said, list) or not said or not all(isinstance(each, str) and "://" in each for each in said):
            raise DeclarationError(
                f'connection {connection.conn_id!r}: "replicas" in its extra is {said!r}; it must be a list of '
                'addresses, as ["http://gateway-1:8080"]'
            )
        return tuple(each.rstrip("/") for each in said)
    host = connection.host or ""
    if not host:
        raise DeclarationError(f"connection {connection.conn_id!r} names no host")
    base = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    return (base if connection.port is None else f"{base}:{connection.port}",)
