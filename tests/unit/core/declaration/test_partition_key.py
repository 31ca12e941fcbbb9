"""Partition keys: their order as text is the order of time."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.declaration.partition_key import partition_key, partition_slug
from airflow_mlops.core.errors import DataError

moments = st.datetimes(min_value=datetime(1000, 1, 1)).map(lambda moment: moment.replace(microsecond=0))  # noqa: DTZ001


@given(st.lists(moments, max_size=20))
def test_the_order_of_keys_is_the_order_of_time(times: list[datetime]) -> None:
    keys = [partition_key(moment.isoformat()) for moment in times]
    assert sorted(keys) == [moment.isoformat() for moment in sorted(times)]


@given(moments)
def test_a_key_is_its_own_key(moment: datetime) -> None:
    key = partition_key(moment.isoformat())
    assert partition_key(key) == key


@pytest.mark.parametrize("text", ["2013-03-10", "2013-03-10 00:00", "20130310", "2013-03-10T00:00:00.000001"])
def test_every_iso_form_of_a_moment_is_one_key(text: str) -> None:
    assert partition_key(text) == "2013-03-10T00:00:00"


@pytest.mark.parametrize("text", ["", "yesterday", "2013-02-30", "10/03/2013"])
def test_a_text_that_is_no_date_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(DataError, match="is no ISO date or time such as 2013-03-10T00:00:00"):
        partition_key(text)


@pytest.mark.parametrize("text", ["2013-03-10T00:00:00Z", "2013-03-10T00:00:00+01:00"])
def test_a_time_zone_is_refused_because_two_keys_could_be_one_moment(text: str) -> None:
    with pytest.raises(DataError, match="carries a time zone"):
        partition_key(text)


def test_a_midnight_key_is_a_date_in_file_names() -> None:
    assert partition_slug("2013-03-10T00:00:00") == "2013-03-10"
    assert partition_slug("2013-03-10T06:30:00") == "2013-03-10T0630"
