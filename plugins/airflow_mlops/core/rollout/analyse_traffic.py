"""Analyse a challenger on telemetry of the target: its errors, latency and predictions beside the champion's.

An analysis is due once its share of the planned requests is in, and of the time that the stage has to bake. Between
analyses only gross breakage counts, by a test that may be run at any time without raising the rate of false alarms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_mlops.core.data.row_weights import WeightError
from airflow_mlops.core.declaration.quantiles import part_names
from airflow_mlops.core.declaration.rollout import OnlineMetric, Rollout, RolloutStage
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.ports.rollout_target import Telemetry
from airflow_mlops.core.registry.judged_code import MetricChangedError
from airflow_mlops.core.rollout.analyse_rows import (
    ChallengerFailedError,
    compare_rows,
    count_labelled_rows,
    judge_labels,
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
from airflow_mlops.core.rollout.verdict import StageVerdict, insufficient_data, stage_verdict
from airflow_mlops.core.training.row_losses import DomainError
from airflow_mlops.core.workspace import Workspace

ERRORS_WORSE_BY = 0.01
"""Share of requests by which a challenger may err more often, where nothing else is declared."""
PREDICTIONS_AT_MOST = 0.5
"""Allowed distance of the distributions of the predictions, where nothing else is declared."""


@dataclass(frozen=True)
class OpenStage:
    """The open stage of a rollout, and the target's telemetry since it was entered."""

    workspace: Workspace
    state: LoopState
    stage: RolloutStage
    telemetry: Telemetry

    @property
    def declared(self) -> Rollout:
        """The rollout as the loop declares it."""
        return self.workspace.loop.rollout

    @property
    def rollout(self) -> OpenRollout:
        """The rollout that the stage belongs to."""
        assert self.state.rollout is not None
        return self.state.rollout

    @property
    def minutes(self) -> float:
        """Minutes since the target serves the stage."""
        return self.telemetry.seconds / 60

    @property
    def requests(self) -> int:
        """Requests that the challenger has had."""
        return self.telemetry.challenger.requests

    @property
    def metrics(self) -> tuple[OnlineMetric, ...]:
        """The metrics that judge the stage."""
        return metrics_of(self.workspace.loop, self.stage)

    @property
    def labelled(self) -> list[str]:
        """Partitions scored since the stage was entered, oldest first.

        The partition of the run that waits is older than they are, so it does not bound them.
        """
        return self.state.scored.keys(after=self.rollout.entered)

    @property
    def look(self) -> Look | None:
        """The next planned analysis; None if nothing has come in since the previous one."""
        baked = 1.0 if self.stage.bake == 0 else self.minutes / self.stage.bake
        return next_analysis(
            self.declared, self.stage, self.rollout, self.requests, metrics=len(self.metrics), baked=baked
        )

    @property
    def remaining_bake(self) -> str | None:
        """The time that the stage still has to bake, in words; None if it has baked."""
        minutes = self.stage.bake - self.minutes
        return f"bakes for {minutes:.3g} more minutes" if minutes > 0 else None

    @property
    def is_overdue(self) -> bool:
        """True if ``max_wait`` has passed since the stage is served; the time of earlier stages does not count."""
        own = self.telemetry.order == self.state.traffic_record
        return own and self.stage.max_wait is not None and self.minutes >= self.stage.max_wait


def analyse_traffic(workspace: Workspace, state: LoopState, stage: RolloutStage) -> StageVerdict:
    """Return the verdict on the open stage, from the target's telemetry since it was entered.

    Raises
    ------
    TargetError
        If the target cannot be reached.
    """
    open_ = OpenStage(workspace, state, stage, workspace.target.telemetry())
    broken = broken_traffic(workspace, state, open_.telemetry)
    if broken is not None:
        return broken
    changes = reconcile_target(workspace)
    if changes:
        return insufficient_data("; ".join(changes), 0)
    waits = _reason_to_wait(open_)
    if waits is not None:
        return _fail_if_overdue(insufficient_data(waits, open_.requests), open_)
    if stage.kind == "standby":
        return StageVerdict("pass", f"loaded and warm for {open_.minutes:.3g} minutes", 0)
    look = open_.look
    assert look is not None
    try:
        looks = [_judge_metric(open_, metric, look) for metric in open_.metrics]
    except ChallengerFailedError as error:
        return StageVerdict("fail", f"the challenger cannot predict: {error}", open_.requests)
    except (DomainError, WeightError, MetricChangedError) as error:
        return _fail_if_overdue(insufficient_data(str(error), open_.requests), open_)
    offline = offline_and_online(workspace, open_.rollout.version, looks)
    return _fail_if_overdue(
        stage_verdict(looks, look, rows=open_.requests, remaining_bake=open_.remaining_bake, offline=offline), open_
    )


