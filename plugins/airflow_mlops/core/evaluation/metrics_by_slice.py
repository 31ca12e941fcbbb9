"""Metrics of all slices of the holdout at once, by counting rows into slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.evaluation.known_metrics import Metric
from airflow_mlops.core.training.row_losses import DomainError, Floats, UnknownMetricError

REPORTED_SLICES = 40
"""Slices of a column in a report, those with the most rows; gates judge all slices."""


@dataclass(frozen=True)
class Slices:
    """The values of a column, and the value of each row.

    ``codes`` has shape (n_rows,) and holds positions in ``names``; ``rows`` has shape (n_slices,).
    """

    names: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    @classmethod
    def from_column(cls, column: npt.NDArray[Any]) -> Slices:
        """Return the slices of a column, shape (n_rows,), ordered by name; missing values are a slice too.

        >>> Slices.from_column(np.array(["b", "a", "b"])).names
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
        # Values with the same text, such as 1 and "1", are one slice.
        text_codes = merged[codes].astype(np.int64) if len(texts) else np.zeros(0, np.int64)
        return cls(tuple(map(str, texts)), text_codes, np.bincount(text_codes, minlength=len(texts)))


def metric_by_slice(
    metric: Metric, label: Floats, predicted: Floats, slices: Slices, weight: Floats | None = None
) -> Floats:
    """Return the metric of each slice, shape (n_slices,); NaN if it is undefined.

    A metric that follows from sums costs one pass over the rows for each sum, for any number of slices.
    """
    count = len(slices.names)
    if metric.terms is None or metric.combine is None:
        return _compute_each_slice(metric, label, predicted, slices, weight)
    counts = np.ones(label.size) if weight is None else weight
    try:
        sums = np.array([np.bincount(slices.codes, term * counts, count) for term in metric.terms(label, predicted)])
    except DomainError:  # on some slices it may be defined
        return _compute_each_slice(metric, label, predicted, slices, weight)
    return np.asarray(metric.combine(sums, np.bincount(slices.codes, counts, count).astype(np.float64)), np.float64)


def _compute_each_slice(
    metric: Metric, label: Floats, predicted: Floats, slices: Slices, weight: Floats | None
) -> Floats:
    # Sorted once, each slice is a contiguous range of rows.
    order = np.argsort(slices.codes, kind="stable")
    label, predicted, weight = label[order], predicted[order], None if weight is None else weight[order]
    ends = np.cumsum(slices.rows)
    values = np.full(len(slices.names), np.nan)
    for number, (end, rows) in enumerate(zip(ends, slices.rows, strict=True)):
        part = slice(end - rows, end)
        try:
            values[number] = metric.value(label[part], predicted[part], None if weight is None else weight[part])
        except UnknownMetricError:
            continue  # it stays NaN
    return values


def metrics_by_slice(
    metrics: Mapping[str, Metric],
    label: Floats,
    predicted: Floats,
    columns: Mapping[str, npt.NDArray[Any]],
    weight: Floats | None = None,
) -> dict[str, tuple[Slices, dict[str, Floats]]]:
    """Return for each column its slices, and the values of each metric, shape (n_slices,)."""
    by_column = {}
    for column, values in columns.items():
        slices = Slices.from_column(values)
        by_column[column] = (
            slices,
            {name: metric_by_slice(metric, label, predicted, slices, weight) for name, metric in metrics.items()},
        )
    return by_column


def report_slices(
    metrics: Mapping[str, Metric],
    label: Floats,
    predictions: Sequence[Floats | None],
    columns: Mapping[str, npt.NDArray[Any]],
    *,
    min_rows: int,
    weight: Floats | None = None,
) -> dict[str, Any]:
    """Return the report of the slices of each column: rows, and the metrics of the candidate and the champion.

    Parameters
    ----------
    metrics : mapping of str to Metric
        The metrics by name.
    label : ndarray of float, shape (n_rows,)
        The labels.
    predictions : sequence of two arrays, shape (n_rows,)
        Predictions of the candidate, and of the champion or None.
    columns : mapping of str to ndarray, shape (n_rows,)
        The columns by name.
    min_rows : int
        Rows that a slice needs; one with fewer is ``too little data`` and has no metrics.
    weight : ndarray of float, shape (n_rows,), optional
        The weights of the rows.
    """
    reports: dict[str, Any] = {}
    both = [
        None if predicted is None else metrics_by_slice(metrics, label, predicted, columns, weight)
        for predicted in predictions
    ]
    for column in columns:
        assert both[0] is not None
        slices = both[0][column][0]
        largest = np.argsort(-slices.rows, kind="stable")[:REPORTED_SLICES]
        reports[column] = {
            "slices": [_report_slice(slices, number, both, column, min_rows) for number in sorted(map(int, largest))],
            "left_out": max(0, len(slices.names) - REPORTED_SLICES),
        }
    return reports


def merge_slices(first: dict[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report of slices with the metrics of other reports of the same slices added to it."""
    for other in others:
        for column, report in first.items():
            for entry, added in zip(report["slices"], other[column]["slices"], strict=True):
                for model in ("metrics", "champion"):
                    if entry[model] is not None:
                        entry[model].update(added[model])
    return first


def _report_slice(slices: Slices, number: int, both: Sequence[Any], column: str, min_rows: int) -> dict[str, Any]:
    rows = int(slices.rows[number])
    report: dict[str, Any] = {"value": slices.names[number], "rows": rows}
    if rows < min_rows:
        return report | {"verdict": "too little data", "needed": min_rows, "metrics": {}, "champion": None}
    candidate, champion = (None if by_column is None else by_column[column][1] for by_column in both)
    return report | {
        "verdict": "measured",
        "metrics": _values_at(candidate, number),
        "champion": _values_at(champion, number),
    }


def _values_at(metrics: dict[str, Floats] | None, number: int) -> dict[str, float | None] | None:
    if metrics is None:
        return None
    return {name: float(values[number]) if np.isfinite(values[number]) else None for name, values in metrics.items()}
