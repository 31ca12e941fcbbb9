"""The environment of ``requirements-step.lock``: no Airflow, no MLflow, and the very same model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.training.child_step import ChildStep
from airflow_mlops.core.training.in_process_step import InProcessStep

HOUSE = Path(__file__).parents[2]
PYTHON = HOUSE / ".venv-step" / "bin" / "python"
TRAINING = """
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder


def candidates(seed):
    columns = [("numbers", "passthrough", ["x"]), ("place", OrdinalEncoder(), ["place"])]
    model = HistGradientBoostingRegressor(random_state=seed, early_stopping=False)
    return {
        "boosting": make_pipeline(ColumnTransformer(columns), model),
        "searched": (
            make_pipeline(ColumnTransformer(columns), model),
            {"histgradientboostingregressor__max_leaf_nodes": [4, 8, 16]},
        ),
    }
"""
NEEDED = ("step", "core.declaration.loop", "core.errors", "core.registry.model_file", "core.training.fit_estimator")


def installed() -> list[str]:
    """Return the distributions of the environment, by name."""
    code = "import importlib.metadata as m, json; print(json.dumps([d.name.lower() for d in m.distributions()]))"
    output = subprocess.run([str(PYTHON), "-c", code], check=True, capture_output=True, text=True).stdout
    names: list[str] = json.loads(output)
    return names


def test_neither_airflow_nor_mlflow_is_there_and_the_core_is_imported_all_the_same() -> None:
    assert not {"apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk", "mlflow"} & set(installed())
    lines = [f"import airflow_mlops.{name}" for name in NEEDED]
    code = "; ".join(["import sys", f"sys.path.insert(0, {str(HOUSE / 'plugins')!r})", *lines])
    done = subprocess.run([str(PYTHON), "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("candidate", ["boosting", "searched"])
def test_a_fit_there_gives_the_very_file_that_a_fit_here_gives(tmp_path: Path, candidate: str) -> None:
    package = tmp_path / "step_of_its_own"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "training.py").write_text(TRAINING)
    random = np.random.default_rng(1)
    x = random.normal(size=900)
    features = pd.DataFrame({"x": x, "place": random.choice(["a", "b"], 900)})
    rows = FitRows(features, 2 * x + random.normal(size=900), np.arange(900) // 30)

    def asked(name: str) -> FitRequest:
        return FitRequest(
            model="toy",
            operation="0123456789abcdef",
            candidate=candidate,
            attempt=name,
            function="step_of_its_own.training:candidates",
            seed=3,
            classifies=False,
            label="y",
            window=({"partition": "p", "version": 0, "digest": "d"},),
            search={"candidates": 9, "factor": 3, "validation": 20, "metric": "mae"},
            file=str(tmp_path / name / "model.skops"),
            root=str(tmp_path),
        )

    here = InProcessStep().fit(asked("here"), rows)
    there = ChildStep(python=PYTHON).fit(asked("there"), rows)
    assert there.digest == here.digest
    assert there.best_params == here.best_params
    assert there.environment["scikit-learn"] == here.environment["scikit-learn"]
