"""The metrics of models: name, unit, direction, and the computation of the value.

Most metrics follow from a few sums over rows (``terms`` and ``combine``), which give the value of all rows, of all
slices at once and of all resamples at once. The others (AUC, PR AUC, quantiles, a user's metrics) need the rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from airflow_mlops.core.declaration.evaluate import ROW_CLASS_METRICS, OwnMetric, UserMetric, metric_parameter
from airflow_mlops.core.errors import GateError
from airflow_mlops.core.evaluation import several_classes
from airflow_mlops.core.evaluation.roc_auc import roc_auc, weighted_auc
from airflow_mlops.core.training.row_losses import (
    SMALLEST_PROBABILITY,
    Floats,
    UnknownMetricError,
    middle,
    own_values,
    row_losses,
)

BINS = 10
"""Number of equal bins of the probability in the calibration error."""

LABEL_UNIT = "unit of the label"


@dataclass(frozen=True)
class Metric:
    """One metric.

    Parameters
    ----------
    name : str
        Name in gates and reports.
    unit : str
        Unit of the value.
    better : str
        Direction: whether ``less`` or ``more`` is better.
    best : float, optional
        Largest possible value, if more is better; a relative loss is then a share of the distance to it.
    terms : callable, optional
        Yields arrays of shape (n_rows,) from labels and predictions, whose sums determine the value.
    combine : callable, optional
        Returns the value, shape (...), from the sums, shape (n_terms, ...), and the numbers of rows, shape (...); NaN
        if it is undefined.
    compute : callable, optional
        Returns the value from labels, predictions and weights (None without any), for a metric that needs the rows.
    undefined : str
        Reason why the value may be undefined.
    mean_over_rows : bool
        Whether the value is the mean of one term.
    quantile : float, optional
        The quantile of the absolute error, if the metric is one.
    absolute_sums : bool
        Whether the value is the mean of absolute sums, which noise can only raise where there is no error.
    has_interval : bool
        Whether resamples give an interval of the value.
    """

    name: str
    unit: str
    better: Literal["less", "more"]
    best: float | None = None
    terms: Callable[[Floats, Floats], Iterator[Floats]] | None = None
    combine: Callable[[Floats, Floats], Floats] | None = None
    compute: Callable[[Floats, Floats, Floats | None], Any] | None = None
    undefined: str = "it is not defined on these rows"
    mean_over_rows: bool = False
    quantile: float | None = None
    absolute_sums: bool = False
    has_interval: bool = True

    def value(self, label: Floats, predicted: Floats, weight: Floats | None = None) -> float:
        """Return the value for labels, predictions and weights of shape (n_rows,); without weights each row counts 1.

        Raises
        ------
        UnknownMetricError
            If it is undefined, or a user's function raised or returned no finite number.
        """
        if label.size == 0:
            raise UnknownMetricError(f"{self.name}: no rows")
        if self.terms is not None and self.combine is not None:
            counts = np.ones(label.size) if weight is None else weight
            sums = np.array([(term * counts).sum() for term in self.terms(label, predicted)])
            result: Any = self.combine(sums, counts.sum())
        else:
            assert self.compute is not None
            result = self.compute(label, predicted, weight)
        number = to_number(self.name, result)
        if not np.isfinite(number):
            raise UnknownMetricError(f"{self.name} is {number}: {self.undefined}")
        return number

    def worse_by(self, value: float, reference: float) -> float:
        """Return the relative loss of ``value`` against ``reference``; negative is better.

        It is a share of the reference. For a metric with a best value it is a share of the distance to it: a fall from
        0.9 to 0.8 of at most 1 doubles the loss.

        >>> round(METRICS["accuracy"].worse_by(0.8, 0.9), 6), round(METRICS["mae"].worse_by(11.0, 10.0), 6)
        (1.0, 0.1)
        """
        if self.best is not None:
            value, reference = self.best - value, self.best - reference
        difference = reference - value if self.better == "more" and self.best is None else value - reference
        return difference / max(abs(reference), SMALLEST_PROBABILITY)

    def is_better(self, value: float, reference: float) -> bool:
        """Return whether ``value`` is strictly better than ``reference``."""
        return value < reference if self.better == "less" else value > reference


def to_number(name: str, result: Any) -> float:
    """Return the result of a metric's function as a float.

    Raises
    ------
    UnknownMetricError
        If it is no real number: None, text, an array of several, a complex number.
    """
    array = np.asarray(result)
    if array.shape != () or array.dtype.kind not in "fiub":
        raise UnknownMetricError(f"{name} returned {type(result).__name__} {str(result)[:60]!r}, and no number")
    return float(array)


def metrics_of_label(
    user: tuple[Metric, ...] = (), *, classifies: bool, several: bool = False, declared: Iterable[str] = ()
) -> dict[str, Metric]:
    """Return the built-in metrics of a kind of label and the user's metrics, by name.

    Those of numbers that do not take every label, carry a number in their name or rest on one row are returned where
    they are ``declared``.
    """
    built_in = METRICS_OF_CLASSES if classifies else METRICS_OF_ALL_NUMBERS
    if several:
        built_in = (*(METRICS[name] for name in ROW_CLASS_METRICS), *METRICS_OF_SEVERAL_CLASSES)
    metrics = {metric.name: metric for metric in built_in}
    named = (built_in_metric(name) for name in sorted(set(declared) - set(metrics)))
    return metrics | {metric.name: metric for metric in (*(metric for metric in named if metric), *user)}


def built_in_metric(name: str) -> Metric | None:
    """Return the built-in metric of a name, or the user's metric of rows; None if there is none.

    >>> built_in_metric("pinball_loss_p90").unit, built_in_metric("pinball")
    ('unit of the label', None)
    """
    if isinstance(name, OwnMetric):
        return Metric(
            name, name.unit, name.better, None, partial(_own_terms, name), several_classes.row_mean, mean_over_rows=True
        )
    parameter = metric_parameter(name)
    if parameter is None:
        return METRICS.get(name) or METRICS_OF_QUANTILES.get(name)
    return _mean_loss(name, LABEL_UNIT if parameter[0] == "pinball_loss" else "deviance")


def wrap_user_metric(declared: UserMetric, function: Callable[..., Any]) -> Metric:
    """Return a user's metric, which is unknown with the message of any error that its function raises.

    A function with a third parameter ``weight`` gets the weights of the rows, where they have any.
    """
    takes_weight = "weight" in inspect.signature(function).parameters

    def call(label: Floats, predicted: Floats, weight: Floats | None) -> Any:
        given = [label, predicted] if weight is None or not takes_weight else [label, predicted, weight]
        try:
            with np.errstate(all="ignore"):  # the result is checked for NaN and infinity
                return function(*(values.copy() for values in given))  # one that writes must not change the holdout
        except Exception as error:  # a user's function may raise anything
            raise UnknownMetricError(
                f"{declared.name}: {declared.function} raised {type(error).__name__}: {error}"
            ) from error

    undefined = f"{declared.function} returned no finite number"
    return Metric(declared.name, declared.unit, declared.better, compute=call, undefined=undefined)


def _own_terms(metric: OwnMetric, label: Floats, predicted: Floats) -> Iterator[Floats]:
    yield own_values(metric, label, predicted)


def class_counts(label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Yield indicators of shape (n_rows,): true positive, of class 1, predicted to be of class 1."""
    positive, predicted_positive = label > 0.5, predicted >= 0.5
    yield (positive & predicted_positive).astype(np.float64)
    yield positive.astype(np.float64)
    yield predicted_positive.astype(np.float64)


