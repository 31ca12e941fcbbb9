"""What a classifier's metric should be where its probabilities are right: confidence-based performance estimation.

A row that gets the probability 0.8 is of class 1 with the chance 0.8, if 0.8 is what such rows turned out to be worth
on the holdout. So its loss can be expected before its label is known: 0.8 times the loss if it is of class 1, and 0.2
times the other. The mean over rows is the expected metric. It follows any change of the rows, and none of what the
label means for the same row: that shows when labels arrive.

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
"""Parts of a holdout that are left out in turn, to see what the others teach of them."""


@dataclass(frozen=True)
class Calibration:
    """What makes chances of class 1 of predicted probabilities, as labels of the holdout teach it.

    Isotonic regression, where rows that it was not fitted on show that it brings the probabilities nearer to the labels
    (by the Brier score, beyond its standard error); otherwise the probabilities stand for themselves.

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
    def moves(self) -> bool:
        """Whether probabilities have to be moved."""
        part, moved = parts_of(self.label.size), np.empty_like(self.predicted)
        for out in range(PARTS):
            moved[part == out] = self._isotonic(part != out).predict(self.predicted[part == out])
        gain = (self.predicted - self.label) ** 2 - (moved - self.label) ** 2
        return bool(gain.mean() > gain.std() / np.sqrt(gain.size))

    def chances(self, predicted: Floats, taught: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Return the chances of class 1 of predicted probabilities, as all rows, or some of them, teach them."""
        if not self.moves:
            return predicted
        fitted = self._isotonic(np.ones(self.label.size, bool) if taught is None else taught)
        return np.asarray(fitted.predict(predicted), np.float64)

    def _isotonic(self, taught: npt.NDArray[np.bool_]) -> Any:
        from sklearn.isotonic import IsotonicRegression

        model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        return model.fit(self.predicted[taught], self.label[taught])


def parts_of(rows: int) -> npt.NDArray[np.int64]:
    """Return the part that each row belongs to, 0 to ``PARTS`` less 1, shape (n_rows,); the same every time."""
    return np.random.default_rng(0).permutation(rows) % PARTS


def expected_losses(metric: MetricName, predicted: Floats, chance: Floats) -> Floats:
    """Return the loss to expect of each row, shape (n_rows,).

    Parameters
    ----------
    predicted : array of float, shape (n_rows,)
        The model's probability of class 1, by which it is judged.
    chance : array of float, shape (n_rows,)
        How likely the row is of class 1.

    >>> expected_losses("accuracy", np.array([0.7, 0.2]), np.array([0.6, 0.2])).tolist()
    [0.4, 0.2]
    """
    positive, negative = (row_losses(metric, np.full(predicted.size, of), predicted) for of in (1.0, 0.0))
    return chance * positive + (1 - chance) * negative


def expected_roc_auc(predicted: Floats, chance: Floats) -> float:
    """Return the area under the ROC curve to expect, from the curve of expected shares; ties count half.

    >>> round(expected_roc_auc(np.array([0.1, 0.4, 0.9]), np.array([0.0, 0.5, 1.0])), 3)
    0.944
    """
    _, group = np.unique(-predicted, return_inverse=True)
    true = np.concatenate([[0.0], np.cumsum(np.bincount(group, chance))])
    false = np.concatenate([[0.0], np.cumsum(np.bincount(group, 1 - chance))])
    if true[-1] <= 0 or false[-1] <= 0:
        return float("nan")
    return float(np.trapezoid(true / true[-1], false / false[-1]))
