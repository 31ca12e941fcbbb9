"""Ports to connections: a database, a file system or an HTTP service by the id of a connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


@dataclass(frozen=True)
class HttpAddress:
    """The address of an HTTP service with its credentials.

    ``url`` has scheme, host, port and the prefix of all paths. ``verify`` is false to accept any certificate, or the
    file of a certificate authority. ``trust_env`` is whether proxies of the environment are used.
    """

    url: str
    login: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: bool | str = True
    trust_env: bool = True


@dataclass(frozen=True)
class SparkAddress:
    """The address of a Spark cluster.

    ``master`` is as Spark has it, such as ``spark://host:7077`` or ``local[2]``. ``settings`` are properties of Spark,
    whose names begin with ``spark.``. ``python`` is the interpreter of the executors, that of this process if None,
    and ``wait`` the seconds after which a cluster without an executor counts as lost.
    """

    master: str
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    python: str | None = None
    wait: float = 60.0


class Connections(Protocol):
    """Connections by their ids."""

    def sql(self, conn_id: str) -> Callable[[], Any]:
        """Return a callable that opens a database connection (PEP 249).

        Raises
        ------
        DeclarationError
            If there is no such connection, or none to a database.
        """

    def filesystem(self, conn_id: str | None) -> FileSystem:
        """Return the file system of an object store; without an id, with the credentials of the environment.

        Raises
        ------
        DeclarationError
            If there is no such connection, or none to an object store.
        """

    def s3(self, conn_id: str | None) -> Mapping[str, str]:
        """Return the credentials of S3 as :class:`airflow_mlops.core.lake.Lake` takes them; none without an id.

        Raises
        ------
        DeclarationError
            If there is no such connection, or none to an object store.
        """

    def catalog(self, conn_id: str) -> Mapping[str, str]:
        """Return the properties of an Iceberg catalogue, and ``name``, its name.

        Raises
        ------
        DeclarationError
            If there is no such connection, or none to a catalogue.
        """

    def http(self, conn_id: str) -> HttpAddress:
        """Return the address of an HTTP service.

        Raises
        ------
        DeclarationError
            If there is no such connection, or none to an HTTP service.
        """

    def spark(self) -> SparkAddress:
        """Return the address of the Spark cluster that ``engine: spark`` uses.

        Raises
        ------
        DeclarationError
            If there is no such connection, or none to a Spark cluster.
        """


class NoConnections:
    """A port without connections: only files on the local disk can be read."""

    def sql(self, conn_id: str) -> Callable[[], Any]:
        """Refuse; see :meth:`Connections.sql`."""
        raise self._refusal(conn_id)

    def filesystem(self, conn_id: str | None) -> FileSystem:
        """Refuse; see :meth:`Connections.filesystem`."""
        raise self._refusal(conn_id)

    def s3(self, conn_id: str | None) -> Mapping[str, str]:
        """Refuse; see :meth:`Connections.s3`."""
        raise self._refusal(conn_id)

    def catalog(self, conn_id: str) -> Mapping[str, str]:
        """Refuse; see :meth:`Connections.catalog`."""
        raise self._refusal(conn_id)

    def http(self, conn_id: str) -> HttpAddress:
        """Refuse; see :meth:`Connections.http`."""
        raise self._refusal(conn_id)

    def spark(self) -> SparkAddress:
        """Refuse; see :meth:`Connections.spark`."""
        raise self._refusal("mlops_spark", key="engine")

    def _refusal(self, conn_id: str | None, key: str = "data.source.conn_id") -> DeclarationError:
        return DeclarationError(
            f"connection {conn_id!r} is not available here; run this step in Airflow",
            key=key,
        )
