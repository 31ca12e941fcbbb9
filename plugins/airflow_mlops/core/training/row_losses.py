"""Metrics as means of losses of single rows, so that two models can be compared row by row.

``row_losses`` gives one loss for each row; ``metric_value`` is what a person reads. For all of them
but accuracy, less is better. The deviances are those of scikit-learn; ``smape`` is that of Makridakis (1993), "Accuracy
measures: theoretical and practical concerns", as a share of the mean of label and prediction, from 0 to 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import MetricName, OwnMetric, metric_parameter
from airflow_mlops.core.declaration.user_function import load_function
from airflow_mlops.core.errors import GateError, TrainingError

Floats = npt.NDArray[np.float64]
SMALLEST_PROBABILITY = 1e-15
ROOTS = ("rmse", "rmsle")
"""The metrics that are the root of a mean over rows."""


class UnknownMetricError(GateError):
    """A metric is undefined on these rows; the message gives the reason."""


class DomainError(UnknownMetricError):
    """A metric does not take some of the labels or predictions; the message has their number and what to do."""

    def __init__(self, message: str, values: Literal["label", "prediction"]) -> None:
        super().__init__(message)
        self.values = values


def _smape(label: Floats, predicted: Floats) -> Floats:
    """Return the loss of each row; 0 where label and prediction are both 0."""
    size = np.abs(label) + np.abs(predicted)
    return 2 * np.abs(label - predicted) / np.where(size > 0, size, 1.0)


def _poisson_deviance(label: Floats, predicted: Floats) -> Floats:
    shares = np.where(label > 0, label, predicted) / predicted  # 1 where the label is 0, so that its term is 0
    return 2 * (label * np.log(shares) - label + predicted)


def _gamma_deviance(label: Floats, predicted: Floats) -> Floats:
    return 2 * (np.log(predicted / label) + label / predicted - 1)


def middle(predicted: Floats) -> Floats:
    """Return the one prediction of each row, or of several quantiles the middle one, shape (n_rows,)."""
    return predicted if predicted.ndim == 1 else predicted[:, predicted.shape[1] // 2]


def _tweedie_deviance(powers: tuple[float, ...], label: Floats, predicted: Floats) -> Floats:
    power, predicted = powers[0], middle(predicted)
    low, high = 1 - power, 2 - power
    return 2 * (label**high / (low * high) - label * predicted**low / low + predicted**high / high)


def _pinball_loss(quantiles: tuple[float, ...], label: Floats, predicted: Floats) -> Floats:
    """Return the mean over the quantiles of the loss of each row."""
    columns = predicted.reshape(len(label), -1)
    if columns.shape[1] != len(quantiles):
        raise GateError(f"pinball_loss: {columns.shape[1]} predictions of a row for {len(quantiles)} quantiles")
    errors, shares = label[:, None] - columns, np.array(quantiles)
    losses: Floats = np.maximum(shares * errors, (shares - 1) * errors).mean(axis=1)
    return losses


_LOSSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "mae": lambda label, predicted: np.abs(label - predicted),
    "rmse": lambda label, predicted: (label - predicted) ** 2,
    "mape": lambda label, predicted: np.abs((label - predicted) / label),
    "smape": _smape,
    "rmsle": lambda label, predicted: (np.log1p(label) - np.log1p(predicted)) ** 2,
    "mean_poisson_deviance": _poisson_deviance,
    "mean_gamma_deviance": _gamma_deviance,
    "log_loss": lambda label, predicted: -np.log(np.where(label > 0.5, _clip(predicted), 1 - _clip(predicted))),
    "brier": lambda label, predicted: (label - predicted) ** 2,
    "accuracy": lambda label, predicted: ((predicted >= 0.5) != (label > 0.5)).astype(np.float64),
}
_LOSSES_WITH_PARAMETER: dict[str, Callable[[tuple[float, ...], Floats, Floats], Floats]] = {
    "pinball_loss": _pinball_loss,
    "mean_tweedie_deviance": _tweedie_deviance,
}

Domain = tuple[Callable[[Floats], npt.NDArray[np.bool_]], str]
_POSITIVE: Domain = (lambda values: values <= 0, "0 or negative")
_NOT_NEGATIVE: Domain = (lambda values: values < 0, "negative")
_NOT_ZERO: Domain = (lambda values: values == 0, "0")
_ABOVE_MINUS_1: Domain = (lambda values: values <= -1, "-1 or less")
DOMAINS: dict[str, tuple[Domain, Domain | None]] = {
    "mape": (_NOT_ZERO, None),
    "rmsle": (_ABOVE_MINUS_1, _ABOVE_MINUS_1),
    "mean_poisson_deviance": (_NOT_NEGATIVE, _POSITIVE),
    "mean_gamma_deviance": (_POSITIVE, _POSITIVE),
    "mean_tweedie_deviance": (_NOT_NEGATIVE, _POSITIVE),
}
"""The values that a metric does not take, of labels and of predictions, and their name."""
_REMEDIES = {
    "label": "leave such rows out in the source, or take a metric that is defined for them, such as mae or smape",
    "prediction": "give a model whose predictions fit, such as one with a log link, or take a metric that is defined "
    "for them, such as mae",
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
        (n_rows, n_classes); of several quantiles each of them, of which most metrics take the middle one.

    Raises
    ------
    GateError
        If there are no rows, the lengths differ, or a value is NaN or infinite: none of that may
        decide about a model.
    DomainError
        If the metric does not take a label or a prediction.
    """
    labels, predictions = checked_rows(metric, label, predicted)
    if isinstance(metric, OwnMetric):
        return metric.sign * own_values(metric, labels, predictions)
    if predictions.ndim == 2 and metric in _LOSSES_OF_CLASSES:
        if not np.isin(labels, np.arange(predictions.shape[1])).all():
            raise GateError(f"{metric}: a label is none of the {predictions.shape[1]} classes of the predictions")
        return _LOSSES_OF_CLASSES[metric](labels, predictions)
    kind, parameter = metric_parameter(metric) or (metric, None)
    require_domain(metric, kind, labels, middle(predictions))
    if parameter is not None:
        return _LOSSES_WITH_PARAMETER[kind](parameter, labels, predictions)
    return _LOSSES[metric](labels, middle(predictions))


