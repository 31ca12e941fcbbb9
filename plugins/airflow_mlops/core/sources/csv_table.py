"""A source of CSV files that hold the rows of every partition, cut by their time column."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import SourceUnreachableError
from airflow_mlops.core.ports.partitions import Arrival, BrokenRow
from airflow_mlops.core.sources.csv_rows import CsvRows
from airflow_mlops.core.sources.csv_source import CsvFiles
from airflow_mlops.core.sources.partition_files import PartitionFile, are_unchanged
from airflow_mlops.core.sources.path_columns import add_path_columns
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.table_copies import TableCopies
from airflow_mlops.core.sources.time_cut import Interval, TimeColumn, TimedRows, TimePlacer, missing_rows, newest_moment

WHOLE_FILE = Limits(rows=1 << 62, cells=1 << 62, bytes=1 << 62)
"""The declared limits are those of a partition; here a file holds many of them."""


class CsvTable(CsvFiles):
    """CSV files without a placeholder in their name; see :mod:`airflow_mlops.core.sources.time_cut`.

    Parameters
    ----------
    template : str
        Path of one file, or of several with a ``*``.
    time : TimeColumn
        The column that assigns rows to partitions.
    copies : TableCopies, optional
        Copies of large files, from which further partitions are read; without them every partition reads the whole
        file.
    **options
        As for :class:`airflow_mlops.core.sources.csv_source.CsvFiles`; limits count the rows of a partition.
    """

    def __init__(self, template: str, *, time: TimeColumn, copies: TableCopies | None = None, **options: Any) -> None:
        super().__init__(template, **options)
        self._time, self._copies = time, copies

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        files, interval = self._files.find(partition), self._time.interval(partition)
        if are_unchanged(files, known):
            yield Arrival(pa.schema([]), iter(()), typed=False, origin=dict(known or {}), unchanged=True)
            return
        schema = self._common_schema(files, partition)
        self._time.position(schema.names, f"partition {partition}: {files[0].name}")
        broken: list[BrokenRow] = []
        origin = {"files": [file.origin() for file in files], **interval.origin()}
        with closing(self._within(files, schema, partition, interval, broken)) as batches:
            first = next(batches, None)
            if first is None and not broken:
                raise missing_rows(partition, [file.name for file in files], interval)
            rows = chain([first] if first is not None else [], batches)
            warnings = self._files.warnings(files, partition)
            yield Arrival(schema, rows, typed=False, origin=origin, broken=broken, warnings=warnings)

    def newest(self, partition: str) -> np.datetime64:
        """Return the newest time of a row, NaT without one; ``partition`` is named in errors."""
        files = self._files.find(partition)
        moments = (timed.moments for file in files for timed in self._timed_rows(file, partition))
        return newest_moment(moments)

    def _within(
        self,
        files: Sequence[PartitionFile],
        schema: pa.Schema,
        partition: str,
        interval: Interval,
        broken: list[BrokenRow],
    ) -> Generator[pa.RecordBatch]:
        """Yield the rows of an interval, and add its broken rows to ``broken``."""
        meter = Meter(self._limits, partition)
        for file in files:
            with closing(self._rows_of(file, partition, interval)) as parts:
                for timed in parts:
                    part = timed.within(interval)
                    broken.extend(part.broken)
                    meter.add_rows(part.batch.num_rows + len(part.broken), len(schema), file.name)
                    meter.add_bytes(part.batch.nbytes, file.name)
                    if part.batch.num_rows:
                        yield add_path_columns(part.batch, schema, file.values)

    def _rows_of(self, file: PartitionFile, partition: str, interval: Interval) -> Generator[TimedRows]:
        """Yield rows of a file, at least those of an interval, with the times that decide on their partitions."""
        if self._copies is None or not self._copies.is_worthwhile(file):
            yield from self._timed_rows(file, partition)
            return
        yield from self._copies.read(file, interval, lambda: self._timed_rows(file, partition))

    def _timed_rows(self, file: PartitionFile, partition: str) -> Generator[TimedRows]:
        """Yield all rows of a file with the times that decide on their partitions.

        Raises
        ------
        SourceUnreachableError
            If the file was written meanwhile.
        """
        where, broken = f"partition {partition}: {file.name}", list[BrokenRow]()
        with self._open_rows(file, partition, Meter(WHOLE_FILE, partition), broken) as rows:
            position = self._time.position(rows.names, where)
            placer, pending = TimePlacer(self._time.name, where), list[tuple[BrokenRow, int]]()
            taken = 0
            for batch in rows.batches():
                moments = self._time.times.moments(batch.column(position), typed=False)
                pending += zip(broken[taken:], rows.broken_lines[taken:], strict=True)
                taken, last = len(broken), rows.lines[-1]
                before = [entry for entry in pending if entry[1] < last]
                pending = [entry for entry in pending if entry[1] > last]
                yield from placer.place(batch, moments, lines=rows.lines, broken=before)
            pending += zip(broken[taken:], rows.broken_lines[taken:], strict=True)
            yield from placer.place(_no_rows(rows), np.array([], "datetime64[us]"), broken=pending)
        placer.end()
        newest = [other.identity for other in self._files.find(partition) if other.path == file.path]
        if newest != [file.identity]:
            raise SourceUnreachableError(f"{where} was written while it was read; ingest the partition again")


def _no_rows(rows: CsvRows) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(rows.names), names=rows.names)
