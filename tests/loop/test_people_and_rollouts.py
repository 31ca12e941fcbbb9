"""Control of a rollout by people in the Airflow UI: approve, pause, resume, skip and abort."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.rollout.control_rollout import approve_stage
from airflow_mlops.operators.approval import APPROVE, REJECT
from tests.loop.by_core import roll_out
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, states

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

WATCH = {"performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}
ASKED = {"stages": [{"shadow": 100}, {"canary": 50, "approval": "human"}, {"live": 100}], "min_rows": 20}
HOSTILE = "{{ 7 * 7 }}{% raw %} ${IFS} '); DROP TABLE airflow_mlops_ledger; -- <script>"
BAKED = {"stages": [{"shadow": 100, "bake": 1}, {"live": 100}], "min_rows": 20}


def awaiting_approval(folder: Path, start_scheduler: SchedulerFactory) -> tuple[Project, InProcessScheduler]:
    """Return a project whose version 2 is being rolled out by its Dags, as far as it can be without anybody."""
    project = make_project(folder, watch=WATCH, rollout=ASKED)
    with suppress(NotReadyError):  # the first version waits for a person, too
        project.seed(KEYS[:2])
    approve_stage(project.workspace, 1, ("ben",), version="1")
    roll_out(project.workspace, KEYS[1])
    scheduler = start_scheduler(project.dags)
    for key in KEYS[2:4]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
    return project, scheduler


def challenged(
    folder: Path, start_scheduler: SchedulerFactory, rollout: dict[str, Any]
) -> tuple[Project, InProcessScheduler]:
    """Return a project whose version 2 waits in its first stage for another week; the core alone brought it there."""
    project = make_project(folder, watch=WATCH, rollout=rollout)
    project.bring_challenger()
    assert project.workspace.registry.aliases() == {"champion": "1", "challenger": "2"}
    return project, start_scheduler(project.dags)


def control(
    project: Project, scheduler: InProcessScheduler, action: str, *, reason: str = "the board meets"
) -> dict[str, str | None]:
    """Start the form of the UI as Ann; return the states of its tasks."""
    scheduler.trigger(project.dag("control"), conf={"action": action, "reason": reason}, user="ann")
    scheduler.run_until_idle()
    return states(scheduler, project.dag("control"))


def next_week(project: Project, scheduler: InProcessScheduler, key: str) -> dict[str, str | None]:
    """Deliver another week of the new relation; return the states of the rollout's tasks."""
    project.put(key, level=6.0)
    project.ingest(scheduler, key)
    return states(scheduler, project.dag("rollout"), key)


def test_a_stage_begins_when_a_person_lets_it_and_waits_without_a_worker_until_then(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = awaiting_approval(tmp_path, start_scheduler)
    tasks = states(scheduler, project.dag("rollout"))
    assert tasks["shadow_100.analyse"] == "success"
    assert tasks["canary_50.approve"] == "awaiting_input"
    assert tasks["canary_50.enter"] is None
    assert project.workspace.registry.aliases() == {"champion": "1", "challenger": "2"}
    scheduler.respond(project.dag("rollout"), "canary_50.approve", APPROVE, user="ben")
    scheduler.run_until_idle()
    assert set(states(scheduler, project.dag("rollout")).values()) == {"success"}
    record = project.of_kind("stage_approved")[-1]
    assert (record.details.name, record.details.by) == ("canary_50", "ben")
    assert project.workspace.registry.aliases() == {"champion": "2"}
    assert_invariants(project.workspace)


def test_a_stage_that_a_person_rejects_takes_the_challenger_back(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = awaiting_approval(tmp_path, start_scheduler)
    scheduler.respond(project.dag("rollout"), "canary_50.approve", REJECT, user="ben", reason="not before the holiday")
    scheduler.run_until_idle()
    tasks = states(scheduler, project.dag("rollout"))
    assert (tasks["canary_50.approve"], tasks["live_100.promote"]) == ("skipped", "skipped")
    assert dict(project.workspace.state().quarantined.items()) == {
        "2": "canary_50: rejected by ben: not before the holiday"
    }
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert_invariants(project.workspace)


def test_a_paused_rollout_stays_where_it_is_until_it_is_resumed(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = challenged(tmp_path, start_scheduler, BAKED)
    assert control(project, scheduler, "pause") == {"control": "success"}
    assert project.of_kind("rollout_paused")[0].actor.endswith("for person:ann")
    looked = len(project.of_kind("stage_analysed"))
    assert next_week(project, scheduler, KEYS[4])["shadow_100.analyse"] == "skipped"
    assert len(project.of_kind("stage_analysed")) == looked
    assert control(project, scheduler, "pause") == {"control": "failed"}
    assert control(project, scheduler, "resume", reason=HOSTILE) == {"control": "success"}
    assert project.of_kind("rollout_resumed")[0].details.reason == HOSTILE  # rendered once, and never as a template
    assert next_week(project, scheduler, KEYS[5])["live_100.promote"] == "success"
    assert project.workspace.registry.aliases() == {"champion": "2"}
    assert_invariants(project.workspace)


def test_a_skipped_stage_counts_as_passed_and_the_ledger_says_who_skipped_it(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = challenged(tmp_path, start_scheduler, {**BAKED, "min_rows": 100_000})
    assert control(project, scheduler, "skip") == {"control": "success"}
    (record,) = project.of_kind("stage_skipped")
    assert (record.details.name, record.details.reason) == ("shadow_100", "the board meets")
    assert next_week(project, scheduler, KEYS[4])["live_100.promote"] == "success"
    assert project.workspace.registry.aliases() == {"champion": "2"}
    assert_invariants(project.workspace)


@pytest.mark.parametrize("before", [None, "pause", "skip"])
def test_abort_beats_everything(tmp_path: Path, start_scheduler: SchedulerFactory, before: str | None) -> None:
    project, scheduler = challenged(tmp_path, start_scheduler, BAKED)
    if before is not None:
        control(project, scheduler, before)
    assert control(project, scheduler, "abort") == {"control": "success"}
    assert dict(project.workspace.state().quarantined.items()) == {"2": "the board meets"}
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert control(project, scheduler, "resume") == {"control": "failed"}
    assert_invariants(project.workspace)
