"""The ticks of a schedule: neighbours, intervals, and the key that was meant."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.errors import DataError, DeclarationError
from tests.unit.core.toy_loop import toy_fields

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


ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",  # changes by half an hour
    "Asia/Kolkata",  # half an hour beside the hours of UTC, and no change
    "Africa/Casablanca",  # changes four times around a moving month
    "America/Santiago",  # changes at midnight, so a day has no midnight
]
EXPRESSIONS = ["@hourly", "@daily", "@weekly", "30 2 * * *", "15 */6 * * *", "*/30 1-3 * * *"]


def year_of_ticks(schedule: PartitionSchedule, year: int) -> list[str]:
    """Return the ticks of a year in UTC, by going from each to the next."""
    key, keys = schedule.next(f"{year - 1}-12-31T23:59:59"), []
    while key < f"{year + 1}":
        keys.append(key)
        key = schedule.next(key)
    return keys


@pytest.mark.parametrize(
    ("zone", "every"),
    [
        *((zone, every) for zone in ZONES for every in ("@daily", "@weekly", "30 2 * * *", "15 */6 * * *")),
        *((zone, "@hourly") for zone in ("America/New_York", "Australia/Lord_Howe")),
        ("Africa/Casablanca", "*/30 1-3 * * *"),
    ],
)
def test_the_partitions_of_a_year_tile_the_time_line_and_their_keys_sort_and_round_trip(zone: str, every: str) -> None:
    schedule = PartitionSchedule(every, zone)
    keys = year_of_ticks(schedule, 2024)
    assert keys == sorted(set(keys))
    # The start of each partition is the end of the one before: no gap, no overlap.
    assert [schedule.previous(key) for key in keys[1:]] == keys[:-1]
    assert [schedule.require_tick(key) for key in keys[::3]] == keys[::3]
    assert len({schedule.slug(key) for key in keys}) == len(keys)
    assert len({schedule.local(key).strftime(schedule.local_format) for key in keys}) == len(keys)


@given(
    st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2024, 12, 31)),  # noqa: DTZ001
    st.sampled_from(ZONES),
    st.sampled_from(EXPRESSIONS),
)
def test_every_moment_lies_in_one_partition(moment: datetime, zone: str, every: str) -> None:
    schedule, text = PartitionSchedule(every, zone), moment.replace(microsecond=0).isoformat()
    key = schedule.next(text)
    assert schedule.previous(key) <= text < key
    with pytest.raises(DataError, match="is no tick") if schedule.closing(text) != text else nullcontext():
        schedule.require_tick(text)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", "2024-03-10", 23),
        ("America/New_York", "2024-11-03", 25),
        ("Europe/Berlin", "2024-03-31", 23),
        ("Europe/Berlin", "2024-10-27", 25),
        ("Europe/Berlin", "2024-10-28", 24),
        ("Australia/Lord_Howe", "2024-04-07", 24.5),
        ("Africa/Casablanca", "2024-03-10", 25),
        ("America/Santiago", "2024-09-08", 23),
    ],
)
def test_a_local_day_is_as_long_as_its_clock_says(zone: str, day: str, hours: float) -> None:
    schedule = PartitionSchedule("@daily", zone)
    start = schedule.start_of(day)
    end = schedule.next(start)
    assert schedule.require_tick(start) == start
    assert (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() == hours * 3600
    of_hours = PartitionSchedule("@hourly", zone)
    inside = sum(start < key <= end for key in of_hours.before(of_hours.next(end), 30))
    assert inside == int(hours)


def test_the_repeated_hour_has_two_partitions_and_the_skipped_one_none() -> None:
    schedule = PartitionSchedule("@hourly", "America/New_York")
    autumn = [schedule.describe(key) for key in ("2024-11-03T05:00:00", schedule.next("2024-11-03T05:00:00"))]
    assert autumn == [
        "2024-11-03T05:00:00 (2024-11-03 01:00 EDT)",
        "2024-11-03T06:00:00 (2024-11-03 01:00 EST)",
    ]
    assert schedule.describe(schedule.next("2024-03-10T06:00:00")) == "2024-03-10T07:00:00 (2024-03-10 03:00 EDT)"


def test_a_daily_tick_in_a_skipped_hour_comes_after_the_gap_and_in_a_repeated_one_once() -> None:
    schedule = PartitionSchedule("30 2 * * *", "Europe/Berlin")
    spring = schedule.next("2024-03-30T12:00:00")
    assert f"{schedule.local(spring)}" == "2024-03-31 03:30:00+02:00"
    autumn = schedule.next("2024-10-26T12:00:00")
    assert f"{schedule.local(autumn)}" == "2024-10-27 02:30:00+02:00"
    assert f"{schedule.local(schedule.next(autumn))}" == "2024-10-28 02:30:00+01:00"


def test_a_key_in_local_time_is_refused_with_the_ticks_in_both_times() -> None:
    with pytest.raises(DataError) as raised:
        PartitionSchedule("@daily", "America/New_York").require_tick("2024-11-04")
    assert "2024-11-04T05:00:00 (2024-11-04 00:00 EST)" in str(raised.value)
    assert "2024-11-03T04:00:00 (2024-11-03 00:00 EDT)" in str(raised.value)


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        (
            "Europe/Berlim",
            "is no time zone of the IANA database; write one such as Europe/Berlin; is Europe/Berlin mea",
        ),
        ("CEST", "is no time zone of the IANA database"),
        ("+02:00", "data.timezone"),
        ("../etc/passwd", "data.timezone"),
    ],
)
def test_a_zone_that_is_none_is_refused_by_the_declaration(zone: str, message: str) -> None:
    fields = toy_fields()
    fields["data"]["timezone"] = zone
    with pytest.raises(DeclarationError) as raised:
        Loop(**fields)
    assert message in str(raised.value)


def test_from_and_until_are_days_of_the_zone() -> None:
    fields = toy_fields()
    fields["data"] |= {"timezone": "Asia/Tokyo", "from": "2024-01-01", "until": "2024-12-30"}
    data = Loop(**fields).data
    assert (data.first_moment, data.last_moment) == ("2023-12-31T15:00:00", "2024-12-29T15:00:00")
