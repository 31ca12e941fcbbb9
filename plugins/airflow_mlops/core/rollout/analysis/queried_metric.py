"""Metrics that are asked elsewhere: a business figure in a database, a number in Prometheus.

No answer is never a pass: a place that does not answer, and a number that is none, leave the metric inconclusive, in
words. Only a declaration that no answer can mend is an error.
"""

from __future__ import annotations

from math import copysign
from typing import TYPE_CHECKING, Literal

from airflow_mlops.core.errors import DeclarationError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook, all_of
from airflow_mlops.core.rollout.analysis.judge_values import judge_mean, judge_values
from airflow_mlops.core.rollout.analysis.prometheus_number import prometheus_number, query_for
from airflow_mlops.core.rollout.analysis.values_by_key import values_by_key

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.rollout import OnlineMetric
    from airflow_mlops.core.ledger.state import LoopState
    from airflow_mlops.core.workspace import Workspace


def judge_query(workspace: Workspace, state: LoopState, metric: OnlineMetric, look: Look) -> MetricLook:
    """Return what a metric that is asked elsewhere says of the stage that is open.

    Raises
    ------
    DeclarationError
        If there is no such connection, or the query cannot be asked as it is.
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
    ours, theirs, lost = values_by_key(
        workspace.connections.sql(conn_id), metric.query, since=_entered(workspace, state), salt=rollout.salt,
        percent=rollout.share, name=conn_id,
    )  # fmt: skip
    margin = workspace.loop.rollout.margin if metric.worse_by is None else metric.worse_by
    both = metric.worse_by is not None and metric.at_most is not None
    each, parts = look.split(2 if both else 1), []
    if metric.worse_by is not None or metric.at_most is None:
        parts.append(judge_values(ours, theirs, each, margin=margin, better=metric.better, metric="worse_by"))
    if metric.at_most is not None:
        parts.append(judge_mean(ours, each, at_most=metric.at_most, metric="at_most"))
    found = all_of(name, parts)
    if not lost:
        return found
    without = f"{found.reason}; {lost:,} rows without a key or a value were left out"
    return MetricLook(name, found.verdict, without, {**found.numbers, "left_out": lost})


def _judge_number(workspace: Workspace, state: LoopState, metric: OnlineMetric, look: Look) -> MetricLook:
    rollout, champion, conn_id = state.rollout, state.champion, _conn_id(metric)
    assert rollout is not None
    assert metric.query is not None
    address, numbers = workspace.connections.http(conn_id), {}
    asked = {"challenger": rollout.version} | ({} if champion is None else {"champion": champion})
    for who, version in asked.items():
        number = prometheus_number(address, query_for(metric.query, version.number), name=conn_id)
        if number is None and (who == "challenger" or metric.worse_by is not None):
            reason = f"{conn_id} has no number of the {who}, {version.number}"
            return MetricLook(metric.display_name, "inconclusive", reason)
        if number is not None:
            numbers[who] = number
    return judge_number(
        numbers["challenger"], numbers.get("champion"), look, at_most=metric.at_most, worse_by=metric.worse_by,
        better=metric.better, metric=metric.display_name,
    )  # fmt: skip


def judge_number(
    ours: float, theirs: float | None, look: Look, *, at_most: float | None, worse_by: float | None,
    better: Literal["lower", "higher"], metric: str,
) -> MetricLook:  # fmt: skip
    """Return what one number for each version says: a hard limit, as nothing tells how far it is off by chance.

    Beyond a limit it fails at any look. Within all of them it passes at the last planned look, when all that was
    planned is in; before, a good number may only be an early one.

    Parameters
    ----------
    worse_by : float, optional
        Share of the champion's number by which the challenger's may be worse.
    """
    limits, numbers = [], {"challenger": ours}
    if at_most is not None:
        limits.append((ours <= at_most, f"at most {at_most:.4g} is allowed"))
        numbers["limit"] = at_most
    if worse_by is not None:
        if theirs is None:
            return MetricLook(metric, "inconclusive", "there is no number of the champion to compare with")
        way = 1.0 if better == "lower" else -1.0
        allowed = theirs * (1 + copysign(worse_by, way * theirs))
        limits.append((way * ours <= way * allowed, f"the champion's is {theirs:.4g}, {allowed:.4g} is allowed"))
        numbers |= {"champion": theirs, "allowed": allowed}
    words = f"{ours:.4g}; {'; '.join(said for _, said in limits)}"
    if not all(held for held, _ in limits):
        return MetricLook(metric, "fail", f"beyond its limit: {words}", numbers)
    if limits and look.is_last:
        return MetricLook(metric, "pass", f"within its limit: {words}", numbers)
    return MetricLook(metric, "inconclusive", f"within its limit so far, look {look.number} of {look.planned}: {words}",
                      numbers)  # fmt: skip


def _entered(workspace: Workspace, state: LoopState) -> str:
    """Return when the traffic of the open stage was decided on, by the ledger's clock."""
    record = workspace.ledger.record(state.traffic_record)
    assert record is not None, "the state names the record of its traffic"
    return record.recorded_at


def _conn_id(metric: OnlineMetric) -> str:
    if metric.conn_id is None:
        raise DeclarationError(f"{metric.display_name} needs a connection", key="rollout.metrics.conn_id")
    return metric.conn_id
