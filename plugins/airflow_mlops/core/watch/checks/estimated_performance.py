"""The check ``estimated_performance``: estimate the metric before labels arrive.

For a classifier the metric is expected from its own probabilities, calibrated on the holdout (``expected_metric``). For
a regression, boosted trees learn on the holdout the loss of a row from its features and its prediction; the estimate is
their prediction for the window's rows, less their error on rows of the holdout that they were not fitted on. Either way
the estimate follows a change of the rows (covariate shift), and not one of the labels given the rows (concept drift).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from scipy.special import ndtri, stdtrit

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.training.row_losses import Floats, loss_factor, metric_value, relative_loss, row_losses
from airflow_mlops.core.watch.checks.check_result import CheckResult, cannot_tell
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.encoded_rows import RowEncoder
from airflow_mlops.core.watch.checks.expected_metric import (
    PARTS,
    Calibration,
    ClassCalibration,
    expected_confusion,
    expected_losses,
    expected_roc_auc,
    parts_of,
)
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow
from airflow_mlops.core.watch.sampled_rows import SampledRows


@dataclass(frozen=True)
class EstimatedLosses:
    """The expected losses of rows.

    Parameters
    ----------
    window : array of float, shape (n_rows,)
        Losses to expect in the window.
    holdout : array of float, shape (m_rows,)
        Losses that the champion had on its holdout.
    mistakes : array of float, shape (m_rows,)
        Of the same rows, loss less expected loss; the estimate is corrected by their mean.
    less : array of float, shape (PARTS,)
        The mean of ``window`` by models that each part of the holdout in turn was left out of.
    """

    window: Floats
    holdout: Floats
    mistakes: Floats
    less: Floats

    @property
    def mean(self) -> float:
        """The mean loss to expect of a row; never below 0 where no loss is."""
        mean = float(self.window.mean() + self.mistakes.mean())
        return mean if self.holdout.min() < 0 else max(mean, 0.0)

    def excess(self, factor: float, alarm_rate: float) -> tuple[float, float, float]:
        """Return by how much the estimate exceeds ``factor`` times the mean of the holdout, and its two error bounds.

        Both bounds are at ``alarm_rate``. The first comes from the number of rows of the window. The second comes from
        the holdout: from the number of its rows, and, by the jackknife over its parts, from the model fitted on them.
        """
        residuals, z = self.mistakes - factor * self.holdout, -float(ndtri(alarm_rate))
        jackknife_variance = (PARTS - 1) / PARTS * float(np.sum((self.less - self.less.mean()) ** 2))
        window = z * sqrt(float(np.var(self.window)) / self.window.size)
        t = -float(stdtrit(PARTS - 1, alarm_rate))
        holdout = sqrt(z**2 * float(np.var(residuals)) / residuals.size + t**2 * jackknife_variance)
        return float(self.window.mean() + residuals.mean()), window, holdout


def check_estimated_performance(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Judge whether the champion is expected to do worse on a window than on its holdout."""
    holdout, rows = window.reference.held_out, window.rows
    sizes = {"window": len(rows), "holdout": len(holdout)}
    too_small = [f"the {name} has {count:,}" for name, count in sizes.items() if count < terms.min_rows]
    if too_small:
        return cannot_tell(
            f"{terms.min_rows} rows are needed, labelled ones of the holdout; {' and '.join(too_small)}",
            needed=terms.min_rows,
        )
    if not window.workspace.loop.classifies:
        return judge_estimate(expected_regression_losses(holdout, rows, terms.metric), terms)
    names = window.workspace.loop.several_class_names
    if names is not None:
        return judge_classes(
            ClassCalibration(holdout.predictions, holdout.label, names), rows.predictions, terms, names
        )
    calibration = Calibration(holdout.predictions, holdout.label)
    result = judge_estimate(expected_classifier_losses(calibration, rows.predictions, terms.metric), terms)
    auc = expected_roc_auc(rows.predictions, calibration.chances(rows.predictions))
    return CheckResult(result.verdict, result.message, {**result.numbers, "roc_auc": auc})


