"""The address of the database behind an Airflow connection, as SQLAlchemy wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from sqlalchemy import URL


def database_url(conn_id: str) -> URL:
    """Return the SQLAlchemy URL of a connection, with its password and its driver.

    What the hook of the connection's provider says goes first; SQLite needs no provider.

    :raises DeclarationError: if nothing knows how to reach such a database
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
    # Without a driver SQLAlchemy 2.1 takes psycopg, older ones psycopg2: say which.
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url
