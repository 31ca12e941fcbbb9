"""Fairness: how differently a model treats the groups of a column, measured with Fairlearn.

Groups with too few rows are left out of the measure and listed. A group of the training window without a row in the
holdout is one of them: nothing is known about it, so it never passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import CLASS_FAIRNESS, NUMBER_FAIRNESS
from airflow_mlops.core.evaluation.bootstrap_interval import RESAMPLES
from airflow_mlops.core.evaluation.metrics_by_slice import Slices
from airflow_mlops.core.evaluation.roc_auc import CONFIDENCE
from airflow_mlops.core.training.row_losses import Floats

Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FairnessReport:
    """One measure over the groups of a column.

    ``value`` is None if fewer than two groups have enough rows. ``too_small`` are the groups that are left out, with
    their rows.
    """

    measure: str
    column: str
    value: float | None
    rows: int
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    too_small: Mapping[str, int] = field(default_factory=dict)
    by_group: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def measure_fairness(
    label: Floats,
    predicted: Floats,
    column: npt.NDArray[Any],
    name: str,
    *,
    classifies: bool,
    min_rows: int,
    expected: Sequence[str] = (),
    seed: int = 0,
    measures: Sequence[str] | None = None,
) -> dict[str, FairnessReport]:
    """Return the fairness measures of a kind of label, by name.

    Parameters
    ----------
    label, predicted : ndarray of float, shape (n_rows,)
        Labels and predictions; a probability of 0.5 or more predicts class 1.
    column : ndarray, shape (n_rows,)
        The group of each row.
    name : str
        Name of the column.
    classifies : bool
        Whether the label is a class.
    min_rows : int
        Rows that a group needs; for equalized odds it needs rows of both classes too.
    expected : sequence of str
        Groups of the training window.
    seed : int
        Seed of the resamples.
    measures : sequence of str, optional
        The measures; all of the kind of label if not given.
    """
    slices = Slices.from_column(column)
    rows = dict(zip(slices.names, map(int, slices.rows), strict=True))
    rows = dict.fromkeys((group for group in expected if group not in rows), 0) | rows
    random = np.random.default_rng(seed)
    reports = {}
    for measure in measures or (CLASS_FAIRNESS if classifies else NUMBER_FAIRNESS):
        compared = _groups_with_enough_rows(measure, label, slices, min_rows)
        compared_rows = sum(rows[group] for group in compared)
        small = {group: number for group, number in sorted(rows.items()) if group not in compared}
        if len(compared) < 2:
            reason = f"{measure} of {name}: {len(compared)} groups have the {min_rows:,} rows that are needed, of two"
            reports[measure] = FairnessReport(measure, name, None, compared_rows, reason=reason, too_small=small)
            continue
        value, shares = _compute_measure(measure, label, predicted, slices, compared)
        low, high = _interval(measure, shares, random)
        reports[measure] = FairnessReport(
            measure, name, value, compared_rows, low, high, too_small=small, by_group=shares
        )
    return reports


def _groups_with_enough_rows(measure: str, label: Floats, slices: Slices, min_rows: int) -> list[str]:
    enough = slices.rows >= max(min_rows, 1)
    if measure.startswith("equalized_odds"):
        ones = np.bincount(slices.codes, label > 0.5, len(slices.names))
        enough &= (ones > 0) & (ones < slices.rows)
    return [name for name, counts in zip(slices.names, enough, strict=True) if counts]


def _compute_measure(
    measure: str, label: Floats, predicted: Floats, groups: Slices, compared: Sequence[str]
) -> tuple[float, dict[str, dict[str, Any]]]:
    """Return a measure, and the values of each group that it compares, with their rows.

    Rows are counted first: Fairlearn gets each combination of group, label and prediction once, weighted by its number
    of rows, which gives the same value at a cost that does not grow with the rows.
    """
    if measure in CLASS_FAIRNESS:
        return _compare_classes(measure, label > 0.5, predicted >= 0.5, groups, compared)
    name = "mae" if measure.startswith("group_error") else "mean_prediction"
    values = np.abs(label - predicted) if name == "mae" else predicted
    return _compare_numbers(measure, name, values, groups, compared)


def _compare_classes(
    measure: str, label: Truths, predicted: Truths, groups: Slices, compared: Sequence[str]
) -> tuple[float, dict[str, dict[str, Any]]]:
    from fairlearn import metrics as fairlearn

    cells = np.bincount(groups.codes * 4 + label * 2 + predicted, minlength=4 * len(groups.names))
    names = np.repeat(groups.names, 4)
    truths, answers = (np.tile(values, len(groups.names)) for values in ([0, 0, 1, 1], [0, 1, 0, 1]))
    is_compared = np.isin(names, compared) & (cells > 0)
    names, truths, answers, weights = names[is_compared], truths[is_compared], answers[is_compared], cells[is_compared]
    value = getattr(fairlearn, measure)(truths, answers, sensitive_features=names, sample_weight=weights)
    by_group = {}
    for group in compared:
        tn, fp, fn, tp = map(int, cells[4 * groups.names.index(group) :][:4])
        rows, ones = tn + fp + fn + tp, fn + tp
        by_group[group] = {"rows": rows, "ones": ones, "selection_rate": (fp + tp) / rows} | (
            {"true_positive_rate": tp / ones, "false_positive_rate": fp / (rows - ones)} if "odds" in measure else {}
        )
    return float(value), by_group


def _compare_numbers(
    measure: str, name: str, values: Floats, groups: Slices, compared: Sequence[str]
) -> tuple[float, dict[str, dict[str, Any]]]:
    from fairlearn.metrics import MetricFrame, mean_prediction

    count = len(groups.names)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.bincount(groups.codes, values, count) / groups.rows
        spreads = np.sqrt(np.bincount(groups.codes, (values - means[groups.codes]) ** 2, count) / groups.rows)
    numbers = [groups.names.index(group) for group in compared]
    # One row for each group, its mean: MetricFrame then compares means, and does not see the rows.
    frame = MetricFrame(
        metrics=mean_prediction, y_true=means[numbers], y_pred=means[numbers], sensitive_features=np.array(compared)
    )
    value = frame.ratio() if measure.endswith("ratio") else frame.difference()
    return float(value), {
        groups.names[number]: {name: float(means[number]), "spread": float(spreads[number]), "rows": rows}
        for number in numbers
        for rows in [int(groups.rows[number])]
    }


def _interval(measure: str, groups: dict[str, dict[str, Any]], random: np.random.Generator) -> tuple[float, float]:
    """Return the interval of a measure from resamples within each group; a share is resampled by a binomial draw."""
    size = (RESAMPLES, len(groups))
    rows = np.array([group["rows"] for group in groups.values()])

    def draw_rate(name: str, trials: npt.NDArray[np.int64]) -> Floats:
        return np.asarray(random.binomial(trials, [group[name] for group in groups.values()], size) / trials)

    if measure.startswith("demographic"):
        rates = [draw_rate("selection_rate", rows)]
    elif measure.startswith("equalized"):
        ones = np.array([group["ones"] for group in groups.values()])
        rates = [draw_rate("true_positive_rate", ones), draw_rate("false_positive_rate", rows - ones)]
    else:
        name = "mae" if measure.startswith("group_error") else "mean_prediction"
        centre, spread = (np.array([group[key] for group in groups.values()]) for key in (name, "spread"))
        rates = [random.normal(centre, spread / np.sqrt(rows), size)]
    if measure.endswith("ratio"):
        values = np.min(
            [np.where(_largest_rate(rate) > 0, rate.min(axis=1) / _largest_rate(rate), 1.0) for rate in rates], axis=0
        )
    else:
        values = np.max([rate.max(axis=1) - rate.min(axis=1) for rate in rates], axis=0)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _largest_rate(rates: Floats) -> Floats:
    return np.asarray(np.maximum(rates.max(axis=1), np.finfo(float).tiny))
