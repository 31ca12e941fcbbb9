"""Metrics as means of losses of single rows, so that two models can be compared row by row.

``row_losses`` gives one loss for each row; ``metric_value`` is what a person reads. For all of them
but accuracy, less is better.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.errors import GateError

Floats = npt.NDArray[np.float64]
SMALLEST_PROBABILITY = 1e-15

_LOSSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "mae": lambda label, predicted: np.abs(label - predicted),
    "rmse": lambda label, predicted: (label - predicted) ** 2,
    "log_loss": lambda label, predicted: -np.log(np.where(label > 0.5, _clip(predicted), 1 - _clip(predicted))),
    "brier": lambda label, predicted: (label - predicted) ** 2,
    "accuracy": lambda label, predicted: ((predicted >= 0.5) != (label > 0.5)).astype(np.float64),
}


def _of_row(label: Floats, predicted: Floats) -> Floats:
    """Return the probability of the class of each row, shape (n_rows,)."""
    return np.asarray(predicted[np.arange(label.size), label.astype(np.int64)], np.float64)


_LOSSES_OF_CLASSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "log_loss": lambda label, predicted: -np.log(_clip(_of_row(label, predicted))),
    "brier": lambda label, predicted: (predicted**2).sum(axis=1) + 1 - 2 * _of_row(label, predicted),
    "accuracy": lambda label, predicted: (predicted.argmax(axis=1) != label).astype(np.float64),
}
"""The losses of three classes or more; Brier's is the sum over the classes, from 0 to 2."""


def _clip(probability: Floats) -> Floats:
    return np.clip(probability, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)


def row_losses(metric: MetricName, label: npt.ArrayLike, predicted: npt.ArrayLike) -> Floats:
    """Return the loss of each row; less is better.

    Parameters
    ----------
    metric : str
        Name of the metric.
    label : array_like of float, shape (n_rows,)
        For classification 0 or 1; for three classes or more their codes from 0.
    predicted : array_like of float, shape (n_rows,)
        For classification the probability of class 1; for three classes or more the probabilities of each, shape
        (n_rows, n_classes).

    Raises
    ------
    GateError
        If there are no rows, the lengths differ, or a value is NaN or infinite: none of that may
        decide about a model.
    """
    labels, predictions = checked_rows(metric, label, predicted)
    return (_LOSSES if predictions.ndim == 1 else _LOSSES_OF_CLASSES)[metric](labels, predictions)


def checked_rows(subject: str, label: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return labels, shape (n_rows,), and predictions, shape (n_rows,) or (n_rows, n_classes), as finite floats.

    Raises
    ------
    GateError
        Naming ``what`` they are for, if there are no rows, the lengths differ, or a value is NaN or infinite.
    """
    labels, predictions = np.asarray(label, np.float64), np.asarray(predicted, np.float64)
    if labels.ndim != 1 or predictions.ndim not in (1, 2) or labels.size != len(predictions):
        raise GateError(f"{subject}: {predictions.shape} predictions for {labels.shape} labels")
    if labels.size == 0:
        raise GateError(f"{subject}: no rows with a label")
    for name, values in (("label", labels), ("prediction", predictions)):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        if bad:
            raise GateError(f"{subject}: {bad:,} of {values.size:,} {name}s are NaN or infinite")
    if predictions.ndim == 2 and not np.isin(labels, np.arange(predictions.shape[1])).all():
        raise GateError(f"{subject}: a label is none of the {predictions.shape[1]} classes of the predictions")
    return labels, predictions


def metric_value(metric: MetricName, losses: Floats) -> float:
    """Return the metric of rows with these losses.

    >>> metric_value("mae", np.array([1.0, 3.0]))
    2.0
    >>> metric_value("rmse", np.array([9.0, 25.0])).__round__(4)
    4.1231
    >>> metric_value("accuracy", np.array([0.0, 0.0, 1.0, 0.0]))
    0.75
    """
    mean = float(np.mean(losses))
    if metric == "rmse":
        return float(np.sqrt(mean))
    return 1 - mean if metric == "accuracy" else mean


def relative_loss(metric: MetricName, value: float, reference: float) -> float:
    """Return by how much ``value`` is worse than ``reference``, as a share of it; negative is better.

    >>> round(relative_loss("mae", 11.0, 10.0), 6)
    0.1
    >>> round(relative_loss("accuracy", 0.8, 0.9), 6)
    1.0
    """
    if metric == "accuracy":
        value, reference = 1 - value, 1 - reference
    return (value - reference) / max(reference, SMALLEST_PROBABILITY)
