"""How sure a metric is: DeLong for the AUC, the normal interval for means over rows, a bootstrap for the rest.

The bootstrap draws rows with their label and the predictions of all models together, so a difference of two models
counts that they were judged on the same rows. On a large holdout it draws from a sample of its rows, and what it
finds is made narrower by the root of the share, as the error of a metric falls with the root of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import sqrt
from statistics import NormalDist
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.errors import GateError
from airflow_mlops.core.evaluation.known_metrics import Metric, UnknownMetricError
from airflow_mlops.core.evaluation.roc_auc import AucComponents, auc_components, compared_components
from airflow_mlops.core.training.row_losses import Floats

CONFIDENCE = 0.95
RESAMPLES = 200
FEWEST_RESAMPLES = 40
SAMPLED_ROWS = 4_000
SLOW_SECONDS = 0.5
"""CPU seconds after which the bootstrap of a slow function ends with the resamples it has."""


@dataclass(frozen=True)
class Interval:
    """An interval at a level of confidence, and by which method it was found."""

    low: float
    high: float
    method: str
    confidence: float = CONFIDENCE

    def to_dict(self) -> dict[str, Any]:
        """Return the interval as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Resamples:
    """Draws of rows with replacement, the same for every model and metric.

    ``index`` has shape (n_resamples, n_drawn) and numbers rows of the sample ``taken``.
    """

    rows: int
    taken: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: int, *, seed: int, resamples: int = RESAMPLES, at_most: int = SAMPLED_ROWS) -> Resamples:
        """Return the draws for a holdout of so many rows; the same seed gives the same."""
        random = np.random.default_rng(seed)
        drawn = min(rows, at_most)
        taken = np.arange(rows) if drawn == rows else np.sort(random.choice(rows, drawn, replace=False, shuffle=False))
        return cls(rows, taken, random.integers(0, drawn, (resamples, drawn)))

    @cached_property
    def weights(self) -> Floats:
        """How often each resample holds each row, shape (n_resamples, n_drawn)."""
        resamples, drawn = self.index.shape
        flat = (self.index + np.arange(resamples)[:, None] * drawn).ravel()
        return np.bincount(flat, minlength=resamples * drawn).reshape(resamples, drawn).astype(np.float64)

    @property
    def method(self) -> str:
        """In words: how many resamples of how many rows."""
        resamples, drawn = self.index.shape
        of = f"{drawn:,} rows" if drawn == self.rows else f"{drawn:,} of {self.rows:,} rows, scaled"
        return f"bootstrap, {resamples} resamples of {of}"

    def values(self, metric: Metric, label: Floats, predicted: Floats) -> Floats:
        """Return the metric of each resample, shape (n_resamples,) or fewer of a slow function; NaN where unknown."""
        label, predicted = label[self.taken], predicted[self.taken]
        if metric.terms is not None and metric.combine is not None:
            sums = np.array([self.weights @ term for term in metric.terms(label, predicted)])
            return np.asarray(metric.combine(sums, self.weights.sum(axis=1)), np.float64)
        if metric.quantile is not None:
            return np.asarray(np.quantile(np.abs(label - predicted)[self.index], metric.quantile, axis=1))
        if metric.name == "pr_auc":
            return average_precision(label, predicted, self.weights)
        return self._called(metric, label, predicted)

    def _called(self, metric: Metric, label: Floats, predicted: Floats) -> Floats:
        found: list[float] = []
        began = process_time()
        for rows in self.index:
            try:
                found.append(metric.value(label[rows], predicted[rows]))
            except UnknownMetricError:
                found.append(float("nan"))
            if process_time() - began > SLOW_SECONDS:
                break
        return np.array(found)

    def interval(self, about: float, values: Floats) -> Interval | None:
        """Return the interval about a value; None where too few resamples have one."""
        known = values[np.isfinite(values)]
        if known.size < max(FEWEST_RESAMPLES, 0.9 * values.size):
            return None
        scale = sqrt(self.index.shape[1] / self.rows)
        centre = about if scale == 1 else float(np.median(known))
        tail = 100 * (1 - CONFIDENCE) / 2
        low, high = (about + scale * (float(end) - centre) for end in np.percentile(known, [tail, 100 - tail]))
        method = (
            self.method
            if values.size == self.index.shape[0]
            else self.method.replace(f"{self.index.shape[0]} resamples", f"{values.size} resamples")
        )
        return Interval(low, high, method)


