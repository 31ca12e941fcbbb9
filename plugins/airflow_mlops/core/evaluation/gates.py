"""The gates: what a candidate must show on the holdout before it may become a version.

A gate has three verdicts: ``pass``, ``fail`` and ``too little data``. Only rows with a label count, and what is
missing, NaN or raised never passes. Gates on metrics of rows are judged here, those on what else was found out about
the candidate in ``finding_gates``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import COSTS, FAIRNESS, ROBUSTNESS, STABILITY, Gate
from airflow_mlops.core.errors import GateError
from airflow_mlops.core.evaluation.bootstrap_interval import Interval, MetricOnRows, Resamples
from airflow_mlops.core.evaluation.finding_gates import (
    Findings,
    cost_gate,
    fairness_gates,
    limit_of,
    robustness_gate,
    stability_gate,
)
from airflow_mlops.core.evaluation.gate_report import NO_CHAMPION, GateReport, Verdict, passed, verdict_of
from airflow_mlops.core.evaluation.known_metrics import METRICS, Metric, UnknownMetricError
from airflow_mlops.core.evaluation.metrics_by_slice import Slices
from airflow_mlops.core.training.row_losses import Floats, checked_rows

__all__ = ["GateReport", "Holdout", "evaluate_gates", "passed"]


@dataclass(frozen=True)
class Holdout:
    """The rows a candidate is judged on.

    Labels and predictions have shape (n_rows,). ``champion`` is None before the first promotion, and where the
    champion cannot predict, which ``champion_failed`` tells. ``columns`` are those that gates slice and group by,
    ``baselines`` the predictions of ``dummy`` and ``linear``, ``metrics`` a user's own.
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

    @cached_property
    def predictions(self) -> dict[str, Floats]:
        """The predictions of every model by name."""
        champion = {} if self.champion is None else {"champion": self.champion}
        return {"candidate": self.candidate, **champion, **self.baselines}

    @cached_property
    def draws(self) -> Resamples:
        """The resamples for metrics that need a bootstrap."""
        return Resamples.of(int(self.label.size), seed=self.seed)

    @cached_property
    def _on_rows(self) -> dict[str, MetricOnRows]:
        return {}

    def on_rows(self, name: str) -> MetricOnRows:
        """Return a metric of all models on these rows; what it costs it costs once.

        Raises
        ------
        GateError
            If there is no such metric.
        """
        metric = METRICS.get(name) or self.metrics.get(name)
        if metric is None:
            raise GateError(f"there is no metric {name!r}")
        return self._on_rows.setdefault(name, MetricOnRows(metric, self.label, self.predictions, self.draws))


def evaluate_gates(gates: Sequence[Gate], holdout: Holdout, findings: Findings | None = None) -> list[GateReport]:
    """Return the reports of all gates, those about slices one for each value of each column.

    Raises
    ------
    GateError
        If there are no rows, or a label or a prediction is NaN or infinite: then nothing can be judged.
    """
    for who, predicted in holdout.predictions.items():
        checked_rows(f"predictions of the {who}", holdout.label, predicted)
    found = findings or Findings()
    return [report for gate in gates for report in _reports(gate, holdout, found)]


def _reports(gate: Gate, holdout: Holdout, findings: Findings) -> Iterator[GateReport]:
    name = gate.metric
    if name in FAIRNESS:
        groups, expected = holdout.columns[str(gate.group)], holdout.expected_groups.get(str(gate.group), ())
        yield from fairness_gates(gate, holdout.label, holdout.candidate, groups, expected, seed=holdout.seed)
    elif name in ROBUSTNESS:
        yield robustness_gate(gate, findings)
    elif name in COSTS:
        yield cost_gate(gate, findings)
    elif name == STABILITY:
        yield stability_gate(gate, findings)
    elif gate.no_worse_than_champion_by is not None:
        yield _against_champion(gate.no_worse_than_champion_by, holdout.on_rows(name), holdout)
    elif gate.better_than is not None:
        yield _against_baseline(gate.better_than, holdout.on_rows(name), holdout)
    elif gate.slices:
        for column in gate.slices:
            yield from _by_slice(gate, holdout.on_rows(name).metric, holdout, column)
    else:
        yield _absolute(gate, holdout.on_rows(name))


