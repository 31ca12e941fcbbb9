"""The ticks of a schedule: neighbours, intervals, and the key that was meant."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.errors import DataError, DeclarationError

moments = st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda moment: moment.replace(microsecond=0))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("every", "before"),
    [
        ("@hourly", "2013-03-30T23:00:00"),
        ("@daily", "2013-03-30T00:00:00"),
        ("@weekly", "2013-03-24T00:00:00"),
        ("@monthly", "2013-03-01T00:00:00"),
        ("@quarterly", "2013-01-01T00:00:00"),
        ("@yearly", "2013-01-01T00:00:00"),
        ("30 */6 * * *", "2013-03-30T18:30:00"),
    ],
)
def test_a_partition_begins_at_the_tick_before_its_key_in_utc_where_no_hour_is_lost(every: str, before: str) -> None:
    assert PartitionSchedule(every).previous("2013-03-31T00:00:00") == before


@given(moments, st.sampled_from(["@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly", "7 3 * * 2"]))
def test_ticks_follow_each_other_without_a_gap(moment: datetime, every: str) -> None:
    schedule = PartitionSchedule(every)
    key = schedule.previous(moment.isoformat())
    assert key < moment.isoformat()
    second = datetime.fromisoformat(key).replace(second=1)
    assert schedule.previous(second.isoformat()) == key


def test_an_invalid_cron_expression_is_a_declaration_error() -> None:
    with pytest.raises(DeclarationError, match=r"data\.every: '61 0 \* \* \*' is no cron expression"):
        PartitionSchedule("61 0 * * *").previous("2013-03-31T00:00:00")


def test_a_tick_is_its_own_key_in_every_iso_form() -> None:
    assert PartitionSchedule("@weekly").require_tick("2013-03-10") == "2013-03-10T00:00:00"
    assert PartitionSchedule("@hourly").require_tick("2013-03-10 06:00") == "2013-03-10T06:00:00"


@pytest.mark.parametrize(
    ("every", "key", "meant", "neighbour"),
    [
        ("@weekly", "2013-03-06", "2013-03-10T00:00:00", "2013-03-03T00:00:00"),
        ("@weekly", "2013-03-10T00:00:01", "2013-03-17T00:00:00", "2013-03-10T00:00:00"),
        ("@daily", "2013-03-10T06:00:00", "2013-03-11T00:00:00", "2013-03-10T00:00:00"),
        ("@hourly", "2013-03-10T06:30:00", "2013-03-10T07:00:00", "2013-03-10T06:00:00"),
        ("@monthly", "2013-03-10", "2013-04-01T00:00:00", "2013-03-01T00:00:00"),
    ],
)
def test_a_key_off_the_ticks_is_refused_with_the_keys_that_may_be_meant(
    every: str, key: str, meant: str, neighbour: str
) -> None:
    with pytest.raises(DataError) as raised:
        PartitionSchedule(every).require_tick(key)
    message = str(raised.value)
    assert f"is no tick of data.every '{every}'" in message
    assert f"that time lies in partition {meant}, and the partition before it is {neighbour}" in message


@pytest.mark.parametrize("key", ["0001-01-01", "9999-12-31T23:59:59"])
def test_a_key_at_the_ends_of_the_calendar_is_refused_in_words(key: str) -> None:
    with pytest.raises(DataError, match="has no ticks around it"):
        PartitionSchedule("@weekly").require_tick(key)