def own_values(metric: OwnMetric, label: Floats, predicted: Floats) -> Floats:
    """Return the numbers that a user's function gives for each row, shape (n_rows,).

    Raises
    ------
    DomainError
        If the function cannot be imported, raises, or returns anything but one finite number for each row.
    """
    try:
        function = load_function(metric.function)
        with np.errstate(all="ignore"):  # the result is checked for NaN and infinity
            values = np.asarray(function(label.copy(), predicted.copy()))  # it must not change the rows
    except TrainingError as error:
        raise DomainError(f"{metric}: {error}", "label") from error
    except Exception as error:  # a user's function may raise anything
        raise DomainError(f"{metric}: {metric.function} raised {type(error).__name__}: {error}", "label") from error
    if values.shape != label.shape or values.dtype.kind not in "fiub":
        raise DomainError(
            f"{metric}: {metric.function} returned an array of {values.dtype} of the shape {values.shape} for "
            f"{label.size:,} rows; return one number for each row, or leave each_row out",
            "label",
        )
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise DomainError(
            f"{metric} is NaN or infinite on {bad:,} of {label.size:,} rows; let {metric.function} return a finite "
            "number for every prediction",
            "prediction",
        )
    return values.astype(np.float64)


def require_domain(metric: str, kind: str, label: Floats, predicted: Floats) -> None:
    """Raise DomainError unless a metric of a ``kind`` takes all labels and predictions.

    Raises
    ------
    DomainError
        With the number of those that it does not take.
    """
    values: tuple[tuple[Literal["label", "prediction"], Floats], ...] = (("label", label), ("prediction", predicted))
    for (name, numbers), domain in zip(values, DOMAINS.get(kind, (None, None)), strict=True):
        bad = 0 if domain is None else int(np.count_nonzero(domain[0](numbers)))
        if domain is not None and bad:
            raise DomainError(
                f"{metric} does not take {bad:,} of {numbers.size:,} {name}s, which are {domain[1]}; {_REMEDIES[name]}",
                name,
            )


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
    return labels, predictions


