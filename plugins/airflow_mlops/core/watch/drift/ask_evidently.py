"""Run Evidently's drift test on columns, each with its declared method and threshold."""

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
"""Methods that Evidently has for numbers alone; the other methods that can be declared take categories too."""


@dataclass(frozen=True)
class EvidentlyScore:
    """Evidently's score of a column, and whether it is drift by the threshold."""

    score: float
    drifted: bool


def score_column(column: ComparableColumn, method: str, threshold: float) -> EvidentlyScore | str:
    """Return Evidently's score of a column, or the reason why there is none."""
    if column.kind == "category" and method in NUMBERS_ONLY:
        return f"is a category, of which {method} says nothing"
    try:
        result = run_report({"value": column}, {"value": (method, threshold)}).dict()
    except Exception as error:  # a library may raise anything
        return f"Evidently raised {type(error).__name__}: {str(error)[:300]}"
    score = float(result["metrics"][0]["value"])
    if not math.isfinite(score):
        return "Evidently gave no finite score"
    status = result["tests"][0]["status"]
    return EvidentlyScore(score, str(getattr(status, "value", status)) == "FAIL")


def run_report(columns: Mapping[str, ComparableColumn], methods: Mapping[str, tuple[str, float]]) -> Any:
    """Run Evidently's drift report on columns, and return its snapshot.

    Columns may have different lengths here and are padded with null, which Evidently leaves out.

    Parameters
    ----------
    columns : mapping of str to ComparableColumn
        Columns by the names that the report shows.
    methods : mapping of str to (str, float)
        Method and threshold of each column.
    """
    with suppress_warnings():
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
def suppress_warnings() -> Iterator[None]:
    """Suppress the warnings of Evidently and its libraries: nobody here can act on them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
