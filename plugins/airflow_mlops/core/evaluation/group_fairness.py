"""Fairness: how differently a model treats the groups of a column, measured with Fairlearn.

Groups with too few rows are left out of the measure and listed. A group of the training window without a row in the
holdout is one of them: nothing is known about it, so it never passes. Of three classes or more each is measured against
the others, and the measure is that of the class on which the groups differ most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
    their rows. Of three classes or more, ``value`` is that of ``of_class``, on which the groups differ most,
    ``by_class`` has the value of each, and a group that is left out for one class is named with it.
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
    of_class: str | None = None
    by_class: Mapping[str, float | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, without classes where they are two or none."""
        return {name: value for name, value in asdict(self).items() if self.by_class or "class" not in name}


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
    classes: Sequence[str] | None = None,
) -> dict[str, FairnessReport]:
    """Return the fairness measures of a kind of label, by name.

    Parameters
    ----------
    label : ndarray of float, shape (n_rows,)
        Labels; of three classes or more their codes.
    predicted : ndarray of float, shape (n_rows,) or (n_rows, n_classes)
        Predictions; a probability of 0.5 or more predicts class 1, of three classes or more the largest its class.
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
    classes : sequence of str, optional
        Names of three classes or more by their codes.
    """
    slices = Slices.from_column(column)
    rows = dict(zip(slices.names, map(int, slices.rows), strict=True))
    rows = dict.fromkeys((group for group in expected if group not in rows), 0) | rows
    names = measures or (CLASS_FAIRNESS if classifies else NUMBER_FAIRNESS)
    if classes is None:
        compared = Compared(label, predicted, slices, rows, name, min_rows)
        random = np.random.default_rng(seed)
        return {measure: compared.report(measure, random)[0] for measure in names}
    chosen = predicted.argmax(axis=1)
    outcomes = {
        class_name: Compared((label == code) * 1.0, (chosen == code) * 1.0, slices, rows, name, min_rows)
        for code, class_name in enumerate(classes)
    }
    return {measure: _report_classes(measure, outcomes, seed) for measure in names}


@dataclass(frozen=True)
class Compared:
    """The labels and predictions that groups of a column are compared by: numbers, or one class against all others."""

    label: Floats
    predicted: Floats
    groups: Slices
    rows: Mapping[str, int]
    column: str
    min_rows: int

    def report(self, measure: str, random: np.random.Generator) -> tuple[FairnessReport, Floats]:
        """Return the report of a measure, and its values in the resamples, none where it has no value."""
        compared = _groups_with_enough_rows(measure, self.label, self.groups, self.min_rows)
        compared_rows = sum(self.rows[group] for group in compared)
        small = {group: number for group, number in sorted(self.rows.items()) if group not in compared}
        if len(compared) < 2:
            reason = (
                f"{measure} of {self.column}: {len(compared)} groups have the {self.min_rows:,} rows that are needed, "
                "of two"
            )
            return FairnessReport(measure, self.column, None, compared_rows, reason=reason, too_small=small), np.empty(
                0
            )
        value, shares = _compute_measure(measure, self.label, self.predicted, self.groups, compared)
        if np.isnan(value):  # Fairlearn divides 0 by 0 where a rate is 0 in every group
            rates = [np.array([[group[name] for group in shares.values()]]) for name in _rate_names(measure)]
            value = float(_reduce(measure, rates)[0])
        resampled = _resample(measure, shares, random)
        low, high = _ends(resampled)
        report = FairnessReport(measure, self.column, value, compared_rows, low, high, too_small=small, by_group=shares)
        return report, resampled


def _report_classes(measure: str, outcomes: Mapping[str, Compared], seed: int) -> FairnessReport:
    """Return the report of the class on which the groups differ most; its interval is of the largest difference."""
    random = np.random.default_rng(seed)
    reports, resampled = {}, []
    for class_name, compared in outcomes.items():
        reports[class_name], values = compared.report(measure, random)
        resampled += [values] if values.size else []
    worst, reduce = (min, np.min) if measure.endswith("ratio") else (max, np.max)
    known = {name: report.value for name, report in reports.items() if report.value is not None}
    of_class = worst(known, key=lambda name: known[name]) if known else None
    low, high = _ends(reduce(resampled, axis=0)) if known else (None, None)
    return replace(
        reports[of_class or next(iter(reports))],
        low=low,
        high=high,
        too_small=_left_out(reports),
        of_class=of_class,
        by_class={name: report.value for name, report in reports.items()},
    )


def _left_out(reports: Mapping[str, FairnessReport]) -> dict[str, int]:
    """Return the groups that are left out, with their rows; one that is left out for some classes, with each."""
    everywhere = set.intersection(*(set(report.too_small) for report in reports.values()))
    left_out = {
        group if group in everywhere else f"{group} for the class {name}": rows
        for name, report in reports.items()
        for group, rows in report.too_small.items()
    }
    return dict(sorted(left_out.items()))


def _groups_with_enough_rows(measure: str, label: Floats, slices: Slices, min_rows: int) -> list[str]:
    enough = slices.rows >= max(min_rows, 1)
    if measure.startswith("equalized_odds"):
        ones = np.bincount(slices.codes, label > 0.5, len(slices.names))
        enough &= (ones > 0) & (ones < slices.rows)
    return [name for name, counts in zip(slices.names, enough, strict=True) if counts]


def _rate_names(measure: str) -> tuple[str, ...]:
    if measure.startswith("demographic"):
        return ("selection_rate",)
    if measure.startswith("equalized"):
        return "true_positive_rate", "false_positive_rate"
    return ("mae" if measure.startswith("group_error") else "mean_prediction",)


def _compute_measure(
    measure: str, label: Floats, predicted: Floats, groups: Slices, compared: Sequence[str]
) -> tuple[float, dict[str, dict[str, Any]]]:
    """Return a measure, and the values of each group that it compares, with their rows.

    Rows are counted first: Fairlearn gets each combination of group, label and prediction once, weighted by its number
    of rows, which gives the same value at a cost that does not grow with the rows.
    """
    if measure in CLASS_FAIRNESS:
        return _compare_classes(measure, label > 0.5, predicted >= 0.5, groups, compared)
    (name,) = _rate_names(measure)
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


def _resample(measure: str, groups: dict[str, dict[str, Any]], random: np.random.Generator) -> Floats:
    """Return a measure of resamples within each group, shape (RESAMPLES,); a share is drawn from a binomial."""
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
        (name,) = _rate_names(measure)
        centre, spread = (np.array([group[key] for group in groups.values()]) for key in (name, "spread"))
        rates = [random.normal(centre, spread / np.sqrt(rows), size)]
    return _reduce(measure, rates)


def _reduce(measure: str, rates: Sequence[Floats]) -> Floats:
    """Return a measure from rates or means of shape (n, n_groups), shape (n,); equal ones, also 0, have the ratio 1."""
    ends = [(rate.min(axis=1), rate.max(axis=1)) for rate in rates]
    if measure.endswith("ratio"):
        return np.asarray(np.min([_ratio(least, most) for least, most in ends], axis=0))
    return np.asarray(np.max([most - least for least, most in ends], axis=0))


def _ends(values: Floats) -> tuple[float, float]:
    """Return the ends of the interval of a measure, from its values in resamples."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _ratio(least: Floats, largest: Floats) -> Floats:
    return np.divide(least, largest, out=np.ones_like(largest), where=largest > 0)
