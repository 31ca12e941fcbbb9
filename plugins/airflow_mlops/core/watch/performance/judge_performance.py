"""Judge one look at a window: the metric of its labelled rows, as a whole and slice by slice, against the holdout."""

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
from airflow_mlops.core.evaluation.known_metrics import METRICS
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
    """What a look at a window may spend and raise.

    Parameters
    ----------
    rate : float
        The alarm rate of this look.
    historical : bool
        Whether it may raise no alarm.
    alarmed : tuple of str
        What alarmed at the look before, ``whole`` or ``column=value``; that stands while it is worse than allowed.
    """

    rate: float
    historical: bool = False
    alarmed: tuple[str, ...] = ()


@dataclass(frozen=True)
class HoldoutLosses:
    """What the champion lost on its holdout: the value of the metric, the mean loss, and that of each slice."""

    value: float
    whole: MeanLoss
    slices: Mapping[str, Mapping[str, MeanLoss]] = field(default_factory=dict)


@dataclass(frozen=True)
class ServedRows:
    """Labels and what was served, shape (n_labelled,), and the columns of slices as far as there are any."""

    label: Floats
    predicted: Floats
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def judge_performance(
    declared: Performance, rows: ServedRows, reference: HoldoutLosses, look: Look
) -> tuple[PerformanceJudged, dict[str, Any] | None]:
    """Return the verdict of a judgement, for the record, and that of every slice, for the evidence.

    Where slices are declared, they share one half of the look's alarm rate and the whole has the other.
    """
    try:
        losses = finite_losses(declared.metric, rows)
    except GateError as error:
        return PerformanceJudged(verdict=INSUFFICIENT_DATA, message=str(error), metric=declared.metric), None
    rate = look.rate / 2 if declared.slices else look.rate
    judged = judge_whole(declared, rows, losses, reference, rate)
    new = [WHOLE] if judged.alarms else []
    worse = {WHOLE: judged.worse_by}
    report = None
    if declared.slices:
        verdicts, report = _slices(declared, rows, losses, reference, rate)
        judged = replace(judged, slices=summarise_slices(verdicts, report))
        new += [verdict.called for verdict in verdicts if verdict.verdict == ALARM]
        worse |= {verdict.called: verdict.worse_by for verdict in verdicts}
    stands = [name for name in look.alarmed if (worse.get(name) or 0.0) > declared.worse_by]
    alarmed = stands if look.historical else list(dict.fromkeys([*stands, *new]))
    if alarmed:
        judged = replace(judged, verdict=ALARM, alarmed=tuple(alarmed[: SHOWN + 1]))
    elif new:
        judged = replace(judged, verdict=NO_ALARM)
    return replace(judged, message=describe(judged, rows.label.size, silent=[] if alarmed else new)), report


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
    """Return value, interval, limit and verdict of all labelled rows together."""
    metric = declared.metric
    value = metric_value(metric, losses)
    on_rows = MetricOnRows(METRICS[metric], rows.label, {"served": rows.predicted}, Resamples.draw(losses.size, seed=0))
    interval = on_rows.interval("served", value)
    against = against_limit(metric, MeanLoss.of(losses), reference.whole, declared.worse_by)
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


def _slices(
    declared: Performance, rows: ServedRows, losses: Floats, reference: HoldoutLosses, rate: float
) -> tuple[list[SliceVerdict], dict[str, Any]]:
    now = {name: losses_by_slice(values, losses, declared.min_rows) for name, values in rows.columns.items()}
    found = judge_slices(
        declared.metric, {name: of for name, (of, _) in now.items()}, reference.slices,
        worse_by=declared.worse_by, alarm_rate=rate, within_rate=declared.alarm_rate,
    )  # fmt: skip
    return found, {
        "metric": declared.metric, "rate": rate, "slices": [one.to_dict() for one in found],
        "too_small": {name: small for name, (_, small) in now.items() if small},
        "missing": sorted(set(declared.slices) - set(rows.columns)),
    }  # fmt: skip


def summarise_slices(found: Sequence[SliceVerdict], report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says of slices: how many of each verdict, and the worst of them with their numbers."""
    measured = sorted((one for one in found if one.worse_by is not None), key=lambda one: -float(one.worse_by or 0.0))
    verdicts = [one.verdict for one in measured]
    return {
        "alarm": verdicts.count("alarm"), "no alarm": verdicts.count("no alarm"),
        "insufficient data": len(found) - verdicts.count("alarm") - verdicts.count("no alarm"),
        "too_small": sum(report["too_small"].values()), "missing": report["missing"],
        "worst": [one.to_dict() for one in measured[:SHOWN]],
    }  # fmt: skip


def describe(judged: PerformanceJudged, rows: int, silent: Sequence[str] = ()) -> str:
    """Return a verdict in words, with its numbers; ``silent`` is what is beyond its limit and too late to alarm."""
    interval = "" if judged.low is None else f" [{judged.low:.4g}, {judged.high:.4g}]"
    words = (
        f"{judged.metric} {judged.value:.4g}{interval} on {rows:,} labelled rows, {judged.reference:.4g} on the "
        f"holdout: {judged.worse_by:+.1%}, {judged.limit:+.1%} is allowed"
    )
    alarmed = [*judged.alarmed, *silent]
    if alarmed:
        late = " (historical, so it alarms nothing)" if silent else ""
        names = ", ".join("all rows" if name == WHOLE else name for name in alarmed[:SHOWN])
        return f"{words}; beyond it: {names}{late}"
    if judged.verdict == NO_ALARM:
        return words
    needed = "" if judged.needed is None else f", about {judged.needed:,} rows would"
    return f"{words}; too near the limit to tell{needed}"
