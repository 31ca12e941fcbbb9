"""A loop on a local clock: Airflow and the core mean the same ticks, through both changes of the clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pendulum
import pytest
from airflow.exceptions import InvalidPartitionKeyError
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables.base import TimeRestriction

from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.factories.build_dags import partition_timetable
from tests.loop.project import make_project, week

if TYPE_CHECKING:
    from airflow.timetables.trigger import CronPartitionTimetable

    from tests.loop.conftest import SchedulerFactory

CHANGES = {
    "America/New_York": ("2024-03-10", "2024-11-03"),
    "Europe/Berlin": ("2024-03-31", "2024-10-27"),
    "Australia/Lord_Howe": ("2024-10-06", "2024-04-07"),
    "America/Santiago": ("2024-09-08", "2024-04-07"),
}


def stored(every: str, zone: str) -> CronPartitionTimetable:
    """Return the timetable of an ingest Dag as the scheduler reads it from its database."""
    timetable: CronPartitionTimetable = decode_timetable(encode_timetable(partition_timetable(every, zone)))
    return timetable


def ticks_between(schedule: PartitionSchedule, start: str, end: str) -> list[str]:
    """Return the ticks from ``start`` to ``end``, both included."""
    keys = [schedule.closing(start)]
    while (key := schedule.next(keys[-1])) <= end:
        keys.append(key)
    return keys


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("every", ["@hourly", "@daily", "30 2 * * *", "15 */6 * * *"])
def test_scheduler_and_backfill_make_the_partitions_of_the_core(zone: str, every: str, airflow_home: Path) -> None:
    timetable, schedule = stored(every, zone), PartitionSchedule(every, zone)
    for day in CHANGES[zone]:
        first = pendulum.parse(day).subtract(days=2)
        last = first.add(days=4)
        bounds = [schedule.start_of(bound.format("YYYY-MM-DD")) for bound in (first, last)]
        expected = ticks_between(schedule, *bounds)
        backfilled = list(timetable.iter_partition_dagrun_infos(earliest=first, latest=last))
        assert [info.partition_key for info in backfilled] == expected
        assert [info.run_after for info in backfilled] == [timetable.resolve_partition_date(key) for key in expected]
        # The scheduler goes from run to run.
        earliest = datetime.fromisoformat(expected[0]).replace(tzinfo=UTC)
        restriction = TimeRestriction(earliest=pendulum.instance(earliest), latest=None, catchup=True)
        info, scheduled = None, []
        while len(scheduled) < len(expected):
            info = timetable.next_dagrun_info_v2(last_dagrun_info=info, restriction=restriction)
            assert info is not None
            scheduled.append(info.partition_key)
        assert scheduled == expected


def test_airflow_refuses_a_key_of_another_form(airflow_home: Path) -> None:
    with pytest.raises(InvalidPartitionKeyError, match="does not match"):
        stored("@daily", "Europe/Berlin").resolve_partition_date("2024-03-31")


def test_the_two_hours_of_a_clock_set_back_are_two_partitions_with_their_own_files(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    folder = tmp_path / "include" / "data" / project.model
    folder.mkdir(parents=True)
    project.fields["data"] |= {
        "every": "@hourly",
        "timezone": "America/New_York",
        "from": "2024-11-01",
        "until": "2024-12-01",
        "source": {"kind": "parquet", "uri": f"include/data/{project.model}/{{start:%Y-%m-%dT%H%z}}.parquet"},
    }
    declared = tmp_path / "include" / "loops" / f"{project.model}.yaml"
    declared.write_text(json.dumps(project.fields))
    hours = {
        "2024-11-03T05:00:00": "2024-11-03T00-0400",
        "2024-11-03T06:00:00": "2024-11-03T01-0400",
        "2024-11-03T07:00:00": "2024-11-03T01-0500",
        "2024-11-03T08:00:00": "2024-11-03T02-0500",
    }
    for key, name in hours.items():
        inside = pd.Timestamp(key, tz="UTC") - pd.Timedelta(minutes=30)
        rows = week("2013-01-06T00:00:00").to_pandas().assign(at=inside)
        rows["id"] = key + rows["id"]
        rows.to_parquet(folder / f"{name}.parquet")
    scheduler = start_scheduler(project.dags)
    for key in hours:
        scheduler.trigger(project.dag("ingest"), partition_key=key)
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    published = project.workspace.state().published
    assert list(published) == list(hours)
    assert {key: details.late for key, details in published.items()} == dict.fromkeys(hours, 0)
    for key in hours:
        (moment,) = set(project.workspace.snapshots.read(key)["at"].to_pylist())
        assert moment.isoformat() == f"{key[:11]}{int(key[11:13]) - 1:02}:30:00+00:00"
    # The Dags behind the ingest hear of each hour under the same key.
    heard = [run.partition_key for run in scheduler.dag_runs(project.dag("score"))]
    assert sorted(map(str, heard)) == list(hours)
