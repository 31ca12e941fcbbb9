"""Compare the metrics of a candidate with those of the champion and the baselines on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_mlops.core.evaluation.bootstrap_interval import Interval, MetricOnRows
from airflow_mlops.core.evaluation.known_metrics import Metric
from airflow_mlops.core.training.row_losses import Floats, UnknownMetricError


@dataclass(frozen=True)
class Reference:
    """The metric of another model on the same rows, the champion or a baseline.

    ``worse_by`` is the relative loss of the candidate against it, ``difference`` the candidate's value minus its value.
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
    """One metric of a candidate; ``value`` is None if it is undefined, with the ``reason``."""

    metric: Metric
    rows: int
    value: float | None
    interval: Interval | None = None
    reason: str | None = None
    references: Mapping[str, Reference] = field(default_factory=dict)
    unknown_references: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, with ``champion`` and ``baselines`` if there are any."""
        references = {name: reference.to_dict() for name, reference in self.references.items()}
        references |= {name: {"value": None, "reason": reason} for name, reason in self.unknown_references.items()}
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
            "champion": references.pop("champion", None),
            "baselines": references,
        }


def compare_metric(on_rows: MetricOnRows) -> MetricReport:
    """Return a metric of the model ``candidate``, compared with every other model.

    Only the difference from the champion has an interval: it decides a gate, and it is costly.
    """
    metric, rows = on_rows.metric, int(on_rows.label.size)
    try:
        value = on_rows.value("candidate")
    except UnknownMetricError as error:
        return MetricReport(metric, rows, None, reason=str(error))
    references: dict[str, Reference] = {}
    unknown_references: dict[str, str] = {}
    for name in on_rows.predictions:
        if name == "candidate":
            continue
        try:
            reference = on_rows.value(name)
        except UnknownMetricError as error:
            unknown_references[name] = str(error)
            continue
        difference = value - reference
        interval = on_rows.interval_of_difference("candidate", name, difference) if name == "champion" else None
        better = metric.is_better(value, reference)
        references[name] = Reference(reference, metric.worse_by(value, reference), better, difference, interval)
    return MetricReport(metric, rows, value, on_rows.interval("candidate", value), None, references, unknown_references)


def defined_values(
    metrics: Mapping[str, Metric], label: Floats, predicted: Floats, weight: Floats | None = None
) -> dict[str, float]:
    """Return the values of the metrics that are defined on these rows; labels and predictions of shape (n_rows,)."""
    references = {}
    for name, metric in metrics.items():
        try:
            references[name] = metric.value(label, predicted, weight)
        except UnknownMetricError:
            continue  # the report of the candidate gives the reason
    return references
