"""Cut a table that holds every partition by its time column: each row lies in exactly one partition.

A partition holds the rows whose time lies from the tick before its key up to its key. A row without a readable time,
and a line that is no row, belong to the partition of the row before them in the file, or to that of the first row with
a time if there is none before. So the partition of a row depends on the file alone, and not on when it is read; and
what is appended to a file moves no row that was there before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.errors import PartitionRefusedError, SourceMissingError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, BrokenRow

Moments = npt.NDArray[np.datetime64]
"""Times in microseconds, UTC or clocks as the partition keys are; NaT where there is none."""
Lines = npt.NDArray[np.int64]

NO_TIME = np.datetime64("NaT", "us")
MAX_ROWS_WITHOUT_TIME = BATCH_ROWS
"""Rows before the first row with a time, which are held in memory until it comes."""


class RowTimes(Protocol):
    """Reads the times of rows as the contract has them."""

    @property
    def settings(self) -> str:
        """Everything that the times of a text depend on."""

    def moments(self, column: pa.Array, *, typed: bool) -> Moments:
        """Return the times of a column, NaT where a value is null or no time.

        Raises
        ------
        PartitionRefusedError
            If the column has a type, and it is none of a date or time.
        """


@dataclass(frozen=True)
class Interval:
    """The time of a partition: from ``start`` (included) to ``end`` (excluded)."""

    start: str
    end: str

    def contains(self, moments: Moments) -> npt.NDArray[np.bool_]:
        """Return which times lie in the interval."""
        return (moments >= np.datetime64(self.start, "us")) & (moments < np.datetime64(self.end, "us"))

    def overlaps(self, first: np.datetime64, last: np.datetime64) -> bool:
        """Return whether times from ``first`` to ``last`` may lie in the interval."""
        return bool(last >= np.datetime64(self.start, "us") and first < np.datetime64(self.end, "us"))

    def origin(self) -> dict[str, str]:
        """Return the interval as JSON values."""
        return {"start": self.start, "end": self.end}


ALWAYS = Interval("0001-01-01", "9999-12-31")
"""An interval that leaves out no row."""


def newest_moment(parts: Iterable[Moments]) -> np.datetime64:
    """Return the newest of some times, NaT without one."""
    newest = NO_TIME
    for moments in parts:
        present = moments[~np.isnat(moments)]
        if len(present) and (np.isnat(newest) or present.max() > newest):
            newest = present.max()
    return newest


@dataclass(frozen=True)
class TimeColumn:
    """The time column of a table, and the ticks of its partitions.

    Parameters
    ----------
    name : str
        Name of the column.
    schedule : PartitionSchedule
        The ticks of the partitions.
    times : RowTimes
        Reads the values of the column.
    """

    name: str
    schedule: PartitionSchedule
    times: RowTimes

    def interval(self, partition: str) -> Interval:
        """Return the interval of a partition."""
        return Interval(self.schedule.previous(partition), partition)

    def position(self, names: Sequence[str], where: str) -> int:
        """Return the position of the column among ``names``.

        Raises
        ------
        PartitionRefusedError
            Unless there is exactly one column of this name.
        """
        if list(names).count(self.name) == 1:
            return list(names).index(self.name)
        times = "stands there more than once" if self.name in names else "is missing"
        raise PartitionRefusedError(
            f"{where}: column {self.name!r}, the declared time, {times}, and a source without {{partition}} is cut by "
            f"it; there are {', '.join(names)}"
        )


@dataclass(frozen=True)
class TimedRows:
    """Rows in the order of their file, each with the time that decides on its partition.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        The rows.
    moments : ndarray of datetime64[us], shape (n_rows,)
        Their times.
    broken : tuple of BrokenRow
        Lines that are no rows.
    broken_moments : ndarray of datetime64[us], shape (n_broken,)
        Their times: those of the rows before them.
    """

    batch: pa.RecordBatch
    moments: Moments
    broken: tuple[BrokenRow, ...] = ()
    broken_moments: Moments = field(default_factory=lambda: np.array([], "datetime64[us]"))

    def within(self, interval: Interval) -> TimedRows:
        """Return the rows and the broken rows of an interval."""
        chosen, broken = interval.contains(self.moments), interval.contains(self.broken_moments)
        return TimedRows(
            self.batch if chosen.all() else self.batch.filter(pa.array(chosen)),
            self.moments[chosen],
            tuple(row for row, is_chosen in zip(self.broken, broken, strict=True) if is_chosen),
            self.broken_moments[broken],
        )


class TimePlacer:
    """Gives each row of a file without a time that of the row before it, or of the first row that has one.

    Parameters
    ----------
    column : str
        Name of the time column, for the error.
    where : str
        Partition and file, for the error.
    """

    def __init__(self, column: str, where: str) -> None:
        self._column, self._where = column, where
        self._before: np.datetime64 = NO_TIME
        self._held: list[TimedRows] = []
        self._rows = 0

    def place(
        self,
        batch: pa.RecordBatch,
        moments: Moments,
        *,
        lines: Lines | None = None,
        broken: Sequence[tuple[BrokenRow, int]] = (),
    ) -> Iterator[TimedRows]:
        """Yield rows whose times are complete, these or those that waited for a first time.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            The next rows of the file.
        moments : ndarray of datetime64[us], shape (n_rows,)
            Their times, NaT where there is none.
        lines : ndarray of int, shape (n_rows,), optional
            Their lines; needed if there are broken rows.
        broken : sequence of (BrokenRow, int)
            Broken rows behind the rows placed so far and before the next ones, with their lines.

        Raises
        ------
        PartitionRefusedError
            If far too many rows come before the first that has a time.
        """
        extended = fill_forward(moments, self._before)
        at_lines = np.array([line for _, line in broken], np.int64)
        rows_before = np.searchsorted(lines, at_lines) if lines is not None else np.zeros(len(broken), np.int64)
        before = np.concatenate([np.array([self._before], "datetime64[us]"), extended])
        timed = TimedRows(batch, extended, tuple(row for row, _ in broken), before[rows_before])
        if len(extended):
            self._before = extended[-1]
        if np.isnat(self._before):
            if timed.batch.num_rows or timed.broken:
                self._hold(timed)
            else:
                yield timed
            return
        yield from self._release(_first_time(extended))
        yield _without_gaps(timed, _first_time(extended))

    def skip(self, moment: np.datetime64) -> Iterator[TimedRows]:
        """Pass over rows that all have times outside the interval, of which ``moment`` is one."""
        self._before = moment
        yield from self._release(moment)

    def end(self) -> None:
        """Check the end of the file.

        Raises
        ------
        PartitionRefusedError
            If there are rows, and none has a time.
        """
        if self._held:
            self._refuse()

    def _hold(self, timed: TimedRows) -> None:
        self._held.append(timed)
        self._rows += timed.batch.num_rows + len(timed.broken)
        if self._rows > MAX_ROWS_WITHOUT_TIME:
            self._refuse()

    def _release(self, first: np.datetime64) -> Iterator[TimedRows]:
        held, self._held = self._held, []
        for timed in held:
            yield _without_gaps(timed, first)

    def _refuse(self) -> None:
        batch = next((timed.batch for timed in self._held if timed.batch.num_rows), None)
        value = repr(batch.column(batch.schema.names.index(self._column))[0].as_py()) if batch is not None else "none"
        raise PartitionRefusedError(
            f"{self._where}: none of its first {self._rows:,} rows has a readable time in column {self._column!r} "
            f"(the first value is {value}), and a source without {{partition}} is cut by it; declare the format and "
            "the zone of the column in the contract"
        )


def missing_rows(partition: str, names: Sequence[str], interval: Interval) -> SourceMissingError:
    """Return the error for files, by their names, without a row in an interval."""
    files = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    return SourceMissingError(
        f"partition {partition}: {files}: no rows between {interval.start} and {interval.end} yet"
    )


def fill_forward(moments: Moments, before: np.datetime64) -> Moments:
    """Return times with each NaT replaced by the time before it, by ``before`` at the beginning."""
    if not np.isnat(moments).any():
        return moments
    latest = np.maximum.accumulate(np.where(np.isnat(moments), -1, np.arange(len(moments))))
    return np.where(latest < 0, before, moments[latest])


def _first_time(moments: Moments) -> np.datetime64:
    known = moments[~np.isnat(moments)]
    return known[0] if len(known) else NO_TIME


def _without_gaps(timed: TimedRows, first: np.datetime64) -> TimedRows:
    """Return rows with the times that are left open replaced by ``first``."""
    if not (np.isnat(timed.moments).any() or np.isnat(timed.broken_moments).any()):
        return timed
    return replace(
        timed,
        moments=np.where(np.isnat(timed.moments), first, timed.moments),
        broken_moments=np.where(np.isnat(timed.broken_moments), first, timed.broken_moments),
    )
