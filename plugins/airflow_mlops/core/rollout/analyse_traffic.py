"""What a target saw of a challenger: its errors, its latency, its predictions, beside the champion's.

Looks come when their share of the planned requests is in, and of the time that the stage has to bake. Between them only
what is plainly broken counts: that is tested so that looking all the time costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_mlops.core.declaration.rollout import OnlineMetric, Rollout, RolloutStage
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.ports.rollout_target import Telemetry
from airflow_mlops.core.rollout.analyse_rows import (
    ChallengerFailedError,
    compare_rows,
    judge_labels,
    labelled_rows,
    metrics_of,
)
from airflow_mlops.core.rollout.analysis.gross_breakage import gross_breakage
from airflow_mlops.core.rollout.analysis.judge_errors import judge_errors
from airflow_mlops.core.rollout.analysis.judge_latency import judge_latency
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook
from airflow_mlops.core.rollout.analysis.judge_predictions import judge_predictions
from airflow_mlops.core.rollout.analysis_schedule import next_analysis, planned_looks, planned_sample
from airflow_mlops.core.rollout.offline_and_online import offline_and_online
from airflow_mlops.core.rollout.reconcile_target import reconcile_target
from airflow_mlops.core.rollout.verdict import StageVerdict, stage_verdict, too_little
from airflow_mlops.core.workspace import Workspace

ERRORS_WORSE_BY = 0.01
"""Share of requests by which a challenger may err more often, where nothing else is declared."""
PREDICTIONS_AT_MOST = 0.5
"""Distance of the predictions' distributions that is no matter, where nothing else is declared."""


@dataclass(frozen=True)
class OpenStage:
    """The stage that is open, and what the target saw since it was entered."""

    workspace: Workspace
    state: LoopState
    stage: RolloutStage
    seen: Telemetry

    @property
    def declared(self) -> Rollout:
        """What the loop declares about its rollouts."""
        return self.workspace.loop.rollout

    @property
    def rollout(self) -> OpenRollout:
        """The rollout that the stage belongs to."""
        assert self.state.rollout is not None
        return self.state.rollout

    @property
    def minutes(self) -> float:
        """Minutes since the target serves the stage."""
        return self.seen.seconds / 60

    @property
    def requests(self) -> int:
        """Requests that the challenger has had."""
        return self.seen.challenger.requests

    @property
    def metrics(self) -> tuple[OnlineMetric, ...]:
        """What the stage is judged by."""
        return metrics_of(self.workspace.loop, self.stage)

    @property
    def labelled(self) -> list[str]:
        """Partitions scored since the stage was entered, oldest first.

        The run that waits is of a partition from before them: where minutes count, that is not what counts as now.
        """
        return self.state.scored.keys(after=self.rollout.entered)

    @property
    def look(self) -> Look | None:
        """The next planned look; None where nothing has come in since the one before."""
        baked = 1.0 if self.stage.bake == 0 else self.minutes / self.stage.bake
        return next_analysis(
            self.declared, self.stage, self.rollout, self.requests, metrics=len(self.metrics), baked=baked
        )

    @property
    def bakes(self) -> str | None:
        """For how long the stage has to bake yet, in words."""
        left = self.stage.bake - self.minutes
        return f"bakes for {left:.3g} more minutes" if left > 0 else None

    @property
    def is_overdue(self) -> bool:
        """Whether the stage has had the time that it may take; what was served before it is not its time."""
        own = self.seen.order == self.state.traffic_record
        return own and self.stage.max_wait is not None and self.minutes >= self.stage.max_wait


def analyse_traffic(workspace: Workspace, state: LoopState, stage: RolloutStage) -> StageVerdict:
    """Return the verdict on the stage that is open now, from what the target saw since it was entered.

    Raises
    ------
    TargetError
        If the target cannot be reached.
    """
    open_ = OpenStage(workspace, state, stage, workspace.target.telemetry())
    broken = broken_traffic(workspace, state, open_.seen)
    if broken is not None:
        return broken
    changes = reconcile_target(workspace)
    if changes:
        return too_little("; ".join(changes), 0)
    waits = _waits(open_)
    if waits is not None:
        return _in_time(too_little(waits, open_.requests), open_)
    if stage.kind == "standby":
        return StageVerdict("pass", f"loaded and warm for {open_.minutes:.3g} minutes", 0)
    look = open_.look
    assert look is not None
    try:
        looks = [_judged(open_, metric, look) for metric in open_.metrics]
    except ChallengerFailedError as error:
        return StageVerdict("fail", f"the challenger cannot predict: {error}", open_.requests)
    offline = offline_and_online(workspace, open_.rollout.version, looks)
    return _in_time(stage_verdict(looks, look, rows=open_.requests, bakes=open_.bakes, offline=offline), open_)


