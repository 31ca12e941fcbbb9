"""Every metric of a candidate beside the champion's and the baselines', all on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_mlops.core.evaluation.bootstrap_interval import Interval, MetricOnRows, Resamples
from airflow_mlops.core.evaluation.known_metrics import Metric, UnknownMetricError
from airflow_mlops.core.training.row_losses import Floats


@dataclass(frozen=True)
class Reference:
    """Another model on the same rows, the champion or a baseline.

    ``worse_by`` is the relative loss of the candidate against it, ``difference`` the candidate's value less its own.
    """

    value: float
    worse_by: float
    better: bool
    difference: float
    interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {
            "value": self.value,
            "worse_by": self.worse_by,
            "candidate_is_better": self.better,
            "difference": self.difference,
            "interval": None if self.interval is None else self.interval.to_dict(),
        }


@dataclass(frozen=True)
class MetricReport:
    """One metric of a candidate. ``value`` is None where it has none, and ``reason`` says why."""

    metric: Metric
    rows: int
    value: float | None
    interval: Interval | None = None
    reason: str | None = None
    references: Mapping[str, Reference] = field(default_factory=dict)
    unknown_references: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values: ``champion`` and ``baselines`` as far as there are any."""
        found = {name: reference.to_dict() for name, reference in self.references.items()}
        found |= {name: {"value": None, "reason": reason} for name, reason in self.unknown_references.items()}
        interval = self.interval
        return {
            "unit": self.metric.unit,
            "better": self.metric.better,
            "value": self.value,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
            "method": None if interval is None else interval.method,
            "confidence": None if interval is None else interval.confidence,
            "rows": self.rows,
            "reason": self.reason,
            "champion": found.pop("champion", None),
            "baselines": found,
        }


def compare_metric(on_rows: MetricOnRows) -> MetricReport:
    """Return a metric of the model ``candidate`` beside that of every other model.

    The difference has an interval only against the champion: there it decides, and it has its cost.
    """
    metric, rows = on_rows.metric, int(on_rows.label.size)
    try:
        value = on_rows.value("candidate")
    except UnknownMetricError as error:
        return MetricReport(metric, rows, None, reason=str(error))
    found: dict[str, Reference] = {}
    unknown: dict[str, str] = {}
    for name in on_rows.predictions:
        if name == "candidate":
            continue
        try:
            theirs = on_rows.value(name)
        except UnknownMetricError as error:
            unknown[name] = str(error)
            continue
        difference = value - theirs
        between = on_rows.interval_of_difference("candidate", name, difference) if name == "champion" else None
        better = metric.is_better(value, theirs)
        found[name] = Reference(theirs, metric.worse_by(value, theirs), better, difference, between)
    return MetricReport(metric, rows, value, on_rows.interval("candidate", value), None, found, unknown)


def compare_metrics(
    metrics: Mapping[str, Metric], label: Floats, predictions: Mapping[str, Floats], *, seed: int
) -> dict[str, MetricReport]:
    """Return every metric of a candidate beside that of the other models, by name.

    Parameters
    ----------
    label : ndarray of float, shape (n_rows,)
    predictions : mapping
        Shape (n_rows,) of ``candidate``, and of ``champion``, ``dummy`` and ``linear`` as far as there are any.
    seed : int
        Of the resamples.
    """
    draws = Resamples.of(int(label.size), seed=seed)
    return {name: compare_metric(MetricOnRows(metric, label, predictions, draws)) for name, metric in metrics.items()}


def values_of(metrics: Mapping[str, Metric], label: Floats, predicted: Floats) -> dict[str, float]:
    """Return the metrics that have a value on these rows."""
    found = {}
    for name, metric in metrics.items():
        try:
            found[name] = metric.value(label, predicted)
        except UnknownMetricError:
            continue  # the report of the candidate says why; here only numbers count
    return found
