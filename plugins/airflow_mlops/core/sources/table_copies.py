"""Copies of large text files as Arrow files, so that the next partition need not read the whole text again.

A copy has the rows of one state of a file, in their order, each with the time that decides on its partition. It is
mapped into memory: of rows outside a partition only the times are read. It is as large as the text, and is replaced as
soon as the file has another size, time of change or entity tag.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.lake import lock_file
from airflow_mlops.core.ports.partitions import BrokenRow
from airflow_mlops.core.sources.partition_files import PartitionFile
from airflow_mlops.core.sources.time_cut import Interval, Moments, TimedRows

COPIES = "table-copies"
"""Folder of the copies below the scratch folder of a loop."""
LAYOUT = "4"
"""Part of the identity of a copy: another layout needs another copy."""
WORTHWHILE_BYTES = 16 << 20
"""Files from this size on are copied; smaller ones are read again as fast."""
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
        with lock_file(folder / "lock"):
            if not (folder / f"{name}.arrow").is_file():
                self._make(folder, name, rows())
            maps = [pa.memory_map(str(folder / f"{name}{part}.arrow")) for part in ("", "-broken")]
        with maps[0], maps[1], pa.ipc.open_file(maps[0]) as copy, pa.ipc.open_file(maps[1]) as broken:
            yield from _read_batches(copy, interval)
            yield _broken_rows(broken.read_all(), copy.schema)

    def _make(self, folder: Path, name: str, rows: Iterator[TimedRows]) -> None:
        for old in folder.iterdir():
            if old.name != "lock":
                old.unlink()
        broken: list[tuple[Any, BrokenRow]] = []
        part = folder / f"{name}.arrow.part"
        with _Writer(part, self._columns) as writer:
            for timed in rows:
                writer.write(timed)
                broken += zip(timed.broken_moments.tolist(), timed.broken, strict=True)
        columns = [
            [moment for moment, _ in broken],
            *([getattr(row, key) for _, row in broken] for key in _BROKEN.names[1:]),
        ]
        file = folder / f"{name}-broken.arrow"
        with _new_file(file, _BROKEN) as writer:
            writer.write_table(pa.table(columns, schema=_BROKEN))
        with external_write("scratch.copy_source"):
            part.replace(folder / f"{name}.arrow")


class _Writer:
    """Writes rows to an Arrow file; columns are written by their position, for names may repeat."""

    def __init__(self, path: Path, columns: frozenset[str]) -> None:
        self._path, self._columns = path, columns
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
        if kind is not None:
            self._path.unlink(missing_ok=True)

    def write(self, timed: TimedRows) -> None:
        present = timed.batch.schema.names
        values = [
            column if name in self._columns else pa.nulls(timed.batch.num_rows, pa.string())
            for name, column in zip(present, timed.batch.columns, strict=True)
        ]
        moments = pa.array(timed.moments, pa.timestamp("us"))
        names = [_MOMENT, *(f"c{place}" for place in range(len(values)))]
        batch = pa.RecordBatch.from_arrays([moments, *values], names=names)
        batch = batch.replace_schema_metadata({f"name{place}": name for place, name in enumerate(present)})
        if self._writer is None:
            self._writer = _new_file(self._path, batch.schema)
        self._writer.write_batch(batch)


def _new_file(path: Path, schema: pa.Schema) -> pa.ipc.RecordBatchFileWriter:
    """Return a writer of an Arrow file that only this user can read."""
    path.touch(mode=0o600)
    return pa.ipc.new_file(str(path), schema)


def _read_batches(copy: pa.ipc.RecordBatchFileReader, interval: Interval) -> Iterator[TimedRows]:
    """Yield the batches that may hold rows of an interval."""
    names = _names(copy.schema)
    for number in range(copy.num_record_batches):
        batch = copy.get_batch(number)
        moments: Moments = batch.column(0).to_numpy(zero_copy_only=False).astype("datetime64[us]")
        if len(moments) and interval.overlaps(moments.min(), moments.max()):
            yield TimedRows(pa.RecordBatch.from_arrays(batch.columns[1:], names=names), moments)


def _broken_rows(table: pa.Table, schema: pa.Schema) -> TimedRows:
    names = _names(schema)
    empty = pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(names), names=names)
    rows = tuple(BrokenRow(row["text"], row["reason"], row["at"]) for row in table.to_pylist())
    moments = table.column(_MOMENT).to_numpy().astype("datetime64[us]")
    return TimedRows(empty, np.array([], "datetime64[us]"), rows, moments)


def _names(schema: pa.Schema) -> list[str]:
    metadata = schema.metadata or {}
    return [metadata[f"name{place}".encode()].decode() for place in range(len(schema) - 1)]


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]