def broken_traffic(workspace: Workspace, state: LoopState, seen: Telemetry) -> StageVerdict | None:
    """Return that the challenger is plainly broken; None where it is not, or the target saw another one."""
    if seen.order != state.traffic_record:
        return None
    limits = {metric.metric: metric for metric in workspace.loop.rollout.effective_metrics}
    errors, latency = limits.get("errors"), limits.get("latency")
    reason = gross_breakage(
        seen,
        errors_at_most=None if errors is None else errors.at_most,
        latency_at_most=None if latency is None else latency.at_most,
        quantile=0.99 if latency is None else latency.quantile,
    )
    return None if reason is None else StageVerdict("fail", reason, seen.challenger.requests)


def look_is_due(workspace: Workspace, state: LoopState, stage: RolloutStage) -> str | None:
    """Return why a look at the open stage is due, or that its time is over; None where it has to be waited for."""
    open_ = OpenStage(workspace, state, stage, workspace.target.telemetry())
    if open_.is_overdue:
        return f"{open_.minutes:.3g} minutes have passed, max_wait is {stage.max_wait}"
    if _waits(open_) is not None:
        return None
    return f"{open_.requests:,} requests of the challenger after {open_.minutes:.3g} minutes"


def _waits(open_: OpenStage) -> str | None:
    """Return what a look has to wait for, in words; None where it is due."""
    told, count, least = open_.state.traffic_record, open_.requests, open_.declared.min_rows
    if open_.seen.order != told:
        return f"the target has seen record {open_.seen.order}, and record {told} says what it serves"
    if open_.stage.kind == "standby":
        return open_.bakes
    if count < least:
        return f"{count:,} requests of the challenger, {least:,} are needed to say"
    asks_labels = any(metric.metric == "label" for metric in open_.metrics)
    if asks_labels and not open_.labelled:
        return "no partition was scored since the stage was entered, so that there are no labels"
    look = open_.look
    if look is None:
        return f"{count:,} requests of the challenger, {open_.minutes:.3g} minutes: no more than at the look before"
    planned = planned_looks(open_.declared, open_.stage)
    part, sample = look.number / planned, planned_sample(open_.declared, open_.stage, open_.rollout, count)
    which = f"look {look.number} of {planned} comes"
    if count < part * sample:
        return f"{which} at {part * sample:,.0f} requests of the challenger; {count:,} are in"
    if open_.minutes < part * open_.stage.bake:
        return f"{which} after {part * open_.stage.bake:.3g} minutes; {open_.minutes:.3g} have passed"
    # Last, as it reads the lake. A look without labels would be one of those planned, and the last of them is final.
    known = labelled_rows(open_.workspace, open_.state, open_.stage, open_.labelled) if asks_labels else least
    return None if known >= least else f"{known:,} labelled rows since the stage was entered, {least:,} are needed"


def _judged(open_: OpenStage, metric: OnlineMetric, look: Look) -> MetricLook:
    """Return what one metric says at a look."""
    seen = open_.seen
    if metric.metric == "errors":
        worse_by = ERRORS_WORSE_BY if metric.worse_by is None and metric.at_most is None else metric.worse_by
        found = judge_errors(seen, look, worse_by=worse_by, at_most=metric.at_most)
    elif metric.metric == "latency":
        found = judge_latency(seen, look, quantile=metric.quantile, at_most=metric.at_most, worse_by=metric.worse_by)
    elif metric.metric == "predictions":
        at_most = PREDICTIONS_AT_MOST if metric.at_most is None else metric.at_most
        disagree = metric.worse_by if seen.paired.size else None
        found = judge_predictions(seen, look, at_most=at_most, disagree_at_most=disagree)
    elif metric.metric == "label":
        compared = compare_rows(open_.workspace, open_.state, open_.stage, open_.labelled)
        found = judge_labels(open_.workspace.loop, metric, compared, look)
    else:
        from airflow_mlops.core.rollout.analysis.queried_metric import judge_query  # a driver, and HTTP

        found = judge_query(open_.workspace, open_.state, metric, look)
    return replace(found, metric=metric.display_name)


def _in_time(verdict: StageVerdict, open_: OpenStage) -> StageVerdict:
    """Return that a stage has failed which is undecided after the time it may take."""
    if verdict.verdict != "inconclusive" or not open_.is_overdue:
        return verdict
    waited = f"undecided after {open_.minutes:.3g} minutes, max_wait is {open_.stage.max_wait}"
    return replace(verdict, verdict="fail", reason=f"{waited}: {verdict.reason}")
