"""The gates: what a candidate must show on the holdout before it may become a version.

A gate has three verdicts: ``pass``, ``fail`` and ``too little data``. Only rows with a label count,
and a missing or NaN metric never passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.errors import GateError
from airflow_mlops.core.evaluation.declared_evaluation import Gate, MetricName
from airflow_mlops.core.evaluation.metrics import (
    SMALLEST_PROBABILITY,
    Floats,
    metric_value,
    relative_loss,
    row_losses,
)
from airflow_mlops.core.evaluation.paired import paired_difference
from airflow_mlops.core.evaluation.roc_auc import compared_roc_auc, roc_auc

Verdict = Literal["pass", "fail", "too little data"]


@dataclass(frozen=True)
class GateReport:
    """One gate's outcome: what was seen, what was allowed, on how many rows, and the verdict in words."""

    gate: str
    verdict: Verdict
    value: float | None
    limit: float
    rows: int
    reason: str
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Holdout:
    """The rows a candidate is judged on.

    Labels and predictions have shape (n_rows,); ``champion`` is None before the first promotion;
    ``columns`` are those that gates slice by.
    """

    label: Floats
    candidate: Floats
    champion: Floats | None
    columns: Mapping[str, npt.NDArray[Any]]


def evaluate_gates(gates: Sequence[Gate], holdout: Holdout) -> list[GateReport]:
    """Return the reports of all gates, those about slices one for each value of each column."""
    return [report for gate in gates for report in _reports(gate, holdout)]


def passed(reports: Sequence[GateReport]) -> bool:
    """Whether no gate failed and at least one passed."""
    return any(report.verdict == "pass" for report in reports) and all(report.verdict != "fail" for report in reports)


def _reports(gate: Gate, holdout: Holdout) -> list[GateReport]:
    if gate.metric == "roc_auc":
        return _auc_reports(gate, holdout)
    losses = row_losses(gate.metric, holdout.label, holdout.candidate)
    if gate.no_worse_than_champion_by is not None:
        return [_against_champion(gate.metric, gate.no_worse_than_champion_by, losses, holdout)]
    if not gate.slices:
        return [_absolute(gate, gate.metric, "", losses, 1)]
    return [
        _absolute(gate, gate.metric, f" where {column} is {value}", losses[chosen], gate.min_rows)
        for column in gate.slices
        for value, chosen in _slices(holdout.columns[column])
    ]


def _slices(column: npt.NDArray[Any]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    text = column.astype(str)
    return [(str(value), text == value) for value in np.unique(text)]


def _absolute(gate: Gate, metric: MetricName, where: str, losses: Floats, min_rows: int) -> GateReport:
    limit = gate.at_most if gate.at_most is not None else gate.at_least
    assert limit is not None
    word = "at most" if gate.at_most is not None else "at least"
    title = f"{metric}{where} {word} {limit:g}"
    if losses.size < min_rows:
        reason = f"{title}: {losses.size:,} rows, {min_rows:,} are needed to say"
        return GateReport(title, "too little data", None, limit, int(losses.size), reason)
    value = metric_value(metric, losses)
    holds = value <= limit if gate.at_most is not None else value >= limit
    reason = f"{title}: {value:.4g} on {losses.size:,} rows"
    return GateReport(title, "pass" if holds else "fail", value, limit, int(losses.size), reason)


def _against_champion(metric: MetricName, allowed: float, losses: Floats, holdout: Holdout) -> GateReport:
    title = f"{metric} no worse than the champion's by {allowed:.0%}"
    rows = int(losses.size)
    if holdout.champion is None:
        return GateReport(
            title, "pass", None, allowed, rows, f"{title}: there is no champion yet; absolute gates decide"
        )
    theirs = row_losses(metric, holdout.label, holdout.champion)
    ours_value, their_value = metric_value(metric, losses), metric_value(metric, theirs)
    value = relative_loss(metric, ours_value, their_value)
    interval = paired_difference(losses, theirs) if rows > 1 else None
    reason = f"{title}: {ours_value:.4g} against {their_value:.4g}, {value:+.1%}, on the same {rows:,} rows"
    return GateReport(
        title, "pass" if value <= allowed else "fail", value, allowed, rows, reason,
        low=interval.low if interval else None, high=interval.high if interval else None,
    )  # fmt: skip


def _auc_reports(gate: Gate, holdout: Holdout) -> list[GateReport]:
    """Return the reports of a gate on the AUC, which is a metric of the rows together and of none alone."""
    if gate.no_worse_than_champion_by is not None:
        return [_auc_against_champion(gate.no_worse_than_champion_by, holdout)]
    if not gate.slices:
        everything = np.ones(holdout.label.size, bool)
        return [_auc_absolute(gate, "roc_auc", holdout, everything, whole=True)]
    return [
        _auc_absolute(gate, f"roc_auc where {column} is {value}", holdout, chosen, whole=False)
        for column in gate.slices
        for value, chosen in _slices(holdout.columns[column])
    ]


def _auc_absolute(gate: Gate, name: str, holdout: Holdout, chosen: npt.NDArray[np.bool_], *, whole: bool) -> GateReport:
    limit = gate.at_most if gate.at_most is not None else gate.at_least
    assert limit is not None
    title = f"{name} {'at most' if gate.at_most is not None else 'at least'} {limit:g}"
    rows = int(chosen.sum())
    if not whole and rows < gate.min_rows:
        reason = f"{title}: {rows:,} rows, {gate.min_rows:,} are needed to say"
        return GateReport(title, "too little data", None, limit, rows, reason)
    try:
        found = roc_auc(holdout.label[chosen], holdout.candidate[chosen])
    except GateError as error:
        # Of the whole holdout that is no evidence, and no evidence never passes; a slice has too little to say.
        return GateReport(title, "fail" if whole else "too little data", None, limit, rows, f"{title}: {error}")
    holds = found.value <= limit if gate.at_most is not None else found.value >= limit
    reason = f"{title}: {found.value:.4g} ({found.low:.4g} to {found.high:.4g}) on {rows:,} rows"
    return GateReport(title, "pass" if holds else "fail", found.value, limit, rows, reason, found.low, found.high)


def _auc_against_champion(allowed: float, holdout: Holdout) -> GateReport:
    title = f"roc_auc no worse than the champion's by {allowed:.0%}"
    rows = int(holdout.label.size)
    if holdout.champion is None:
        reason = f"{title}: there is no champion yet; absolute gates decide"
        return GateReport(title, "pass", None, allowed, rows, reason)
    try:
        found = compared_roc_auc(holdout.label, holdout.candidate, holdout.champion)
    except GateError as error:
        return GateReport(title, "fail", None, allowed, rows, f"{title}: {error}")
    ours, theirs, between = found.challenger, found.champion, found.difference
    # As with accuracy, what is lost is what is left to 1.
    value = ((1 - ours.value) - (1 - theirs.value)) / max(1 - theirs.value, SMALLEST_PROBABILITY)
    reason = (
        f"{title}: {ours.value:.4g} against {theirs.value:.4g}, {value:+.1%} of what is left to 1, "
        f"on the same {rows:,} rows"
    )
    return GateReport(
        title, "pass" if value <= allowed else "fail", value, allowed, rows, reason, between.low, between.high
    )
