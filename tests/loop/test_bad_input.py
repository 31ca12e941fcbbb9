"""Bad input is refused by name, the ledger says so, the champion keeps serving, the next partition goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

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


def assert_refused(project: Project, scheduler: InProcessScheduler, *words: str) -> None:
    """Assert that the bad partition stopped at its first task, that the error and the ledger say why, and go on."""
    project.ingest(scheduler, BAD)
    assert states(scheduler, project.dag("ingest")) == {
        "snapshot": "failed", "validate": "upstream_failed", "publish": "upstream_failed"
    }  # fmt: skip
    reason = project.said("partition_refused", BAD)["reason"]
    for word in words:
        assert word in reason
        assert word in why(scheduler, "snapshot")
    assert not scheduler.dag_runs(project.dag("score"))
    assert_goes_on(project, scheduler)


def assert_goes_on(project: Project, scheduler: InProcessScheduler, **made: Any) -> None:
    """Assert that the champion is who it was and serves the next partition."""
    project.put(NEXT, **made)
    project.ingest(scheduler, NEXT)
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert project.said("predictions_published", NEXT)["served"] == {"1": 120}
    assert states(scheduler, project.dag("watch"), NEXT)["decide"] == "success"
    assert_invariants(project.workspace)


def test_a_truncated_file_is_refused_by_its_path(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    project.put(BAD)
    whole = project.file(BAD).read_bytes()
    project.file(BAD).write_bytes(whole[: len(whole) // 2])
    assert_refused(project, scheduler, BAD, project.file(BAD).name, "cannot be read")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda rows: rows.slice(0, 0), ["empty: 0 rows"], id="empty"),
        pytest.param(lambda rows: rows.drop_columns(["x2"]), ["'x2'", "is missing"], id="feature_missing"),
        pytest.param(lambda rows: rows.drop_columns(["y"]), ["'y'", "declared label", "missing"], id="label_missing"),
        pytest.param(
            lambda rows: rows.set_column(2, "x1", rows["x1"].cast(pa.string())),
            ["'x1'", "has the type string", "the partitions before have double"],
            id="wrong_type",
        ),
        pytest.param(
            lambda rows: pa.concat_tables([rows, rows.slice(3, 4)]),
            ["4 of 124 rows are bad", "declared tolerance is 1.00%", "id: is not unique"],
            id="duplicate_keys",
        ),
    ],
)
def test_rows_that_cannot_be_a_partition_are_refused_by_column_and_rule(
    tmp_path: Path, start_scheduler: SchedulerFactory, spoil: Any, words: list[str]
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    project.put(BAD, spoil(week(BAD)))
    assert_refused(project, scheduler, *words)


def test_a_file_that_is_not_there_yet_is_no_failure(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    project.ingest(scheduler, BAD)
    assert states(scheduler, project.dag("ingest"))["snapshot"] == "skipped"
    assert not project.of_kind("partition_refused")
    assert_goes_on(project, scheduler)


def test_a_refused_partition_is_published_once_it_arrives_whole(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    project.put(BAD, week(BAD).slice(0, 0))
    project.ingest(scheduler, BAD)
    assert BAD in project.workspace.state().refused
    project.put(BAD)
    project.ingest(scheduler, BAD)
    assert BAD not in project.workspace.state().refused
    assert project.said("predictions_published", BAD)["rows"] == 120
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
    said = project.said("training_failed", KEYS[1])["reason"]
    assert said == "all 120 labels 'y' of the training window are of one class: 1"
    assert said in why(scheduler, "assemble")
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
    assert project.said("performance_judged", BAD)["verdict"] == "alarm"
    assert project.of_kind("candidate_refused", "training_failed")
    assert_goes_on(project, scheduler, classes=True)


@pytest.mark.parametrize(
    ("source", "task", "words"),
    [
        pytest.param(RAISES, "assemble", ["raised ValueError: the feature store is closed"], id="function_raises"),
        pytest.param(NO_MODEL, "assemble", ["returned no model: 'forgotten' is a NoneType"], id="no_model"),
        pytest.param(FIT_RAISES, "fit", ["candidate 'typo' raised", "in fit", "x9"], id="fit_raises"),
    ],
)
def test_a_training_function_that_gives_no_model_is_named_and_the_champion_stays(
    tmp_path: Path, start_scheduler: SchedulerFactory, source: str, task: str, words: list[str]
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    project.write_training(source)
    project.put(BAD, level=6.0)
    project.ingest(scheduler, BAD)
    reason = project.said("training_failed", BAD)["reason"]
    for word in [project.fields["train"]["function"], *words]:
        assert word in reason
        assert word in why(scheduler, task)
    assert project.workspace.state().open_decision is None
    assert_goes_on(project, scheduler)


def test_a_candidate_that_does_not_pass_is_refused_with_its_numbers(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    project.put(BAD, level=6.0)
    project.ingest(scheduler, BAD)
    reason = project.said("candidate_refused", BAD)["reason"]
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