def broken_traffic(workspace: Workspace, state: LoopState, telemetry: Telemetry) -> StageVerdict | None:
    """Return a failing verdict if the challenger is grossly broken; None if not, or if another one was served."""
    if telemetry.order != state.traffic_record:
        return None
    limits = {metric.metric: metric for metric in workspace.loop.rollout.effective_metrics}
    errors, latency = limits.get("errors"), limits.get("latency")
    reason = gross_breakage(
        telemetry,
        errors_at_most=None if errors is None else errors.at_most,
        latency_at_most=None if latency is None else latency.at_most,
        quantile=0.99 if latency is None else latency.quantile,
    )
    return None if reason is None else StageVerdict("fail", reason, telemetry.challenger.requests)


def reason_to_analyse(workspace: Workspace, state: LoopState, stage: RolloutStage) -> str | None:
    """Return why an analysis of the open stage is due, or that ``max_wait`` has passed; None while it has to wait."""
    open_ = OpenStage(workspace, state, stage, workspace.target.telemetry())
    if open_.is_overdue:
        return f"{open_.minutes:.3g} minutes have passed, max_wait is {stage.max_wait}"
    if _reason_to_wait(open_) is not None:
        return None
    return f"{open_.requests:,} requests of the challenger after {open_.minutes:.3g} minutes"


def _reason_to_wait(open_: OpenStage) -> str | None:
    """Return the reason why an analysis is not due yet, as a sentence; None if it is due."""
    record, count, least = open_.state.traffic_record, open_.requests, open_.declared.min_rows
    if open_.telemetry.order != record:
        return f"the target has seen record {open_.telemetry.order}, and record {record} says what it serves"
    if open_.stage.kind == "standby":
        return open_.remaining_bake
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
    labelled = count_labelled_rows(open_.workspace, open_.state, open_.stage, open_.labelled) if asks_labels else least
    return (
        None if labelled >= least else f"{labelled:,} labelled rows since the stage was entered, {least:,} are needed"
    )


def _judge_metric(open_: OpenStage, metric: OnlineMetric, look: Look) -> MetricLook:
    """Return the result of one metric at a planned analysis."""
    telemetry = open_.telemetry
    if metric.metric == "errors":
        worse_by = ERRORS_WORSE_BY if metric.worse_by is None and metric.at_most is None else metric.worse_by
        result = judge_errors(telemetry, look, worse_by=worse_by, at_most=metric.at_most)
    elif metric.metric == "latency":
        result = judge_latency(
            telemetry, look, quantile=metric.quantile, at_most=metric.at_most, worse_by=metric.worse_by
        )
    elif metric.metric == "predictions":
        at_most = PREDICTIONS_AT_MOST if metric.at_most is None else metric.at_most
        disagree = metric.worse_by if telemetry.paired.size else None
        loop = open_.workspace.loop
        names = loop.several_class_names or (*part_names(loop.train.quantiles),)
        result = judge_predictions(telemetry, look, at_most=at_most, disagree_at_most=disagree, names=names)
    elif metric.metric == "label":
        compared = compare_rows(open_.workspace, open_.state, open_.stage, open_.labelled)
        result = judge_labels(open_.workspace.loop, metric, compared, look)
    else:
        from airflow_mlops.core.rollout.analysis.queried_metric import judge_query  # a driver, and HTTP

        result = judge_query(open_.workspace, open_.state, metric, look)
    return replace(result, metric=metric.display_name)


def _fail_if_overdue(verdict: StageVerdict, open_: OpenStage) -> StageVerdict:
    """Return the verdict; a failure if it is inconclusive and ``max_wait`` has passed."""
    if verdict.verdict != "inconclusive" or not open_.is_overdue:
        return verdict
    waited = f"undecided after {open_.minutes:.3g} minutes, max_wait is {open_.stage.max_wait}"
    return replace(verdict, verdict="fail", reason=f"{waited}: {verdict.reason}")
