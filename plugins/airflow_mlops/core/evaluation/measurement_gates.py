"""Gates on measurements beside metrics of rows: fairness, robustness, cost, and stability of the importance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import CLASS_FAIRNESS, Gate
from airflow_mlops.core.evaluation.feature_importance import Stability
from airflow_mlops.core.evaluation.gate_report import NO_CHAMPION, GateReport, Verdict, to_verdict
from airflow_mlops.core.evaluation.group_fairness import measure_fairness
from airflow_mlops.core.evaluation.perturbations import RobustnessReport
from airflow_mlops.core.evaluation.prediction_cost import PredictionCost
from airflow_mlops.core.training.row_losses import SMALLEST_PROBABILITY, Floats


@dataclass(frozen=True)
class CandidateMeasurements:
    """The measurements of a candidate beside its metrics; those not made are None or missing."""

    robustness: Mapping[str, RobustnessReport] = field(default_factory=dict)
    costs: Mapping[str, PredictionCost] = field(default_factory=dict)
    stability: Stability | None = None
    has_champion: bool = False
    rows: int = 0


def parse_limit(gate: Gate, name: str) -> tuple[str, float, Callable[[float], bool]]:
    """Return title, limit and test of a gate with ``at_most`` or ``at_least``."""
    if gate.at_most is not None:
        most = gate.at_most
        return f"{name} at most {most:g}", most, lambda value: value <= most
    assert gate.at_least is not None
    least = gate.at_least
    return f"{name} at least {least:g}", least, lambda value: value >= least


def judge_fairness(
    gate: Gate,
    label: Floats,
    predicted: Floats,
    column: npt.NDArray[Any],
    expected: Sequence[str],
    *,
    seed: int,
    classes: Sequence[str] | None = None,
) -> Iterator[GateReport]:
    """Yield the report of a measure over the groups with enough rows, and one for each group with too few.

    See :func:`~airflow_mlops.core.evaluation.group_fairness.measure_fairness` for the arrays and ``classes``.
    """
    measure = gate.metric
    (fairness,) = measure_fairness(
        label,
        predicted,
        column,
        str(gate.group),
        classifies=measure in CLASS_FAIRNESS,
        min_rows=gate.min_rows,
        expected=expected,
        seed=seed,
        measures=[measure],
        classes=classes,
    ).values()
    title, limit, holds = parse_limit(gate, f"{measure} of {gate.group}")
    value, low, high = fairness.value, fairness.low, fairness.high
    if value is None:
        reason = f"{title}: {fairness.reason}"
        yield GateReport(title, "too little data", None, limit, fairness.rows, reason, metric=measure)
    else:
        of_class = f", for the class {fairness.of_class}" if fairness.of_class else ""
        reason = (
            f"{title}: {value:.4g} ({low:.4g} to {high:.4g}) over {len(fairness.by_group)} groups "
            f"on {fairness.rows:,} rows{of_class}"
        )
        verdict = to_verdict(holds(value))
        yield GateReport(title, verdict, value, limit, fairness.rows, reason, low, high, measure)
    for group, rows in fairness.too_small.items():
        group_title = f"{title}, of {group}"
        reason = f"{rows:,} rows, {gate.min_rows:,} are needed to say"
        if rows >= gate.min_rows:
            reason = f"its {rows:,} rows are all {'or none ' if classes else ''}of one class"
        yield GateReport(group_title, "too little data", None, limit, rows, f"{group_title}: {reason}", metric=measure)


def judge_robustness(gate: Gate, measurements: CandidateMeasurements) -> GateReport:
    """Return the report of a gate on one perturbation."""
    name = gate.metric.removeprefix("worse_by_")
    title, limit, holds = parse_limit(gate, f"{gate.metric} (relative loss)")
    measured = measurements.robustness.get(name)
    if measured is None:
        reason = f"{title}: not measured; evaluate.robustness.rows is 0"
        return GateReport(title, "fail", None, limit, 0, reason, metric=gate.metric)
    rows, value = measured.rows, measured.worse_by
    if value is None:
        verdict: Verdict = "too little data" if measured.verdict == "not applicable" else "fail"
        return GateReport(title, verdict, None, limit, rows, f"{title}: {measured.reason}", metric=gate.metric)
    reason = f"{title}: {value:+.1%} on {rows:,} disturbed rows"
    verdict = to_verdict(holds(value))
    return GateReport(title, verdict, value, limit, rows, reason, measured.low, measured.high, gate.metric)


def judge_cost(gate: Gate, measurements: CandidateMeasurements) -> GateReport:
    """Return the report of a gate on the cost of the model, absolute or against the champion."""
    candidate, champion = (
        None if model not in measurements.costs else measurements.costs[model].to_dict()[gate.metric]
        for model in ("candidate", "champion")
    )
    allowed = gate.no_worse_than_champion_by
    if allowed is None:
        title, limit, holds = parse_limit(gate, gate.metric)
        if candidate is None:
            return GateReport(
                title, "fail", None, limit, measurements.rows, f"{title}: not measured", metric=gate.metric
            )
        reason = f"{title}: {candidate:.4g}"
        verdict = to_verdict(holds(float(candidate)))
        return GateReport(title, verdict, float(candidate), limit, measurements.rows, reason, metric=gate.metric)
    title = f"{gate.metric} no worse than the champion's by {allowed:.0%}"
    if not measurements.has_champion:
        reason = f"{title}: {NO_CHAMPION}"
        return GateReport(title, "pass", None, allowed, measurements.rows, reason, metric=gate.metric)
    if candidate is None or champion is None:
        unknown = "candidate" if candidate is None else "champion"
        reason = f"{title}: that of the {unknown} is not known"
        return GateReport(title, "fail", None, allowed, measurements.rows, reason, metric=gate.metric)
    value = (float(candidate) - float(champion)) / max(float(champion), SMALLEST_PROBABILITY)
    reason = f"{title}: {candidate:.4g} against {champion:.4g}, {value:+.1%}"
    verdict = to_verdict(value <= allowed)
    return GateReport(title, verdict, value, allowed, measurements.rows, reason, metric=gate.metric)


def judge_stability(gate: Gate, measurements: CandidateMeasurements) -> GateReport:
    """Return the report of a gate on the correlation of the feature rankings of candidate and champion."""
    title, limit, holds = parse_limit(gate, gate.metric)
    stability = measurements.stability
    if not measurements.has_champion:
        return GateReport(title, "pass", None, limit, measurements.rows, f"{title}: {NO_CHAMPION}", metric=gate.metric)
    if stability is None:
        reason = f"{title}: not measured, as the champion cannot predict"
        return GateReport(title, "fail", None, limit, measurements.rows, reason, metric=gate.metric)
    reason = f"{title}: {stability.reason}"
    if stability.value is None:
        return GateReport(title, "too little data", None, limit, measurements.rows, reason, metric=gate.metric)
    verdict = to_verdict(holds(stability.value))
    return GateReport(title, verdict, stability.value, limit, measurements.rows, reason, metric=gate.metric)
