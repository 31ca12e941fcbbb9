"""Judge the metric of a window's labelled rows, as a whole and slice by slice, against the holdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.watch import Performance
from airflow_mlops.core.errors import GateError
from airflow_mlops.core.evaluation.bootstrap_interval import MetricOnRows, Resamples
from airflow_mlops.core.evaluation.known_metrics import built_in_metric
from airflow_mlops.core.ledger.watch_details import ALARM, INSUFFICIENT_DATA, NO_ALARM, PerformanceJudged
from airflow_mlops.core.training.row_losses import Floats, metric_value, relative_loss, row_losses
from airflow_mlops.core.watch.performance.performance_verdict import (
    MeanLoss,
    SliceVerdict,
    against_limit,
    judge_slices,
    losses_by_slice,
)

WHOLE = "whole"
SHOWN = 5
"""Slices that a record of the ledger names; the evidence has all."""


@dataclass(frozen=True)
class Look:
    """The terms of one look at a window.

    Parameters
    ----------
    rate : float
        The alarm rate of this look.
    historical : bool
        Whether the look may raise no alarm.
    alarmed : tuple of str
        The alarms of the look before, ``whole`` or ``column=value``; each stands while it is worse than allowed.
    """

    rate: float
    historical: bool = False
    alarmed: tuple[str, ...] = ()


@dataclass(frozen=True)
class HoldoutLosses:
    """The champion's losses on its holdout: the value of the metric, the mean loss, and that of each slice."""

    value: float
    whole: MeanLoss
    slices: Mapping[str, Mapping[str, MeanLoss]] = field(default_factory=dict)


@dataclass(frozen=True)
class ServedRows:
    """Labels and served predictions, shape (n_labelled,), the columns of the declared slices, and the weights."""

    label: Floats
    predicted: Floats
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    weight: Floats | None = None


def judge_performance(
    declared: Performance, rows: ServedRows, reference: HoldoutLosses, look: Look
) -> tuple[PerformanceJudged, dict[str, Any] | None]:
    """Judge a look at a window; return the details of its record, and the report on its slices for the evidence.

    Where slices are declared, they share one half of the look's alarm rate and all rows together have the other. The
    report is None without slices.
    """
    try:
        losses = finite_losses(declared.metric, rows)
    except GateError as error:
        return PerformanceJudged(verdict=INSUFFICIENT_DATA, message=str(error), metric=declared.metric), None
    rate = look.rate / 2 if declared.slices else look.rate
    details = judge_whole(declared, rows, losses, reference, rate)
    new_alarms = [WHOLE] if details.alarms else []
    worse = {WHOLE: details.worse_by}
    report = None
    if declared.slices:
        verdicts, report = _judge_slices(declared, rows, losses, reference, rate)
        details = replace(details, slices=summarise_slices(verdicts, report))
        new_alarms += [verdict.alarm_name for verdict in verdicts if verdict.verdict == ALARM]
        worse |= {verdict.alarm_name: verdict.worse_by for verdict in verdicts}
    standing = [name for name in look.alarmed if (worse.get(name) or 0.0) > declared.worse_by]
    alarmed = standing if look.historical else list(dict.fromkeys([*standing, *new_alarms]))
    if alarmed:
        details = replace(details, verdict=ALARM, alarmed=tuple(alarmed[: SHOWN + 1]))
    elif new_alarms:
        details = replace(details, verdict=NO_ALARM)
    return replace(details, message=describe(details, rows.label.size, silent=[] if alarmed else new_alarms)), report


def finite_losses(metric: MetricName, rows: ServedRows) -> Floats:
    """Return the loss of each row.

    Raises
    ------
    GateError
        If one is NaN or infinite: of such numbers there is no mean.
    """
    with np.errstate(over="ignore"):
        losses = row_losses(metric, rows.label, rows.predicted)
        squares = float(np.dot(losses, losses))
    if not np.isfinite(squares):
        raise GateError(f"{metric}: the losses are beyond what can be added up")
    return losses


