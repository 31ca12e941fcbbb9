"""Copies of large text files as Parquet, so that the next partition need not read the whole text again.

A copy has the rows of one state of a file, in their order, each with the time that decides on its partition. Row groups
state their first and last time, so a partition reads the groups that it needs. A copy is replaced as soon as the file
has another size, time of change or entity tag.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.ports.partitions import BATCH_ROWS, BrokenRow
from airflow_mlops.core.sources.partition_files import PartitionFile
from airflow_mlops.core.sources.time_cut import Interval, Moments, TimedRows

COPIES = "table-copies"
"""Folder of the copies below the scratch folder of a loop."""
LAYOUT = "3"
"""Part of the identity of a copy: another layout needs another copy."""
WORTHWHILE_BYTES = 16 << 20
"""Files from this size on are copied; smaller ones are read again as fast."""
GROUP_BYTES = 16 << 20
_MOMENT = "moment"
_BROKEN = pa.schema(
    [
        pa.field(_MOMENT, pa.timestamp("us")),
        pa.field("text", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("at", pa.string()),
    ]
)


class TableCopies:
    """The copies of one source, in a folder of this machine that only its user can read.

    Parameters
    ----------
    folder : Path
        Where the copies are.
    settings : str
        Everything but the file that the rows and their times depend on.
    columns : frozenset of str
        Columns whose values are copied; the others are null in a copy.
    worthwhile_bytes : int
        Size from which on a file is copied.
    """

    def __init__(
        self, folder: Path, *, settings: str, columns: frozenset[str], worthwhile_bytes: int = WORTHWHILE_BYTES
    ) -> None:
        self._folder, self._settings, self._columns = folder, settings, columns
        self._worthwhile_bytes = worthwhile_bytes

    def is_worthwhile(self, file: PartitionFile) -> bool:
        """Return whether a copy of a file saves time."""
        return file.size >= self._worthwhile_bytes

    def read(
        self, file: PartitionFile, interval: Interval, rows: Callable[[], Iterator[TimedRows]]
    ) -> Generator[TimedRows]:
        """Yield rows of a file, at least those of an interval, and all its broken rows; the copy is made if needed.

        Parameters
        ----------
        file : PartitionFile
            The file.
        interval : Interval
            The time of the partition.
        rows : callable
            Reads the whole file; an error leaves no copy behind.
        """
        folder = self._folder / _digest(f"{LAYOUT} {self._settings} {sorted(self._columns)} {file.path}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = _digest(file.identity)
        # Of several processes that need the same copy, one makes it and the others wait.
        with _locked(folder / "lock"):
            if not (folder / f"{name}.parquet").is_file():
                self._make(folder, name, rows())
            streams = [(folder / f"{name}{part}.parquet").open("rb") for part in ("", "-broken")]
        with streams[0], streams[1]:
            with pq.ParquetFile(streams[1]) as parquet:
                broken = parquet.read()
            with pq.ParquetFile(streams[0]) as parquet:
                yield from _read_groups(parquet, interval)
                yield _broken_rows(broken, parquet.schema_arrow)

    def _make(self, folder: Path, name: str, rows: Iterator[TimedRows]) -> None:
        for old in folder.glob("*.parquet*"):
            old.unlink()
        broken: list[tuple[Any, BrokenRow]] = []
        part = folder / f"{name}.parquet.part"
        with _Writer(part, self._columns) as writer:
            for timed in rows:
                writer.write(timed)
                broken += zip(timed.broken_moments.tolist(), timed.broken, strict=True)
        columns = [
            [moment for moment, _ in broken],
            *([getattr(row, key) for _, row in broken] for key in _BROKEN.names[1:]),
        ]
        pq.write_table(pa.table(columns, schema=_BROKEN), folder / f"{name}-broken.parquet")
        (folder / f"{name}-broken.parquet").chmod(0o600)
        part.replace(folder / f"{name}.parquet")


class _Writer:
    """Writes rows to a Parquet file, a few at a time; columns are written by their position, for names may repeat."""

    def __init__(self, path: Path, columns: frozenset[str]) -> None:
        self._path, self._columns = path, columns
        self._writer: pq.ParquetWriter | None = None
        self._batches: list[pa.RecordBatch] = []
        self._names: list[str] = []

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        if kind is not None:
            self._path.unlink(missing_ok=True)

    def write(self, timed: TimedRows) -> None:
        self._names = timed.batch.schema.names
        values = [
            column if name in self._columns else pa.nulls(timed.batch.num_rows, pa.string())
            for name, column in zip(self._names, timed.batch.columns, strict=True)
        ]
        moments = pa.array(timed.moments, pa.timestamp("us"))
        names = [_MOMENT, *(f"c{place}" for place in range(len(values)))]
        self._batches.append(pa.RecordBatch.from_arrays([moments, *values], names=names))
        rows = sum(batch.num_rows for batch in self._batches)
        if rows >= BATCH_ROWS or sum(batch.nbytes for batch in self._batches) >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._batches:
            return
        table = pa.Table.from_batches(self._batches)
        if self._writer is None:
            names = {f"name{place}": name for place, name in enumerate(self._names)}
            schema = table.schema.with_metadata(names)
            # Texts of numbers hardly repeat: a dictionary of them costs more than all the rest.
            self._writer = pq.ParquetWriter(
                self._path, schema, compression="none", use_dictionary=False, write_statistics=[_MOMENT]
            )
            self._path.chmod(0o600)
        self._writer.write_table(table.replace_schema_metadata(self._writer.schema.metadata))
        self._batches = []


def _read_groups(parquet: pq.ParquetFile, interval: Interval) -> Iterator[TimedRows]:
    """Yield the rows of the row groups that may hold rows of an interval."""
    names = _names(parquet.schema_arrow)
    for group in groups_within(parquet.metadata, 0, interval):
        for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], use_threads=False):
            moments: Moments = batch.column(0).to_numpy(zero_copy_only=False).astype("datetime64[us]")
            yield TimedRows(pa.RecordBatch.from_arrays(batch.columns[1:], names=names), moments)


def groups_within(metadata: pq.FileMetaData, column: int, interval: Interval) -> list[int]:
    """Return the row groups whose first and last time do not exclude rows of an interval."""
    return [group for group in range(metadata.num_row_groups) if _may_lie_within(metadata, group, column, interval)]


def _may_lie_within(metadata: pq.FileMetaData, group: int, column: int, interval: Interval) -> bool:
    statistics = metadata.row_group(group).column(column).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return interval.overlaps(np.datetime64(statistics.min, "us"), np.datetime64(statistics.max, "us"))


def _broken_rows(table: pa.Table, schema: pa.Schema) -> TimedRows:
    names = _names(schema)
    empty = pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(names), names=names)
    rows = tuple(BrokenRow(row["text"], row["reason"], row["at"]) for row in table.to_pylist())
    moments = table.column(_MOMENT).to_numpy().astype("datetime64[us]")
    return TimedRows(empty, np.array([], "datetime64[us]"), rows, moments)


def _names(schema: pa.Schema) -> list[str]:
    metadata = schema.metadata or {}
    return [metadata[f"name{place}".encode()].decode() for place in range(len(schema) - 1)]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
