"""The area under the ROC curve (AUC) of one model, or of two on the same rows, with DeLong's interval.

The AUC is the share of pairs of a row of class 1 and a row of class 0 in which the first has the higher prediction;
ties count half. It is no mean over rows, so two models cannot be compared row by row: DeLong's method gives the
variance of each AUC and their covariance from the ranks, in O(n log n).

References
----------
E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44 (1988) 837-845; the form by ranks is that of
X. Sun, W. Xu, IEEE Signal Processing Letters 21 (2014) 1389-1393.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.errors import GateError
from airflow_mlops.core.training.row_losses import Floats

CONFIDENCE = 0.95
"""Level of every confidence interval of an evaluation."""


@dataclass(frozen=True)
class AucEstimate:
    """The AUC of a model, or the difference of two AUCs, with a normal interval and the rows of each class."""

    value: float
    low: float
    high: float
    positives: int
    negatives: int


def roc_auc(label: npt.ArrayLike, predicted: npt.ArrayLike) -> AucEstimate:
    """Return the AUC with its two-sided interval, clipped to 0 and 1.

    Parameters
    ----------
    label : array_like of float, shape (n_rows,)
        0 or 1.
    predicted : array_like of float, shape (n_rows,)
        Any score that is higher for rows that are likelier of class 1.

    Raises
    ------
    GateError
        If a value is NaN or infinite, or a class has fewer than two rows.

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).value
    0.75
    """
    return auc_components(label, predicted).estimate()


def weighted_auc(label: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Return the AUC under several weightings at once, shape (n_weightings,); NaN where a class has no weight.

    Parameters
    ----------
    label, predicted : ndarray of float, shape (n_rows,)
    weights : ndarray of float, shape (n_weightings, n_rows)

    >>> label, predicted = np.array([0.0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])
    >>> weighted_auc(label, predicted, np.array([[1.0, 1, 1, 1], [1, 3, 1, 1]]))
    array([0.75 , 0.625])
    """
    order = np.argsort(predicted, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(predicted[order])), order.size - 1)
    positive = label[order] > 0.5
    ranked = weights[:, order]
    of_1, of_0 = (np.cumsum(ranked * mask, axis=1)[:, ends] for mask in (positive, ~positive))
    steps, before = np.diff(of_1, axis=1, prepend=0.0), np.pad(of_0[:, :-1], ((0, 0), (1, 0)))
    pairs = of_1[:, -1] * of_0[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(pairs > 0, (steps * (before + of_0) / 2).sum(axis=1) / pairs, np.nan)


@dataclass(frozen=True)
class ComparedAuc:
    """The AUCs of two models on the same rows, and the challenger's minus the champion's."""

    challenger: AucEstimate
    champion: AucEstimate
    difference: AucEstimate


@dataclass(frozen=True)
class AucComponents:
    """DeLong's components of a model: for each row, the share of the other class that is ranked on the right side.

    ``above`` has shape (n_positives,), ``below`` shape (n_negatives,).
    """

    above: Floats
    below: Floats

    def estimate(self) -> AucEstimate:
        """Return the AUC with its interval, clipped to 0 and 1."""
        return _estimate(self.above, self.below, bounded=True)


def auc_components(label: npt.ArrayLike, predicted: npt.ArrayLike) -> AucComponents:
    """Return DeLong's components of a model; its AUC and each comparison follow from them.

    Raises
    ------
    GateError
        As for :func:`roc_auc`.
    """
    return AucComponents(*_compute_components(*_validate(label, predicted)))


def compare_components(challenger: AucComponents, champion: AucComponents) -> ComparedAuc:
    """Return the AUCs of two models and their difference from their components on the same rows.

    The interval of the difference takes into account that both models were judged on the same rows.
    """
    difference = _estimate(challenger.above - champion.above, challenger.below - champion.below, bounded=False)
    return ComparedAuc(challenger.estimate(), champion.estimate(), difference)


def _estimate(above: Floats, below: Floats, *, bounded: bool) -> AucEstimate:
    """Return the mean of DeLong's components with its interval, clipped to 0 and 1 if ``bounded``."""
    value = float(above.mean())
    reach = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * sqrt(_variance(above) + _variance(below))
    low, high = value - reach, value + reach
    if bounded:
        low, high = max(0.0, low), min(1.0, high)
    return AucEstimate(value, low, high, above.size, below.size)


def _validate(label: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[Floats, Floats]:
    labels, predictions = np.asarray(label, np.float64), np.asarray(predicted, np.float64)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise GateError(f"roc_auc: {predictions.shape} predictions for {labels.shape} labels")
    for name, values in (("label", labels), ("prediction", predictions)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise GateError(f"roc_auc: {bad:,} of {values.size:,} {name}s are NaN or infinite")
    positives = int(np.count_nonzero(labels > 0.5))
    if min(positives, labels.size - positives) < 2:
        raise GateError(
            f"roc_auc: {positives:,} rows of class 1 and {labels.size - positives:,} of class 0; two of each are needed"
        )
    return labels, predictions


def _compute_components(label: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """Return the share of class 0 below each row of class 1, and the share of class 1 above each row of class 0."""
    from scipy.stats import rankdata

    positive = label > 0.5
    overall = rankdata(predicted)
    within_above, within_below = rankdata(predicted[positive]), rankdata(predicted[~positive])
    above = (overall[positive] - within_above) / within_below.size
    below = 1.0 - (overall[~positive] - within_below) / within_above.size
    return above, below


def _variance(components: Floats) -> float:
    """Return the variance of the mean of components."""
    return float(np.var(components, ddof=1)) / components.size
