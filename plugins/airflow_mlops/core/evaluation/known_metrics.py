"""The metrics a model is judged by: name, unit, which way is better, and how the value follows from the rows.

Most of them follow from a few sums over rows (``terms`` and ``combine``). That form gives the value of all rows, of
every slice at once and of every resample at once. The others (AUC, PR AUC, quantiles, a user's own) need the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from airflow_mlops.core.declaration.evaluate import UserMetric
from airflow_mlops.core.errors import GateError
from airflow_mlops.core.evaluation.roc_auc import roc_auc
from airflow_mlops.core.training.row_losses import SMALLEST_PROBABILITY, Floats, row_losses

BINS = 10
"""Equal bins of the probability that the calibration error is counted in."""

LABEL_UNIT = "unit of the label"


class UnknownMetricError(GateError):
    """A metric has no value on these rows; says why."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Parameters
    ----------
    better : str
        Which values are better, ``less`` or ``more``.
    best : float, optional
        The best value there is, where more is better; a relative loss is then of what is left to it.
    terms : callable, optional
        Gives, one after the other, arrays of shape (n_rows,) of labels and predictions, whose sums are all it needs.
    combine : callable, optional
        Gives the value, shape (...), of sums, shape (n_terms, ...), and of numbers of rows, shape (...); NaN where it
        is not defined.
    whole : callable, optional
        Gives the value of labels and predictions, for a metric that needs the rows.
    undefined : str
        Why it may have no value.
    """

    name: str
    unit: str
    better: Literal["less", "more"]
    best: float | None = None
    terms: Callable[[Floats, Floats], Iterator[Floats]] | None = None
    combine: Callable[[Floats, Floats], Floats] | None = None
    whole: Callable[[Floats, Floats], Any] | None = None
    undefined: str = "it is not defined on these rows"
    mean_over_rows: bool = False
    quantile: float | None = None

    def value(self, label: Floats, predicted: Floats) -> float:
        """Return the value on rows, labels and predictions of shape (n_rows,).

        Raises
        ------
        UnknownMetricError
            If it has none, or a user's function raised or returned no finite number.
        """
        if label.size == 0:
            raise UnknownMetricError(f"{self.name}: no rows")
        if self.terms is not None and self.combine is not None:
            sums = np.array([term.sum() for term in self.terms(label, predicted)])
            found: Any = self.combine(sums, np.array(label.size, np.float64))
        else:
            assert self.whole is not None
            found = self.whole(label, predicted)
        number = as_number(self.name, found)
        if not np.isfinite(number):
            raise UnknownMetricError(f"{self.name} is {number}: {self.undefined}")
        return number

    def worse_by(self, value: float, reference: float) -> float:
        """Return by how much ``value`` is worse than ``reference``, as a share of it; negative is better.

        Where more is better and there is a best value, the share is of what is left to it: from 0.9 to 0.8 of at
        most 1 is twice the loss.

        >>> round(METRICS["accuracy"].worse_by(0.8, 0.9), 6), round(METRICS["mae"].worse_by(11.0, 10.0), 6)
        (1.0, 0.1)
        """
        if self.best is not None:
            value, reference = self.best - value, self.best - reference
        difference = reference - value if self.better == "more" and self.best is None else value - reference
        return difference / max(abs(reference), SMALLEST_PROBABILITY)

    def is_better(self, value: float, reference: float) -> bool:
        """Whether ``value`` is strictly better than ``reference``."""
        return value < reference if self.better == "less" else value > reference


def as_number(name: str, found: Any) -> float:
    """Return what a metric's function returned as a float.

    Raises
    ------
    UnknownMetricError
        If it is no number: None, text, an array of several, a complex number.
    """
    array = np.asarray(found)
    if array.shape != () or array.dtype.kind not in "fiub":
        raise UnknownMetricError(f"{name} returned {type(found).__name__} {str(found)[:60]!r}, and no number")
    return float(array)


def known_metrics(user: tuple[Metric, ...] = (), *, classifies: bool) -> dict[str, Metric]:
    """Return the metrics that go with the kind of the label, and a user's own, by name."""
    found = METRICS_OF_CLASSES if classifies else METRICS_OF_NUMBERS
    return {metric.name: metric for metric in (*found, *user)}


def user_metric(declared: UserMetric, function: Callable[[Floats, Floats], Any]) -> Metric:
    """Return a user's own metric; whatever the function raises makes the metric unknown, with what was raised."""

    def called(label: Floats, predicted: Floats) -> Any:
        try:
            with np.errstate(all="ignore"):  # NaN and infinity are looked for in what comes back
                return function(label.copy(), predicted.copy())
        except Exception as error:  # a user's function may raise anything
            raise UnknownMetricError(
                f"{declared.name}: {declared.function} raised {type(error).__name__}: {error}"
            ) from error

    undefined = f"{declared.function} returned no finite number"
    return Metric(declared.name, declared.unit, declared.better, whole=called, undefined=undefined)


