"""A source of an Iceberg table of a catalogue, read by pyiceberg at one snapshot and cut by its time column."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from airflow_mlops.core.errors import (
    DeclarationError,
    SourceMissingError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from airflow_mlops.core.sources.lake_table import LakeTable, Scan, TableVersion, limits_of

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.io import FileIO
    from pyiceberg.schema import Schema
    from pyiceberg.table import DataScan, FileScanTask, Table
    from pyiceberg.table.metadata import TableMetadata


def require_pyiceberg() -> None:
    """Raise DeclarationError, which names the extra to install, unless pyiceberg is installed.

    Raises
    ------
    DeclarationError
        If it is not.
    """
    if importlib.util.find_spec("pyiceberg") is None:
        raise DeclarationError(
            "kind iceberg needs pyiceberg, which is not installed: pip install 'airflow-mlops[iceberg]'",
            key="data.source.kind",
        )


class IcebergRows(LakeTable):
    """The rows of an Iceberg table.

    Parameters
    ----------
    catalog : mapping of str to str
        Properties of the catalogue as pyiceberg takes them, and ``name``, its name.
    table : str
        Namespace and name of the table, with dots between them.
    conn_id : str
        Name of the connection, for errors.
    snapshot : int, optional
        Id of a snapshot; the current one if not given.
    **options
        As for :class:`airflow_mlops.core.sources.lake_table.LakeTable`.

    Raises
    ------
    DeclarationError
        If pyiceberg is not installed.
    """

    packages = ("pyiceberg",)

    def __init__(
        self, catalog: Mapping[str, str], table: str, *, conn_id: str, snapshot: int | None = None, **options: Any
    ) -> None:
        require_pyiceberg()
        super().__init__(table, **options)
        self._catalog, self._conn_id, self._snapshot = dict(catalog), conn_id, snapshot

    def _load(self, where: str) -> TableVersion:
        table = self._open_catalog(where).load_table(self._name)
        current = table.current_snapshot()
        if current is None:
            raise SourceMissingError(f"{where}: the table has no snapshot yet")
        snapshot = self._snapshot or current.snapshot_id
        if table.snapshot_by_id(snapshot) is None:
            raise SourceUnreadableError(
                f"{where}: the table has no snapshot {snapshot}; it may have expired: name a newer one, as "
                f"{current.snapshot_id}"
            )
        return _IcebergVersion(table, self._name, snapshot)

    def _open_catalog(self, where: str) -> Catalog:
        """Return the catalogue; an error says nothing of its properties, some of which are secret."""
        from pyiceberg.catalog import load_catalog
        from pyiceberg.exceptions import NotInstalledError

        properties = {"init_catalog_tables": "false", **self._catalog}
        name = properties.pop("name", self._conn_id)
        try:
            return load_catalog(name, **properties)
        except (ValueError, ImportError, NotInstalledError) as error:
            raise SourceUnreadableError(
                f"{where}: the catalogue of connection {self._conn_id!r} cannot be opened ({type(error).__name__}): "
                "its extra must hold the properties of pyiceberg, as type and uri, and what that type needs must be "
                "installed, as pyiceberg[glue]"
            ) from error

    @contextmanager
    def _translate_errors(self, where: str) -> Iterator[None]:
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError, ResolveError, RESTError
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (NoSuchTableError, NoSuchNamespaceError) as error:
            raise SourceMissingError(f"{where}: the catalogue has no such table yet") from error
        except SQLAlchemyError as error:  # its message holds the address of the database
            raise SourceUnreachableError(
                f"{where}: the catalogue of connection {self._conn_id!r} does not answer ({type(error).__name__})"
            ) from error
        except RESTError as error:
            raise self._refused_by_service(error, where) from error
        except FileNotFoundError as error:
            raise SourceUnreadableError(
                f"{where}: a file of this snapshot is gone ({_first_line(error)}); read a newer snapshot"
            ) from error
        except (ConnectionError, TimeoutError) as error:
            raise SourceUnreachableError(f"{where} cannot be reached ({type(error).__name__})") from error
        except (ResolveError, NotImplementedError, ValueError, pa.ArrowException, OSError) as error:
            if type(error).__module__.startswith("requests"):
                raise SourceUnreachableError(
                    f"{where}: the catalogue does not answer ({type(error).__name__})"
                ) from error
            raise SourceUnreadableError(f"{where} cannot be read by pyiceberg: {_first_line(error)}") from error

    def _refused_by_service(self, error: Exception, where: str) -> SourceUnreachableError | SourceUnreadableError:
        from pyiceberg.exceptions import ServerError, ServiceUnavailableError, TooManyRequestsError

        if isinstance(error, ServerError | ServiceUnavailableError | TooManyRequestsError):
            return SourceUnreachableError(f"{where}: the catalogue does not answer ({type(error).__name__})")
        return SourceUnreadableError(
            f"{where}: the catalogue of connection {self._conn_id!r} refuses the request ({type(error).__name__}); "
            "look at its credentials"
        )


class _IcebergVersion:
    """One snapshot of an Iceberg table; see :class:`airflow_mlops.core.sources.lake_table.TableVersion`.

    The columns are those of the table's current schema, whichever snapshot is read.
    """

    def __init__(self, table: Table, name: str, snapshot: int) -> None:
        self._table, self._name, self._snapshot = table, name, snapshot

    @property
    def schema(self) -> pa.Schema:
        return self._table.schema().as_arrow()

    @property
    def origin(self) -> dict[str, Any]:
        return {
            "table": self._name,
            "id": str(self._table.metadata.table_uuid),
            "snapshot": self._snapshot,
            "schema": self._table.schema().schema_id,
        }

    def scan(self, column: str, first: np.datetime64, end: np.datetime64) -> Iterator[pa.RecordBatch]:
        yield from self._read(self._between(column, first, end), self._table.schema())

    def times(self, column: str) -> Iterator[pa.RecordBatch]:
        yield from self._read(_filters().AlwaysTrue(), self._table.schema().select(column))

    def count_nulls(self, column: str) -> int:
        is_null = _filters().IsNull(column)
        return sum(batch.num_rows for batch in self._read(is_null, self._table.schema().select(column)))

    def files(self, column: str, first: np.datetime64, end: np.datetime64) -> Sequence[Scan]:
        return self._files(self._between(column, first, end), self._table.schema())

    def _between(self, column: str, first: np.datetime64, end: np.datetime64) -> BooleanExpression:
        filters, kind = _filters(), self.schema.field(column).type
        if not pa.types.is_temporal(kind):  # whatever else it is, the cut refuses it
            return cast("BooleanExpression", filters.AlwaysTrue())
        lower, upper = (value.isoformat() for value in limits_of(kind, first, end))
        between = filters.And(filters.GreaterThanOrEqual(column, lower), filters.LessThanOrEqual(column, upper))
        return cast("BooleanExpression", between)

    def _read(self, chosen: BooleanExpression, columns: Schema) -> Iterator[pa.RecordBatch]:
        """Yield rows file by file; one scan of all files would hold the rows of several in memory."""
        for file in self._files(chosen, columns):
            yield from file.read()

    def _files(self, chosen: BooleanExpression, columns: Schema) -> list[_FileScan]:
        """Return the files that may hold chosen rows, each with the files that say which of its rows are deleted."""
        table = self._table
        scan: DataScan = table.scan(row_filter=chosen, snapshot_id=self._snapshot)
        return [_FileScan(table.metadata, table.io, columns, chosen, task) for task in scan.plan_files()]


@dataclass(frozen=True)
class _FileScan:
    """A scan over the chosen rows of one data file; ``task`` names it, and the delete files that belong to it."""

    metadata: TableMetadata
    io: FileIO
    columns: Schema
    chosen: BooleanExpression
    task: FileScanTask

    def scan(self, column: str, first: np.datetime64, end: np.datetime64) -> Iterator[pa.RecordBatch]:  # noqa: ARG002
        """Yield the rows between the times with which the file was planned."""
        yield from self.read()

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the chosen rows."""
        from pyiceberg.io.pyarrow import ArrowScan

        yield from ArrowScan(self.metadata, self.io, self.columns, self.chosen).to_record_batches([self.task])


def _filters() -> Any:
    """Return the module of pyiceberg's filters, whose signatures mypy's plugin for pydantic takes for others."""
    from pyiceberg import expressions

    return expressions


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
