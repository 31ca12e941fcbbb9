"""The gates: conditions that a candidate must meet on the holdout before it may become a version.

A gate has three verdicts: ``pass``, ``fail`` and ``too little data``. Only rows with a label count, and a value that is
missing, NaN or raised an error never passes. This module judges gates on metrics of rows; ``measurement_gates`` judges
the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import (
    CLASS_FAIRNESS,
    COSTS,
    DECISION_METRICS,
    FAIRNESS,
    ROBUSTNESS,
    STABILITY,
    Gate,
)
from airflow_mlops.core.errors import GateError
from airflow_mlops.core.evaluation.bootstrap_interval import Interval, MetricOnRows, Resamples
from airflow_mlops.core.evaluation.champion_gate import judge_against_champion
from airflow_mlops.core.evaluation.gate_report import GateReport, Verdict, gates_pass, to_verdict
from airflow_mlops.core.evaluation.known_metrics import METRICS, Metric, built_in_metric
from airflow_mlops.core.evaluation.measurement_gates import (
    CandidateMeasurements,
    judge_cost,
    judge_fairness,
    judge_robustness,
    judge_stability,
    parse_limit,
)
from airflow_mlops.core.evaluation.metrics_by_slice import Slices
from airflow_mlops.core.training.row_losses import DomainError, Floats, UnknownMetricError, checked_rows

__all__ = ["GateReport", "Holdout", "evaluate_gates", "gates_pass"]


@dataclass(frozen=True)
class Holdout:
    """The rows on which a candidate is judged.

    Labels and predictions have shape (n_rows,). ``champion`` is None before the first promotion, and if the champion
    cannot predict, for the reason in ``champion_failed``. ``columns`` are those of the gates' slices and groups,
    ``baselines`` the predictions of ``dummy`` and ``linear``, ``metrics`` the user's metrics, ``weight`` the weights of
    the rows, which metrics of rows count by, ``classes`` the names of three classes or more. ``decisions`` are those of
    candidate and champion where they have a threshold.
    """

    label: Floats
    candidate: Floats
    champion: Floats | None
    columns: Mapping[str, npt.NDArray[Any]]
    baselines: Mapping[str, Floats] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    champion_failed: str | None = None
    missing_baselines: Mapping[str, str] = field(default_factory=dict)
    expected_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seed: int = 0
    weight: Floats | None = None
    classes: Sequence[str] | None = None
    decisions: Mapping[str, Floats] = field(default_factory=dict)

    def predictions_for(self, name: str) -> dict[str, Floats]:
        """Return the decisions or the predictions of each model, by which a metric or measure of fairness judges it."""
        decides = name in DECISION_METRICS or name in CLASS_FAIRNESS
        return {**self.predictions, **(self.decisions if decides else {})}

    @cached_property
    def predictions(self) -> dict[str, Floats]:
        """The predictions of each model by name."""
        champion = {} if self.champion is None else {"champion": self.champion}
        return {"candidate": self.candidate, **champion, **self.baselines}

    @cached_property
    def draws(self) -> Resamples:
        """The resamples for metrics that need a bootstrap."""
        return Resamples.draw(int(self.label.size), seed=self.seed)

    @cached_property
    def _on_rows(self) -> dict[str, MetricOnRows]:
        return {}

    def on_rows(self, name: str) -> MetricOnRows:
        """Return a metric of all models on these rows; it is cached, so that no model is resampled twice.

        Raises
        ------
        GateError
            If there is no such metric.
        """
        metric = built_in_metric(name) or self.metrics.get(name)
        if metric is None:
            raise GateError(f"there is no metric {name!r}")
        return self._on_rows.setdefault(
            name, MetricOnRows(metric, self.label, self.predictions_for(name), self.draws, self.weight)
        )


def evaluate_gates(
    gates: Sequence[Gate], holdout: Holdout, measurements: CandidateMeasurements | None = None
) -> list[GateReport]:
    """Return the reports of all gates; a gate with slices has one for each value of each column.

    Raises
    ------
    GateError
        If there are no rows, or a label or a prediction is NaN or infinite.
    """
    for model, predicted in holdout.predictions.items():
        checked_rows(f"predictions of the {model}", holdout.label, predicted)
    measured = measurements or CandidateMeasurements()
    return [report for gate in gates for report in _judge(gate, holdout, measured)]


def _judge(gate: Gate, holdout: Holdout, measurements: CandidateMeasurements) -> Iterator[GateReport]:
    """Yield the reports of one gate."""
    name = gate.metric
    if name in FAIRNESS:
        groups, expected = holdout.columns[str(gate.group)], holdout.expected_groups.get(str(gate.group), ())
        judged = holdout.predictions_for(name)["candidate"]
        yield from judge_fairness(
            gate, holdout.label, judged, groups, expected, seed=holdout.seed, classes=holdout.classes
        )
    elif name in ROBUSTNESS:
        yield judge_robustness(gate, measurements)
    elif name in COSTS:
        yield judge_cost(gate, measurements)
    elif name == STABILITY:
        yield judge_stability(gate, measurements)
    elif gate.slices:
        for column in gate.slices:
            yield from _judge_slices(gate, holdout.on_rows(name).metric, holdout, column)
    else:
        yield _judge_all_rows(gate, holdout)


def _judge_all_rows(gate: Gate, holdout: Holdout) -> GateReport:
    """Return the report of a gate on a metric of all rows: absolute, or against the champion or a baseline."""
    on_rows = holdout.on_rows(gate.metric)
    if gate.against_champion:
        return judge_against_champion(
            on_rows,
            allowed=gate.no_worse_than_champion_by,
            confidence=gate.confidence,
            failed=holdout.champion_failed,
        )
    if gate.better_than is not None:
        return _judge_against_baseline(gate.better_than, on_rows, holdout)
    return _judge_absolute(gate, on_rows)


def _judge_absolute(gate: Gate, on_rows: MetricOnRows) -> GateReport:
    title, limit, holds = parse_limit(gate, gate.metric)
    rows = int(on_rows.label.size)
    try:
        value = on_rows.value("candidate")
    except UnknownMetricError as error:
        return GateReport(title, "fail", None, limit, rows, f"{title}: {error}", metric=gate.metric)
    interval = on_rows.interval("candidate", value)
    reason = f"{title}: {value:.4g} on {rows:,} rows{_format_interval(interval)}"
    return GateReport(title, to_verdict(holds(value)), value, limit, rows, reason, *_bounds(interval), gate.metric)


def _judge_slices(gate: Gate, metric: Metric, holdout: Holdout, column: str) -> Iterator[GateReport]:
    slices = Slices.from_column(holdout.columns[column])
    # Sorted once, each slice is a contiguous range of rows.
    order = np.argsort(slices.codes, kind="stable")
    label, predicted = holdout.label[order], holdout.predictions_for(metric.name)["candidate"][order]
    weight = None if holdout.weight is None else holdout.weight[order]
    for name, end, rows in zip(slices.names, np.cumsum(slices.rows), map(int, slices.rows), strict=True):
        title, limit, holds = parse_limit(gate, f"{gate.metric} where {column} is {name}")
        if rows < gate.min_rows:
            reason = f"{title}: {rows:,} rows, {gate.min_rows:,} are needed to say"
            yield GateReport(title, "too little data", None, limit, rows, reason, metric=gate.metric)
            continue
        part = slice(int(end) - rows, int(end))
        weights = None if weight is None else weight[part]
        on_rows = MetricOnRows(metric, label[part], {"candidate": predicted[part]}, holdout.draws, weights)
        try:
            value = on_rows.value("candidate")
        except UnknownMetricError as error:
            # A built-in metric may be undefined on a slice; a user's function that raises, or a prediction that the
            # metric does not take, is a fault of the candidate.
            is_data = metric.name in METRICS and not isinstance(error, DomainError)
            verdict: Verdict = "too little data" if is_data else "fail"
            yield GateReport(title, verdict, None, limit, rows, f"{title}: {error}", metric=gate.metric)
            continue
        is_cheap = metric.mean_over_rows or (
            metric.name == "roc_auc" and weight is None
        )  # a bootstrap for every slice costs too much
        interval = on_rows.interval("candidate", value) if is_cheap else None
        reason = f"{title}: {value:.4g} on {rows:,} rows{_format_interval(interval)}"
        yield GateReport(title, to_verdict(holds(value)), value, limit, rows, reason, *_bounds(interval), gate.metric)


def _judge_against_baseline(baseline: str, on_rows: MetricOnRows, holdout: Holdout) -> GateReport:
    metric, rows = on_rows.metric, int(on_rows.label.size)
    title = f"{metric.name} better than that of the {baseline} baseline"
    if baseline not in holdout.baselines:
        reason = holdout.missing_baselines.get(baseline, f"the {baseline} baseline was not fitted")
        return GateReport(title, "fail", None, None, rows, f"{title}: {reason}", metric=metric.name)
    try:
        candidate, reference = on_rows.value("candidate"), on_rows.value(baseline)
    except UnknownMetricError as error:
        return GateReport(title, "fail", None, None, rows, f"{title}: {error}", metric=metric.name)
    interval = on_rows.interval_of_difference("candidate", baseline, candidate - reference)
    reason = f"{title}: {candidate:.4g} against {reference:.4g} on the same {rows:,} rows"
    verdict = to_verdict(metric.is_better(candidate, reference))
    return GateReport(title, verdict, candidate, reference, rows, reason, *_bounds(interval), metric.name)


def _bounds(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _format_interval(interval: Interval | None) -> str:
    return "" if interval is None else f", {interval.confidence:.0%} interval {interval.low:.4g} to {interval.high:.4g}"
