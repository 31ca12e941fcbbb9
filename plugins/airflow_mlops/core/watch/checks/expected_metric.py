"""The metric to expect of a classifier with calibrated probabilities: confidence-based performance estimation.

A row with the calibrated probability 0.8 is of class 1 with the chance 0.8. So its loss can be expected before its
label is known: 0.8 times the loss if it is of class 1, and 0.2 times the other. The mean over rows is the expected
metric. It follows any change of the rows, and no change of the label given the row, which shows when labels arrive.

References
----------
J. Białek, W. Kuberski, N. Perrakis, A. Bifet, arXiv:2401.08348 (2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.training.row_losses import Floats, row_losses

PARTS = 10
"""Folds of a holdout, each left out in turn."""


@dataclass(frozen=True)
class Calibration:
    """The calibration of predicted probabilities on the labels of the holdout.

    By isotonic regression, where rows that it was not fitted on show that it brings the probabilities nearer to the
    labels (by the Brier score, beyond its standard error); otherwise probabilities stay as they are.

    Parameters
    ----------
    predicted, label : array of float, shape (n_rows,)
        Of the holdout.

    Raises
    ------
    NotReadyError
        If the labels are of one class.
    """

    predicted: Floats
    label: Floats

    def __post_init__(self) -> None:
        if np.unique(self.label).size < 2:
            raise NotReadyError("all labels of the champion's holdout are of one class: they calibrate nothing")

    @cached_property
    def is_needed(self) -> bool:
        """True if isotonic regression brings the probabilities nearer to the labels."""
        part, calibrated = parts_of(self.label.size), np.empty_like(self.predicted)
        for out in range(PARTS):
            calibrated[part == out] = self._isotonic(part != out).predict(self.predicted[part == out])
        gain = (self.predicted - self.label) ** 2 - (calibrated - self.label) ** 2
        return bool(gain.mean() > gain.std() / np.sqrt(gain.size))

    def chances(self, predicted: Floats, mask: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Return calibrated chances of class 1, shape (n_rows,); ``mask`` chooses the holdout's rows to fit on."""
        if not self.is_needed:
            return predicted
        model = self._isotonic(np.ones(self.label.size, bool) if mask is None else mask)
        return np.asarray(model.predict(predicted), np.float64)

    def _isotonic(self, mask: npt.NDArray[np.bool_]) -> Any:
        from sklearn.isotonic import IsotonicRegression

        model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        return model.fit(self.predicted[mask], self.label[mask])


def parts_of(rows: int) -> npt.NDArray[np.int64]:
    """Return the fold of each row, 0 to ``PARTS`` less 1, shape (n_rows,); deterministic."""
    return np.random.default_rng(0).permutation(rows) % PARTS


def expected_losses(metric: MetricName, predicted: Floats, chance: Floats) -> Floats:
    """Return the expected loss of each row, shape (n_rows,).

    Parameters
    ----------
    predicted : array of float, shape (n_rows,)
        The model's probability of class 1, from which the loss follows.
    chance : array of float, shape (n_rows,)
        The calibrated chance of class 1.

    >>> expected_losses("accuracy", np.array([0.7, 0.2]), np.array([0.6, 0.2])).tolist()
    [0.4, 0.2]
    """
    positive, negative = (row_losses(metric, np.full(predicted.size, label), predicted) for label in (1.0, 0.0))
    return chance * positive + (1 - chance) * negative


def expected_roc_auc(predicted: Floats, chance: Floats) -> float:
    """Return the expected area under the ROC curve; ties count half.

    >>> round(expected_roc_auc(np.array([0.1, 0.4, 0.9]), np.array([0.0, 0.5, 1.0])), 3)
    0.944
    """
    _, group = np.unique(-predicted, return_inverse=True)
    true = np.concatenate([[0.0], np.cumsum(np.bincount(group, chance))])
    false = np.concatenate([[0.0], np.cumsum(np.bincount(group, 1 - chance))])
    if true[-1] <= 0 or false[-1] <= 0:
        return float("nan")
    return float(np.trapezoid(true / true[-1], false / false[-1]))
