"""Connections of Airflow for sources and stores: databases, S3 and HTTP services."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.lineage.dataset_names import DatabaseAddress
from airflow_mlops.core.ports.connections import HttpAddress, SparkAddress

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from pyarrow.fs import FileSystem
    from sqlalchemy import URL

EXTRAS = {
    "postgres": "airflow-mlops[postgres]",
    "mysql": "airflow-mlops[mysql]",
    "aws": "airflow-mlops[amazon]",
}
"""Extra of this package that installs the provider of a connection type."""
SPARK = "mlops_spark"
"""Id of the connection of ``engine: spark``."""
DEFAULT_SCHEMAS = {"postgres": "public", "redshift": "public", "mssql": "dbo"}
"""Schema of a table that is declared without one, by the scheme of OpenLineage."""
DIALECTS = {"mssql": "tsql"}
"""Dialect of sqlglot by the scheme of OpenLineage, where they differ."""
OPTIONS = frozenset(
    {
        "timeout",
        "allow_redirects",
        "proxies",
        "stream",
        "verify",
        "trust_env",
        "cert",
        "max_redirects",
        "check_response",
        "auth_type",
        "auth_kwargs",
        "srv_lookup",
        "headers",
    }
)
"""Keys of an HTTP connection's extra that Airflow does not send as headers."""


class AirflowConnections:
    """Airflow's connections as the :class:`~airflow_mlops.core.ports.connections.Connections` of the core."""

    def sql(self, conn_id: str) -> Callable[[], Any]:
        """Return a function that opens a connection of a database with the hook of its provider.

        SQLite needs none, and type mysql is opened by PyMySQL where there is none.

        :raises DeclarationError: if there is no such connection, or it is not to a database
        """
        connection = get_connection(conn_id)
        if connection.conn_type == "sqlite":
            path = Path(connection.host or connection.schema or "").absolute()
            return lambda: sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        try:
            hook = connection.get_hook()
        except Exception as error:  # Airflow raises several types for a missing provider
            if connection.conn_type == "mysql" and find_spec("pymysql") is not None:
                return partial(open_mysql, connection)
            raise provider_error(connection) from error
        if not hasattr(hook, "get_conn") or not hasattr(hook, "get_records"):
            raise DeclarationError(
                f"connection {conn_id!r} is of type {connection.conn_type!r}, which is no database",
                key="data.source.conn_id",
            )
        opening: Callable[[], Any] = hook.get_conn
        return opening

    def filesystem(self, conn_id: str | None) -> FileSystem:
        """Return the file system of S3 for a connection of type aws; without an id, with the environment's credentials.

        :raises DeclarationError: if there is no such connection, or it has another type
        """
        from pyarrow.fs import S3FileSystem

        if conn_id is None:
            return S3FileSystem()
        access = self.s3(conn_id)
        names = {
            "key": "access_key",
            "secret": "secret_key",
            "token": "session_token",
            "region": "region",
            "endpoint": "endpoint_override",
        }
        return S3FileSystem(**{names[name]: value for name, value in access.items()})

    def s3(self, conn_id: str | None) -> dict[str, str]:
        """Return the credentials of S3 for a connection of type aws; without an id none, for the environment's count.

        :raises DeclarationError: if there is no such connection, or it has another type
        """
        if conn_id is None:
            return {}
        connection = get_connection(conn_id)
        if connection.conn_type != "aws":
            raise DeclarationError(
                f"connection {conn_id!r} is of type {connection.conn_type!r}; s3:// needs one of type 'aws'",
                key="data.source.conn_id",
            )
        return s3_access(conn_id)

    def catalog(self, conn_id: str) -> dict[str, str]:
        """Return the properties of an Iceberg catalogue: the extra of a connection of type iceberg.

        The host is the ``uri`` and login and password are the ``credential`` where the extra has none, as in Airflow's
        own provider; ``name`` is the connection's id unless the extra has one.

        :raises DeclarationError: if there is no such connection, or it has another type
        """
        connection = get_connection(conn_id)
        if connection.conn_type != "iceberg":
            raise DeclarationError(
                f"connection {conn_id!r} is of type {connection.conn_type!r}; kind iceberg needs one of type "
                "'iceberg', whose extra holds the properties of the catalogue",
                key="data.source.conn_id",
            )
        properties = {"name": conn_id}
        if connection.host:
            properties["uri"] = connection.host
        if connection.login and connection.password:
            properties["credential"] = f"{connection.login}:{connection.password}"
        return properties | {name: _property(value) for name, value in connection.extra_dejson.items()}

    def http(self, conn_id: str) -> HttpAddress:
        """Return address, login and headers of a service.

        As in Airflow's own hook, the schema is http or https, and the extra is sent as headers.

        :raises DeclarationError: if there is no such connection, or it has no host
        """
        connection = get_connection(conn_id)
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
            url,
            connection.login or None,
            connection.password or None,
            {**headers, **extra.get("headers", {})},
            verify=verify if isinstance(verify, bool | str) else True,
            trust_env=bool(extra.get("trust_env", True)),
        )

    def spark(self) -> SparkAddress:
        """Return the address of the Spark cluster of connection ``mlops_spark``.

        :raises DeclarationError: if there is no such connection, or it is not to a Spark cluster
        """
        return spark_address(get_connection(SPARK, key="engine"))