def counts(label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Give for each row whether it is a true positive, of class 1, and predicted to be of class 1."""
    true, said = label > 0.5, predicted >= 0.5
    yield (true & said).astype(np.float64)
    yield true.astype(np.float64)
    yield said.astype(np.float64)


def _divided(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _row_mean(name: Any, *, of: Callable[[Floats], Floats] = lambda mean: mean) -> dict[str, Any]:
    """Return the form of a metric that is a function of the mean of the rows' losses."""

    def terms(label: Floats, predicted: Floats) -> Iterator[Floats]:
        yield row_losses(name, label, predicted)

    return {"terms": terms, "combine": lambda sums, rows: of(_divided(sums[0], rows))}


def _calibration_terms(label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Give for each bin the probability less the label of the rows in it, and 0 for the others."""
    bins = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    missed = predicted - label
    for number in range(BINS):
        yield np.where(bins == number, missed, 0.0)


def _r2_terms(label: Floats, predicted: Floats) -> Iterator[Floats]:
    """Give the squared error, the label and its square, the label from its own mean, for the sake of the digits."""
    centred = label - label.mean()
    yield (label - predicted) ** 2
    yield centred
    yield centred**2


def _r2(sums: Floats, rows: Floats) -> Floats:
    spread = sums[2] - sums[1] ** 2 / np.maximum(rows, 1)
    return 1 - _divided(sums[0], np.where(spread > 1e-12 * np.maximum(sums[2], 1e-300), spread, 0.0))


def _quantile_error(quantile: float, label: Floats, predicted: Floats) -> float:
    return float(np.quantile(np.abs(label - predicted), quantile))


def _pr_auc(label: Floats, predicted: Floats) -> float:
    from sklearn.metrics import average_precision_score

    if not (label > 0.5).any():
        return float("nan")
    return float(average_precision_score(label > 0.5, predicted))


def _roc_auc(label: Floats, predicted: Floats) -> float:
    try:
        return roc_auc(label, predicted).value
    except GateError as error:
        raise UnknownMetricError(str(error)) from error


def _quantiles() -> Iterator[Metric]:
    for percent in (50, 90, 99):
        share = percent / 100
        yield Metric(f"p{percent}_error", LABEL_UNIT, "less", whole=partial(_quantile_error, share), quantile=share)


METRICS_OF_CLASSES = (
    Metric("log_loss", "nats", "less", **_row_mean("log_loss"), mean_over_rows=True),
    Metric("brier", "probability squared", "less", **_row_mean("brier"), mean_over_rows=True),
    Metric(
        "accuracy",
        "share of rows",
        "more",
        1.0,
        **_row_mean("accuracy", of=lambda mean: 1 - mean),
        mean_over_rows=True,
    ),
    Metric(
        "precision",
        "share of rows",
        "more",
        1.0,
        counts,
        lambda sums, _rows: _divided(sums[0], sums[2]),
        undefined="no row is predicted to be of class 1",
    ),
    Metric(
        "recall",
        "share of rows",
        "more",
        1.0,
        counts,
        lambda sums, _rows: _divided(sums[0], sums[1]),
        undefined="no row is of class 1",
    ),
    Metric(
        "f1",
        "share of rows",
        "more",
        1.0,
        counts,
        lambda sums, _rows: _divided(2 * sums[0], sums[1] + sums[2]),
        undefined="no row is of class 1 or predicted to be",
    ),
    Metric("roc_auc", "share of pairs", "more", 1.0, whole=_roc_auc),
    Metric("pr_auc", "mean precision", "more", 1.0, whole=_pr_auc, undefined="no row is of class 1"),
    Metric(
        "calibration_error",
        f"probability, in {BINS} equal bins",
        "less",
        None,
        _calibration_terms,
        lambda sums, rows: _divided(np.abs(sums).sum(axis=0), rows),
    ),
)

METRICS_OF_NUMBERS = (
    Metric("mae", LABEL_UNIT, "less", **_row_mean("mae"), mean_over_rows=True),
    Metric("rmse", LABEL_UNIT, "less", **_row_mean("rmse", of=np.sqrt)),
    Metric("r2", "share of the variance", "more", 1.0, _r2_terms, _r2, undefined="all labels are the same"),
    *_quantiles(),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*METRICS_OF_CLASSES, *METRICS_OF_NUMBERS)}
"""Every metric that is built in, by name."""