def metric_value(metric: MetricName, losses: Floats, weight: Floats | None = None) -> float:
    """Return the metric of rows with these losses and weights, shape (n_rows,); without weights, each row counts once.

    >>> metric_value("mae", np.array([1.0, 3.0]))
    2.0
    >>> metric_value("rmse", np.array([9.0, 25.0])).__round__(4)
    4.1231
    >>> metric_value("accuracy", np.array([0.0, 0.0, 1.0, 0.0]))
    0.75
    """
    mean = float(np.average(losses, weights=weight))
    if metric in ROOTS:
        return float(np.sqrt(mean))
    if isinstance(metric, OwnMetric):
        return metric.sign * mean
    return 1 - mean if metric == "accuracy" else mean


def mean_loss(metric: MetricName, value: float) -> float:
    """Return the mean loss of rows of which a metric has a value; the inverse of :func:`metric_value`.

    >>> mean_loss("rmse", 3.0), mean_loss("accuracy", 0.75)
    (9.0, 0.25)
    """
    if isinstance(metric, OwnMetric):
        return metric.sign * value
    if metric == "accuracy":
        return 1 - value
    return max(value, 0.0) ** 2 if metric in ROOTS else value


def more_is_better(metric: MetricName) -> bool:
    """Return whether the larger of two values of a metric is the better one."""
    return metric.better == "more" if isinstance(metric, OwnMetric) else metric == "accuracy"


def weighted_loss(metric: MetricName, label: Floats, predicted: Floats, weight: Floats | None) -> float:
    """Return the mean loss of rows by their weights; raises as :func:`row_losses` does."""
    return float(np.average(row_losses(metric, label, predicted), weights=weight))


def standard_error(values: Floats, weight: Floats | None = None) -> float:
    """Return the standard error of the mean of values, shape (n_rows,), or of their weighted mean.

    A weighted mean is a ratio of two sums over rows; its error is that of the linearised ratio.

    >>> round(standard_error(np.array([1.0, 2.0, 3.0])), 6), round(standard_error(np.array([1.0, 2, 3]), np.ones(3)), 6)
    (0.57735, 0.57735)
    """
    if weight is None:
        return float(np.std(values, ddof=1)) / float(np.sqrt(values.size))
    parts = weight * (values - np.average(values, weights=weight)) / weight.sum()
    return float(np.sqrt((parts**2).sum() * values.size / (values.size - 1)))


def loss_factor(metric: MetricName, worse_by: float, reference: float = 1.0) -> float:
    """Return the factor of the mean loss ``reference`` where the metric is worse by a share of itself.

    A user's metric may have losses below 0, of which a worse one is nearer to 0.

    >>> loss_factor("mae", 0.5), loss_factor("rmse", 0.5), loss_factor(OwnMetric("gain", better="more"), 0.5, -2.0)
    (1.5, 2.25, 0.5)
    """
    if reference < 0:
        return 1 - worse_by
    return (1 + worse_by) ** (2 if metric in ROOTS else 1)


def relative_loss(metric: MetricName, value: float, reference: float) -> float:
    """Return by how much ``value`` is worse than ``reference``, as a share of it; negative is better.

    >>> round(relative_loss("mae", 11.0, 10.0), 6)
    0.1
    >>> round(relative_loss("accuracy", 0.8, 0.9), 6)
    1.0
    """
    if isinstance(metric, OwnMetric):
        return metric.sign * (value - reference) / max(abs(reference), SMALLEST_PROBABILITY)
    if metric == "accuracy":
        value, reference = 1 - value, 1 - reference
    return (value - reference) / max(reference, SMALLEST_PROBABILITY)
