"""The connections of sources, as Airflow has them: databases, S3 and HTTP services."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ports.connections import HttpAddress

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from pyarrow.fs import FileSystem

EXTRAS = {"postgres": "airflow-mlops[postgres]", "aws": "airflow-mlops[amazon]"}
"""What installs the provider of a type of connection, where this package has an extra for it."""
OPTIONS = frozenset(
    {
        "timeout", "allow_redirects", "proxies", "stream", "verify", "trust_env", "cert", "max_redirects",
        "check_response", "auth_type", "auth_kwargs", "srv_lookup", "headers",
    }
)  # fmt: skip
"""Keys of an HTTP connection's extra that Airflow does not send as headers."""


class AirflowConnections:
    """What sources connect to, out of Airflow; a :class:`Connections` of the core."""

    def sql(self, conn_id: str) -> Callable[[], Any]:
        """Return what opens a connection of the database, by the hook of its provider; SQLite needs none.

        :raises DeclarationError: if there is no such connection, or none to a database
        """
        connection = known_connection(conn_id)
        if connection.conn_type == "sqlite":
            path = Path(connection.host or connection.schema or "").absolute()
            return lambda: sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            hook = connection.get_hook()
        except Exception as error:  # Airflow says it in several ways
            raise without_provider(connection) from error
        if not hasattr(hook, "get_conn") or not hasattr(hook, "get_records"):
            raise DeclarationError(
                f"connection {conn_id!r} is of type {connection.conn_type!r}, which is no database",
                key="data.source.conn_id",
            )
        opening: Callable[[], Any] = hook.get_conn
        return opening

    def filesystem(self, conn_id: str | None) -> FileSystem:
        """Return S3 as a connection of type aws reaches it; without an id, with the credentials of the environment.

        :raises DeclarationError: if there is no such connection, or it is none of type aws
        """
        from pyarrow.fs import S3FileSystem

        if conn_id is None:
            return S3FileSystem()
        from airflow_mlops.hooks.s3_access import s3_access

        connection = known_connection(conn_id)
        if connection.conn_type != "aws":
            raise DeclarationError(
                f"connection {conn_id!r} is of type {connection.conn_type!r}; s3:// needs one of type 'aws'",
                key="data.source.conn_id",
            )
        found = s3_access(conn_id)
        names = {
            "key": "access_key", "secret": "secret_key", "token": "session_token", "region": "region",
            "endpoint": "endpoint_override",
        }  # fmt: skip
        return S3FileSystem(**{names[name]: value for name, value in found.items()})

    def http(self, conn_id: str) -> HttpAddress:
        """Return address, login and headers of a service.

        As with Airflow's own hook, the schema is http or https and what stands in the extra is sent as headers.

        :raises DeclarationError: if there is no such connection, or it names no host
        """
        connection = known_connection(conn_id)
        if connection.conn_type not in ("http", "https") or not connection.host:
            raise DeclarationError(
                f"connection {conn_id!r} is of type {connection.conn_type!r} with host {connection.host!r}; "
                "an HTTP source needs type 'http' and a host",
                key="data.source.conn_id",
            )
        extra = connection.extra_dejson
        scheme = connection.schema or connection.conn_type
        url = connection.host if "://" in connection.host else f"{scheme}://{connection.host}"
        if connection.port:
            scheme, _, rest = url.partition("://")
            host, slash, path = rest.partition("/")
            url = f"{scheme}://{host}:{connection.port}{slash}{path}"
        headers = {name: value for name, value in extra.items() if name not in OPTIONS and isinstance(value, str)}
        verify = extra.get("verify", True)
        return HttpAddress(
            url, connection.login or None, connection.password or None, {**headers, **extra.get("headers", {})},
            verify=verify if isinstance(verify, bool | str) else True, trust_env=bool(extra.get("trust_env", True)),
        )  # fmt: skip


def known_connection(conn_id: str) -> Connection:
    """Return a connection by its id.

    :raises DeclarationError: if Airflow knows none
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise DeclarationError(f"Airflow knows no connection {conn_id!r}", key="data.source.conn_id") from None


def without_provider(connection: Connection) -> DeclarationError:
    """Return the error that says what to install for a connection."""
    kind = connection.conn_type
    what = EXTRAS.get(kind or "", f"the Airflow provider for {kind!r}")
    return DeclarationError(
        f"connection {connection.conn_id!r} is of type {kind!r}, and nothing installed knows it: install {what}",
        key="data.source.conn_id",
    )
