"""Gates on what is no metric of rows: fairness, robustness, cost, and the stability of what a model leans on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import CLASS_FAIRNESS, Gate
from airflow_mlops.core.evaluation.feature_importance import Stability
from airflow_mlops.core.evaluation.gate_report import NO_CHAMPION, GateReport, Verdict, verdict_of
from airflow_mlops.core.evaluation.group_fairness import group_fairness
from airflow_mlops.core.evaluation.perturbations import RobustnessReport
from airflow_mlops.core.evaluation.prediction_cost import PredictionCost
from airflow_mlops.core.training.row_losses import SMALLEST_PROBABILITY, Floats


@dataclass(frozen=True)
class Findings:
    """What was found out about a candidate beside its metrics. What was not measured is None or missing."""

    robustness: Mapping[str, RobustnessReport] = field(default_factory=dict)
    costs: Mapping[str, PredictionCost] = field(default_factory=dict)
    stability: Stability | None = None
    has_champion: bool = False
    rows: int = 0


def limit_of(gate: Gate, what: str) -> tuple[str, float, Callable[[float], bool]]:
    """Return the title, the limit, and what holds a value against it, of a gate with ``at_most`` or ``at_least``."""
    if gate.at_most is not None:
        most = gate.at_most
        return f"{what} at most {most:g}", most, lambda value: value <= most
    assert gate.at_least is not None
    least = gate.at_least
    return f"{what} at least {least:g}", least, lambda value: value >= least


def fairness_gates(
    gate: Gate, label: Floats, predicted: Floats, column: npt.NDArray[Any], expected: Sequence[str], *, seed: int
) -> Iterator[GateReport]:
    """Give the report of the measure over the groups with enough rows, and one for each group that has too few."""
    measure = gate.metric
    (found,) = group_fairness(
        label,
        predicted,
        column,
        str(gate.group),
        classifies=measure in CLASS_FAIRNESS,
        min_rows=gate.min_rows,
        expected=expected,
        seed=seed,
        measures=[measure],
    ).values()
    title, limit, holds = limit_of(gate, f"{measure} of {gate.group}")
    if found.value is None:
        reason = f"{title}: {found.reason}"
        yield GateReport(title, "too little data", None, limit, found.rows, reason, metric=measure)
    else:
        reason = (
            f"{title}: {found.value:.4g} ({found.low:.4g} to {found.high:.4g}) over {len(found.by_group)} groups "
            f"on {found.rows:,} rows"
        )
        verdict = verdict_of(holds(found.value))
        yield GateReport(title, verdict, found.value, limit, found.rows, reason, found.low, found.high, measure)
    for group, rows in found.too_small.items():
        of = f"{title}, of {group}"
        lacks = f"{rows:,} rows, {gate.min_rows:,} are needed to say"
        if rows >= gate.min_rows:
            lacks = f"its {rows:,} rows are all of one class"
        yield GateReport(of, "too little data", None, limit, rows, f"{of}: {lacks}", metric=measure)


def robustness_gate(gate: Gate, findings: Findings) -> GateReport:
    """Return the report of a gate on one disturbance."""
    name = gate.metric.removeprefix("worse_by_")
    title, limit, holds = limit_of(gate, f"{gate.metric} (relative loss)")
    found = findings.robustness.get(name)
    if found is None:
        reason = f"{title}: not measured; evaluate.robustness.rows is 0"
        return GateReport(title, "fail", None, limit, 0, reason, metric=gate.metric)
    if found.worse_by is None:
        verdict: Verdict = "too little data" if found.verdict == "not applicable" else "fail"
        return GateReport(title, verdict, None, limit, found.rows, f"{title}: {found.reason}", metric=gate.metric)
    reason = f"{title}: {found.worse_by:+.1%} on {found.rows:,} disturbed rows"
    passes = verdict_of(holds(found.worse_by))
    return GateReport(title, passes, found.worse_by, limit, found.rows, reason, found.low, found.high, gate.metric)


def cost_gate(gate: Gate, findings: Findings) -> GateReport:
    """Return the report of a gate on what the model costs, absolute or against the champion."""
    ours, theirs = (
        None if who not in findings.costs else findings.costs[who].to_dict()[gate.metric]
        for who in ("candidate", "champion")
    )
    allowed = gate.no_worse_than_champion_by
    if allowed is None:
        title, limit, holds = limit_of(gate, gate.metric)
        if ours is None:
            return GateReport(title, "fail", None, limit, findings.rows, f"{title}: not measured", metric=gate.metric)
        reason = f"{title}: {ours:.4g}"
        verdict = verdict_of(holds(float(ours)))
        return GateReport(title, verdict, float(ours), limit, findings.rows, reason, metric=gate.metric)
    title = f"{gate.metric} no worse than the champion's by {allowed:.0%}"
    if not findings.has_champion:
        reason = f"{title}: {NO_CHAMPION}"
        return GateReport(title, "pass", None, allowed, findings.rows, reason, metric=gate.metric)
    if ours is None or theirs is None:
        who = "candidate" if ours is None else "champion"
        reason = f"{title}: that of the {who} is not known"
        return GateReport(title, "fail", None, allowed, findings.rows, reason, metric=gate.metric)
    value = (float(ours) - float(theirs)) / max(float(theirs), SMALLEST_PROBABILITY)
    reason = f"{title}: {ours:.4g} against {theirs:.4g}, {value:+.1%}"
    verdict = verdict_of(value <= allowed)
    return GateReport(title, verdict, value, allowed, findings.rows, reason, metric=gate.metric)


def stability_gate(gate: Gate, findings: Findings) -> GateReport:
    """Return the report of a gate on how alike candidate and champion rank the features."""
    title, limit, holds = limit_of(gate, gate.metric)
    found = findings.stability
    if not findings.has_champion:
        return GateReport(title, "pass", None, limit, findings.rows, f"{title}: {NO_CHAMPION}", metric=gate.metric)
    if found is None:
        reason = f"{title}: not measured, as the champion cannot predict"
        return GateReport(title, "fail", None, limit, findings.rows, reason, metric=gate.metric)
    if found.value is None:
        reason = f"{title}: {found.reason}"
        return GateReport(title, "too little data", None, limit, findings.rows, reason, metric=gate.metric)
    verdict = verdict_of(holds(found.value))
    return GateReport(title, verdict, found.value, limit, findings.rows, f"{title}: {found.reason}", metric=gate.metric)
