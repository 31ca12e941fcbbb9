"""A small loop and its rows: a straight line with noise, whose slope a test may change."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates, require_gates
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import AcceptingValidator, in_memory_workspace

FIELDS: dict[str, Any] = {
    "model": "toy",
    "owner": "tests",
    "data": {
        "source": {"kind": "parquet", "uri": "toy/{partition}.parquet"},
        "key": "id",
        "time": "at",
        "label": "y",
    },
    "train": {"function": f"{__name__}:candidates", "window": 2},
    "gates": [{"metric": "mae", "at_most": 5}],
}
START = datetime(2013, 1, 6)  # noqa: DTZ001


def toy_fields(**changes: Any) -> dict[str, Any]:
    """Return the fields of the toy loop, with the given ones at the top replaced."""
    return {**copy.deepcopy(FIELDS), **changes}


def toy_loop(**changes: Any) -> Loop:
    """Return the toy loop, with the given fields at the top replaced."""
    return Loop(**toy_fields(**changes))


def week(number: int) -> str:
    """Return the key of the week with a number, from 0."""
    return (START + timedelta(weeks=number)).isoformat()


def toy_rows(number: int, *, rows: int = 120, slope: float = 2.0, shift: float = 0.0) -> pd.DataFrame:
    """Return the rows of a week: ``y`` is ``slope`` times ``x`` plus noise of size 1."""
    source = np.random.default_rng(number)
    x = source.normal(size=rows) + shift
    return pd.DataFrame(
        {
            "id": [f"{number}-{row}" for row in range(rows)],
            "at": pd.Timestamp(week(number)) - pd.Timedelta(days=1),
            "x": x,
            "kind": source.choice(["a", "b", "c"], rows),
            "y": slope * x + source.normal(size=rows),
        }
    )


def candidates(seed: int) -> dict[str, Any]:
    """Return one unfitted straight line."""
    assert seed == 0
    return {"line": make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), LinearRegression())}


def raise_in_fit(X: Any, y: Any) -> Any:
    """Raise what a user's code may raise."""
    raise ZeroDivisionError(f"{len(X)} rows are too many")


def breaking(seed: int) -> dict[str, Any]:
    """Return one candidate that cannot be fitted; its type is trusted, so that its fit is tried."""
    model = LinearRegression()
    model.fit = raise_in_fit
    return {"breaking": model}


def several(seed: int) -> dict[str, Any]:
    """Return one straight line, and candidates that are refused, cannot be fitted, cannot be kept or cannot predict."""
    deaf, late = candidates(seed)["line"], candidates(seed)["line"]
    deaf.predict = list
    late.late = Strange()  # no parameter, so that only the file shows it
    return {**candidates(seed), **breaking(seed), **strange(seed), "deaf": deaf, "groups": KMeans(), "late": late}


def no_models(seed: int) -> Any:
    """Return a number instead of a model."""
    return seed


def none_usable(seed: int) -> dict[str, Any]:
    """Return candidates of which none can be used."""
    return {name: model for name, model in several(seed).items() if name in {"groups", "strange"}}


def none_fitted(seed: int) -> dict[str, Any]:
    """Return candidates that are refused, or whose fits fail."""
    return {**breaking(seed), "broken": breaking(seed)["breaking"], "groups": KMeans()}


def deciding(seed: int) -> dict[str, Any]:
    """Return a classifier without probabilities, and one with."""
    features = ColumnTransformer([("x", "passthrough", ["x"])])
    return {"svc": make_pipeline(features, LinearSVC()), "logistic": make_pipeline(features, LogisticRegression())}


def strange(seed: int) -> dict[str, Any]:
    """Return one candidate that may be fitted and never kept: its type is not trusted."""
    return {"strange": make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), Strange())}


class Strange(LinearRegression):
    """A user's own estimator."""


def ingest(workspace: Workspace, key: str) -> SnapshotPublished:
    """Take, accept and publish the snapshot of a partition."""
    manifest = take_snapshot(workspace, key)
    return publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, AcceptingValidator())).details


def train(workspace: Workspace, key: str) -> str:
    """Ask for a retrain as a person, train, gate and register; return the version's number."""
    decide_and_record(workspace, key, trigger="person")
    request = assemble_training(workspace, key)
    fits = [fit_candidate(workspace, request, name) for name in request.candidates]
    evaluated = evaluate_candidates(workspace, request, fits)
    require_gates(workspace, request, evaluated)
    return str(register_candidate(workspace, request, evaluated)["version"])


def go_live(workspace: Workspace, key: str) -> str:
    """Train as of a week, take the version through every stage, and return its number."""
    train(workspace, key)
    version = start_rollout(workspace, key)
    for index in range(len(workspace.loop.rollout.stages)):
        run_rollout_step(workspace, version, index, key)
    return version


def loop_with_champion(tmp_path: Path) -> Workspace:
    """Return a loop of four weeks in memory whose champion is version 1, made as of the third."""
    loop = toy_loop(rollout={"stages": [{"shadow": 100}, {"live": 100}]})
    workspace = in_memory_workspace(loop, {week(number): toy_rows(number) for number in range(4)}, scratch=tmp_path)
    for number in range(4):
        ingest(workspace, week(number))
    go_live(workspace, week(2))
    return workspace
