"""Shared by the tests of batch transform jobs: loops of each kind of prediction, and a runner of their jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.declaration.score import TransformOnSageMaker
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.hooks.sagemaker_transform import SageMakerTransform
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import FIELDS, toy_loop, toy_rows, week

WEEKS = 6
STORAGE = "s3://company/fits/scores"
RUNS_ON = {
    "kind": "sagemaker",
    "image": "score:1",
    "role": "arn:aws:iam::123456789012:role/fits",
    "storage": STORAGE,
    "connection": "aws_here",
}
TRAINING = """
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from {own} import Doubled


def of(model):
    kinds = (OneHotEncoder(handle_unknown="ignore"), ["kind"])
    return make_pipeline(make_column_transformer(("passthrough", ["x"]), kinds), model)


def numbers(seed):
    return {{"boosted": of(HistGradientBoostingRegressor(max_iter=20))}}


def classes(seed):
    return {{"logistic": of(LogisticRegression())}}


def quantiles(seed, quantile):
    return {{"boosted": of(HistGradientBoostingRegressor(loss="quantile", quantile=quantile, max_iter=20))}}


def own(seed):
    return {{"own": make_pipeline(make_column_transformer(("passthrough", ["x"])), Doubled(), LinearRegression())}}
"""
OWN = """
from sklearn.base import BaseEstimator, TransformerMixin


class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.factor_ = 2.0
        return self

    def transform(self, X):
        return self.factor_ * X
"""
CLASSES = ("early", "on time", "late")
KINDS: dict[str, dict[str, Any]] = {
    "numbers": {},
    "own": {},
    "classes": {"data": {"classes": list(CLASSES)}, "gates": [{"metric": "log_loss", "at_most": 5}]},
    "quantiles": {"train": {"quantiles": [0.1, 0.5, 0.9]}, "gates": [{"metric": "mae", "at_most": 50}]},
}


def loop_of_kind(kind: str, folder: Path) -> Workspace:
    """Return a loop with six delivered weeks whose versions predict numbers, classes or quantiles."""
    module, own = f"scored_{kind}_{folder.name.replace('-', '_')}", f"own_{kind}_{folder.name.replace('-', '_')}"
    (folder / f"{module}.py").write_text(TRAINING.format(own=own))
    (folder / f"{own}.py").write_text(OWN)
    changes = KINDS[kind]
    types = {"own_types": [f"{own}:Doubled"]} if kind == "own" else {}
    fields = {
        "data": {**FIELDS["data"], **changes.get("data", {})},
        "train": {"function": f"{module}:{kind}", "window": 2, **types, **changes.get("train", {})},
        "gates": changes.get("gates", [{"metric": "mae", "at_most": 50}]),
        "rollout": {"stages": [{"canary": 50}, {"live": 100}], "margin": 5.0, "min_rows": 20},
        "retrain": {"confidence": "none"},
        "score": {"runs_on": RUNS_ON},
    }
    rows = {week(number): rows_of_kind(kind, number) for number in range(WEEKS)}
    return in_memory_workspace(toy_loop(**fields), rows, scratch=folder, root=folder)


def rows_of_kind(kind: str, number: int) -> pd.DataFrame:
    """Return the rows of a week; classes are thirds of the label."""
    frame = toy_rows(number)
    if kind == "classes":
        frame["y"] = np.array(CLASSES, object)[np.digitize(frame["y"], [-1.0, 1.0])]
    return frame


def on_sagemaker(
    workspace: Workspace, *, wait: bool = True, waited: tuple[str, ...] = (), **changes: Any
) -> SageMakerTransform:
    """Return a runner of the jobs of a loop, as one task has it."""
    place = TransformOnSageMaker(**{**RUNS_ON, **changes})
    return SageMakerTransform(workspace, place, poll_seconds=0.05, wait=wait, waited=waited)
