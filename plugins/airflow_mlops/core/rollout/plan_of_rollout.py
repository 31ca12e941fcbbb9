"""The plan of a rollout: the smallest difference that each stage can detect, stated before it starts."""

from __future__ import annotations

from math import ceil, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.declaration.rollout import Rollout, RolloutStage
from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.rollout.analysis.detectable_difference import describe_detectable_errors, detectable_difference
from airflow_mlops.core.rollout.analysis_schedule import planned_looks
from airflow_mlops.core.rollout.offline_and_online import expected_difference

if TYPE_CHECKING:
    from airflow_mlops.core.ledger.state import LoopState
    from airflow_mlops.core.ledger.state_machine import Version
    from airflow_mlops.core.workspace import Workspace

UNCOMPARED = ("standby", "live")
"""Kinds of stages that compare nothing."""
RATE = 0.01
"""Assumed error rate of a champion with fewer than ``KNOWN_FROM`` requests."""
KNOWN_FROM = 1_000
"""Requests of the champion from which its own error rate is used."""


def plan_of_rollout(workspace: Workspace, state: LoopState, version: Version) -> list[str]:
    """Return a sentence for each stage with its analyses, its sample and the smallest difference that it detects.

    Stages that compare nothing are left out, and all of them where there is no champion to compare with.
    """
    declared = workspace.loop.rollout
    stages = [stage for stage in declared.stages if stage.kind not in UNCOMPARED]
    if state.champion is None:
        return []
    if declared.is_live:
        rate = _champion_error_rate(workspace)
        return [_describe_live_stage(declared, stage, rate) for stage in stages]
    expected, newest = expected_difference(workspace, version), state.scored.newest()
    if newest is None:
        return []
    rows, metric = state.scored[newest].rows, workspace.loop.metric
    sentences = waits_of_rollout(declared, rows)
    if expected is not None and expected["interval"] is not None and expected["rows"]:
        differences = (_describe_batch_stage(declared, stage, expected, rows=rows, metric=metric) for stage in stages)
        sentences += [text for text in differences if text is not None]
    return sentences


def waits_of_rollout(declared: Rollout, rows: int) -> list[str]:
    """Return a sentence for each stage that partitions of ``rows`` rows keep waiting; none on live traffic."""
    if declared.is_live:
        return []
    waits = (describe_wait(declared, stage, rows) for stage in declared.stages if stage.kind not in UNCOMPARED)
    return [text for text in waits if text is not None]


def describe_wait(declared: Rollout, stage: RolloutStage, rows: int) -> str | None:
    """Return how long a stage on batch waits for its first analysis, and what would shorten it; None if it does not.

    Parameters
    ----------
    rows : int
        Rows of a partition.
    """
    share = rows * stage.share // 100
    if share >= declared.min_rows:
        return None
    if share == 0:
        return (
            f"{stage.name}: no row of the {rows:,} of a partition is in its share, so it never passes; raise the share"
        )
    partitions = ceil(declared.min_rows / share)
    late = stage.max_wait is not None and partitions > stage.max_wait
    end = f", and max_wait ({stage.max_wait}) takes it back before that" if late else ""
    shares = ceil(100 * declared.min_rows / rows) if rows else 100
    others = [f"min_rows: {share}"] if shares > 100 else [f"a share of {shares} %", f"min_rows: {share}"]
    return (
        f"{stage.name}: {share:,} of the {rows:,} rows of a partition are in its share, so min_rows "
        f"({declared.min_rows:,}) takes {partitions} partitions{end}; {' or '.join(others)} would take one"
    )


def _champion_error_rate(workspace: Workspace) -> float:
    """Return the champion's error rate by the target's telemetry, or ``RATE`` if there is too little of it."""
    try:
        telemetry = workspace.target.telemetry().champion
    except RolloutError:
        return RATE
    return telemetry.errors / telemetry.requests if telemetry.requests >= KNOWN_FROM else RATE


def _describe_live_stage(declared: Rollout, stage: RolloutStage, rate: float) -> str:
    looks = planned_looks(declared, stage)
    sample = stage.sample or declared.min_rows * looks
    # A shadow predicts what the champion does; elsewhere the champion has the rest of the traffic.
    champion_sample = sample if stage.exposed == 0 else sample * (100 - stage.share) / stage.share
    alpha = declared.alpha / len(declared.effective_metrics)
    text = describe_detectable_errors(sample, max(champion_sample, 1.0), rate=rate, alpha=alpha, looks=looks)
    return f"{stage.name}: at most {looks} looks; {text}"


def _describe_batch_stage(
    declared: Rollout, stage: RolloutStage, expected: dict[str, Any], *, rows: int, metric: str
) -> str | None:
    interval, looks = expected["interval"], planned_looks(declared, stage)
    confidence = NormalDist().inv_cdf(0.5 + float(interval.get("confidence") or 0.95) / 2)
    sd = (float(interval["high"]) - float(interval["low"])) / (2 * confidence) * sqrt(float(expected["rows"]))
    sample = stage.sample or rows * stage.share / 100 * max(stage.bake, 1) * looks
    # The rows are the same for both versions: their difference varies, and nothing is added by a second sample.
    alpha = declared.alpha / len(declared.effective_metrics)
    difference = detectable_difference(sample, 1e12, sd=sd, alpha=alpha, looks=looks)
    if difference is None:
        return None
    relative = f" ({difference / abs(expected['champion']):.1%})" if expected.get("champion") else ""
    return (
        f"{stage.name}: at most {looks} looks; with {sample:,.0f} labelled rows that both versions predict, a "
        f"difference of {difference:.3g}{relative} in {metric} beyond the margin is found 4 times of 5"
    )
