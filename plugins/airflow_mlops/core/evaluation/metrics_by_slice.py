"""Metrics of every slice of the holdout at once: rows are counted into slices, not cut out one slice at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.evaluation.known_metrics import Metric, UnknownMetricError
from airflow_mlops.core.training.row_losses import Floats

SHOWN_SLICES = 40
"""Slices of a column that a report shows: those with the most rows. Gates judge all."""


@dataclass(frozen=True)
class Slices:
    """The values of a column, and which of them each row has.

    ``codes`` has shape (n_rows,) and numbers ``names``; ``rows`` says how many rows each has.
    """

    names: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    @classmethod
    def of(cls, column: npt.NDArray[Any]) -> Slices:
        """Return the slices of a column, in the order of their names; missing values are a slice of their own.

        >>> Slices.of(np.array(["b", "a", "b"])).names
        ('a', 'b')
        """
        import pandas as pd

        codes, values = pd.factorize(np.asarray(column), use_na_sentinel=False)
        texts, merged = np.unique(
            np.array(
                ["(missing)" if missing else str(value) for value, missing in zip(values, pd.isna(values), strict=True)]
            ),
            return_inverse=True,
        )
        found = merged[codes].astype(np.int64) if len(texts) else np.zeros(0, np.int64)
        return cls(tuple(map(str, texts)), found, np.bincount(found, minlength=len(texts)))


def metric_by_slice(metric: Metric, label: Floats, predicted: Floats, slices: Slices) -> Floats:
    """Return the metric of every slice, shape (n_slices,); NaN where it has none.

    A metric that follows from sums costs one pass over the rows for each of its sums, however many slices there are.
    """
    count = len(slices.names)
    if metric.terms is None or metric.combine is None:
        return _slice_after_slice(metric, label, predicted, slices)
    sums = np.array([np.bincount(slices.codes, term, count) for term in metric.terms(label, predicted)])
    return np.asarray(metric.combine(sums, slices.rows.astype(np.float64)), np.float64)


def _slice_after_slice(metric: Metric, label: Floats, predicted: Floats, slices: Slices) -> Floats:
    order = np.argsort(slices.codes, kind="stable")
    label, predicted = label[order], predicted[order]
    ends = np.cumsum(slices.rows)
    found = np.full(len(slices.names), np.nan)
    for number, (end, rows) in enumerate(zip(ends, slices.rows, strict=True)):
        try:
            found[number] = metric.value(label[end - rows : end], predicted[end - rows : end])
        except UnknownMetricError:
            continue  # NaN says so
    return found


def metrics_by_slice(
    metrics: Mapping[str, Metric], label: Floats, predicted: Floats, columns: Mapping[str, npt.NDArray[Any]]
) -> dict[str, tuple[Slices, dict[str, Floats]]]:
    """Return, for each column, its slices and the metrics of each of them, shape (n_slices,)."""
    found = {}
    for column, values in columns.items():
        slices = Slices.of(values)
        found[column] = (
            slices,
            {name: metric_by_slice(metric, label, predicted, slices) for name, metric in metrics.items()},
        )
    return found


def slice_reports(
    metrics: Mapping[str, Metric],
    label: Floats,
    predictions: Sequence[Floats | None],
    columns: Mapping[str, npt.NDArray[Any]],
    *,
    min_rows: int,
) -> dict[str, Any]:
    """Return what a report says of the slices: rows, and the metrics of the candidate and the champion.

    Parameters
    ----------
    predictions : sequence of two arrays, shape (n_rows,)
        Those of the candidate, and of the champion or None.
    min_rows : int
        Slices with fewer rows are ``too little data`` and have no metrics.
    """
    reports: dict[str, Any] = {}
    both = [None if found is None else metrics_by_slice(metrics, label, found, columns) for found in predictions]
    for column in columns:
        assert both[0] is not None
        slices = both[0][column][0]
        most = np.argsort(-slices.rows, kind="stable")[:SHOWN_SLICES]
        reports[column] = {
            "slices": [_slice_report(slices, number, both, column, min_rows) for number in sorted(map(int, most))],
            "left_out": max(0, len(slices.names) - SHOWN_SLICES),
        }
    return reports


def _slice_report(slices: Slices, number: int, both: Sequence[Any], column: str, min_rows: int) -> dict[str, Any]:
    rows = int(slices.rows[number])
    report: dict[str, Any] = {"value": slices.names[number], "rows": rows}
    if rows < min_rows:
        return report | {"verdict": "too little data", "needed": min_rows, "metrics": {}, "champion": None}
    ours, theirs = (None if found is None else found[column][1] for found in both)
    return report | {"verdict": "measured", "metrics": _at(ours, number), "champion": _at(theirs, number)}


def _at(found: dict[str, Floats] | None, number: int) -> dict[str, float | None] | None:
    if found is None:
        return None
    return {name: float(values[number]) if np.isfinite(values[number]) else None for name, values in found.items()}
