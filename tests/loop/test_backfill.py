"""A backfill leaks nothing from the future, and done again it changes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from tests.loop.invariants import assert_invariants, versions_in_registry
from tests.loop.project import KEYS, Project, make_project

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

PAST, FUTURE = KEYS[:8], KEYS[8:12]
CHANGE = KEYS[4]

# What may differ between two worlds that know the same: record numbers, the numbering of table versions, the
# bytes of a model file (it holds the time of its writing), what is named by any of them or by the name of the model,
# and how long a fit took.
NOT_COMPARED = {
    "arrived_version",
    "snapshot_version",
    "decision",
    "request",
    "setup",
    "artefact",
    "rollout",
    "fit_seconds",
    "training_seconds",
    "signature",
    "source",
    "sbom",
}
STAGED = {"stages": [{"shadow": 100, "bake": 1}, {"canary": 50, "bake": 1}, {"live": 100}], "min_rows": 20}


def history(project: Project, upto: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the records about partitions up to a key: kind, partition and details."""
    return [
        (record.kind, str(record.partition), comparable(record.kind, record.details.to_json()))
        for record in project.records
        if record.kind != "snapshot_published" and str(record.partition) <= upto
    ]


def comparable(kind: str, details: dict[str, Any]) -> dict[str, Any]:
    """Return the details of a record without what only tells two worlds apart."""
    compared = {name: value for name, value in details.items() if name not in NOT_COMPARED}
    if kind == "predictions_published":
        del compared["version"]  # of the table
    if kind in ("candidate_registered", "candidate_refused", "report_rendered"):
        del compared["report"]  # names the request, or the model
    for part in compared.get("window", {}).values():
        for pin in part:
            del pin["version"]
    if "reason" in compared:
        compared["reason"] = re.sub(r"record \d+", "record …", compared["reason"])
    return compared


def published(project: Project, upto: str) -> dict[str, dict[str, Any]]:
    """Return the published content and report of each partition up to a key."""
    names = ("digest", "rows", "quarantined", "report", "arrived_digest", "columns")
    state = project.workspace.state()
    return {
        key: {name: getattr(details, name) for name in names} for key, details in state.published.items() if key <= upto
    }


def new_loop(folder: Path) -> Project:
    """Return a loop that goes through alarm, refusal, shadow, canary and promotion within eight weeks."""
    project = make_project(folder, rollout=STAGED)
    for key in PAST:
        project.put(key, level=6.0 if key >= CHANGE else 0.0)
    return project


def step_by_step(project: Project, scheduler: InProcessScheduler) -> None:
    """Deliver each week, run its Dags and the nightly decision, and go on to the next week."""
    for key in PAST:
        project.ingest(scheduler, key)
        project.at_night(scheduler, key)


