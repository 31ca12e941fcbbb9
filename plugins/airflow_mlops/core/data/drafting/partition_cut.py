"""Choose how the rows of one file are cut into partitions by their time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_mlops.core.data.drafting.column_facts import ColumnFacts
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.errors import DeclarationError

LENGTHS = {"@hourly": 1 / 24, "@daily": 1.0, "@weekly": 7.0, "@monthly": 30.4}
"""The proposed schedules with the length of their partitions, in days."""
ENOUGH_ROWS = 200
"""Rows of a partition from which checks and metrics mean something."""
ENOUGH_PARTITIONS = 8
"""Partitions from which a loop has a window, a holdout and something to watch."""
FEWEST_ROWS = 20
MOST_PARTITIONS = 10_000


@dataclass(frozen=True)
class TimeCut:
    """The partitions of a file: their schedule, the first and last tick, their number, and the rows of each.

    ``first`` and ``last`` are partition keys, and ``rows`` is a mean.
    """

    every: str
    first: str
    last: str
    partitions: int
    rows: int


def choose_every(column: ColumnFacts, rows: int) -> str:
    """Return the schedule by which the rows of a file make partitions of a fitting size.

    It is the finest with 200 rows in a partition. Where that leaves fewer than eight partitions, it is the coarsest
    with eight partitions of twenty rows, if there is one.
    """
    first, last = time_range(column)
    days = max((last - first).total_seconds() / 86_400, 1.0)
    finest = next((every for every, length in LENGTHS.items() if rows * length / days >= ENOUGH_ROWS), "@monthly")
    if days / LENGTHS[finest] >= ENOUGH_PARTITIONS:
        return finest
    coarsest_first = sorted(LENGTHS, key=lambda every: -LENGTHS[every])
    fitting = (
        every
        for every in coarsest_first
        if days / LENGTHS[every] >= ENOUGH_PARTITIONS and rows * LENGTHS[every] / days >= FEWEST_ROWS
    )
    return next(fitting, finest)


def cut_by_time(column: ColumnFacts, rows: int, every: str) -> TimeCut:
    """Return the partitions into which a schedule cuts the rows of a file.

    Raises
    ------
    DeclarationError
        If the schedule is no cron expression, or no row has a time.
    """
    schedule = PartitionSchedule(every)
    first, last = (_closing_tick(schedule, time) for time in time_range(column))
    partitions, tick = 1, first
    while tick < last and partitions < MOST_PARTITIONS:
        partitions, tick = partitions + 1, schedule.next(tick)
    return TimeCut(every, first, last, partitions, round(rows / partitions))


def time_range(column: ColumnFacts) -> tuple[datetime, datetime]:
    """Return the earliest and the latest time of a column, in UTC or on its own clock.

    Raises
    ------
    DeclarationError
        If there is none.
    """
    if column.first is None or column.last is None:
        raise DeclarationError(f"no row has a time in {column.name!r}; say another column with --time", key="time")
    return column.first, column.last


def _closing_tick(schedule: PartitionSchedule, time: datetime) -> str:
    """Return the tick that closes the partition of a time; a time at a tick belongs to the next partition."""
    return schedule.next(time.replace(microsecond=0).isoformat())
