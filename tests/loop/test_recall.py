"""Under the scheduler: the champion of a relation that comes back is recalled and rolled out, or left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.core.registry.load import copy_folder
from airflow_mlops.operators.approval import format_question
from tests.loop.by_core import live_through
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, states
from tests.loop.test_registry_bad_input import files_of

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

BACK, AFTER = KEYS[6], KEYS[7]
WATCHED = {"drift": {"alarm_rate": 0.001}, "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}
CANARY = {"stages": [{"canary": 50}, {"live": 100}], "min_rows": 20}
SHADOW = {"stages": [{"shadow": 100, "bake": 1}, {"live": 100}], "min_rows": 20}


def two_champions(project: Project) -> None:
    """Bring version 1 of the old relation live, then version 2 of a new one, by the core alone."""
    project.seed(KEYS[:2])
    for key in KEYS[2:6]:
        project.put(key, level=6.0)
        live_through(project.workspace, key)
    assert project.workspace.registry.aliases() == {"champion": "2"}


def old_relation_is_back(project: Project, scheduler: InProcessScheduler) -> None:
    """Deliver a week of the old relation; assert that it alarms and that version 1 is recalled."""
    project.put(BACK)
    project.ingest(scheduler, BACK)
    assert project.details_of("retrain_decided", BACK).cause == "alarm: performance"
    recalled = project.details_of("version_recalled", BACK)
    assert (recalled.version, recalled.champion, recalled.tried) == ("1", "2", 1)
    assert set(states(scheduler, project.dag("train"), BACK).values()) == {"success"}


def test_drift_back_recalls_the_old_champion_and_takes_it_through_canary_to_live(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, watch=WATCHED, rollout=CANARY)
    two_champions(project)
    scheduler = start_scheduler(project.dags)
    old_relation_is_back(project, scheduler)

    assert states(scheduler, project.dag("rollout"), BACK) == {
        "start": "success",
        "canary_50.enter": "success",
        "canary_50.analyse": "success",
        "live_100.promote": "success",
    }
    promoted = project.details_of("promoted", BACK)
    assert (promoted.version, promoted.previous) == ("1", "2")
    assert [version.number for version in project.workspace.registry.all_versions()] == ["1", "2"]
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert scheduler.failures() == []

    project.put(AFTER)
    project.ingest(scheduler, AFTER)
    assert project.details_of("predictions_published", AFTER).served == {"1": 120}
    assert project.judged("performance", AFTER).verdict == "no alarm"
    assert_invariants(project.workspace)


def test_a_recalled_champion_that_is_worse_after_all_is_rolled_back_and_the_new_one_serves_on(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, watch=WATCHED, rollout=SHADOW)
    two_champions(project)
    scheduler = start_scheduler(project.dags)
    old_relation_is_back(project, scheduler)
    assert project.workspace.registry.aliases() == {"champion": "2", "challenger": "1"}
    rollout = project.workspace.state().rollout
    assert rollout is not None
    question = format_question(project.workspace, rollout.version, [])
    assert f"Made as of {KEYS[1]}, and recalled as of {BACK}, because: 1 of the newest 1 windows alarmed" in question
    assert "- pass: mae no worse than the champion's by 10%" in question

    project.put(AFTER, level=6.0)  # one week was the exception
    project.ingest(scheduler, AFTER)
    (record,) = project.of_kind("rolled_back")
    assert (record.partition, record.details.version) == (AFTER, "1")
    assert "shadow_100: worse: " in record.details.reason
    assert set(project.workspace.state().quarantined) == {"1"}
    assert project.workspace.registry.aliases() == {"champion": "2"}
    assert project.details_of("predictions_published", AFTER).served == {"2": 120}
    assert_invariants(project.workspace)


def test_an_old_champion_whose_files_were_tampered_with_is_left_out_and_the_fit_goes_on(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, watch=WATCHED, rollout=CANARY)
    two_champions(project)
    old = project.workspace.state().versions["1"]
    for folder in (files_of(project, "1"), copy_folder(project.workspace, old)):
        (folder / "model.skops").write_bytes(b"tampered")
    scheduler = start_scheduler(project.dags)
    for key in (BACK, AFTER):
        project.put(key)
        project.ingest(scheduler, key)

    assert "version 1" in project.details_of("candidate_refused", BACK).left_out
    registered = project.details_of("candidate_registered", AFTER)
    assert registered.version == "3"
    assert "model.skops was changed after it was signed" in registered.left_out["version 1"]
    assert not project.of_kind("version_recalled")
    assert project.workspace.registry.aliases() == {"champion": "3"}
    assert_invariants(project.workspace)
