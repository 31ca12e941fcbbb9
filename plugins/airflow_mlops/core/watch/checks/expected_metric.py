"""The metric to expect of a classifier with calibrated probabilities: confidence-based performance estimation.

A row with the calibrated probability 0.8 is of class 1 with the chance 0.8. So its loss can be expected before its
label is known: 0.8 times the loss if it is of class 1, and 0.2 times the other. The mean over rows is the expected
metric. It follows any change of the rows, and no change of the label given the row, which shows when labels arrive.
Of three classes or more each is calibrated against the others, and a row's chances are scaled to add up to 1.

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
    name : str
        Name of the class, for the error.

    Raises
    ------
    NotReadyError
        If all labels are of the class, or none is.
    """

    predicted: Floats
    label: Floats
    name: str = ""

    def __post_init__(self) -> None:
        if np.unique(self.label).size < 2:
            reason = f"all or none are {self.name!r}" if self.name else "are of one class"
            raise NotReadyError(f"all labels of the champion's holdout {reason}: they calibrate nothing")

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


class ClassCalibration:
    """The calibration of the probabilities of three classes or more, each class against the others.

    Parameters
    ----------
    predicted : array of float, shape (n_rows, n_classes)
        Probabilities of the holdout.
    label : array of float, shape (n_rows,)
        Its codes.
    names : tuple of str
        Names of the classes.

    Raises
    ------
    NotReadyError
        If a class has no label in the holdout.
    """

    def __init__(self, predicted: Floats, label: Floats, names: tuple[str, ...]) -> None:
        self.predicted, self.label = predicted, label
        self._classes = [
            Calibration(np.ascontiguousarray(predicted[:, code]), (label == code).astype(np.float64), name)
            for code, name in enumerate(names)
        ]

    def chances(self, predicted: Floats, mask: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Return calibrated chances of each class, which add up to 1; ``mask`` chooses the holdout's rows to fit on."""
        chances = np.column_stack([each.chances(predicted[:, code], mask) for code, each in enumerate(self._classes)])
        total = chances.sum(axis=1, keepdims=True)
        return np.where(total > 0, chances / np.where(total > 0, total, 1.0), predicted)


def parts_of(rows: int) -> npt.NDArray[np.int64]:
    """Return the fold of each row, 0 to ``PARTS`` less 1, shape (n_rows,); deterministic."""
    return np.random.default_rng(0).permutation(rows) % PARTS


def expected_losses(metric: MetricName, predicted: Floats, chance: Floats) -> Floats:
    """Return the expected loss of each row, shape (n_rows,).

    Parameters
    ----------
    predicted : array of float, shape (n_rows,) or (n_rows, n_classes)
        The model's probability of class 1, or of each of three classes or more, from which the loss follows.
    chance : array of float of the same shape
        The calibrated chances.

    >>> expected_losses("accuracy", np.array([0.7, 0.2]), np.array([0.6, 0.2])).tolist()
    [0.4, 0.2]
    """
    chances = np.column_stack([1 - chance, chance]) if chance.ndim == 1 else chance
    losses = [row_losses(metric, np.full(len(predicted), float(code)), predicted) for code in range(chances.shape[1])]
    return np.asarray((chances * np.column_stack(losses)).sum(axis=1), np.float64)


def expected_confusion(predicted: Floats, chance: Floats) -> list[list[float]]:
    """Return the expected rows by class (outer list) and most likely class (inner lists).

    >>> expected_confusion(np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([[0.75, 0.25], [0.5, 0.5]]))
    [[0.75, 0.5], [0.25, 0.5]]
    """
    chosen = np.eye(predicted.shape[1])[predicted.argmax(axis=1)]
    table: list[list[float]] = (chance.T @ chosen).tolist()
    return table


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
