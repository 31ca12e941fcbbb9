"""A column that the contract hides while a champion serves: the champion keeps it until a model without it is live."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml

from airflow_mlops.core.declaration.watch import CheckName
from airflow_mlops.core.governance.explain_row import explain_row
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.drift.profile_partition import profile_partition
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.watch.training_serving_skew import replay_rows
from tests.loop.by_core import roll_out
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, week

TRAINING = """
from sklearn.linear_model import LinearRegression


def candidates(seed):
    return {"linear": LinearRegression()}


def features(frame):
    return frame[[name for name in ("x1", "x2") if name in frame]]
"""
ROWS = 600
WATCH = {
    "drift": {"alarm_rate": 0.05},
    "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20},
    "checks": list(get_args(CheckName)),
}


def write_contract(project: Project, **x2: Any) -> None:
    """Write the contract, with further keys of the column ``x2``."""
    columns = {
        "id": {"type": "text", "nullable": False},
        "at": {"type": "time", "zone": "none", "nullable": False},
        "x1": {"type": "float"},
        "x2": {"type": "float", **x2},
        "y": {"type": "float"},
    }
    fields = {"contract": "rows", "key": "id", "time": "at", "ignore": ["place"], "columns": columns}
    (project.root / "contract.yaml").write_text(yaml.safe_dump(fields))


def fitted_columns(project: Project) -> list[str]:
    """Return the columns that the champion was fitted on."""
    workspace = project.workspace
    champion = workspace.state().champion
    assert champion is not None
    return list(load_version(workspace, champion).feature_names_in_)


@pytest.mark.parametrize("way", ["columns", "function"])
def test_a_champion_keeps_a_hidden_column_until_it_is_replaced(way: str, tmp_path: Path, airflow_home: Path) -> None:
    project = make_project(tmp_path, training=TRAINING, watch=WATCH)
    project.fields["data"]["contract"] = "contract.yaml"
    if way == "function":
        project.fields["data"]["features"] = f"train_{project.model}.training:features"
    write_contract(project)
    for key in KEYS[:4]:
        project.put(key, rows=ROWS)
    project.seed(KEYS[:2])
    assert fitted_columns(project) == ["x1", "x2"]

    write_contract(project, feature=False)
    project.publish(KEYS[2])
    assert score_partition(project.workspace, KEYS[2]).served == {"1": ROWS}
    served = project.served(KEYS[2])
    rows = week(KEYS[2], rows=ROWS).to_pandas().sort_values("id")
    champion = project.workspace.state().champion
    assert champion is not None
    model = load_version(project.workspace, champion)
    np.testing.assert_allclose(served["champion_prediction"], model.predict(rows[["x1", "x2"]]))

    # All that watches the champion sees its columns.
    drift = detect_drift(project.workspace, KEYS[2])
    assert set(project.workspace.evidence.get(str(drift.report))["counts"]) == {"x1", "x2"}
    assert profile_partition(project.workspace, KEYS[2])["missing"] == []
    checked = run_checks(project.workspace, KEYS[2])
    assert checked.keys() == set(get_args(CheckName))
    assert not [judged.message for judged in checked.values() if judged.failed]
    assert measure_performance(project.workspace, KEYS[2]).verdict == "no alarm"
    assert replay_rows(project.workspace, KEYS[2]).difference is None
    explained = explain_row(project.workspace, "1", str(served["key"][0]), KEYS[2])
    assert [contribution.feature for contribution in explained.contributions] == ["x1", "x2"]
    assert reproduce_version(project.workspace, "1").verdict == "identical"

    # The replacement is fitted without the column, compared with the champion, and takes its place.
    project.register(KEYS[2], by_hand=True)
    registered = project.details_of("candidate_registered", KEYS[2])
    assert registered.champion == "1"
    report = project.workspace.evidence.get(registered.report)
    assert report["champion_failed"] is None
    roll_out(project.workspace, KEYS[2])
    assert fitted_columns(project) == ["x1"]
    assert project.workspace.registry.aliases() == {"champion": "2"}
    looks = project.of_kind("stage_analysed")[-1].details
    assert "no worse" in looks.reason

    project.publish(KEYS[3])
    assert score_partition(project.workspace, KEYS[3]).served == {"2": ROWS}
    assert_invariants(project.workspace)