def judge_classes(
    calibration: ClassCalibration, predicted: Floats, terms: CheckTerms, names: tuple[str, ...]
) -> CheckResult:
    """Judge the estimate of three classes or more; the result has the accuracy, ROC AUC and confusion to expect."""
    result = judge_estimate(expected_classifier_losses(calibration, predicted, terms.metric), terms)
    chances = calibration.chances(predicted)
    areas = [expected_roc_auc(predicted[:, code], chances[:, code]) for code in range(len(names))]
    accuracy = 1 - float(expected_losses("accuracy", predicted, chances).mean())
    numbers = {**result.numbers, "accuracy": accuracy, "roc_auc_ovr": float(np.mean(areas))}
    confusion = {"classes": list(names), "rows": expected_confusion(predicted, chances)}
    return CheckResult(result.verdict, result.message, numbers, {"expected_confusion": confusion})


def judge_estimate(losses: EstimatedLosses, terms: CheckTerms) -> CheckResult:
    """Judge whether expected losses exceed those of the holdout by more than ``terms.worse_by`` and their error."""
    reference = float(losses.holdout.mean())
    factor = loss_factor(terms.metric, terms.worse_by, reference)
    excess, window_error, holdout_error = losses.excess(factor, terms.alarm_rate)
    error = sqrt(window_error**2 + holdout_error**2)
    estimate, usual = (metric_value(terms.metric, np.array([mean])) for mean in (losses.mean, reference))
    worse = relative_loss(terms.metric, estimate, usual)
    numbers = {
        "metric": terms.metric,
        "estimate": estimate,
        "reference": usual,
        "worse_by": worse,
        "limit": terms.worse_by,
        "error": error / max(abs(reference), 1e-15),
        "rows": losses.window.size,
        "holdout_rows": losses.holdout.size,
    }
    message = (
        f"{terms.metric} is estimated to be {estimate:.4g}, on the holdout it is {usual:.4g}: {worse:+.1%}, "
        f"known to within {numbers['error']:.1%}; {terms.worse_by:+.0%} is allowed"
    )
    if excess > error:
        return CheckResult("alarm", message, numbers)
    room = (factor - 1) * reference
    if error <= room:
        return CheckResult("no alarm", message, numbers)
    available = room**2 - holdout_error**2
    needed = ceil(losses.window.size * window_error**2 / available) if available > 0 else None
    remedy = "the holdout has too few rows like these" if needed is None else f"{needed:,} rows of the window would do"
    return cannot_tell(f"{message}; {remedy}", **numbers, needed=needed)


def expected_classifier_losses(
    calibration: Calibration | ClassCalibration, predicted: Floats, metric: MetricName
) -> EstimatedLosses:
    """Return the expected losses of a classifier that predicts these probabilities in the window.

    See :mod:`~airflow_mlops.core.watch.checks.expected_metric`.
    """
    predictions, label = calibration.predicted, calibration.label
    losses, part = row_losses(metric, label, predictions), parts_of(label.size)
    expected = expected_losses(metric, predictions, calibration.chances(predictions))
    window = expected_losses(metric, predicted, calibration.chances(predicted))
    jackknife_means = [
        float(expected_losses(metric, predicted, calibration.chances(predicted, part != out)).mean())
        for out in range(PARTS)
    ]
    return EstimatedLosses(window, losses, losses - expected, np.array(jackknife_means))


def expected_regression_losses(holdout: SampledRows, rows: SampledRows, metric: MetricName) -> EstimatedLosses:
    """Return the expected losses of a regression, learned from those of its holdout."""
    encoder = RowEncoder(holdout.features, rows.features)
    holdout_rows, window_rows = (
        np.column_stack([encoder.encode(sample.features), sample.predictions]) for sample in (holdout, rows)
    )
    losses = row_losses(metric, holdout.label, holdout.predictions)
    part, expected, jackknife_means = parts_of(losses.size), np.empty_like(losses), []
    for out in range(PARTS):
        model = _fit_loss_model(holdout_rows[part != out], losses[part != out])
        expected[part == out] = model(holdout_rows[part == out])
        jackknife_means.append(model(window_rows).mean())
    return EstimatedLosses(
        _fit_loss_model(holdout_rows, losses)(window_rows), losses, losses - expected, np.array(jackknife_means)
    )


def _fit_loss_model(rows: Floats, losses: Floats) -> Callable[[Floats], Floats]:
    """Fit boosted trees on the losses of rows, and return their predict function over other rows."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=50, max_leaf_nodes=8, min_samples_leaf=30, early_stopping=False, random_state=0
    )
    model.fit(rows, losses)
    return lambda rows: np.asarray(model.predict(rows), np.float64)