def average_precision(label: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Return the PR AUC (mean precision over the steps of recall) of rows under several weights at once.

    Parameters
    ----------
    label, predicted : ndarray of float, shape (n_rows,)
    weights : ndarray of float, shape (n_weightings, n_rows)

    Returns
    -------
    ndarray of float, shape (n_weightings,)
        NaN where no row of class 1 has a weight.

    >>> average_precision(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.1, 0.9]), np.ones((1, 3))).round(4)
    array([0.8333])
    """
    order = np.argsort(-predicted, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(predicted[order])), order.size - 1)
    sorted_weights = weights[:, order]
    found = np.cumsum(sorted_weights * (label[order] > 0.5), axis=1)[:, ends]
    said = np.cumsum(sorted_weights, axis=1)[:, ends]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(said > 0, found / said, 0.0)
        steps = np.diff(found / found[:, -1:], axis=1, prepend=0.0)
    return np.asarray((precision * steps).sum(axis=1))


class MetricOnRows:
    """One metric of several models on the same rows, with its intervals. Models are called by name.

    :param predictions: shape (n_rows,) for each model
    :param draws: of as many rows; each model is resampled once at most
    """

    def __init__(self, metric: Metric, label: Floats, predictions: Mapping[str, Floats], draws: Resamples) -> None:
        self.metric, self.label, self.predictions, self.draws = metric, label, predictions, draws
        self._drawn: dict[str, Floats] = {}
        self._ranked: dict[str, AucComponents] = {}

    def value(self, model: str) -> float:
        """Return the value of a model; see :meth:`Metric.value`."""
        if self.metric.name == "roc_auc":
            return self._components(model).estimate(CONFIDENCE).value
        return self.metric.value(self.label, self.predictions[model])

    def interval(self, model: str, value: float) -> Interval | None:
        """Return how sure the value of a model is; None where that cannot be said."""
        if self.metric.name == "roc_auc":
            found = self._components(model).estimate(CONFIDENCE)
            return Interval(found.low, found.high, "DeLong")
        if self.metric.mean_over_rows:
            return self._normal(self._losses(model), value)
        return self.draws.interval(value, self._resampled(model))

    def interval_of_difference(self, ours: str, theirs: str, difference: float) -> Interval | None:
        """Return how sure the difference of two models is, the value of ``ours`` less that of ``theirs``."""
        if self.metric.name == "roc_auc":
            both = (self._components(ours), self._components(theirs))
            found = compared_components(*both, CONFIDENCE).difference
            return Interval(found.low, found.high, "DeLong")
        if self.metric.mean_over_rows:
            return self._normal(self._losses(ours) - self._losses(theirs), difference)
        first, second = self._resampled(ours), self._resampled(theirs)
        count = min(first.size, second.size)
        return self.draws.interval(difference, first[:count] - second[:count])

    def _resampled(self, model: str) -> Floats:
        if model not in self._drawn:
            self._drawn[model] = self.draws.values(self.metric, self.label, self.predictions[model])
        return self._drawn[model]

    def _components(self, model: str) -> AucComponents:
        if model not in self._ranked:
            try:
                self._ranked[model] = auc_components(self.label, self.predictions[model])
            except GateError as error:
                raise UnknownMetricError(str(error)) from error
        return self._ranked[model]

    def _losses(self, model: str) -> Floats:
        assert self.metric.terms is not None
        return next(self.metric.terms(self.label, self.predictions[model]))

    def _normal(self, rows: Floats, value: float) -> Interval | None:
        """Return the normal interval of a mean over rows, about its value."""
        if rows.size < 2:
            return None
        reach = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * float(np.std(rows, ddof=1)) / sqrt(rows.size)
        return Interval(value - reach, value + reach, "normal")
