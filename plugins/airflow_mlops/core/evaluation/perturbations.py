"""Robustness: the loss of a model on rows that are perturbed the way live rows are.

noise               every number moves by a share of its standard deviation
missing_values      a share of all cells is empty
swapped_categories  a share of the categories moves to another row
out_of_range        a share of the numbers lies outside its range by the width of the range

A model that raises an error on perturbed rows does not stop the evaluation: that is a result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.declaration.evaluate import PERTURBATIONS, MetricName, Robustness
from airflow_mlops.core.errors import MlopsError
from airflow_mlops.core.evaluation.roc_auc import CONFIDENCE
from airflow_mlops.core.evaluation.simple_baselines import numbers_and_categories
from airflow_mlops.core.training.row_losses import ROOTS, Floats, metric_value, relative_loss, row_losses

Predict = Callable[[pd.DataFrame], Floats]


@dataclass(frozen=True)
class RobustnessReport:
    """The effect of one perturbation on the loop's metric.

    ``worse_by`` is the relative loss against the same rows unperturbed, ``low`` and ``high`` its interval if the metric
    is a mean over rows. The verdict is ``within tolerance``, ``beyond tolerance``, ``cannot predict`` or
    ``not applicable``.
    """

    disturbance: str
    verdict: str
    rows: int
    reason: str
    worse_by: float | None = None
    low: float | None = None
    high: float | None = None
    tolerance: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def measure_robustness(
    predict: Predict, features: pd.DataFrame, label: Floats, metric: MetricName, declared: Robustness, *, seed: int
) -> dict[str, RobustnessReport]:
    """Return the effect of each perturbation by its name; empty if the declaration has no rows.

    Parameters
    ----------
    predict : callable
        Returns predictions, shape (n_rows,), of features; raises :class:`MlopsError` if it cannot.
    features : DataFrame
        Features of the holdout; a sample of at most ``declared.rows`` rows is perturbed.
    label : ndarray of float, shape (n_rows,)
        Labels of the holdout.
    metric : str
        The loop's metric.
    declared : Robustness
        Size of the perturbations, and the tolerance.
    seed : int
        Seed of the sample and of the perturbations.
    """
    if declared.rows == 0:
        return {}
    random = np.random.default_rng(seed)
    sample = np.sort(random.permutation(len(features))[: declared.rows])
    features, label = features.iloc[sample].reset_index(drop=True), label[sample]
    losses = row_losses(metric, label, predict(features))
    reports = {}
    for name in PERTURBATIONS:
        perturbed = _PERTURB[name](features, declared, random)
        if perturbed is None:
            reason = f"{name}: no feature is of the kind that it disturbs"
            reports[name] = RobustnessReport(name, "not applicable", len(label), reason, tolerance=declared.tolerance)
            continue
        reports[name] = _measure_perturbation(
            name, predict, perturbed, label, losses, metric=metric, tolerance=declared.tolerance
        )
    return reports


def _measure_perturbation(
    name: str,
    predict: Predict,
    perturbed: pd.DataFrame,
    label: Floats,
    losses: Floats,
    *,
    metric: MetricName,
    tolerance: float,
) -> RobustnessReport:
    rows = int(label.size)
    try:
        perturbed_losses = row_losses(metric, label, predict(perturbed))
    except MlopsError as error:
        return RobustnessReport(name, "cannot predict", rows, f"{name}: {error}", tolerance=tolerance)
    before, after = metric_value(metric, losses), metric_value(metric, perturbed_losses)
    value = relative_loss(metric, after, before)
    reach = None
    if metric not in ROOTS and rows > 1:
        standard_error = float(np.std(perturbed_losses - losses, ddof=1)) / sqrt(rows)
        reach = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * standard_error / max(abs(float(losses.mean())), 1e-15)
    reason = (
        f"{name}: {metric} {after:.4g} against {before:.4g} undisturbed, {value:+.1%} on {rows:,} rows; "
        f"{tolerance:.0%} is tolerated"
    )
    return RobustnessReport(
        name,
        "within tolerance" if value <= tolerance else "beyond tolerance",
        rows,
        reason,
        value,
        None if reach is None else value - reach,
        None if reach is None else value + reach,
        tolerance,
    )


def _add_noise(features: pd.DataFrame, declared: Robustness, random: np.random.Generator) -> pd.DataFrame | None:
    numbers, _ = numbers_and_categories(features)
    changed = {}
    for name in numbers:
        values = features[name].to_numpy(float, na_value=np.nan)
        spread = float(np.nanstd(values)) if np.isfinite(values).any() else 0.0
        changed[name] = values + declared.noise * spread * random.normal(size=values.size)
    return features.assign(**changed) if changed else None


def _remove_values(features: pd.DataFrame, declared: Robustness, random: np.random.Generator) -> pd.DataFrame | None:
    numbers, categories = numbers_and_categories(features)
    changed: dict[str, Any] = {}
    for name in (*numbers, *categories):
        removed = random.random(len(features)) < declared.share
        if name in numbers:
            changed[name] = np.where(removed, np.nan, features[name].to_numpy(float, na_value=np.nan))
        else:
            # A plain column of booleans has no missing value, one of objects has.
            column = features[name].astype(object) if features[name].dtype == np.bool_ else features[name]
            changed[name] = column.mask(removed)
    return features.assign(**changed) if changed else None


def _swap_categories(features: pd.DataFrame, declared: Robustness, random: np.random.Generator) -> pd.DataFrame | None:
    _, categories = numbers_and_categories(features)
    changed = {}
    for name in categories:
        moved = np.flatnonzero(random.random(len(features)) < declared.share)
        order = np.arange(len(features))
        order[moved] = random.permutation(len(features))[: moved.size]
        changed[name] = features[name].take(order).reset_index(drop=True)
    return features.assign(**changed) if changed else None


def _move_out_of_range(
    features: pd.DataFrame, declared: Robustness, random: np.random.Generator
) -> pd.DataFrame | None:
    numbers, _ = numbers_and_categories(features)
    changed = {}
    for name in numbers:
        values = features[name].to_numpy(float, na_value=np.nan)
        if not np.isfinite(values).any():
            continue
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        # A constant column has no width; its own size stands in, so that the value moves visibly.
        width = max(high - low, abs(high), 1.0) if high == low else high - low
        beyond = np.where(random.random(values.size) < 0.5, low - width, high + width)
        changed[name] = np.where(random.random(values.size) < declared.share, beyond, values)
    return features.assign(**changed) if changed else None


_PERTURB: dict[str, Callable[[pd.DataFrame, Robustness, np.random.Generator], pd.DataFrame | None]] = {
    "noise": _add_noise,
    "missing_values": _remove_values,
    "swapped_categories": _swap_categories,
    "out_of_range": _move_out_of_range,
}
