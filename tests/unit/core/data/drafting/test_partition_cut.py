"""How the rows of one file are cut into partitions by their time."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from airflow_mlops.core.data.drafting.column_facts import ColumnFacts
from airflow_mlops.core.data.drafting.partition_cut import choose_every, cut_by_time
from airflow_mlops.core.errors import DeclarationError

FIRST = datetime.fromisoformat("2025-01-05")  # a Sunday


def times(days: float) -> ColumnFacts:
    """Return the facts of a time column that begins on a Sunday and lasts some days."""
    column = ColumnFacts("at", first=FIRST, last=FIRST + timedelta(days=days))
    column.close()
    return column


@pytest.mark.parametrize(
    ("rows", "days", "every"),
    [
        (1_000_000, 100, "@hourly"),
        (30_000, 100, "@daily"),
        (3_000, 100, "@weekly"),
        (26_000, 1_096, "@monthly"),
        # 200 rows would leave three months of it, so weeks of fewer rows are taken.
        (720, 84, "@weekly"),
        # A month is one partition; of days there are enough, with twenty rows in each.
        (600, 27, "@daily"),
        # Days would have eleven rows, so it stays one month.
        (300, 27, "@monthly"),
        (5_000, 0.0, "@hourly"),
        (3, 0.0, "@monthly"),
    ],
)
def test_partitions_have_200_rows_or_there_are_eight_of_twenty(rows: int, days: float, every: str) -> None:
    assert choose_every(times(days), rows) == every


def test_the_first_tick_closes_the_partition_of_the_oldest_row_and_a_row_at_a_tick_belongs_to_the_next() -> None:
    cut = cut_by_time(times(21), 400, "@weekly")
    assert (cut.first, cut.last) == ("2025-01-12T00:00:00", "2025-02-02T00:00:00")
    assert (cut.partitions, cut.rows) == (4, 100)


def test_a_schedule_that_is_none_and_a_column_without_a_time_are_refused() -> None:
    with pytest.raises(DeclarationError, match="'often' is no cron expression"):
        cut_by_time(times(21), 400, "often")
    empty = ColumnFacts("at")
    empty.close()
    with pytest.raises(DeclarationError, match="no row has a time in 'at'; say another column with --time"):
        choose_every(empty, 10)
