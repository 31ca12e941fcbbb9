"""Names of datasets by OpenLineage's naming conventions, without credentials and without query strings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_mlops.core.lineage.task_lineage import DatasetName

if TYPE_CHECKING:
    from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class DatabaseAddress:
    """The address of a database without its login.

    ``namespace`` is that of its tables, ``prefix`` the parts of their names that a declared table may leave out, the
    outermost first: database and schema of PostgreSQL, the database alone of MySQL. ``dialect`` is that of its SQL, as
    sqlglot names it.
    """

    namespace: str
    prefix: tuple[str, ...] = ()
    dialect: str | None = None

    def table(self, name: str) -> DatasetName:
        """Return the name of a table that is written with all of its parts, or with the last ones.

        >>> DatabaseAddress("postgres://db:5432", ("shop", "public")).table("eu.sales").name
        'shop.eu.sales'
        """
        parts = name.split(".")
        missing = max(len(self.prefix) + 1 - len(parts), 0)
        return DatasetName(self.namespace, ".".join([*self.prefix[:missing], *parts]))


def file_dataset(address: str, root: Path) -> DatasetName:
    """Return the name of a file or folder: absolute, relative to ``root``, or ``s3://bucket/key``.

    >>> file_dataset("s3://bucket/in/{partition}.csv", Path("/project"))
    DatasetName(namespace='s3://bucket', name='in/{partition}.csv')
    >>> file_dataset("in/{partition}.csv", Path("/project"))
    DatasetName(namespace='file', name='/project/in/{partition}.csv')
    """
    if address.startswith("s3://"):
        bucket, _, key = address.removeprefix("s3://").partition("/")
        return DatasetName(f"s3://{bucket}", key.strip("/") or "/")
    return DatasetName("file", str((root / address).absolute()))


def plain_authority(url: str) -> str:
    """Return host and port of a URL, without login, path and query; empty if it has no host.

    >>> plain_authority("https://user:word@shop.example:8443/api?key=1")
    'shop.example:8443'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port}" if parts.port else host


def http_dataset(url: str, path: str) -> DatasetName:
    """Return the name of a path of an HTTP service; its query is left out, since it may hold a key.

    >>> http_dataset("https://user:word@shop.example/api", "orders?day={partition}&key=1")
    DatasetName(namespace='https://shop.example', name='/api/orders')
    """
    parts = urlsplit(url)
    below = path.partition("?")[0].partition("#")[0].lstrip("/")
    return DatasetName(f"{parts.scheme}://{plain_authority(url)}", f"{parts.path.rstrip('/')}/{below}")


def lake_table(workspace: Workspace, table: str) -> DatasetName:
    """Return the name of a table of the loop's lake: ``snapshots``, ``predictions``, ``quarantine`` or ``labels``."""
    return file_dataset(f"{workspace.ports.addresses.lake.rstrip('/')}/{table}", workspace.root)


def registry_dataset(workspace: Workspace, name: str) -> DatasetName:
    """Return the name of something in the model registry: ``mlflow://host:port``, or ``mlflow`` without a server."""
    authority = plain_authority(workspace.ports.addresses.registry)
    return DatasetName(f"mlflow://{authority}" if authority else "mlflow", name)


def model_dataset(workspace: Workspace) -> DatasetName:
    """Return the name of the registered model; its versions are versions of this dataset."""
    return registry_dataset(workspace, workspace.loop.model)


def candidate_dataset(workspace: Workspace, candidate: str) -> DatasetName:
    """Return the name of a fitted candidate, which is no version yet."""
    return registry_dataset(workspace, f"{workspace.loop.model}/candidates/{candidate}")


def champion_dataset(workspace: Workspace) -> DatasetName:
    """Return the name of the alias ``champion``: what serves where predictions are made in batches."""
    return registry_dataset(workspace, f"{workspace.loop.model}@champion")
