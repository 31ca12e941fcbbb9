"""Bad input is refused by name, the ledger says so, the champion keeps serving, the next partition goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tests.loop.invariants import assert_invariants
from tests.loop.project import CLASSIFICATION, KEYS, Project, make_project, night, states, week, why

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

BAD, NEXT = KEYS[2], KEYS[3]

CLASSES: dict[str, Any] = {
    "training": CLASSIFICATION,
    "gates": [{"metric": "log_loss", "at_most": 0.69}],
    "watch": {"performance": {"metric": "log_loss", "worse_by": 0.5, "min_rows": 20}},
}

RAISES = """
def candidates(seed):
    raise ValueError("the feature store is closed")
"""

NO_MODEL = """
def candidates(seed):
    return {"forgotten": None}
"""

FIT_RAISES = """
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline


def candidates(seed):
    return {"typo": make_pipeline(make_column_transformer(("passthrough", ["x9"])), LinearRegression())}
"""


def loop_with_champion(tmp_path: Path, start: SchedulerFactory, **changes: Any) -> tuple[Project, InProcessScheduler]:
    """Return a loop whose version 1 is live, and its scheduler."""
    project = make_project(tmp_path, **changes)
    project.seed(KEYS[:2])
    return project, start(project.dags)


def failures_of(scheduler: InProcessScheduler, task_id: str) -> list[str]:
    """Return the errors of the failed tasks of that id, oldest first."""
    return [text for task, text in scheduler.failures() if (task.task_id, task.state) == (task_id, "failed")]


def assert_goes_on(project: Project, scheduler: InProcessScheduler, key: str = NEXT, **made: Any) -> None:
    """Assert that the champion is who it was and serves the next partition."""
    project.put(key, **made)
    project.ingest(scheduler, key)
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert project.details_of("predictions_published", key).served == {"1": 120}
    assert states(scheduler, project.dag("watch"), key)["decide"] == "success"
    assert_invariants(project.workspace)


def truncated(project: Project, key: str) -> list[str]:
    """Deliver half of a file; return what its refusal names."""
    project.put(key)
    whole = project.file(key).read_bytes()
    project.file(key).write_bytes(whole[: len(whole) // 2])
    return [key, project.file(key).name, "cannot be read"]


def spoilt(spoil: Callable[[pa.Table], pa.Table], *words: str) -> Callable[[Project, str], list[str]]:
    """Return a function that delivers bad rows, and the message of their refusal."""

    def deliver(project: Project, key: str) -> list[str]:
        project.put(key, spoil(week(key)))
        return list(words)

    return deliver


BAD_PARTITIONS = [
    truncated,
    spoilt(lambda rows: rows.slice(0, 0), "empty: 0 rows"),
    spoilt(lambda rows: rows.drop_columns(["x2"]), "'x2'", "is missing"),
    spoilt(lambda rows: rows.drop_columns(["y"]), "'y'", "declared label", "missing"),
    spoilt(
        lambda rows: rows.set_column(2, "x1", rows["x1"].cast(pa.string())),
        "'x1'",
        "has the type string",
        "the partitions before have double",
    ),
    spoilt(
        lambda rows: pa.concat_tables([rows, rows.slice(3, 4)]),
        "4 of 124 rows are bad",
        "declared tolerance is 1.00%",
        "id: is not unique",
    ),
]


def test_partitions_that_cannot_be_are_refused_by_path_column_and_rule_and_the_next_one_goes_on(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    for key, deliver in zip(KEYS[2:], BAD_PARTITIONS, strict=False):
        words = deliver(project, key)
        project.ingest(scheduler, key)
        assert states(scheduler, project.dag("ingest"), key) == {
            "snapshot": "failed",
            "validate": "upstream_failed",
            "publish": "upstream_failed",
        }
        reason, error = project.details_of("partition_refused", key).reason, failures_of(scheduler, "snapshot")[-1]
        for word in words:
            assert word in reason
            assert word in error
    assert len(project.of_kind("partition_refused")) == len(BAD_PARTITIONS)
    assert not scheduler.dag_runs(project.dag("score"))
    assert_goes_on(project, scheduler, KEYS[2 + len(BAD_PARTITIONS)])


def test_a_partition_that_is_not_there_yet_is_no_failure_and_a_refused_one_is_published_once_it_is_whole(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    project.ingest(scheduler, BAD)
    assert states(scheduler, project.dag("ingest"))["snapshot"] == "skipped"
    assert not project.of_kind("partition_refused")
    project.put(BAD, week(BAD).slice(0, 0))
    project.ingest(scheduler, BAD)
    assert BAD in project.workspace.state().refused
    project.put(BAD)
    project.ingest(scheduler, BAD)
    assert BAD not in project.workspace.state().refused
    assert project.details_of("predictions_published", BAD).rows == 120
    assert_goes_on(project, scheduler)


def test_a_window_of_one_class_gives_no_model_and_the_next_one_does(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, **CLASSES)
    scheduler = start_scheduler(project.dags)
    for key, level in zip(KEYS[:2], (-100.0, 0.0), strict=True):
        rows = week(key, classes=True)
        ones = pa.array([1] * rows.num_rows)
        project.put(key, rows.set_column(5, "y", ones) if level else rows)
        project.ingest(scheduler, key)
    project.at_night(scheduler, KEYS[1])
    reason = project.details_of("training_failed", KEYS[1]).reason
    assert reason == "all 120 labels 'y' of the training window are of one class: 1"
    assert reason in why(scheduler, "assemble")
    assert project.workspace.state().champion is None

    project.put(KEYS[2], classes=True)
    project.ingest(scheduler, KEYS[2])
    project.at_night(scheduler, KEYS[2])
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert_invariants(project.workspace)


def test_a_partition_of_one_class_is_scored_and_the_champion_stays(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, **CLASSES)
    for key in KEYS[:2]:
        project.put(key, classes=True)
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    rows = week(BAD, classes=True)
    project.put(BAD, rows.set_column(5, "y", pa.array([0] * rows.num_rows)))
    project.ingest(scheduler, BAD)
    # It alarms; the holdout of one class then cannot show a better model, or the next window cannot teach one.
    assert project.judged("performance", BAD).verdict == "alarm"
    assert project.of_kind("candidate_refused", "training_failed")
    assert_goes_on(project, scheduler, classes=True)


BAD_FUNCTIONS = [
    (RAISES, "assemble", ["raised ValueError: the feature store is closed"]),
    (NO_MODEL, "assemble", ["returned no model: 'forgotten' is a NoneType"]),
    (FIT_RAISES, "fit", ["candidate 'typo' raised", "in fit", "x9"]),
]


def test_a_training_function_that_gives_no_model_is_named_and_the_champion_stays(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    # A training that fails must not use up the retrains of the year.
    retrain = {"policy": "alarm", "alarm": {"windows": 1, "of": 1}, "cooldown": 1, "budget": 52}
    project, scheduler = loop_with_champion(tmp_path, start_scheduler, retrain=retrain)
    for key, (source, task, words) in zip(KEYS[2:], BAD_FUNCTIONS, strict=False):
        project.write_training(source)
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
        reason, error = project.details_of("training_failed", key).reason, failures_of(scheduler, task)[-1]
        for word in [project.fields["train"]["function"], *words]:
            assert word in reason
            assert word in error
        assert project.workspace.state().open_decision is None
        assert project.workspace.registry.aliases() == {"champion": "1"}
    assert_goes_on(project, scheduler, KEYS[2 + len(BAD_FUNCTIONS)])


def test_a_candidate_that_does_not_pass_is_refused_with_its_numbers(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    project.put(BAD, level=6.0)
    project.ingest(scheduler, BAD)
    reason = project.details_of("candidate_refused", BAD).reason
    assert "candidate 'linear' does not pass: mae at most 4: 6." in reason
    assert "on 120 rows" in reason
    assert reason in why(scheduler, "gate")
    assert states(scheduler, project.dag("train"))["register"] == "upstream_failed"
    assert not scheduler.dag_runs(project.dag("rollout"))
    assert_goes_on(project, scheduler)


def test_a_first_model_that_does_not_pass_is_tried_again_on_new_data_only(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    scheduler = start_scheduler(project.dags)
    project.put(KEYS[0], level=50.0)
    for key in KEYS[:2]:
        if key != KEYS[0]:
            project.put(key)
        project.ingest(scheduler, key)
    for hour in ("T02:00:00", "T03:00:00"):
        scheduler.trigger(project.dag("nightly"), partition_key=night(KEYS[1]).replace("T02:00:00", hour))
        scheduler.run_until_idle()
    assert len(project.of_kind("candidate_refused")) == 1
    project.first_champion(scheduler, KEYS[2:3])
    assert_invariants(project.workspace)
