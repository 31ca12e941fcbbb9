"""Models and metrics that cannot be judged: the task fails with the reason, the champion keeps serving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from tests.loop.invariants import assert_invariants
from tests.loop.project import CLASSIFICATION, KEYS, REGRESSION, Project, make_project, states, week, why

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

NAN = """
import numpy as np
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline


def candidates(seed):
    line = make_pipeline(make_column_transformer(("passthrough", ["x1", "x2"])), LinearRegression())
    return {"logarithm": TransformedTargetRegressor(line, inverse_func=np.log, func=np.positive, check_inverse=False)}
"""

COST = """

def cost_per_sale(label, predicted):
    return float(abs(label - predicted).sum()) / int((label > 1e9).sum())
"""

MAE = {"metric": "mae", "at_most": 4.0}
FAIR = {"metric": "group_error_difference", "group": "place", "at_most": 3.0, "min_rows": 20}


def loop_with_champion(
    tmp_path: Path, start: SchedulerFactory, *, made: dict[str, Any] | None = None, **changes: Any
) -> tuple[Project, InProcessScheduler]:
    """Return a loop whose version 1 is live, and its scheduler."""
    project = make_project(tmp_path, **{"retrain": {"policy": "never", "cooldown": 0}, **changes})
    for key in KEYS[:2]:
        project.put(key, **(made or {}))
    project.seed(KEYS[:2])
    return project, start(project.dags)


def train_by_hand(project: Project, scheduler: InProcessScheduler, key: str) -> dict[str, str | None]:
    """Request a training as of a partition by hand; return the states of its tasks."""
    scheduler.trigger(project.dag("train"), partition_key=key)
    scheduler.run_until_idle()
    return states(scheduler, project.dag("train"))


def table_of(scheduler: InProcessScheduler, project: Project, task: str) -> str:
    """Return the table of gates that a task of the training left as its XCom."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    run = scheduler.dag_runs(project.dag("train"))[-1]
    with create_session() as session:
        query = session.query(XComModel).filter_by(dag_id=run.dag_id, run_id=run.run_id, task_id=task, key="gates")
        return str(query.one().value)


def without_evidence(project: Project) -> None:
    """Declare that the gates alone decide."""
    project.fields["retrain"] = {**project.fields["retrain"], "confidence": "none"}


def assert_champion_stays(project: Project, key: str, kind: str, *words: str) -> None:
    """Assert that the ledger says why, and that version 1 serves on."""
    reason = project.details_of(kind, key).reason
    for word in words:
        assert word in reason
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert_invariants(project.workspace)


def test_a_model_that_predicts_nan_for_the_holdout_alone_fails_its_evaluation(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler, made={"level": 100.0})
    project.write_training(NAN)
    project.put(KEYS[2], level=100.0, shift=-100.0)
    project.ingest(scheduler, KEYS[2])
    assert train_by_hand(project, scheduler, KEYS[2])["evaluate"] == "failed"
    assert "candidate 'logarithm': the model gave 120 NaN or infinite predictions for 120 rows" in why(
        scheduler, "evaluate"
    )
    assert_champion_stays(project, KEYS[2], "training_failed", "120 NaN or infinite predictions")


def test_a_metric_that_divides_by_zero_fails_its_gate_and_the_log_shows_all_gates(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    project.write_training(REGRESSION + COST)
    module = f"train_{project.model}.training"
    project.fields["evaluate"] = {"metrics": [{"name": "cost", "function": f"{module}:cost_per_sale", "unit": "EUR"}]}
    without_evidence(project)
    project.fields["gates"] = [MAE, {"metric": "cost", "at_most": 9}, {"metric": "mae", "better_than": "dummy"}]
    scheduler = restarted(project, start_scheduler)
    project.put(KEYS[2])
    project.ingest(scheduler, KEYS[2])
    assert train_by_hand(project, scheduler, KEYS[2])["gate"] == "failed"
    assert "cost at most 9: cost: " in why(scheduler, "gate")
    assert "raised ZeroDivisionError" in why(scheduler, "gate")
    table = table_of(scheduler, project, "gate").splitlines()
    assert [line.split("  ")[0] for line in table] == ["verdict", "fail", "pass", "pass"]
    assert_champion_stays(project, KEYS[2], "candidate_refused", "raised ZeroDivisionError")


def restarted(project: Project, start: SchedulerFactory) -> InProcessScheduler:
    """Return a scheduler that has read the declaration as it is now."""
    path = project.root / "include" / "loops" / f"{project.model}.yaml"
    path.write_text(json.dumps(project.fields, indent=1))
    return start(project.dags)


def test_a_holdout_of_one_class_passes_no_gate_on_the_auc(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    gates = [{"metric": "log_loss", "at_most": 5.0}, {"metric": "roc_auc", "at_least": 0.6}]
    watch = {"performance": {"metric": "log_loss", "worse_by": 9.0, "min_rows": 20}}
    project, scheduler = loop_with_champion(
        tmp_path, start_scheduler, made={"classes": True}, training=CLASSIFICATION, gates=gates, watch=watch
    )
    rows = week(KEYS[2], classes=True)
    project.put(KEYS[2], rows.set_column(5, "y", pa.array([1] * rows.num_rows)))
    project.ingest(scheduler, KEYS[2])
    assert train_by_hand(project, scheduler, KEYS[2])["gate"] == "failed"
    assert_champion_stays(project, KEYS[2], "candidate_refused", "120 rows of class 1 and 0 of class 0")


def test_a_group_with_no_rows_is_too_little_data_and_passes_nobody(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = loop_with_champion(tmp_path, start_scheduler)
    without_evidence(project)
    project.fields["gates"] = [FAIR]
    scheduler = restarted(project, start_scheduler)
    project.put(KEYS[2], places="a")
    project.ingest(scheduler, KEYS[2])
    assert train_by_hand(project, scheduler, KEYS[2])["gate"] == "failed"
    table = table_of(scheduler, project, "gate")
    assert "group_error_difference of place at most 3, of b" in table
    assert table.count("too little data") == 2
    assert_champion_stays(project, KEYS[2], "candidate_refused", "no gate had enough data to pass")


def test_a_metric_whose_function_is_not_there_is_an_import_error(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    project.write_training(REGRESSION + COST)
    function = f"train_{project.model}.training:cost_per_sail"
    project.fields["evaluate"] = {"metrics": [{"name": "cost", "function": function}]}
    with pytest.raises(ImportError, match=r"evaluate\.metrics\[0\]\.function.*did you mean 'cost_per_sale'"):
        restarted(project, start_scheduler)