def spark_address(connection: Connection) -> SparkAddress:
    """Return the address of a Spark cluster.

    The host is the master, as ``spark://host`` with a port, ``local[2]`` or ``yarn``. Of the extra it takes the
    properties that begin with ``spark.``, ``queue``, ``python`` and ``wait``.

    :raises DeclarationError: if the connection has another type or no host, or asks for what a task cannot be
    """
    host, extra = connection.host or "", connection.extra_dejson
    if connection.conn_type != "spark" or not host:
        raise DeclarationError(
            f"connection {connection.conn_id!r} is of type {connection.conn_type!r} with host {host!r}; engine: spark "
            "needs type 'spark' and a master as host, such as spark://host with port 7077",
            key="engine",
        )
    if extra.get("deploy-mode", "client") != "client":
        raise DeclarationError(
            f"connection {connection.conn_id!r} has deploy-mode {extra['deploy-mode']!r}; the driver runs in the task: "
            "leave it out, or write client",
            key="engine",
        )
    wait = extra.get("wait", 60)
    if isinstance(wait, bool) or not isinstance(wait, int | float) or wait <= 0:
        raise DeclarationError(
            f"connection {connection.conn_id!r} has wait {wait!r}; it is a number of seconds above 0", key="engine"
        )
    settings = {name: _property(value) for name, value in extra.items() if name.startswith("spark.")}
    if extra.get("queue"):
        settings["spark.yarn.queue"] = str(extra["queue"])
    bare = "://" not in host and not host.startswith(("local", "yarn"))
    master = f"{'spark://' if bare else ''}{host}{f':{connection.port}' if connection.port else ''}"
    return SparkAddress(master, settings, extra.get("python"), float(wait))


def open_mysql(connection: Connection) -> Any:
    """Return a PyMySQL connection.

    Of the extra it takes ``charset``, ``unix_socket`` and ``ssl``, as Airflow's provider does. ``ssl`` is a mapping, or
    its JSON, with ``ca``, ``cert``, ``key`` and ``check_hostname``.
    """
    import pymysql

    extra = connection.extra_dejson
    options = {name: extra[name] for name in ("charset", "unix_socket", "ssl") if extra.get(name)}
    if isinstance(options.get("ssl"), str):
        options["ssl"] = json.loads(options["ssl"])
    return pymysql.connect(
        host=connection.host or "localhost",
        port=int(connection.port or 3306),
        user=connection.login or None,
        password=connection.password or "",
        database=connection.schema or None,
        **{"charset": "utf8mb4", **options},
    )


def _property(value: Any) -> str:
    """Return a value of an extra as pyiceberg has properties: as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def get_connection(conn_id: str, *, key: str = "data.source.conn_id") -> Connection:
    """Return a connection by its id, which the declaration asks for under a key.

    :raises DeclarationError: if there is none
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise DeclarationError(f"Airflow has no connection {conn_id!r}", key=key) from None


