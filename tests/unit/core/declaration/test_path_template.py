"""Templates name the files of a partition by its key or by either bound, and tell partitions apart."""

from __future__ import annotations

import pytest

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.declaration.path_template import fill_template
from airflow_mlops.core.errors import DeclarationError
from tests.unit.core.toy_loop import toy_fields

DAILY, HOURLY = PartitionSchedule("@daily"), PartitionSchedule("@hourly")


def test_a_template_is_filled_once_and_other_braces_stay() -> None:
    filled = fill_template("{partition}/{year}-{month}-{day}T{hour}/{other}.csv", "2013-03-09T06:30:00", DAILY)
    assert filled == "2013-03-09T0630/2013-03-09T06/{other}.csv"


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("in/{start}.csv", "in/2013-02-28.csv"),
        ("in/{end}.csv", "in/2013-03-01.csv"),
        ("in/{start:%Y%m%d}_{end:%d.%m.%y}.csv", "in/20130228_01.03.13.csv"),
        ("{start:%Y/%m/%d}/*.parquet", "2013/02/28/*.parquet"),
        ("sales?from={start:%Y-%m-%dT%H:%M:%S}", "sales?from=2013-02-28T00:00:00"),
    ],
)
def test_start_is_the_first_instant_of_a_partition_and_end_the_tick_that_closes_it(template: str, filled: str) -> None:
    assert fill_template(template, "2013-03-01T00:00:00", DAILY) == filled


def test_a_week_begins_a_week_before_the_tick_that_closes_it() -> None:
    weekly = PartitionSchedule("@weekly")
    assert fill_template("{start}-{end}", "2013-03-10T00:00:00", weekly) == "2013-03-03-2013-03-10"


def test_hours_are_named_alike_at_midnight_and_at_one() -> None:
    keys = ["2013-03-09T23:00:00", "2013-03-10T00:00:00", "2013-03-10T01:00:00"]
    assert [fill_template("{partition}", key, HOURLY) for key in keys] == [
        "2013-03-09T2300",
        "2013-03-10T0000",
        "2013-03-10T0100",
    ]
    assert [fill_template("{start} {end}", key, HOURLY) for key in keys[1:]] == [
        "2013-03-09T2300 2013-03-10T0000",
        "2013-03-10T0000 2013-03-10T0100",
    ]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("in/{begin}.csv", "holds a placeholder that is not known; there are {partition}, {start}, {end}"),
        ("in/{start:}.csv", "has a format without a date or time"),
        ("in/{start:day}.csv", "has a format without a date or time"),
        ("in/{start:%Y-%Q}.csv", "{start:%Y-%Q} has the code '%Q', which is none"),
        ("in/{end:%Y%}.csv", "has the code '%', which is none"),
        ("in/{partition:%Y}.csv", "holds a placeholder that is not known; there are {partition}, {start}, {end}"),
    ],
)
def test_a_template_that_names_no_partition_is_refused(uri: str, message: str) -> None:
    fields = toy_fields()
    fields["data"]["source"]["uri"] = uri
    with pytest.raises(DeclarationError, match=r"data\.source\.uri: ") as raised:
        Loop(**fields)
    assert message in str(raised.value)


@pytest.mark.parametrize("path", ["rows", "rows?day={begin}"])
def test_a_path_of_a_service_that_names_no_partition_is_refused(path: str) -> None:
    fields = toy_fields()
    fields["data"] |= {"source": {"kind": "http", "conn_id": "sales", "path": path}, "contract": "contract.yaml"}
    with pytest.raises(DeclarationError, match=r"data\.source\.path: must hold \{partition\}, \{start\} or \{end\}"):
        Loop(**fields)
