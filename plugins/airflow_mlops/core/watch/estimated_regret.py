"""Estimate the champion's regret before labels arrive: the losses that it and a fresh model are expected to have.

Both are estimated as the check ``estimated_performance`` estimates the champion's, on the holdout of the fresh model:
those are the newest labels that there are, and neither model was fitted on them. So the estimate has what the champion
has lost up to then, and what a change of the rows makes of it; it has no change of the label given the row since then.
Once labels come, the regret is measured and takes the place of the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from scipy.special import ndtri, stdtrit

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.training.row_losses import metric_value, relative_loss
from airflow_mlops.core.watch.checks.estimated_performance import (
    EstimatedLosses,
    expected_classifier_losses,
    expected_regression_losses,
)
from airflow_mlops.core.watch.checks.expected_metric import PARTS, Calibration, ClassCalibration
from airflow_mlops.core.watch.sampled_rows import SampledRows

MIN_ROWS = 100
"""Labelled rows of the holdout, and rows of the partition, that an estimate needs."""
CONFIDENCE = 0.9
"""Two-sided confidence of the interval of an estimated regret."""


@dataclass(frozen=True)
class EstimatedRegret:
    """The regret to expect, its interval, and both metrics; ``regret`` is (champion - fresh) / fresh."""

    champion_value: float
    fresh_value: float
    regret: float
    low: float
    high: float


def expected_model_losses(loop: Loop, holdout: SampledRows, rows: SampledRows) -> EstimatedLosses:
    """Return the losses that a model is expected to have on rows without labels, from its losses on a holdout.

    Parameters
    ----------
    holdout : SampledRows
        Labelled rows that the model was not fitted on, with its predictions.
    rows : SampledRows
        The rows of a partition, with its predictions.

    Raises
    ------
    NotReadyError
        If the labels of the holdout calibrate nothing, as where all are of one class.
    """
    if not loop.classifies:
        return expected_regression_losses(holdout, rows, loop.metric)
    names = loop.several_class_names
    calibration = (
        Calibration(holdout.predictions, holdout.label)
        if names is None
        else ClassCalibration(holdout.predictions, holdout.label, names)
    )
    return expected_classifier_losses(calibration, rows.predictions, loop.metric)


def estimate_regret(metric: MetricName, champion: EstimatedLosses, fresh: EstimatedLosses) -> EstimatedRegret:
    """Return the regret to expect of two models on the same rows and the same holdout.

    The interval is one of the regret that labels will show: it has the chance of their draw on the partition and on the
    holdout, and, by the jackknife over the parts of the holdout, that of what the estimates learned from it.

    >>> rows, mistakes = np.full(100, 2.0), np.tile([-0.1, 0.1], 50)
    >>> losses = [EstimatedLosses(rows * f, rows * f, mistakes, np.full(PARTS, 2.0 * f)) for f in (1.5, 1.0)]
    >>> round(estimate_regret("mae", *losses).regret, 3)
    0.5
    """
    floor = 0.0 if champion.holdout.min() >= 0 else -inf
    fresh_value = metric_value(metric, np.array([fresh.mean]))
    factor = champion.mean / fresh.mean if fresh.mean > 0 else 1.0
    window, mistakes, less = (
        getattr(champion, name) - factor * getattr(fresh, name) for name in ("window", "mistakes", "less")
    )
    within = (np.var(window) + np.var(mistakes)) / window.size + np.var(mistakes) / mistakes.size
    jackknife = (PARTS - 1) / PARTS * float(np.sum((less - less.mean()) ** 2))
    tail = (1 + CONFIDENCE) / 2
    error = sqrt(float(ndtri(tail)) ** 2 * float(within) + float(stdtrit(PARTS - 1, tail)) ** 2 * jackknife)
    champion_value, low, high = (
        metric_value(metric, np.array([max(champion.mean + end, floor)])) for end in (0.0, -error, error)
    )
    regret, least, most = (relative_loss(metric, value, fresh_value) for value in (champion_value, low, high))
    return EstimatedRegret(champion_value, fresh_value, regret, min(least, most), max(least, most))
