"""Evidently, asked about one column at a time, with a method and a threshold that somebody has stated."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd

from airflow_mlops.core.watch.drift.evidently_rows import ComparableColumn

NUMBERS_ONLY = frozenset({"ks", "wasserstein"})
"""Methods that Evidently knows of numbers alone; the others that can be declared it knows of both."""


@dataclass(frozen=True)
class EvidentlyScore:
    """What Evidently said of a column: its score, and whether that is drift by the threshold."""

    score: float
    drifted: bool


def asked(column: ComparableColumn, method: str, threshold: float) -> EvidentlyScore | str:
    """Return what Evidently says of a column, or why it says nothing."""
    if column.kind == "category" and method in NUMBERS_ONLY:
        return f"is a category, of which {method} says nothing"
    try:
        said = snapshot_of({"value": column}, {"value": (method, threshold)}).dict()
    except Exception as error:  # a library may raise anything
        return f"Evidently raised {type(error).__name__}: {str(error)[:300]}"
    score = float(said["metrics"][0]["value"])
    if not math.isfinite(score):
        return "Evidently gave no finite score"
    return EvidentlyScore(
        score, str(getattr(said["tests"][0]["status"], "value", said["tests"][0]["status"])) == "FAIL"
    )


def snapshot_of(columns: Mapping[str, ComparableColumn], methods: Mapping[str, tuple[str, float]]) -> Any:
    """Return what Evidently makes of columns, given the method and the threshold of each.

    Columns may have different lengths here and are padded with null, which Evidently leaves out.
    """
    with quietly():
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

        definition = DataDefinition(
            numerical_columns=[name for name, column in columns.items() if column.kind == "number"],
            categorical_columns=[name for name, column in columns.items() if column.kind == "category"],
        )
        sides = [
            pd.DataFrame({name: getattr(column, side).reset_index(drop=True) for name, column in columns.items()})
            for side in ("current", "reference")
        ]
        drift = [ValueDrift(column=name, method=methods[name][0], threshold=methods[name][1]) for name in columns]
        current, reference = (Dataset.from_pandas(side, data_definition=definition) for side in sides)
        return Report(drift, include_tests=True).run(current, reference)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the warnings of Evidently and of what it calls to itself: nobody here can act on them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
