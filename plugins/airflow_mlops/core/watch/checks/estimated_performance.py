"""The check ``estimated_performance``: what the metric will be, before the labels are there.

Of a classifier the metric is expected from its own probabilities, calibrated on the holdout (``expected_metric``). Of
a regression, boosted trees learn on the holdout how large the loss of a row is, from its features and its prediction;
what they say of the window's rows is the estimate, less the mistake that they make on rows of the holdout that they
were not taught on. Either way it follows a change of the rows, and not one of what is asked about them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from scipy.special import ndtri, stdtrit

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.training.row_losses import Floats, metric_value, relative_loss, row_losses
from airflow_mlops.core.watch.checks.check_result import CheckResult, cannot_tell
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.encoded_rows import RowEncoder
from airflow_mlops.core.watch.checks.expected_metric import (
    PARTS,
    Calibration,
    expected_losses,
    expected_roc_auc,
    parts_of,
)
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow
from airflow_mlops.core.watch.sampled_rows import SampledRows


@dataclass(frozen=True)
class EstimatedLosses:
    """What rows are expected to lose.

    Parameters
    ----------
    window : array of float, shape (n_rows,)
        Losses to expect in the window.
    holdout : array of float, shape (m_rows,)
        Losses that the champion had on its holdout.
    mistakes : array of float, shape (m_rows,)
        Of the same rows, loss less what was expected of it; the estimate is corrected by their mean.
    less : array of float, shape (PARTS,)
        What the mean of ``window`` would be, had each part of the holdout in turn not taught what to expect.
    """

    window: Floats
    holdout: Floats
    mistakes: Floats
    less: Floats

    @property
    def mean(self) -> float:
        """The mean loss to expect of a row, never below 0."""
        return max(float(self.window.mean() + self.mistakes.mean()), 0.0)

    def excess(self, factor: float, alarm_rate: float) -> tuple[float, float, float]:
        """Return by how much the estimate exceeds ``factor`` times the mean of the holdout, and how well that is known.

        What is left open at ``alarm_rate`` by the number of rows of the window comes first, then what the holdout
        leaves open: by the number of its rows, and (by the jackknife over its parts) by what they could teach.
        """
        rest, z = self.mistakes - factor * self.holdout, -float(ndtri(alarm_rate))
        taught = (PARTS - 1) / PARTS * float(np.sum((self.less - self.less.mean()) ** 2))
        window = z * sqrt(float(np.var(self.window)) / self.window.size)
        t = -float(stdtrit(PARTS - 1, alarm_rate))
        holdout = sqrt(z**2 * float(np.var(rest)) / rest.size + t**2 * taught)
        return float(self.window.mean() + rest.mean()), window, holdout


def check_estimated_performance(window: WatchedWindow, terms: CheckTerms) -> CheckResult:
    """Return whether the champion is expected to do worse on a window than on its holdout."""
    holdout, rows = window.reference.held_out, window.rows
    few = {"window": len(rows), "holdout": len(holdout)}
    lacking = [f"the {name} has {count:,}" for name, count in few.items() if count < terms.min_rows]
    if lacking:
        return cannot_tell(
            f"{terms.min_rows} rows are needed, labelled ones of the holdout; {' and '.join(lacking)}",
            needed=terms.min_rows,
        )  # fmt: skip
    if not window.workspace.loop.classifies:
        return judge_estimate(learned_losses(holdout, rows, terms.metric), terms)
    calibration = Calibration(holdout.predictions, holdout.label)
    result = judge_estimate(chanced_losses(calibration, rows.predictions, terms.metric), terms)
    auc = expected_roc_auc(rows.predictions, calibration.chances(rows.predictions))
    return CheckResult(result.verdict, result.message, {**result.numbers, "roc_auc": auc})


def judge_estimate(losses: EstimatedLosses, terms: CheckTerms) -> CheckResult:
    """Return whether losses to expect are worse than those of the holdout by ``terms.worse_by`` and their error."""
    factor = (1 + terms.worse_by) ** (2 if terms.metric == "rmse" else 1)
    excess, of_window, of_holdout = losses.excess(factor, terms.alarm_rate)
    reference, error = float(losses.holdout.mean()), sqrt(of_window**2 + of_holdout**2)
    estimate, usual = (metric_value(terms.metric, np.array([mean])) for mean in (losses.mean, reference))
    worse = relative_loss(terms.metric, estimate, usual)
    numbers = {
        "metric": terms.metric, "estimate": estimate, "reference": usual, "worse_by": worse, "limit": terms.worse_by,
        "error": error / max(reference, 1e-15), "rows": losses.window.size, "holdout_rows": losses.holdout.size,
    }  # fmt: skip
    said = (
        f"{terms.metric} is estimated to be {estimate:.4g}, on the holdout it is {usual:.4g}: {worse:+.1%}, "
        f"known to within {numbers['error']:.1%}; {terms.worse_by:+.0%} is allowed"
    )
    if excess > error:
        return CheckResult("alarm", said, numbers)
    room = (factor - 1) * reference
    if error <= room:
        return CheckResult("no alarm", said, numbers)
    left = room**2 - of_holdout**2
    needed = ceil(losses.window.size * of_window**2 / left) if left > 0 else None
    why = "the holdout has too few rows like these" if needed is None else f"{needed:,} rows of the window would do"
    return cannot_tell(f"{said}; {why}", **numbers, needed=needed)


def chanced_losses(calibration: Calibration, predicted: Floats, metric: MetricName) -> EstimatedLosses:
    """Return the losses to expect of a classifier that predicts these probabilities in the window.

    See :mod:`~airflow_mlops.core.watch.checks.expected_metric`.
    """
    known, label = calibration.predicted, calibration.label
    found, part = row_losses(metric, label, known), parts_of(label.size)
    expected = expected_losses(metric, known, calibration.chances(known))
    window = expected_losses(metric, predicted, calibration.chances(predicted))
    less = [
        float(expected_losses(metric, predicted, calibration.chances(predicted, part != out)).mean())
        for out in range(PARTS)
    ]
    return EstimatedLosses(window, found, found - expected, np.array(less))


def learned_losses(holdout: SampledRows, rows: SampledRows, metric: MetricName) -> EstimatedLosses:
    """Return the losses to expect of a regression, learned from those of its holdout."""
    encoder = RowEncoder(holdout.features, rows.features)
    known, asked = (
        np.column_stack([encoder.codes(one.features), one.predictions]) for one in (holdout, rows)
    )  # fmt: skip
    found = row_losses(metric, holdout.label, holdout.predictions)
    part, expected, less = parts_of(found.size), np.empty_like(found), []
    for out in range(PARTS):
        taught = _taught(known[part != out], found[part != out])
        expected[part == out] = taught(known[part == out])
        less.append(taught(asked).mean())
    return EstimatedLosses(_taught(known, found)(asked), found, found - expected, np.array(less))


def _taught(rows: Floats, losses: Floats) -> Callable[[Floats], Floats]:
    """Return what trees that were taught losses of rows say of other rows."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=50, max_leaf_nodes=8, min_samples_leaf=30, early_stopping=False, random_state=0
    )
    model.fit(rows, losses)
    return lambda asked: np.asarray(model.predict(asked), np.float64)
