"""Fairness: how differently a model treats the groups of a column, measured with Fairlearn.

Groups with too few rows are left out of the measure and named. A group that is known from the training window and
has no row in the holdout is one of them: nothing is known about it, so it is never passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import CLASS_FAIRNESS, NUMBER_FAIRNESS
from airflow_mlops.core.evaluation.bootstrap_interval import CONFIDENCE, RESAMPLES
from airflow_mlops.core.evaluation.metrics_by_slice import Slices
from airflow_mlops.core.training.row_losses import Floats

Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FairnessReport:
    """One measure over the groups of a column.

    ``value`` is None where fewer than two groups have enough rows. ``too_small`` are the groups that do not count,
    with their rows.
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


def group_fairness(
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
    """Return every measure that goes with the kind of the label, by name.

    Parameters
    ----------
    label, predicted : ndarray of float, shape (n_rows,)
        For classification a row is predicted to be of class 1 from a probability of 0.5 on.
    column : ndarray, shape (n_rows,)
        The group of each row, called ``name``.
    min_rows : int
        A group with fewer rows does not count; for equalized odds, nor does one without rows of both classes.
    expected : sequence of str
        Groups that the training window had.
    measures : sequence of str, optional
        Only these.
    """
    slices = Slices.of(column)
    rows = dict(zip(slices.names, map(int, slices.rows), strict=True))
    rows = dict.fromkeys((group for group in expected if group not in rows), 0) | rows
    random = np.random.default_rng(seed)
    found = {}
    for measure in measures or (CLASS_FAIRNESS if classifies else NUMBER_FAIRNESS):
        counted = _counted(measure, label, slices, min_rows)
        of_them = sum(rows[group] for group in counted)
        small = {group: number for group, number in sorted(rows.items()) if group not in counted}
        if len(counted) < 2:
            reason = f"{measure} of {name}: {len(counted)} groups have the {min_rows:,} rows that are needed, of two"
            found[measure] = FairnessReport(measure, name, None, of_them, reason=reason, too_small=small)
            continue
        value, shares = _measure(measure, label, predicted, slices, counted)
        low, high = _interval(measure, shares, random)
        found[measure] = FairnessReport(measure, name, value, of_them, low, high, too_small=small, by_group=shares)
    return found


def _counted(measure: str, label: Floats, slices: Slices, min_rows: int) -> list[str]:
    enough = slices.rows >= max(min_rows, 1)
    if measure.startswith("equalized_odds"):
        ones = np.bincount(slices.codes, label > 0.5, len(slices.names))
        enough &= (ones > 0) & (ones < slices.rows)
    return [name for name, counts in zip(slices.names, enough, strict=True) if counts]


def _measure(
    measure: str, label: Floats, predicted: Floats, groups: Slices, counted: Sequence[str]
) -> tuple[float, dict[str, dict[str, Any]]]:
    """Return a measure, and what it compares of each group, with the rows that rests on.

    Rows are counted first: Fairlearn gets each group with its labels and predictions once, weighted by how often
    they occur, which gives the same and does not cost more on more rows.
    """
    if measure in CLASS_FAIRNESS:
        return _of_classes(measure, label > 0.5, predicted >= 0.5, groups, counted)
    name = "mae" if measure.startswith("group_error") else "mean_prediction"
    values = np.abs(label - predicted) if name == "mae" else predicted
    return _of_numbers(measure, name, values, groups, counted)


def _of_classes(
    measure: str, label: Truths, said: Truths, groups: Slices, counted: Sequence[str]
) -> tuple[float, dict[str, dict[str, Any]]]:
    from fairlearn import metrics as fairlearn

    cells = np.bincount(groups.codes * 4 + label * 2 + said, minlength=4 * len(groups.names))
    names = np.repeat(groups.names, 4)
    truths, answers = (np.tile(values, len(groups.names)) for values in ([0, 0, 1, 1], [0, 1, 0, 1]))
    kept = np.isin(names, counted) & (cells > 0)
    names, truths, answers, weights = names[kept], truths[kept], answers[kept], cells[kept]
    value = getattr(fairlearn, measure)(truths, answers, sensitive_features=names, sample_weight=weights)
    by_group = {}
    for group in counted:
        true_no, false_yes, false_no, true_yes = map(int, cells[4 * groups.names.index(group) :][:4])
        rows, ones = true_no + false_yes + false_no + true_yes, false_no + true_yes
        by_group[group] = {"rows": rows, "ones": ones, "selection_rate": (false_yes + true_yes) / rows} | (
            {"true_positive_rate": true_yes / ones, "false_positive_rate": false_yes / (rows - ones)}
            if "odds" in measure
            else {}
        )
    return float(value), by_group


def _of_numbers(
    measure: str, name: str, values: Floats, groups: Slices, counted: Sequence[str]
) -> tuple[float, dict[str, dict[str, Any]]]:
    from fairlearn.metrics import MetricFrame, mean_prediction

    count = len(groups.names)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.bincount(groups.codes, values, count) / groups.rows
        spreads = np.sqrt(np.bincount(groups.codes, (values - means[groups.codes]) ** 2, count) / groups.rows)
    kept = [groups.names.index(group) for group in counted]
    frame = MetricFrame(
        metrics=mean_prediction, y_true=means[kept], y_pred=means[kept], sensitive_features=np.array(counted)
    )
    value = frame.ratio() if measure.endswith("ratio") else frame.difference()
    return float(value), {
        groups.names[number]: {name: float(means[number]), "spread": float(spreads[number]), "rows": rows}
        for number in kept
        for rows in [int(groups.rows[number])]
    }


def _interval(measure: str, groups: dict[str, dict[str, Any]], random: np.random.Generator) -> tuple[float, float]:
    """Return the interval of a measure from resamples within each group, which for a share is a binomial draw."""
    size = (RESAMPLES, len(groups))
    rows = np.array([group["rows"] for group in groups.values()])

    def drawn(name: str, of: npt.NDArray[np.int64]) -> Floats:
        return np.asarray(random.binomial(of, [group[name] for group in groups.values()], size) / of)

    if measure.startswith("demographic"):
        rates = [drawn("selection_rate", rows)]
    elif measure.startswith("equalized"):
        ones = np.array([group["ones"] for group in groups.values()])
        rates = [drawn("true_positive_rate", ones), drawn("false_positive_rate", rows - ones)]
    else:
        name = "mae" if measure.startswith("group_error") else "mean_prediction"
        centre, spread = (np.array([group[key] for group in groups.values()]) for key in (name, "spread"))
        rates = [random.normal(centre, spread / np.sqrt(rows), size)]
    if measure.endswith("ratio"):
        found = np.min([np.where(_most(of) > 0, of.min(axis=1) / _most(of), 1.0) for of in rates], axis=0)
    else:
        found = np.max([of.max(axis=1) - of.min(axis=1) for of in rates], axis=0)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(found, [tail, 100 - tail])
    return float(low), float(high)


def _most(rates: Floats) -> Floats:
    return np.asarray(np.maximum(rates.max(axis=1), np.finfo(float).tiny))