def judge_whole(
    declared: Performance, rows: ServedRows, losses: Floats, reference: HoldoutLosses, rate: float
) -> PerformanceJudged:
    """Judge all labelled rows together; return value, interval, limit and verdict."""
    metric = declared.metric
    value = metric_value(metric, losses, rows.weight)
    known = built_in_metric(metric)
    assert known is not None
    draws = Resamples.draw(losses.size, seed=0)
    on_rows = MetricOnRows(known, rows.label, {"served": rows.predicted}, draws, rows.weight)
    interval = on_rows.interval("served", value)
    against = against_limit(metric, MeanLoss.of(losses, rows.weight), reference.whole, declared.worse_by)
    verdict = against.verdict(rate, declared.alarm_rate)
    return PerformanceJudged(
        verdict=verdict,
        metric=metric,
        value=value,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        reference=reference.value,
        worse_by=relative_loss(metric, value, reference.value),
        limit=declared.worse_by,
        p_value=against.p_value,
        rate=rate,
        needed=against.needed(declared.alarm_rate) if verdict == INSUFFICIENT_DATA else None,
    )


def _judge_slices(
    declared: Performance, rows: ServedRows, losses: Floats, reference: HoldoutLosses, rate: float
) -> tuple[list[SliceVerdict], dict[str, Any]]:
    losses_by_column = {
        name: losses_by_slice(values, losses, declared.min_rows, rows.weight) for name, values in rows.columns.items()
    }
    verdicts = judge_slices(
        declared.metric,
        {name: by_slice for name, (by_slice, _) in losses_by_column.items()},
        reference.slices,
        worse_by=declared.worse_by,
        alarm_rate=rate,
        within_rate=declared.alarm_rate,
    )
    return verdicts, {
        "metric": declared.metric,
        "rate": rate,
        "slices": [verdict.to_dict() for verdict in verdicts],
        "too_small": {name: small for name, (_, small) in losses_by_column.items() if small},
        "missing": sorted(set(declared.slices) - set(rows.columns)),
    }


def summarise_slices(verdicts: Sequence[SliceVerdict], report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the slices of a record: the number of each verdict, and the worst slices with their numbers."""
    measured = [verdict for verdict in verdicts if verdict.worse_by is not None]
    measured.sort(key=lambda verdict: -float(verdict.worse_by or 0.0))
    names = [verdict.verdict for verdict in measured]
    return {
        "alarm": names.count("alarm"),
        "no alarm": names.count("no alarm"),
        "insufficient data": len(verdicts) - names.count("alarm") - names.count("no alarm"),
        "too_small": sum(report["too_small"].values()),
        "missing": report["missing"],
        "worst": [verdict.to_dict() for verdict in measured[:SHOWN]],
    }


def describe(details: PerformanceJudged, rows: int, silent: Sequence[str] = ()) -> str:
    """Return a verdict as a sentence with its numbers; ``silent`` are alarms that a historical look may not raise."""
    interval = "" if details.low is None else f" [{details.low:.4g}, {details.high:.4g}]"
    sentence = (
        f"{details.metric} {details.value:.4g}{interval} on {rows:,} labelled rows, {details.reference:.4g} on the "
        f"holdout: {details.worse_by:+.1%}, {details.limit:+.1%} is allowed"
    )
    alarmed = [*details.alarmed, *silent]
    if alarmed:
        late = " (historical, so it alarms nothing)" if silent else ""
        names = ", ".join("all rows" if name == WHOLE else name for name in alarmed[:SHOWN])
        return f"{sentence}; beyond it: {names}{late}"
    if details.verdict == NO_ALARM:
        return sentence
    needed = "" if details.needed is None else f", about {details.needed:,} rows would"
    return f"{sentence}; too near the limit to tell{needed}"
