"""Confidence intervals of metrics: DeLong for the AUC, normal for means over rows, bootstrap for the others.

Of rows with weights a mean is a ratio of two sums, and its error that of the linearised ratio; the AUC is resampled.

The bootstrap draws rows with their label and the predictions of all models together, so that the difference of two
models takes into account that they share their rows. On a large holdout it draws from a sample of the rows and scales
the interval by the root of the sampled share, as the error of a metric falls with the root of the number of rows.
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
from airflow_mlops.core.evaluation.known_metrics import Metric, weighted_quantile
from airflow_mlops.core.evaluation.roc_auc import (
    CONFIDENCE,
    AucComponents,
    auc_components,
    compare_components,
    weighted_auc,
)
from airflow_mlops.core.training.row_losses import DomainError, Floats, UnknownMetricError, middle, standard_error

RESAMPLES = 200
MIN_RESAMPLES = 40
MAX_SAMPLE_ROWS = 4_000
SLOW_SECONDS = 0.5
"""CPU seconds after which the bootstrap of a slow function ends with the resamples it has."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval with its level and its method."""

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

    ``sample`` has shape (n_drawn,) and holds the positions of the sampled rows; ``index`` has shape (n_resamples,
    n_drawn) and holds positions in the sample.
    """

    rows: int
    sample: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]

    @classmethod
    def draw(cls, rows: int, *, seed: int, resamples: int = RESAMPLES, at_most: int = MAX_SAMPLE_ROWS) -> Resamples:
        """Draw resamples of a holdout of ``rows`` rows; the same seed gives the same resamples."""
        random = np.random.default_rng(seed)
        drawn = min(rows, at_most)
        sample = np.arange(rows) if drawn == rows else np.sort(random.choice(rows, drawn, replace=False, shuffle=False))
        return cls(rows, sample, random.integers(0, drawn, (resamples, drawn)))

    @cached_property
    def weights(self) -> Floats:
        """Number of times that each resample holds each row, shape (n_resamples, n_drawn)."""
        resamples, drawn = self.index.shape
        # One bincount over all resamples: each resample counts into a range of its own.
        flat = (self.index + np.arange(resamples)[:, None] * drawn).ravel()
        return np.bincount(flat, minlength=resamples * drawn).reshape(resamples, drawn).astype(np.float64)

    @property
    def method(self) -> str:
        """The method in words, with the number of resamples and rows."""
        resamples, drawn = self.index.shape
        rows = f"{drawn:,} rows" if drawn == self.rows else f"{drawn:,} of {self.rows:,} rows, scaled"
        return f"bootstrap, {resamples} resamples of {rows}"

    def values(self, metric: Metric, label: Floats, predicted: Floats, weight: Floats | None = None) -> Floats:
        """Return the metric of each resample, shape (n_resamples,), shorter for a slow function; NaN if undefined."""
        label, predicted = label[self.sample], predicted[self.sample]
        weight = None if weight is None else weight[self.sample]
        counts = self.weights if weight is None else self.weights * weight
        if metric.terms is not None and metric.combine is not None:
            sums = np.array(list(metric.terms(label, predicted))) @ counts.T
            return np.asarray(metric.combine(sums, counts.sum(axis=1)), np.float64)
        if metric.quantile is not None:
            errors = np.abs(label - middle(predicted))
            if weight is not None:
                return weighted_quantile(errors, metric.quantile, counts)
            return np.asarray(np.quantile(errors[self.index], metric.quantile, axis=1))
        of_counts = {"pr_auc": average_precision, "roc_auc": weighted_auc}.get(metric.name)
        if of_counts is not None:
            return of_counts(label, predicted, counts)
        return self._compute_each(metric, label, predicted, weight)

    def _compute_each(self, metric: Metric, label: Floats, predicted: Floats, weight: Floats | None) -> Floats:
        values: list[float] = []
        start = process_time()
        for rows in self.index:
            try:
                values.append(metric.value(label[rows], predicted[rows], None if weight is None else weight[rows]))
            except UnknownMetricError:
                values.append(float("nan"))
            if process_time() - start > SLOW_SECONDS:
                break
        return np.array(values)

    def interval(self, about: float, values: Floats) -> Interval | None:
        """Return the percentile interval of a value; None if too few resamples have a value."""
        finite = values[np.isfinite(values)]
        if finite.size < max(MIN_RESAMPLES, 0.9 * values.size):
            return None
        # The error of a metric falls with the root of its rows, and the resamples hold a sample of them.
        scale = sqrt(self.index.shape[1] / self.rows)
        centre = about if scale == 1 else float(np.median(finite))
        tail = (1 - CONFIDENCE) / 2
        low, high = (about + scale * (float(end) - centre) for end in quantiles_of_resamples(finite, tail, 1 - tail))
        method = (
            self.method
            if values.size == self.index.shape[0]
            else self.method.replace(f"{self.index.shape[0]} resamples", f"{values.size} resamples")
        )
        return Interval(low, high, method)

    def interval_of_absolute_sums(
        self, metric: Metric, about: float, label: Floats, predicted: Floats, weight: Floats | None
    ) -> Interval:
        """Return the interval of a value that is a mean of absolute sums, which lies above that of the population.

        Noise in the sums raises the value by at most its own absolute sum, so the lower end is that far below; a model
        without any error has the lower end 0 in 95 of 100 samples.
        """
        assert metric.terms is not None
        terms = np.array(list(metric.terms(label[self.sample], predicted[self.sample])))
        weight = np.ones(self.sample.size) if weight is None else weight[self.sample]
        counts = self.weights * weight
        drawn = terms @ counts.T / counts.sum(axis=1)
        noise = np.abs(drawn - (terms @ weight / weight.sum())[:, None]).sum(axis=0)
        scale = sqrt(self.index.shape[1] / self.rows)
        (below,) = quantiles_of_resamples(noise, CONFIDENCE)
        above = NormalDist().inv_cdf(CONFIDENCE) * float(np.abs(drawn).sum(axis=0).std(ddof=1))
        return Interval(max(0.0, about - scale * below), about + scale * above, self.method)


def quantiles_of_resamples(values: Floats, *shares: float) -> list[float]:
    """Return quantiles of resamples by which as many further ones lie below as the shares say.

    The k-th of B resamples has the share k / (B + 1) below it; numpy's own rule is for the values themselves, and an
    interval of 95 % would hold 93.5 % of further resamples of 200.
    """
    return [float(value) for value in np.quantile(values, shares, method="weibull")]


def interval_of_quantile(errors: Floats, quantile: float) -> Interval:
    """Return the interval of a quantile between two order statistics, interpolated as by Hutson (1999).

    It rests on no distribution of the errors, shape (n_rows,).
    """
    from scipy.optimize import brentq
    from scipy.special import betainc

    count, tail = errors.size, (1 - CONFIDENCE) / 2
    ranks = [
        brentq(lambda rank, share=share: betainc(rank, count + 1 - rank, quantile) - share, 1e-9, count + 1 - 1e-9)
        for share in (1 - tail, tail)
    ]
    low, high = np.interp(ranks, np.arange(1, count + 1), np.sort(errors))
    return Interval(float(low), float(high), "order statistics")


def average_precision(label: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Return the average precision (mean precision over the steps of recall) under several weightings at once.

    Parameters
    ----------
    label, predicted : ndarray of float, shape (n_rows,)
    weights : ndarray of float, shape (n_weightings, n_rows)

    Returns
    -------
    ndarray of float, shape (n_weightings,)
        NaN if no row of class 1 has a weight.

    >>> average_precision(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.1, 0.9]), np.ones((1, 3))).round(4)
    array([0.8333])
    """
    order = np.argsort(-predicted, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(predicted[order])), order.size - 1)
    sorted_weights = weights[:, order]
    true_positives = np.cumsum(sorted_weights * (label[order] > 0.5), axis=1)[:, ends]
    predicted_positives = np.cumsum(sorted_weights, axis=1)[:, ends]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(predicted_positives > 0, true_positives / predicted_positives, 0.0)
        steps = np.diff(true_positives / true_positives[:, -1:], axis=1, prepend=0.0)
    return np.asarray((precision * steps).sum(axis=1))


