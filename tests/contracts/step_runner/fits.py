"""Shared by the tests of fits: a training function for each thing that can happen, and how to wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from airflow_mlops.core.declaration.train import FitLimits, OnSageMaker
from airflow_mlops.core.ports.step_runner import StepRunner

STEPS = """
from sklearn.base import BaseEstimator, TransformerMixin


class Column(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.mean_ = float(X["x"].mean())
        return self

    def transform(self, X):
        return X[["x"]].to_numpy() - self.mean_
"""

TRAINING = '''
import os, sys, time
from pathlib import Path

import numpy as np
from scipy.stats import loguniform
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def of(model, *columns):
    place = ("place", OneHotEncoder(), ["place"])
    return make_pipeline(ColumnTransformer([("numbers", "passthrough", list(columns) or ["x"]), place]), model)


class Hanging(Ridge):
    def fit(self, X, y, sample_weight=None):
        print("fitting for ever", flush=True)
        Path(os.environ.get("TMPDIR", "/tmp"), "started-" + Path(__file__).parent.name).write_text("x")
        while True:
            time.sleep(0.05)


class Greedy(Ridge):
    def fit(self, X, y, sample_weight=None):
        kept = []
        while True:
            kept.append(np.ones(2_000_000))
            time.sleep(0.01)


class Telling(Ridge):
    """Leaves what it sees of its surroundings beside this file."""
    def fit(self, X, y, sample_weight=None):
        seen = {"environ": dict(os.environ), "argv": sys.orig_argv, "modules": sorted(sys.modules)}
        __import__("json").dump(seen, open(Path(__file__).with_name("seen.json"), "w"))
        print("told", flush=True)
        return super().fit(X, y)


class Unfitted(Ridge):
    def fit(self, X, y, sample_weight=None):
        return Ridge()


def candidates(seed):
    return {
        "line": of(Ridge()),
        "unseeded": of(RandomForestRegressor(3)),
        "searched": (of(Ridge()), {"ridge__alpha": loguniform(1e-3, 1e3)}),
        "label": of(Ridge(), "x", "y"),
        "hanging": Hanging(),
        "greedy": Greedy(),
        "telling": of(Telling()),
        "unfitted": of(Unfitted()),
        "exits": of(Exits()),
    }


def own_candidates(seed):
    steps = __import__("steps_of_" + __name__.partition(".")[0])
    return {"own": make_pipeline(steps.Column(), Ridge())}


class Exits(Ridge):
    def fit(self, X, y, sample_weight=None):
        os._exit(7)
'''


STORAGE = "s3://company/models"


def place(**changes: Any) -> OnSageMaker:
    fields = {
        "kind": "sagemaker",
        "image": "step:1",
        "role": "arn:aws:iam::123456789012:role/fits",
        "storage": STORAGE,
        "connection": "aws_here",
    }
    return OnSageMaker(**{**fields, **changes})


def on_sagemaker(
    limits: FitLimits | None = None, *, wait: bool = True, first: int | None = None, **changes: Any
) -> StepRunner:
    from airflow_mlops.hooks.sagemaker_training import SageMakerStep

    return SageMakerStep(place(**changes), limits or FitLimits(), poll_seconds=0.05, wait=wait, first=first)


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def run_in_background(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run something in a thread; what it returns or raises is in the list afterwards."""
    out: list[Any] = []

    def run() -> None:
        try:
            out.append(work())
        except Exception as error:
            out.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, out
