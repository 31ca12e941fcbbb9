"""Estimate the champion's regret before labels arrive: the losses that it and a fresh model are expected to have.

Both are estimated as the check ``estimated_performance`` estimates the champion's, on the holdout of the fresh model:
those are the newest labels that there are, and neither model was fitted on them. So the estimate has what the champion
has lost up to then, and what a change of the rows makes of it; it has no change of the label given the row since then.
Once labels come, the regret is measured and takes the place of the estimate.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from math import inf, sqrt
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit

from airflow_mlops.core.data.input_schema import version_schema
from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import TrainingWindow
from airflow_mlops.core.ledger.watch_details import ESTIMATED, RegretMeasured
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import metric_value, relative_loss
from airflow_mlops.core.training.window import ModelRows, pin_scored, read_rows, read_window
from airflow_mlops.core.watch.checks.estimated_performance import (
    EstimatedLosses,
    expected_classifier_losses,
    expected_regression_losses,
)
from airflow_mlops.core.watch.checks.expected_metric import PARTS, Calibration, ClassCalibration
from airflow_mlops.core.watch.fresh_model import fresh_model
from airflow_mlops.core.watch.sampled_rows import SampledRows
from airflow_mlops.core.workspace import Workspace

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


def regret_before_labels(
    workspace: Workspace, state: LoopState, champion: Version, partition: str, *, window: TrainingWindow, as_of: str
) -> RegretMeasured:
    """Return the regret to expect of a scored partition whose labels are late.

    Parameters
    ----------
    window : TrainingWindow
        The window of a training as of ``as_of``, the partition before; its holdout has the newest labels.

    Raises
    ------
    NotReadyError
        If nothing tells it: no fresher model, too few rows, or a champion that was fitted on the holdout.
    """
    loop, holdout = workspace.loop, window.holdout
    seen = {pin.partition for pin in champion.details.window.fitted}
    if any(pin.partition in seen for pin in holdout):
        raise NotReadyError("the champion was fitted on the newest labels, so they do not tell how well it does")
    fresh = fresh_model(workspace, champion, window, as_of)
    if fresh is None:
        raise NotReadyError("nothing fresher than the champion could have been made")
    models = (load_version(workspace, champion), version_schema(workspace, champion)), (fresh.model, fresh.schema)
    losses, sizes = [], (0, 0)
    for model, schema in models:
        newest = holdout[-1].partition
        held_out = sampled_rows(workspace, model, read_window(workspace, holdout, schema=schema), newest)
        rows = read_rows(workspace, [pin_scored(state, partition)], schema=schema)
        sizes = len(held_out), len(rows.rows)
        if min(sizes) < MIN_ROWS:
            raise NotReadyError(
                f"an estimate needs {MIN_ROWS} labelled rows of the holdout and rows of the partition, which have "
                f"{sizes[0]:,} and {sizes[1]:,}"
            )
        losses.append(expected_model_losses(loop, held_out, sampled_rows(workspace, model, rows, partition)))
    estimate = estimate_regret(loop.metric, *losses)
    message = (
        f"by the {sizes[0]:,} labelled rows of {holdout[-1].partition} {loop.metric} is estimated to be "
        f"{estimate.champion_value:.4g}, and {estimate.fresh_value:.4g} with a fresh model of {as_of}: a regret from "
        f"{estimate.low:.3g} to {estimate.high:.3g}"
    )
    return RegretMeasured(
        verdict=ESTIMATED,
        message=message,
        rows=sizes[1],
        fresh_as_of=as_of,
        fresh_candidate=fresh.candidate,
        holdout_rows=sizes[0],
        **asdict(estimate),
    )


def sampled_rows(workspace: Workspace, model: Any, rows: ModelRows, partition: str) -> SampledRows:
    """Return rows with their labels, NaN where there is none, as a model predicts them."""
    loop = workspace.loop
    label = rows.rows[loop.data.label].to_numpy(float, na_value=np.nan)
    keys = rows.rows[loop.data.key].astype(str).to_numpy()
    return SampledRows(partition, keys, rows.features, label, partial(predict, model, classifies=loop.classifies))
