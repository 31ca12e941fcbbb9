"""What the sources need from outside: a database, a file system or an HTTP service by the id of a connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from airflow_mlops.core.errors import DeclarationError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


@dataclass(frozen=True)
class HttpAddress:
    """Where an HTTP service is and how it is asked.

    ``url`` has scheme, host, port and what all paths begin with. ``verify`` is false, or the file of an authority,
    where the certificate is not one that everybody knows. ``trust_env`` says whether proxies of the environment count.
    """

    url: str
    login: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: bool | str = True
    trust_env: bool = True


class Connections(Protocol):
    """Connections by their ids."""

    def sql(self, conn_id: str) -> Callable[[], Any]:
        """Return what opens a database connection as PEP 249 has it.

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

    def http(self, conn_id: str) -> HttpAddress:
        """Return the address of an HTTP service.

        Raises
        ------
        DeclarationError
            If there is no such connection, or none to an HTTP service.
        """


class NoConnections:
    """The connections of a place that has none: files on the local disk are all that can be read."""

    def sql(self, conn_id: str) -> Callable[[], Any]:
        """Refuse; see :meth:`Connections.sql`."""
        raise self._refusal(conn_id)

    def filesystem(self, conn_id: str | None) -> FileSystem:
        """Refuse; see :meth:`Connections.filesystem`."""
        raise self._refusal(conn_id)

    def http(self, conn_id: str) -> HttpAddress:
        """Refuse; see :meth:`Connections.http`."""
        raise self._refusal(conn_id)

    def _refusal(self, conn_id: str | None) -> DeclarationError:
        return DeclarationError(
            f"connection {conn_id!r} is asked for where there are none; run this step in Airflow",
            key="data.source.conn_id",
        )