def database_address(conn_id: str) -> DatabaseAddress:
    """Return the address of a database for records of lineage, without its login.

    It comes from the hook of the connection's provider, as for Airflow's own operators; SQLite and MySQL need none.

    :raises DeclarationError: if there is no such connection, or its provider gives no address
    """
    connection = get_connection(conn_id)
    if connection.conn_type == "sqlite":
        path = Path(connection.host or connection.schema or "").absolute()
        return DatabaseAddress("sqlite", (str(path),), "sqlite")
    try:
        info = connection.get_hook().get_openlineage_database_info(connection)
    except Exception as error:  # Airflow raises several types for a missing provider
        if connection.conn_type != "mysql":
            raise provider_error(connection) from error
        info = None
    if connection.conn_type == "mysql" and info is None:
        authority = f"{connection.host or 'localhost'}:{connection.port or 3306}"
        return DatabaseAddress(f"mysql://{authority}", (connection.schema,) if connection.schema else (), "mysql")
    if info is None:
        raise DeclarationError(
            f"connection {conn_id!r} of type {connection.conn_type!r}: its provider gives no address for lineage",
            key="data.source.conn_id",
        )
    namespace = f"{info.scheme}://{info.authority}" if info.authority else str(info.scheme)
    schema = DEFAULT_SCHEMAS.get(str(info.scheme))
    prefix = (info.database, *([schema] if schema else [])) if info.database else ()
    return DatabaseAddress(namespace, prefix, DIALECTS.get(str(info.scheme), info.scheme))


def provider_error(connection: Connection) -> DeclarationError:
    """Return the error for a missing provider, with the package to install."""
    kind = connection.conn_type
    package = EXTRAS.get(kind or "", f"the Airflow provider for {kind!r}")
    return DeclarationError(
        f"connection {connection.conn_id!r} is of type {kind!r}, and no installed provider has that type: "
        f"install {package}",
        key="data.source.conn_id",
    )


def s3_access(conn_id: str) -> dict[str, str]:
    """Return ``key``, ``secret``, ``token``, ``region`` and ``endpoint`` of a connection, without those it lacks.

    The provider resolves roles and profiles as for its own operators.

    :param conn_id: connection of type ``aws``
    :raises DeclarationError: if the amazon provider is not installed
    """
    try:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    except ImportError as error:
        raise DeclarationError(
            f"connection {conn_id!r} is to S3, and the amazon provider is not installed: install airflow-mlops[amazon]"
        ) from error
    hook = S3Hook(aws_conn_id=conn_id)
    credentials = hook.get_credentials(region_name=hook.region_name)
    values = {
        "key": credentials.access_key,
        "secret": credentials.secret_key,
        "token": credentials.token,
        "region": hook.region_name,
        "endpoint": hook.conn_config.get_service_endpoint_url("s3"),
    }
    return {name: str(value) for name, value in values.items() if value}


def database_url(conn_id: str) -> URL:
    """Return the SQLAlchemy URL of a connection, with its password and its driver.

    The URL comes from the hook of the connection's provider; SQLite needs no provider.

    :raises DeclarationError: if no provider gives an address for the type of the connection
    """
    from sqlalchemy import make_url

    connection = BaseHook.get_connection(conn_id)
    if connection.conn_type == "sqlite":
        return make_url(f"sqlite:///{connection.host or connection.schema or ''}")
    try:
        hook = connection.get_hook()
        try:
            url = make_url(hook.sqlalchemy_url)
        except (AttributeError, NotImplementedError):
            url = make_url(hook.get_uri())
    except Exception as error:  # a provider's hook may raise anything; most often the provider is not installed
        raise DeclarationError(
            f"connection {conn_id!r} of type {connection.conn_type!r} gives no address of a database: "
            f"{type(error).__name__}; is the provider of that type installed?"
        ) from None
    # Without a driver, SQLAlchemy 2.1 takes psycopg and older releases psycopg2.
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url
