"""Metrics that are queried elsewhere: a business figure in a database, a number in Prometheus.

A missing answer never passes: a service that does not answer, or answers without a number, leaves the metric
inconclusive, with the reason. Only a wrong declaration is an error.
"""

from __future__ import annotations

from math import copysign
from typing import TYPE_CHECKING, Literal

from airflow_mlops.core.errors import DeclarationError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook, combine_results
from airflow_mlops.core.rollout.analysis.judge_values import judge_mean, judge_values
from airflow_mlops.core.rollout.analysis.prometheus_number import prometheus_number, query_for
from airflow_mlops.core.rollout.analysis.values_by_key import values_by_key

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.rollout import OnlineMetric
    from airflow_mlops.core.ledger.state import LoopState
    from airflow_mlops.core.workspace import Workspace


def judge_query(workspace: Workspace, state: LoopState, metric: OnlineMetric, look: Look) -> MetricLook:
    """Return the result of a queried metric for the open stage.

    Raises
    ------
    DeclarationError
        If there is no such connection, or the query is not valid.
    """
    try:
        if metric.metric == "kpi":
            return _judge_figure(workspace, state, metric, look)
        return _judge_number(workspace, state, metric, look)
    except (SourceUnreachableError, SourceUnreadableError) as error:
        return MetricLook(metric.display_name, "inconclusive", f"no answer: {error}")


def _judge_figure(workspace: Workspace, state: LoopState, metric: OnlineMetric, look: Look) -> MetricLook:
    rollout, name = state.rollout, metric.display_name
    assert rollout is not None
    assert metric.query is not None
    if rollout.kind == "rolling":
        return MetricLook(name, "inconclusive", "replicas answer any key, so no key belongs to one version")
    conn_id = _conn_id(metric)
    challenger, champion, skipped = values_by_key(
        workspace.connections.sql(conn_id),
        metric.query,
        since=_stage_entered_at(workspace, state),
        salt=rollout.salt,
        percent=rollout.share,
        name=conn_id,
    )
    margin = workspace.loop.rollout.margin if metric.worse_by is None else metric.worse_by
    has_both = metric.worse_by is not None and metric.at_most is not None
    part_look, parts = look.split(2 if has_both else 1), []
    if metric.worse_by is not None or metric.at_most is None:
        parts.append(
            judge_values(challenger, champion, part_look, margin=margin, better=metric.better, metric="worse_by")
        )
    if metric.at_most is not None:
        parts.append(judge_mean(challenger, part_look, at_most=metric.at_most, metric="at_most"))
    result = combine_results(name, parts)
    if not skipped:
        return result
    reason = f"{result.reason}; {skipped:,} rows without a key or a value were left out"
    return MetricLook(name, result.verdict, reason, {**result.numbers, "left_out": skipped})


def _judge_number(workspace: Workspace, state: LoopState, metric: OnlineMetric, look: Look) -> MetricLook:
    rollout, champion, conn_id = state.rollout, state.champion, _conn_id(metric)
    assert rollout is not None
    assert metric.query is not None
    address, numbers = workspace.connections.http(conn_id), {}
    versions = {"challenger": rollout.version} | ({} if champion is None else {"champion": champion})
    for role, version in versions.items():
        number = prometheus_number(address, query_for(metric.query, version.number), name=conn_id)
        if number is None and (role == "challenger" or metric.worse_by is not None):
            reason = f"{conn_id} has no number of the {role}, {version.number}"
            return MetricLook(metric.display_name, "inconclusive", reason)
        if number is not None:
            numbers[role] = number
    return judge_number(
        numbers["challenger"],
        numbers.get("champion"),
        look,
        at_most=metric.at_most,
        worse_by=metric.worse_by,
        better=metric.better,
        metric=metric.display_name,
    )


def judge_number(
    challenger: float,
    champion: float | None,
    look: Look,
    *,
    at_most: float | None,
    worse_by: float | None,
    better: Literal["lower", "higher"],
    metric: str,
) -> MetricLook:
    """Return the result for one number of each version, against hard limits, since its variance is unknown.

    Beyond a limit it fails at any look. Within all of them it passes at the last planned look only: before, a good
    number may be a matter of chance.

    Parameters
    ----------
    worse_by : float, optional
        Share of the champion's number by which the challenger's may be worse.
    """
    limits, numbers = [], {"challenger": challenger}
    if at_most is not None:
        limits.append((challenger <= at_most, f"at most {at_most:.4g} is allowed"))
        numbers["limit"] = at_most
    if worse_by is not None:
        if champion is None:
            return MetricLook(metric, "inconclusive", "there is no number of the champion to compare with")
        sign = 1.0 if better == "lower" else -1.0
        allowed = champion * (1 + copysign(worse_by, sign * champion))
        limits.append(
            (sign * challenger <= sign * allowed, f"the champion's is {champion:.4g}, {allowed:.4g} is allowed")
        )
        numbers |= {"champion": champion, "allowed": allowed}
    text = f"{challenger:.4g}; {'; '.join(description for _, description in limits)}"
    if not all(is_met for is_met, _ in limits):
        return MetricLook(metric, "fail", f"beyond its limit: {text}", numbers)
    if limits and look.is_last:
        return MetricLook(metric, "pass", f"within its limit: {text}", numbers)
    return MetricLook(
        metric, "inconclusive", f"within its limit so far, look {look.number} of {look.planned}: {text}", numbers
    )


def _stage_entered_at(workspace: Workspace, state: LoopState) -> str:
    """Return the time of the record of the open stage's traffic, by the ledger's clock, as ISO 8601."""
    record = workspace.ledger.record(state.traffic_record)
    assert record is not None, "the state names the record of its traffic"
    return record.recorded_at


def _conn_id(metric: OnlineMetric) -> str:
    if metric.conn_id is None:
        raise DeclarationError(f"{metric.display_name} needs a connection", key="rollout.metrics.conn_id")
    return metric.conn_id