def _absolute(gate: Gate, on_rows: MetricOnRows) -> GateReport:
    title, limit, holds = limit_of(gate, gate.metric)
    rows = int(on_rows.label.size)
    try:
        value = on_rows.value("candidate")
    except UnknownMetricError as error:
        return GateReport(title, "fail", None, limit, rows, f"{title}: {error}", metric=gate.metric)
    interval = on_rows.interval("candidate", value)
    reason = f"{title}: {value:.4g} on {rows:,} rows{_words(interval)}"
    return GateReport(title, verdict_of(holds(value)), value, limit, rows, reason, *_ends(interval), gate.metric)


def _by_slice(gate: Gate, metric: Metric, holdout: Holdout, column: str) -> Iterator[GateReport]:
    slices = Slices.of(holdout.columns[column])
    order = np.argsort(slices.codes, kind="stable")
    label, predicted = holdout.label[order], holdout.candidate[order]
    for name, end, rows in zip(slices.names, np.cumsum(slices.rows), map(int, slices.rows), strict=True):
        title, limit, holds = limit_of(gate, f"{gate.metric} where {column} is {name}")
        if rows < gate.min_rows:
            reason = f"{title}: {rows:,} rows, {gate.min_rows:,} are needed to say"
            yield GateReport(title, "too little data", None, limit, rows, reason, metric=gate.metric)
            continue
        part = slice(int(end) - rows, int(end))
        on_rows = MetricOnRows(metric, label[part], {"candidate": predicted[part]}, holdout.draws)
        try:
            value = on_rows.value("candidate")
        except UnknownMetricError as error:
            # A metric that is not defined on a slice says nothing about it; a user's function that breaks is a fault.
            verdict: Verdict = "too little data" if metric.name in METRICS else "fail"
            yield GateReport(title, verdict, None, limit, rows, f"{title}: {error}", metric=gate.metric)
            continue
        sure = metric.mean_over_rows or metric.name == "roc_auc"  # a bootstrap for every slice would cost too much
        interval = on_rows.interval("candidate", value) if sure else None
        reason = f"{title}: {value:.4g} on {rows:,} rows{_words(interval)}"
        yield GateReport(title, verdict_of(holds(value)), value, limit, rows, reason, *_ends(interval), gate.metric)


def _against_champion(allowed: float, on_rows: MetricOnRows, holdout: Holdout) -> GateReport:
    metric, rows = on_rows.metric, int(on_rows.label.size)
    title = f"{metric.name} no worse than the champion's by {allowed:.0%}"
    if holdout.champion is None:
        failed = holdout.champion_failed
        reason = f"{title}: {NO_CHAMPION if failed is None else failed}"
        return GateReport(title, verdict_of(failed is None), None, allowed, rows, reason, metric=metric.name)
    try:
        ours, theirs = on_rows.value("candidate"), on_rows.value("champion")
    except UnknownMetricError as error:
        return GateReport(title, "fail", None, allowed, rows, f"{title}: {error}", metric=metric.name)
    value = metric.worse_by(ours, theirs)
    interval = on_rows.interval_of_difference("candidate", "champion", ours - theirs)
    of = "" if metric.best is None else f" of what is left to {metric.best:g}"
    reason = f"{title}: {ours:.4g} against {theirs:.4g}, {value:+.1%}{of}, on the same {rows:,} rows"
    verdict = verdict_of(value <= allowed)
    return GateReport(title, verdict, value, allowed, rows, reason, *_ends(interval), metric.name)


def _against_baseline(baseline: str, on_rows: MetricOnRows, holdout: Holdout) -> GateReport:
    metric, rows = on_rows.metric, int(on_rows.label.size)
    title = f"{metric.name} better than that of the {baseline} baseline"
    if baseline not in holdout.baselines:
        why = holdout.missing_baselines.get(baseline, f"the {baseline} baseline was not fitted")
        return GateReport(title, "fail", None, None, rows, f"{title}: {why}", metric=metric.name)
    try:
        ours, theirs = on_rows.value("candidate"), on_rows.value(baseline)
    except UnknownMetricError as error:
        return GateReport(title, "fail", None, None, rows, f"{title}: {error}", metric=metric.name)
    interval = on_rows.interval_of_difference("candidate", baseline, ours - theirs)
    reason = f"{title}: {ours:.4g} against {theirs:.4g} on the same {rows:,} rows"
    verdict = verdict_of(metric.is_better(ours, theirs))
    return GateReport(title, verdict, ours, theirs, rows, reason, *_ends(interval), metric.name)


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _words(interval: Interval | None) -> str:
    return "" if interval is None else f", {interval.confidence:.0%} interval {interval.low:.4g} to {interval.high:.4g}"
