"""The example Dag of all stages as operators runs as it stands, on the flights, and touches no loop but its own."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.core.open_workspace import open_workspace
from tests.loop.invariants import assert_invariants
from tests.loop.project import embedded_stores, states

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

HOUSE = Path(__file__).parents[2]
FLIGHTS = HOUSE / "include" / "data" / "flights_air_time"
WEEKS = ["2013-01-06", "2013-01-13", "2013-01-20"]

NO_MODEL_YET = ["score", "drift", "performance", "assemble", "fit", "evaluate", "gate", "register", "prove"]
TRAINED = ["assemble", "fit", "evaluate", "gate", "register", "prove", "start", "shadow", "live"]


@pytest.mark.skipif(not FLIGHTS.is_dir(), reason="`make data` writes the flights")
def test_every_stage_is_an_operator_of_an_ordinary_dag(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    (tmp_path / "dags").mkdir()
    (tmp_path / "include").symlink_to(HOUSE / "include")
    shutil.copy(HOUSE / "dags" / "building_blocks.py", tmp_path / "dags")
    scheduler = start_scheduler(tmp_path / "dags")
    seen = []
    for week in WEEKS:
        scheduler.trigger("building_blocks", conf={"partition": week})
        scheduler.run_until_idle()
        seen.append(states(scheduler, "building_blocks"))
    assert scheduler.failures() == []
    first, second, third = seen
    assert {task for task, state in first.items() if state == "skipped"} == {*NO_MODEL_YET, "start", "shadow", "live"}
    assert {task for task, state in second.items() if state == "skipped"} == {"score", "drift", "performance"}
    assert {task for task, state in third.items() if state == "skipped"} == set(TRAINED)
    assert all(third[task] == "success" for task in ("score", "drift", "performance", "reconcile", "verify", "decide"))

    declared = runpy.run_path(str(HOUSE / "dags" / "building_blocks.py"))["LOOP"]
    workspace = open_workspace(declared, embedded_stores(), root=HOUSE, actor="test")
    state = workspace.state()
    assert sorted(state.published) == [f"{week}T00:00:00" for week in WEEKS]
    assert state.champion is not None
    assert state.performance[f"{WEEKS[2]}T00:00:00"].value < 20.0
    assert_invariants(workspace)
    others = {folder.name for folder in embedded_stores().lake.path.iterdir()}
    assert not others & {"flight_air_time", "flight_delay"}