def _divide(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _row_mean(name: Any, *, transform: Callable[[Floats], Floats] = lambda mean: mean) -> dict[str, Any]:
    """Return ``terms`` and ``combine`` of a metric that is a function of the mean loss of a row."""

    def terms(label: Floats, predicted: Floats) -> Iterator[Floats]:
        yield row_losses(name, label, predicted)

    return {"terms": terms, "combine": lambda sums, rows: transform(_divide(sums[0], rows))}


def _calibration_terms(label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Yield for each bin the probability minus the label of its rows, and 0 for the other rows."""
    bins = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    errors = predicted - label
    for number in range(BINS):
        yield np.where(bins == number, errors, 0.0)


def _r2_terms(label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Yield the squared error, the label and its square; the label is centred to avoid cancellation."""
    centred = label - label.mean()
    yield (label - middle(predicted)) ** 2
    yield centred
    yield centred**2


def _r2(sums: Floats, rows: Floats) -> Floats:
    spread = sums[2] - _divide(sums[1] ** 2, rows)
    # A spread of 1e-12 of the sum of squares is rounding: the labels are equal, and R² is undefined.
    return 1 - _divide(sums[0], np.where(spread > 1e-12 * np.maximum(sums[2], 1e-300), spread, 0.0))


def _quantile_error(quantile: float, label: Floats, predicted: Floats, weight: Floats | None) -> float:
    errors = np.abs(label - middle(predicted))
    if weight is None:
        return float(np.quantile(errors, quantile))
    return float(weighted_quantile(errors, quantile, weight[None, :])[0])


def weighted_quantile(values: Floats, quantile: float, weights: Floats) -> Floats:
    """Return the least value up to which a share of the weight lies, shape (n_weightings,); NaN without any weight.

    Parameters
    ----------
    values : ndarray of float, shape (n_rows,)
    weights : ndarray of float, shape (n_weightings, n_rows)

    >>> weighted_quantile(np.array([3.0, 1.0, 2.0]), 0.5, np.array([[1.0, 1.0, 1.0], [9.0, 1.0, 1.0]])).tolist()
    [2.0, 3.0]
    """
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[:, order], axis=1)
    total = below[:, -1]
    # Rounding of the sums must not move a row across the quantile.
    at = (below >= (quantile - 1e-12) * total[:, None]).argmax(axis=1)
    quantiles: Floats = np.where(total > 0, values[order][at], np.nan)
    return quantiles


def _max_error(label: Floats, predicted: Floats, weight: Floats | None) -> float:
    errors = np.abs(label - middle(predicted))
    return float(np.max(errors if weight is None else errors[weight > 0], initial=-np.inf))


def _pr_auc(label: Floats, predicted: Floats, weight: Floats | None) -> float:
    from sklearn.metrics import average_precision_score

    if not ((label > 0.5) & (weight is None or weight > 0)).any():
        return float("nan")
    return float(average_precision_score(label > 0.5, predicted, sample_weight=weight))


def _roc_auc(label: Floats, predicted: Floats, weight: Floats | None) -> float:
    if weight is not None:
        return float(weighted_auc(label, predicted, weight[None, :])[0])
    try:
        return roc_auc(label, predicted).value
    except GateError as error:
        raise UnknownMetricError(str(error)) from error


def _quantiles() -> Iterator[Metric]:
    for percent in (50, 90, 99):
        share = percent / 100
        yield Metric(f"p{percent}_error", LABEL_UNIT, "less", compute=partial(_quantile_error, share), quantile=share)


def _mean_loss(name: str, unit: str) -> Metric:
    return Metric(name, unit, "less", **_row_mean(name), mean_over_rows=True)


METRICS_OF_CLASSES = (
    _mean_loss("log_loss", "nats"),
    _mean_loss("brier", "probability squared"),
    Metric(
        "accuracy",
        "share of rows",
        "more",
        1.0,
        **_row_mean("accuracy", transform=lambda mean: 1 - mean),
        mean_over_rows=True,
    ),
    Metric(
        "precision",
        "share of rows",
        "more",
        1.0,
        class_counts,
        lambda sums, _rows: _divide(sums[0], sums[2]),
        undefined="no row is predicted to be of class 1",
    ),
    Metric(
        "recall",
        "share of rows",
        "more",
        1.0,
        class_counts,
        lambda sums, _rows: _divide(sums[0], sums[1]),
        undefined="no row is of class 1",
    ),
    Metric(
        "f1",
        "share of rows",
        "more",
        1.0,
        class_counts,
        lambda sums, _rows: _divide(2 * sums[0], sums[1] + sums[2]),
        undefined="no row is of class 1 or predicted to be",
    ),
    Metric("roc_auc", "share of pairs", "more", 1.0, compute=_roc_auc, undefined="a class has no row, or no weight"),
    Metric("pr_auc", "mean precision", "more", 1.0, compute=_pr_auc, undefined="no row is of class 1"),
    Metric(
        "calibration_error",
        f"probability, in {BINS} equal bins",
        "less",
        None,
        _calibration_terms,
        lambda sums, rows: _divide(np.abs(sums).sum(axis=0), rows),
        absolute_sums=True,
    ),
)

MEASURES = {
    "precision": several_classes.precision_by_class,
    "recall": several_classes.recall_by_class,
    "f1": several_classes.f1_by_class,
}
AVERAGES = {"macro": several_classes.macro, "micro": several_classes.micro, "weighted": several_classes.weighted}


def _of_class_counts(name: str, unit: str, combine: Callable[[Floats, Floats], Floats], undefined: str = "") -> Metric:
    words = undefined or "no class has a row"
    return Metric(name, unit, "more", 1.0, several_classes.counts_by_class, combine, undefined=words)


METRICS_OF_SEVERAL_CLASSES = (
    _of_class_counts("balanced_accuracy", "mean recall", several_classes.balanced_accuracy),
    *(
        _of_class_counts(f"{measure}_{average}", "share of rows", combine_by(by_class))
        for measure, by_class in MEASURES.items()
        for average, combine_by in AVERAGES.items()
    ),
    Metric(
        "roc_auc_ovr",
        "share of pairs",
        "more",
        1.0,
        compute=several_classes.roc_auc_ovr,
        undefined="a class has no row or no weight, or all",
    ),
    Metric(
        "top_2_accuracy",
        "share of rows",
        "more",
        1.0,
        several_classes.top_2_terms,
        several_classes.row_mean,
        mean_over_rows=True,
    ),
    _of_class_counts(
        "cohen_kappa",
        "share of what chance leaves",
        several_classes.cohen_kappa,
        "all rows are of one class, and predicted to be",
    ),
    Metric(
        "expected_calibration_error",
        f"probability, in {several_classes.BINS} equal bins",
        "less",
        None,
        several_classes.calibration_terms,
        several_classes.calibration_error,
        absolute_sums=True,
    ),
)

METRICS_OF_ALL_NUMBERS = (
    _mean_loss("mae", LABEL_UNIT),
    Metric("rmse", LABEL_UNIT, "less", **_row_mean("rmse", transform=np.sqrt)),
    Metric("r2", "share of the variance", "more", 1.0, _r2_terms, _r2, undefined="all labels are the same"),
    *_quantiles(),
)
"""The metrics of numbers that are part of every evaluation."""
METRICS_OF_NUMBERS = (
    *METRICS_OF_ALL_NUMBERS,
    _mean_loss("mape", "share of the label"),
    _mean_loss("smape", "share of the mean of label and prediction"),
    Metric("rmsle", "logarithm of 1 + the label", "less", **_row_mean("rmsle", transform=np.sqrt)),
    _mean_loss("mean_poisson_deviance", "deviance"),
    _mean_loss("mean_gamma_deviance", "deviance"),
    # No interval: resamples of a maximum do not vary as samples do (Bickel and Freedman, 1981).
    Metric(
        "max_error",
        LABEL_UNIT,
        "less",
        compute=_max_error,
        has_interval=False,
    ),
)


def _coverage_terms(label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Yield whether the label of a row lies between its outermost quantiles."""
    low, high = _outermost(predicted)
    yield ((label >= low) & (label <= high)).astype(np.float64)


def _width_terms(_label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Yield the distance of the outermost quantiles of a row."""
    low, high = _outermost(predicted)
    yield high - low


def _outermost(predicted: Floats) -> tuple[Floats, Floats]:
    if predicted.ndim == 1:
        raise UnknownMetricError("the model predicts one number, and no interval")
    return predicted[:, 0], predicted[:, -1]


METRICS_OF_QUANTILES = {
    "coverage": Metric(
        "coverage", "share of rows", "more", 1.0, _coverage_terms, several_classes.row_mean, mean_over_rows=True
    ),
    "interval_width": Metric(
        "interval_width", LABEL_UNIT, "less", None, _width_terms, several_classes.row_mean, mean_over_rows=True
    ),
}
"""The metrics of models that predict several quantiles, beside their mean pinball loss."""

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*METRICS_OF_CLASSES, *METRICS_OF_SEVERAL_CLASSES, *METRICS_OF_NUMBERS)
}
"""The built-in metrics by name."""
