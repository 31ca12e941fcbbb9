"""A source of Parquet files that hold the rows of every partition, cut by their time column."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_mlops.core.ports.partitions import Arrival, SplitNotes, Splits
from airflow_mlops.core.sources.common_columns import conform_batch
from airflow_mlops.core.sources.parquet_source import Footer, ParquetFiles, common_schema
from airflow_mlops.core.sources.partition_files import are_unchanged
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.source_splits import add_size, check_size
from airflow_mlops.core.sources.time_cut import (
    ALWAYS,
    Interval,
    TimeColumn,
    TimedRows,
    TimePlacer,
    missing_rows,
    newest_moment,
)


class ParquetTable(ParquetFiles):
    """Parquet files without a placeholder in their name; see :mod:`airflow_mlops.core.sources.time_cut`.

    A row group whose statistics exclude the partition is not read.

    Parameters
    ----------
    template : str
        Path of one file, or of several with a ``*``.
    time : TimeColumn
        The column that assigns rows to partitions.
    **options
        As for :class:`airflow_mlops.core.sources.parquet_source.ParquetFiles`; limits count the rows of a partition.
    """

    def __init__(self, template: str, *, time: TimeColumn, **options: Any) -> None:
        super().__init__(template, **options)
        self._time = time

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        files, interval = self._files.find(partition), self._time.interval(partition)
        if are_unchanged(files, known):
            yield Arrival(pa.schema([]), iter(()), origin=dict(known or {}), unchanged=True)
            return
        footers = [self._footer(file, partition) for file in files]
        schema = common_schema(footers, partition)
        self._time.position(schema.names, f"partition {partition}: {files[0].name}")
        origin = {"files": [file.origin() for file in files], **interval.origin()}
        meter = Meter(self._limits, partition)
        with closing(self._within(footers, schema, partition, interval, meter)) as batches:
            first = next(batches, None)
            if first is None:
                raise missing_rows(partition, [file.name for file in files], interval)
            untyped, warnings = frozenset(self._files.path_columns), self._files.warnings(files, partition)
            splits = partial(self._splits_within, footers, schema, partition, interval)
            yield Arrival(
                schema, chain([first], batches), origin=origin, untyped=untyped, warnings=warnings, splits=splits
            )

    def _splits_within(
        self, footers: Sequence[Footer], schema: pa.Schema, partition: str, interval: Interval
    ) -> Splits:
        return Splits(
            tuple(partial(self._read_part, footer, schema, partition, interval) for footer in footers),
            partial(check_size, self._limits, partition, [footer.file.name for footer in footers]),
        )

    def _read_part(
        self, footer: Footer, schema: pa.Schema, partition: str, interval: Interval, notes: SplitNotes
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of an interval in one file; a row without a time belongs to the row before it in its file."""
        meter = Meter(self._limits, partition)
        yield from self._within([footer], schema, partition, interval, meter)
        add_size(notes, meter)

    def newest(self, partition: str) -> np.datetime64:
        """Return the newest time of a row, NaT without one; ``partition`` is named in errors."""
        footers = [self._footer(file, partition) for file in self._files.find(partition)]
        parts = (timed for footer in footers for timed in self._timed_rows(footer, partition, ALWAYS))
        return newest_moment(timed.moments for timed in parts)

    def _within(
        self, footers: Sequence[Footer], schema: pa.Schema, partition: str, interval: Interval, meter: Meter
    ) -> Generator[pa.RecordBatch]:
        """Yield the rows of an interval."""
        for footer in footers:
            try:
                for timed in self._timed_rows(footer, partition, interval):
                    batch = timed.within(interval).batch
                    meter.add_rows(batch.num_rows, batch.num_columns, footer.file.name)
                    meter.add_bytes(batch.nbytes, footer.file.name)
                    if batch.num_rows:
                        yield conform_batch(
                            batch, schema, f"partition {partition}: {footer.file.name}", footer.file.values
                        )
            except (pa.ArrowException, OSError) as error:
                raise self._files.translate_error(error, partition, footer.file.name) from error

    def _timed_rows(self, footer: Footer, partition: str, interval: Interval) -> Iterator[TimedRows]:
        """Yield rows of a file, at least those of an interval, with the times that decide on their partitions."""
        where = f"partition {partition}: {footer.file.name}"
        position, placer = self._time.position(footer.schema.names, where), TimePlacer(self._time.name, where)
        with self._files.filesystem.open_input_file(footer.file.path) as stream:
            for group in range(footer.metadata.num_row_groups):
                outside = self._time_outside(footer, group, interval)
                if outside is not None:
                    yield from placer.skip(outside)
                    continue
                rows = footer.metadata.row_group(group).num_rows
                for batch in self._pieces(stream, footer, footer.batch_rows, [group]):
                    rows -= batch.num_rows
                    column = batch.column(position)
                    yield from placer.place(batch, self._time.times.moments(column, typed=True))
                if rows:
                    raise pa.ArrowInvalid(f"it ends {rows:,} rows before the number that its footer states")
        placer.end()

    def _time_outside(self, footer: Footer, group: int, interval: Interval) -> np.datetime64 | None:
        """Return a time of a row group none of whose rows lies in an interval; None if one may."""
        columns = footer.metadata.row_group(group)
        leaves = (columns.column(place) for place in range(columns.num_columns))
        statistics = next((leaf.statistics for leaf in leaves if leaf.path_in_schema == self._time.name), None)
        if statistics is None or not statistics.has_min_max or not statistics.has_null_count or statistics.null_count:
            return None
        kind = footer.schema.field(self._time.name).type
        try:
            limits = self._time.times.moments(pa.array([statistics.min, statistics.max], kind), typed=True)
        except (pa.ArrowException, OverflowError, ValueError):  # times that Python cannot hold, like those of year 0
            return None
        first: np.datetime64 = limits[0]
        return None if np.isnat(limits).any() or interval.overlaps(first, limits[1]) else first
