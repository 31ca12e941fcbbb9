"""Read the rows of a partition from a versioned table of a lake, in one version of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa

from airflow_mlops.core.declaration.arrow_types import canonical_type
from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import SourceMissingError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival, SplitNotes, Splits
from airflow_mlops.core.sources.common_columns import conform_batch
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.source_splits import add_size, check_size
from airflow_mlops.core.sources.time_cut import Interval, TimeColumn, missing_rows, newest_moment

MARGIN = np.timedelta64(1, "D")
"""Added on both sides of an interval before a table filters by it: clocks of any zone lie within, and statistics that
are rounded. The rows are then cut exactly."""


class Scan(Protocol):
    """A scan over rows; it can be sent to another process."""

    def scan(self, column: str, first: np.datetime64, end: np.datetime64) -> Iterator[pa.RecordBatch]:
        """Yield at least the rows whose ``column`` lies between two times; see :meth:`TableVersion.scan`."""


class TableVersion(Protocol):
    """One version of a table, which no later writer changes."""

    @property
    def schema(self) -> pa.Schema:
        """The columns."""

    @property
    def origin(self) -> dict[str, Any]:
        """The table and its version as JSON values."""

    def scan(self, column: str, first: np.datetime64, end: np.datetime64) -> Iterator[pa.RecordBatch]:
        """Yield at least the rows whose ``column`` lies between two times, whatever files the table need not read."""

    def times(self, column: str) -> Iterator[pa.RecordBatch]:
        """Yield one column of all rows."""

    def count_nulls(self, column: str) -> int:
        """Return the number of rows that have no value in a column."""

    def files(self, column: str, first: np.datetime64, end: np.datetime64) -> Sequence[Scan]:
        """Return the scans of its files, in the order of ``scan`` between the same times.

        Files that hold no row between them may be left out.
        """


class LakeTable(ABC):
    """A versioned table that holds the rows of every partition, cut by its time column.

    Parameters
    ----------
    name : str
        Name of the table, for errors.
    time : TimeColumn
        The column that assigns rows to partitions.
    limits : Limits, optional
        How much a partition may hold.
    """

    packages: ClassVar[tuple[str, ...]] = ()
    """Packages beside PyArrow that read a file of the table."""

    def __init__(self, name: str, *, time: TimeColumn, limits: Limits | None = None) -> None:
        self._name, self._time, self._limits = name, time, limits or Limits()

    @abstractmethod
    def _load(self, where: str) -> TableVersion:
        """Return the declared version of the table, the newest if none is declared."""

    @abstractmethod
    def _translate_errors(self, where: str) -> AbstractContextManager[None]:
        """Return a context that raises errors of the table's library as those of this package."""

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        interval, where = self._time.interval(partition), f"partition {partition}: {self._name}"
        with self._translate_errors(where):
            version = self._load(where)
        origin = {**version.origin, **interval.origin()}
        if known is not None and all(known.get(key) == value for key, value in origin.items()):
            yield Arrival(pa.schema([]), iter(()), origin=dict(known), unchanged=True)
            return
        self._time.position(version.schema.names, where)
        with self._translate_errors(where):
            without = version.count_nulls(self._time.name)
        warnings = self._warnings(without)
        schema = plain_schema(version.schema)
        meter = Meter(self._limits, partition)
        with closing(self._batches(version, schema, partition, interval, meter)) as batches:
            first = next(batches, None)
            if first is None:
                raise _with_warnings(missing_rows(partition, [self._name], interval), warnings)
            origin |= {"without_time": without} if without else {}
            splits = partial(self._splits, version, schema, partition, interval)
            yield Arrival(schema, chain([first], batches), origin=origin, warnings=warnings, splits=splits)

    def _splits(self, version: TableVersion, schema: pa.Schema, partition: str, interval: Interval) -> Splits:
        with self._translate_errors(f"partition {partition}: {self._name}"):
            scans = version.files(self._time.name, *_around(interval))
        return Splits(
            tuple(partial(self._read_split, scan, schema, partition, interval) for scan in scans),
            partial(check_size, self._limits, partition, [self._name] * len(scans)),
            self.packages,
        )

    def _read_split(
        self, scan: Scan, schema: pa.Schema, partition: str, interval: Interval, notes: SplitNotes
    ) -> Iterator[pa.RecordBatch]:
        meter = Meter(self._limits, partition)
        yield from self._batches(scan, schema, partition, interval, meter)
        add_size(notes, meter)

    def newest(self, partition: str) -> np.datetime64:
        """Return the newest time of a row, NaT without one; ``partition`` is named in errors."""
        where = f"partition {partition}: {self._name}"
        with self._translate_errors(where):
            version = self._load(where)
            self._time.position(version.schema.names, where)
            column = plain_schema(version.schema.empty_table().select([self._time.name]).schema)
            return newest_moment(
                self._time.times.moments(conform_batch(batch, column, where).column(0), typed=True)
                for batch in version.times(self._time.name)
            )

    def _batches(
        self, version: Scan, schema: pa.Schema, partition: str, interval: Interval, meter: Meter
    ) -> Generator[pa.RecordBatch]:
        where = f"partition {partition}: {self._name}"
        position = self._time.position(schema.names, where)
        with self._translate_errors(where):
            for rows in version.scan(self._time.name, *_around(interval)):
                for batch in _pieces(conform_batch(rows, schema, where)):
                    chosen = interval.contains(self._time.times.moments(batch.column(position), typed=True))
                    within = batch if chosen.all() else batch.filter(pa.array(chosen))
                    meter.add_rows(within.num_rows, within.num_columns, self._name)
                    meter.add_bytes(within.nbytes, self._name)
                    if within.num_rows:
                        yield within

    def _warnings(self, without: int) -> tuple[str, ...]:
        if not without:
            return ()
        if without == 1:
            return (f"1 row of {self._name} has no time and belongs to no partition",)
        return (f"{without:,} rows of {self._name} have no time and belong to no partition",)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with one type of text, and without dictionaries, nullability and metadata."""
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def limits_of(kind: pa.DataType, first: np.datetime64, end: np.datetime64) -> tuple[Any, Any]:
    """Return two times as Python values that compare with a column of a type, rounded to days for dates."""
    zone = "UTC" if pa.types.is_timestamp(kind) and kind.tz else None
    if pa.types.is_date(kind):
        days = (first.astype("datetime64[D]"), end.astype("datetime64[D]"))
        return days[0].item(), days[1].item()
    values = pa.array([first, end], pa.timestamp("us")).cast(pa.timestamp("us", tz=zone))
    return values[0].as_py(), values[1].as_py()


def _around(interval: Interval) -> tuple[np.datetime64, np.datetime64]:
    return np.datetime64(interval.start, "us") - MARGIN, np.datetime64(interval.end, "us") + MARGIN


def _plain_type(kind: pa.DataType) -> pa.DataType:
    canonical = canonical_type(kind)
    if canonical == pa.string():
        return canonical
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, BATCH_ROWS):
        yield batch.slice(start, BATCH_ROWS)


def _with_warnings(error: SourceMissingError, warnings: tuple[str, ...]) -> SourceMissingError:
    return SourceMissingError("; ".join([str(error), *warnings])) if warnings else error