class MetricOnRows:
    """One metric of several models on the same rows, with its intervals.

    Parameters
    ----------
    metric : Metric
        The metric.
    label : ndarray of float, shape (n_rows,)
        The labels.
    predictions : mapping of str to ndarray of float, shape (n_rows,)
        The predictions of each model, by its name.
    draws : Resamples
        Resamples of the rows; each model is resampled at most once.
    weight : ndarray of float, shape (n_rows,), optional
        The weights of the rows; each counts once by default.
    """

    def __init__(
        self,
        metric: Metric,
        label: Floats,
        predictions: Mapping[str, Floats],
        draws: Resamples,
        weight: Floats | None = None,
    ) -> None:
        self.metric, self.label, self.predictions, self.draws, self.weight = metric, label, predictions, draws, weight
        self._is_delong = metric.name == "roc_auc" and weight is None
        self._resampled_values: dict[str, Floats] = {}
        self._auc_components: dict[str, AucComponents] = {}

    def value(self, model: str) -> float:
        """Return the value of a model; see :meth:`Metric.value`."""
        if self._is_delong:
            return self._components(model).estimate().value
        try:
            return self.metric.value(self.label, self.predictions[model], self.weight)
        except DomainError as error:
            raise DomainError(f"{model}: {error}", error.values) from error

    def interval(self, model: str, value: float) -> Interval | None:
        """Return the confidence interval of the value of a model; None if it has none."""
        if self._is_delong:
            estimate = self._components(model).estimate()
            return Interval(estimate.low, estimate.high, "DeLong")
        if self.metric.mean_over_rows:
            return self._normal_interval(self._losses(model), value)
        if not self.metric.has_interval:
            return None
        predicted = self.predictions[model]
        if self.metric.absolute_sums:
            return self.draws.interval_of_absolute_sums(self.metric, value, self.label, predicted, self.weight)
        if self.metric.quantile is not None and self.weight is None:
            return interval_of_quantile(np.abs(self.label - middle(predicted)), self.metric.quantile)
        return self.draws.interval(value, self._resample(model))

    def interval_of_difference(self, candidate: str, reference: str, difference: float) -> Interval | None:
        """Return the interval of the difference, the value of ``candidate`` minus that of ``reference``."""
        if self._is_delong:
            comparison = compare_components(self._components(candidate), self._components(reference))
            return Interval(comparison.difference.low, comparison.difference.high, "DeLong")
        if self.metric.mean_over_rows:
            return self._normal_interval(self._losses(candidate) - self._losses(reference), difference)
        if not self.metric.has_interval:
            return None
        first, second = self._resample(candidate), self._resample(reference)
        # A slow metric may have got fewer resamples for one model; resample i holds the same rows for both.
        count = min(first.size, second.size)
        return self.draws.interval(difference, first[:count] - second[:count])

    def _resample(self, model: str) -> Floats:
        if model not in self._resampled_values:
            self._resampled_values[model] = self.draws.values(
                self.metric, self.label, self.predictions[model], self.weight
            )
        return self._resampled_values[model]

    def _components(self, model: str) -> AucComponents:
        if model not in self._auc_components:
            try:
                self._auc_components[model] = auc_components(self.label, self.predictions[model])
            except GateError as error:
                raise UnknownMetricError(str(error)) from error
        return self._auc_components[model]

    def _losses(self, model: str) -> Floats:
        assert self.metric.terms is not None
        return next(self.metric.terms(self.label, self.predictions[model]))

    def _normal_interval(self, rows: Floats, value: float) -> Interval | None:
        """Return the normal interval of the mean of ``rows``, shape (n_rows,), about ``value``."""
        if rows.size < 2:
            return None
        reach = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * standard_error(rows, self.weight)
        return Interval(value - reach, value + reach, "normal")
