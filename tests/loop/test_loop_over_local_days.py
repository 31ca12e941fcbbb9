"""A loop over one CSV file of local days, through both changes of the clock; a second backfill changes nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from tests.loop.invariants import assert_invariants, versions_in_registry
from tests.loop.project import Project, make_project

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

ZONE = "America/New_York"
SPRING = [
    "2024-03-09T05:00:00",
    "2024-03-10T05:00:00",
    "2024-03-11T04:00:00",  # closes the day of 23 hours
    "2024-03-12T04:00:00",
]
AUTUMN = [
    "2024-11-03T04:00:00",
    "2024-11-04T05:00:00",  # closes the day of 25 hours
    "2024-11-05T05:00:00",
]
HOURS = {"2024-03-11T04:00:00": 23, "2024-11-04T05:00:00": 25}
PER_HOUR = 5
CONTRACT = """
contract: local-days
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time, zone: America/New_York}
  x1: {type: float}
  x2: {type: float}
  place: {type: text}
  y: {type: float}
"""


def local_rows(keys: list[str]) -> pd.DataFrame:
    """Return the rows of some days, five each hour, with the offset of the local clock in their times."""
    schedule = PartitionSchedule("@daily", ZONE)
    moments = [
        moment + pd.Timedelta(minutes=10 * number)
        for key in keys
        for moment in pd.date_range(schedule.previous(key), key, freq="h", inclusive="left", tz="UTC")
        for number in range(PER_HOUR)
    ]
    random = np.random.default_rng(len(moments))
    x1, x2 = random.normal(size=len(moments)), random.normal(size=len(moments))
    return pd.DataFrame(
        {
            "id": [f"{moment:%Y%m%dT%H%M}" for moment in moments],
            "at": [moment.tz_convert(ZONE).isoformat() for moment in moments],
            "x1": x1,
            "x2": x2,
            "place": ["ab"[number % 2] for number in range(len(moments))],
            "y": 2 * x1 + random.normal(scale=0.5, size=len(moments)),
        }
    )


def everything(project: Project) -> object:
    """Return the records, versions, aliases and predictions, which a second backfill must not change."""
    workspace = project.workspace
    state = workspace.state()
    return (
        project.records,
        {key: (details.version, details.digest) for key, details in state.published.items()},
        workspace.registry.aliases(),
        versions_in_registry(project.model),
        {key: details.digest for key, details in state.scored.items()},
        {key: workspace.predictions.read(key).to_pydict() for key in state.scored},
    )


def test_a_loop_over_local_days_of_one_file_backfilled_twice_changes_nothing_the_second_time(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    project.fields["data"] |= {
        "source": {"kind": "csv", "uri": "include/data/days.csv"},
        "contract": "include/contract.yaml",
        "every": "@daily",
        "timezone": ZONE,
        "from": "2024-03-08",
        "until": "2024-11-06",
    }
    (tmp_path / "include" / "contract.yaml").write_text(CONTRACT)
    declared = tmp_path / "include" / "loops" / f"{project.model}.yaml"
    declared.write_text(json.dumps(project.fields))
    file = tmp_path / "include" / "data" / "days.csv"
    file.parent.mkdir()
    local_rows(SPRING).to_csv(file, index=False)
    scheduler = start_scheduler(project.dags)

    def backfill(keys: list[str]) -> None:
        for key in keys:
            scheduler.trigger(project.dag("ingest"), partition_key=key)
        scheduler.run_until_idle()

    backfill(SPRING)
    project.at_night(scheduler, SPRING[-1])
    assert scheduler.failures() == []
    assert project.workspace.registry.aliases() == {"champion": "1"}
    local_rows(AUTUMN).to_csv(file, index=False, header=False, mode="a")
    backfill(AUTUMN)
    assert scheduler.failures() == []

    state = project.workspace.state()
    assert {key: details.rows for key, details in state.published.items()} == {
        key: PER_HOUR * HOURS.get(key, 24) for key in SPRING + AUTUMN
    }
    assert {details.late for details in state.published.values()} == {0}
    assert sorted(state.scored) == sorted(state.performance) == AUTUMN
    assert project.details_of("predictions_published", AUTUMN[1]).rows == PER_HOUR * 25
    for key in (SPRING[2], AUTUMN[1]):
        times = project.workspace.snapshots.read(key)["at"].to_pylist()
        assert max(times) - min(times) == timedelta(hours=HOURS[key] - 1, minutes=10 * (PER_HOUR - 1))
    assert_invariants(project.workspace)

    before, runs = everything(project), len(scheduler.dag_runs())
    backfill(SPRING + AUTUMN)
    assert scheduler.failures() == []
    assert everything(project) == before
    again = [run.dag_id.removeprefix(f"{project.model}_") for run in scheduler.dag_runs()[runs:]]
    assert again.count("ingest") == 7
    assert set(again) == {"ingest", "score", "watch"}
    assert_invariants(project.workspace)
