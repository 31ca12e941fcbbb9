"""A source of a Delta table, read by delta-rs in one version and cut by its time column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from airflow_mlops.core.errors import SourceMissingError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.lake import Lake, is_unreachable
from airflow_mlops.core.ports.partitions import BATCH_ROWS
from airflow_mlops.core.sources.lake_table import LakeTable, Scan, TableVersion, limits_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

COLUMN_MAPPING = "delta.columnMapping.mode"
SCAN = {"batch_size": BATCH_ROWS, "batch_readahead": 1, "fragment_readahead": 1}
"""A scan holds little of a file in memory at once."""
ADVICE = {
    "deletionVectors": "switch them off with ALTER TABLE … SET TBLPROPERTIES ('delta.enableDeletionVectors' = false), "
    "rewrite the files with REORG TABLE … APPLY (PURGE), and drop the feature with ALTER TABLE … DROP FEATURE "
    "deletionVectors",
    "columnMapping": "write the table anew without it, as with CREATE TABLE … AS SELECT, or deliver a copy",
}
OTHER_ADVICE = "drop it with ALTER TABLE … DROP FEATURE, or deliver a copy without it"


class DeltaRows(LakeTable):
    """The rows of a Delta table; delta-rs is imported where the source is opened, never before a worker forks.

    Parameters
    ----------
    uri : str
        Folder of the table, relative to ``root`` or absolute, or ``s3://bucket/key``.
    root : Path
        Folder that a relative ``uri`` starts from.
    s3 : mapping, optional
        Credentials of S3; see :class:`airflow_mlops.core.lake.Lake`.
    version : int, optional
        Version of the table; the newest if not given.
    **options
        As for :class:`airflow_mlops.core.sources.lake_table.LakeTable`.
    """

    def __init__(
        self, uri: str, *, root: Path, s3: Mapping[str, str] | None = None, version: int | None = None, **options: Any
    ) -> None:
        super().__init__(uri, **options)
        self._lake = Lake(uri, s3 or {}) if uri.startswith("s3://") else Lake.on_disk(root / uri)
        self._version = version
        self._prefix = f"{root.absolute()}/"

    def _load(self, where: str) -> TableVersion:
        from deltalake import DeltaTable

        table = DeltaTable(self._lake.uri, version=self._version, storage_options=self._lake.storage_options())
        _require_readable(table, where)
        # Files written by old releases of Spark hold times in nanoseconds, which overflow beyond the year 2262.
        read_options = ds.ParquetReadOptions(coerce_int96_timestamp_unit="us")
        return _DeltaVersion(table, self._name, table.to_pyarrow_dataset(parquet_read_options=read_options))

    @contextmanager
    def _translate_errors(self, where: str) -> Iterator[None]:
        from deltalake.exceptions import DeltaError, DeltaProtocolError, TableNotFoundError

        try:
            yield
        except TableNotFoundError as error:
            raise SourceMissingError(f"{where}: there is no Delta table yet") from error
        except DeltaProtocolError as error:
            raise SourceUnreadableError(
                f"{where}: the table uses a feature that delta-rs cannot read: {error}; {OTHER_ADVICE}"
            ) from error
        except FileNotFoundError as error:
            raise SourceUnreadableError(
                f"{where}: a file of this version of the table is gone ({self._plain(error)}); it was vacuumed: read a "
                "newer version"
            ) from error
        except (DeltaError, pa.ArrowException, OSError) as error:
            message = self._plain(error)
            if isinstance(error, TimeoutError) or (not self._lake.is_local and is_unreachable(error)):
                raise SourceUnreachableError(f"{where} cannot be reached: {message}") from error
            raise SourceUnreadableError(f"{where} cannot be read: {message}") from error

    def _plain(self, error: Exception) -> str:
        """Return the first line of an error without the path of the project folder."""
        return str(error).partition("\n")[0].replace(self._prefix, "").replace(self._prefix[1:], "")


class _DeltaVersion:
    """One version of a Delta table; see :class:`airflow_mlops.core.sources.lake_table.TableVersion`."""

    def __init__(self, table: DeltaTable, name: str, dataset: ds.Dataset) -> None:
        self._table, self._name, self._dataset = table, name, dataset

    @property
    def schema(self) -> pa.Schema:
        return self._dataset.schema

    @property
    def origin(self) -> dict[str, Any]:
        # A table that was deleted and written anew counts its versions from 0 again, with another id.
        return {"table": self._name, "id": str(self._table.metadata().id), "version": self._table.version()}

    def scan(self, column: str, first: np.datetime64, end: np.datetime64) -> Iterator[pa.RecordBatch]:
        yield from _FileScan(self._dataset).scan(column, first, end)

    def files(self, column: str, first: np.datetime64, end: np.datetime64) -> Sequence[Scan]:  # noqa: ARG002
        """Return a scan of each file, in the order in which the whole is scanned; each filters by its statistics."""
        rows = self._dataset
        return [
            _FileScan(ds.FileSystemDataset([fragment], rows.schema, rows.format, rows.filesystem))
            for fragment in rows.get_fragments()
        ]

    def times(self, column: str) -> Iterator[pa.RecordBatch]:
        yield from self._dataset.to_batches(columns=[column], **SCAN)

    def count_nulls(self, column: str) -> int:
        """Return the number of rows without a value, read only from files whose statistics do not state it."""
        actions = pa.table(self._table.get_add_actions(flatten=True))
        stated: dict[str, int] = {}
        if f"null_count.{column}" in actions.column_names:
            counts = zip(
                actions.column("path").to_pylist(), actions.column(f"null_count.{column}").to_pylist(), strict=True
            )
            stated = {unquote(path): count for path, count in counts if count is not None}
        dataset = self._dataset
        others = [fragment for fragment in dataset.get_fragments() if unquote(fragment.path) not in stated]
        if not others:
            return sum(stated.values())
        rest = ds.FileSystemDataset(others, dataset.schema, dataset.format, dataset.filesystem)
        counted: int = rest.count_rows(filter=pc.field(column).is_null())
        return sum(stated.values()) + counted


@dataclass(frozen=True)
class _FileScan:
    """A scan over files of a table."""

    dataset: ds.Dataset

    def scan(self, column: str, first: np.datetime64, end: np.datetime64) -> Iterator[pa.RecordBatch]:
        kind = self.dataset.schema.field(column).type
        chosen = None
        if pa.types.is_temporal(kind):  # whatever else it is, the cut refuses it
            lower, upper = (pa.scalar(value, kind) for value in limits_of(kind, first, end))
            chosen = (pc.field(column) >= lower) & (pc.field(column) <= upper)
        yield from self.dataset.to_batches(filter=chosen, **SCAN)


def _require_readable(table: DeltaTable, where: str) -> None:
    """Raise SourceUnreadableError if the table uses a feature with which its files cannot be read as they are.

    Raises
    ------
    SourceUnreadableError
        Naming the feature and how it is removed.
    """
    features = set(table.protocol().reader_features or ())
    # Tables of reader version 2 list no features.
    if table.metadata().configuration.get(COLUMN_MAPPING, "none") != "none":
        features.add("columnMapping")
    refused = next((feature for feature in ADVICE if feature in features), None)
    if refused is not None:
        raise SourceUnreadableError(
            f"{where}: version {table.version()} of the table uses {refused}, which delta-rs cannot read: "
            f"{ADVICE[refused]}"
        )
