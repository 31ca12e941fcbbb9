"""Robustness: how much worse a model becomes on rows that are disturbed the way live rows are.

noise               every number moves by a share of its standard deviation
missing_values      a share of all cells is empty
swapped_categories  a share of the categories stands in another row
out_of_range        a share of the numbers lies as far beyond its range as the range is wide

A model that raises on disturbed rows has not crashed the evaluation: it has been found out.
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
from airflow_mlops.core.evaluation.bootstrap_interval import CONFIDENCE
from airflow_mlops.core.evaluation.simple_baselines import numbers_and_categories
from airflow_mlops.core.training.row_losses import Floats, metric_value, relative_loss, row_losses

Predict = Callable[[pd.DataFrame], Floats]


@dataclass(frozen=True)
class RobustnessReport:
    """What one disturbance does to the loop's metric.

    ``worse_by`` is the relative loss against the same rows undisturbed, ``low`` and ``high`` its interval where the
    metric is a mean over rows. The verdict is ``within tolerance``, ``beyond tolerance``, ``cannot predict`` or
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


def judge_robustness(
    predict: Predict, features: pd.DataFrame, label: Floats, metric: MetricName, declared: Robustness, *, seed: int
) -> dict[str, RobustnessReport]:
    """Return what each disturbance does, by its name; nothing where the declaration asks for no rows.

    Parameters
    ----------
    predict : callable
        Gives predictions, shape (n_rows,), of features; raises a :class:`MlopsError` where it cannot.
    features : DataFrame
        Of the holdout; a sample of at most ``declared.rows`` rows is disturbed.
    """
    if declared.rows == 0:
        return {}
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(features))[: declared.rows])
    features, label = features.iloc[chosen].reset_index(drop=True), label[chosen]
    losses = row_losses(metric, label, predict(features))
    found = {}
    for name in PERTURBATIONS:
        disturbed = _DISTURB[name](features, declared, random)
        if disturbed is None:
            reason = f"{name}: no feature is of the kind that it disturbs"
            found[name] = RobustnessReport(name, "not applicable", len(label), reason, tolerance=declared.tolerance)
            continue
        found[name] = _report(name, predict, disturbed, label, losses, metric=metric, tolerance=declared.tolerance)
    return found


def _report(
    name: str,
    predict: Predict,
    disturbed: pd.DataFrame,
    label: Floats,
    losses: Floats,
    *,
    metric: MetricName,
    tolerance: float,
) -> RobustnessReport:
    rows = int(label.size)
    try:
        worse = row_losses(metric, label, predict(disturbed))
    except MlopsError as error:
        return RobustnessReport(name, "cannot predict", rows, f"{name}: {error}", tolerance=tolerance)
    before, after = metric_value(metric, losses), metric_value(metric, worse)
    value = relative_loss(metric, after, before)
    reach = None
    if metric != "rmse" and rows > 1:
        spread = float(np.std(worse - losses, ddof=1)) / sqrt(rows)
        reach = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * spread / max(float(losses.mean()), 1e-15)
    within = value <= tolerance
    reason = (
        f"{name}: {metric} {after:.4g} against {before:.4g} undisturbed, {value:+.1%} on {rows:,} rows; "
        f"{tolerance:.0%} is tolerated"
    )
    return RobustnessReport(
        name,
        "within tolerance" if within else "beyond tolerance",
        rows,
        reason,
        value,
        None if reach is None else value - reach,
        None if reach is None else value + reach,
        tolerance,
    )


def _noise(features: pd.DataFrame, declared: Robustness, random: np.random.Generator) -> pd.DataFrame | None:
    numbers, _ = numbers_and_categories(features)
    changed = {}
    for name in numbers:
        values = features[name].to_numpy(float, na_value=np.nan)
        spread = float(np.nanstd(values)) if np.isfinite(values).any() else 0.0
        changed[name] = values + declared.noise * spread * random.normal(size=values.size)
    return features.assign(**changed) if changed else None


def _missing_values(features: pd.DataFrame, declared: Robustness, random: np.random.Generator) -> pd.DataFrame | None:
    numbers, categories = numbers_and_categories(features)
    changed: dict[str, Any] = {}
    for name in (*numbers, *categories):
        gone = random.random(len(features)) < declared.share
        if name in numbers:
            changed[name] = np.where(gone, np.nan, features[name].to_numpy(float, na_value=np.nan))
        else:
            whole = features[name].astype(object) if features[name].dtype.kind == "b" else features[name]
            changed[name] = whole.mask(gone)
    return features.assign(**changed) if changed else None


def _swapped_categories(
    features: pd.DataFrame, declared: Robustness, random: np.random.Generator
) -> pd.DataFrame | None:
    _, categories = numbers_and_categories(features)
    changed = {}
    for name in categories:
        moved = np.flatnonzero(random.random(len(features)) < declared.share)
        order = np.arange(len(features))
        order[moved] = random.permutation(len(features))[: moved.size]
        changed[name] = features[name].take(order).reset_index(drop=True)
    return features.assign(**changed) if changed else None


def _out_of_range(features: pd.DataFrame, declared: Robustness, random: np.random.Generator) -> pd.DataFrame | None:
    numbers, _ = numbers_and_categories(features)
    changed = {}
    for name in numbers:
        values = features[name].to_numpy(float, na_value=np.nan)
        if not np.isfinite(values).any():
            continue
        least, most = float(np.nanmin(values)), float(np.nanmax(values))
        width = max(most - least, abs(most), 1.0) if most == least else most - least
        beyond = np.where(random.random(values.size) < 0.5, least - width, most + width)
        changed[name] = np.where(random.random(values.size) < declared.share, beyond, values)
    return features.assign(**changed) if changed else None


_DISTURB: dict[str, Callable[[pd.DataFrame, Robustness, np.random.Generator], pd.DataFrame | None]] = {
    "noise": _noise,
    "missing_values": _missing_values,
    "swapped_categories": _swapped_categories,
    "out_of_range": _out_of_range,
}