def test_what_a_partition_scored_judged_and_trained_does_not_depend_on_later_partitions(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    alone = new_loop(tmp_path / "alone")
    with start_scheduler(alone.dags) as scheduler:
        step_by_step(alone, scheduler)

    # The other world has all weeks published before anything was scored or trained, and the later ones are wild.
    ahead = new_loop(tmp_path / "ahead")
    for number, key in enumerate(FUTURE):
        ahead.put(key, level=-500.0, shift=50.0 * number + 50.0, places="xyz", rows=300)
    with start_scheduler(ahead.dags) as scheduler:
        waiting = [ahead.dag(stage) for stage in ("score", "watch", "train", "rollout", "nightly")]
        scheduler.pause(*waiting)
        for key in PAST + FUTURE:
            scheduler.trigger(ahead.dag("ingest"), partition_key=key)
        scheduler.run_until_idle()
        assert {record.kind for record in ahead.records} == {"snapshot_published"}
        assert sorted(ahead.workspace.state().published) == PAST + FUTURE
        scheduler.unpause(*waiting)
        step_by_step(ahead, scheduler)

    expected = history(alone, PAST[-1])
    assert history(ahead, PAST[-1]) == expected
    assert published(ahead, PAST[-1]) == published(alone, PAST[-1])
    kinds = {kind for kind, _, _ in expected}
    assert kinds >= {
        "predictions_published",
        "window_judged",
        "retrain_decided",
        "training_started",
        "candidate_refused",
        "candidate_registered",
        "stage_analysed",
        "promoted",
    }
    assert {details["check"] for kind, _, details in expected if kind == "window_judged"} >= {"drift", "performance"}
    assert sum(kind == "promoted" for kind, _, _ in expected) == 2
    for key in PAST[2:]:
        assert (
            alone.details_of("predictions_published", key).digest
            == ahead.details_of("predictions_published", key).digest
        )
    for project in (alone, ahead):
        assert_invariants(project.workspace)


def test_a_backfill_left_to_itself_uses_nothing_from_after_each_partition(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, rollout=STAGED)
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    for key in PAST[2:]:
        project.put(key, level=6.0 if key >= CHANGE else 0.0)
        scheduler.trigger(project.dag("ingest"), partition_key=key)
    scheduler.run_until_idle()
    state = project.workspace.state()
    assert sorted(state.scored) == sorted(state.performance) == sorted(state.drift) == PAST[2:]
    # Nothing is lost either: the retrain that was decided on the way has its candidate, and the rollout goes on.
    assert len(state.retrains) > 1
    for key in KEYS[8:11]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
    assert project.judged("performance", KEYS[10]).verdict == "no alarm"
    assert project.workspace.registry.aliases()["champion"] != "1"
    assert_invariants(project.workspace)


def test_four_partitions_backfilled_a_second_time_change_nothing(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    again = KEYS[2:6]
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    for key in KEYS[2:7]:
        project.put(key, level=6.0 if key >= CHANGE else 0.0)
        project.ingest(scheduler, key)
    project.at_night(scheduler, KEYS[6])
    failures = scheduler.failures()
    assert [record.task_id for record, _ in failures] == ["gate", "register", "prove"], failures
    assert project.workspace.registry.aliases() == {"champion": "2"}

    def everything() -> object:
        workspace = project.workspace
        return (
            project.records,
            workspace.registry.aliases(),
            versions_in_registry(project.model),
            {key: workspace.predictions.read(key).to_pydict() for key in again},
            sorted(file.relative_to(workspace.scratch) for file in workspace.scratch.rglob("*") if file.is_file()),
        )

    before, runs = everything(), len(scheduler.dag_runs())
    for key in again:
        scheduler.trigger(project.dag("ingest"), partition_key=key)
    scheduler.run_until_idle()
    assert everything() == before
    ran = [run.dag_id.removeprefix(f"{project.model}_") for run in scheduler.dag_runs()[runs:]]
    assert sorted(ran) == sorted(["ingest", "score", "watch"] * 4)
    assert {run.state for run in scheduler.dag_runs()[runs:]} == {"success"}
    assert_invariants(project.workspace)


def test_an_old_partition_that_comes_late_is_judged_from_every_side_and_wakes_nothing(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    watch = {"drift": {}, "performance": {"metric": "mae", "min_rows": 20}, "checks": ["predictions", "multivariate"]}
    project = make_project(tmp_path, watch=watch)
    project.seed(KEYS[:2])
    late, newer = KEYS[2], KEYS[3]
    project.put(newer)
    project.publish(newer)
    score_partition(project.workspace, newer)
    decide_and_record(project.workspace, newer, trigger="watch")
    aliases, retrains = project.workspace.registry.aliases(), dict(project.workspace.state().retrains.items())

    project.put(late, level=500.0, shift=50.0)
    scheduler = start_scheduler(project.dags)
    project.ingest(scheduler, late)
    assert scheduler.failures() == []
    ran = [run.dag_id.removeprefix(f"{project.model}_") for run in scheduler.dag_runs()]
    assert ran == ["ingest", "score", "watch"]
    judged = [record.details for record in project.of_kind("window_judged")]
    assert len(judged) == 4
    assert all(judgement.historical and judgement.verdict != "alarm" for judgement in judged)
    drift, performance = project.judged("drift", late), project.judged("performance", late)
    assert (drift.drifted, performance.value > 100.0) == (("x1",), True)
    decided = project.details_of("retrain_decided", late)
    assert (decided.retrain, decided.cause) == (False, "historical")
    assert project.workspace.registry.aliases() == aliases
    assert dict(project.workspace.state().retrains.items()) == retrains
