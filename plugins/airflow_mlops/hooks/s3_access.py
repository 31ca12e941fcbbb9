"""What an Airflow connection of type aws says about reaching S3, through the amazon provider."""

from __future__ import annotations

from airflow_mlops.core.errors import DeclarationError


def s3_access(conn_id: str) -> dict[str, str]:
    """Return ``key``, ``secret``, ``token``, ``region`` and ``endpoint`` of a connection, as far as it has them.

    The provider resolves roles and profiles as it does for every operator of its own.

    :param conn_id: connection of type ``aws``
    :raises DeclarationError: if the amazon provider is not installed
    """
    try:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    except ImportError as error:
        raise DeclarationError(
            f"connection {conn_id!r} is of S3, and the amazon provider is not installed: install airflow-mlops[amazon]"
        ) from error
    hook = S3Hook(aws_conn_id=conn_id)
    credentials = hook.get_credentials(region_name=hook.region_name)
    found = {
        "key": credentials.access_key, "secret": credentials.secret_key, "token": credentials.token,
        "region": hook.region_name, "endpoint": hook.conn_config.get_service_endpoint_url("s3"),
    }  # fmt: skip
    return {name: str(value) for name, value in found.items() if value}
