"""What a rollout can find out, said before it starts: nobody should wait for what its sample cannot show."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.rollout.declared_rollout import RolloutStage
from airflow_mlops.core.rollout.judging.detectable_difference import detectable_difference, said_of_errors
from airflow_mlops.core.rollout.next_look import planned_looks
from airflow_mlops.core.rollout.offline_and_online import expected_difference

if TYPE_CHECKING:
    from airflow_mlops.core.governance.state import LoopState, Version
    from airflow_mlops.core.workspace import Workspace

RATE = 0.01
"""Share of errors that is assumed of a champion of which little was seen yet."""
KNOWN_FROM = 1_000
"""Requests from which on the champion's own share of errors says more than that."""


def plan_of_rollout(workspace: Workspace, state: LoopState, version: Version) -> list[str]:
    """Return a sentence for each stage: by how many looks, on how many rows, what difference it finds.

    Stages that compare nothing are left out, and all of them where there is no champion to compare with.
    """
    if state.champion is None:
        return []
    said = _on_requests if workspace.loop.rollout.is_live else _on_rows
    stages = [stage for stage in workspace.loop.rollout.stages if stage.kind not in ("standby", "live")]
    return [found for stage in stages if (found := said(workspace, state, version, stage)) is not None]


def _on_requests(workspace: Workspace, state: LoopState, version: Version, stage: RolloutStage) -> str | None:  # noqa: ARG001
    declared = workspace.loop.rollout
    looks = planned_looks(declared, stage)
    sample = stage.sample or declared.min_rows * looks
    # A shadow predicts what the champion does; elsewhere the champion has the rest of the traffic.
    beside = sample if stage.exposed == 0 else sample * (100 - stage.share) / stage.share
    try:
        seen = workspace.target.telemetry().champion
        rate = seen.errors / seen.requests if seen.requests >= KNOWN_FROM else RATE
    except RolloutError:
        rate = RATE
    alpha = declared.alpha / len(declared.judged_by)
    words = said_of_errors(sample, max(beside, 1.0), rate=rate, alpha=alpha, looks=looks)
    return f"{stage.name}: at most {looks} looks; {words}"


def _on_rows(workspace: Workspace, state: LoopState, version: Version, stage: RolloutStage) -> str | None:
    expected, declared = expected_difference(workspace, version), workspace.loop.rollout
    newest = max(state.scored, default=None)
    if expected is None or expected["interval"] is None or newest is None or not expected.get("rows"):
        return None
    interval, looks = expected["interval"], planned_looks(declared, stage)
    confidence = NormalDist().inv_cdf(0.5 + float(interval.get("confidence") or 0.95) / 2)
    sd = (float(interval["high"]) - float(interval["low"])) / (2 * confidence) * sqrt(float(expected["rows"]))
    partition = float(state.scored[newest].get("rows", 0)) * stage.share / 100
    sample = stage.sample or partition * max(stage.bake, 1) * looks
    # The rows are the same for both versions: their difference varies, and nothing is added by a second sample.
    found = detectable_difference(sample, 1e12, sd=sd, alpha=declared.alpha / len(declared.judged_by), looks=looks)
    if found is None:
        return None
    relative = f" ({found / abs(expected['champion']):.1%})" if expected.get("champion") else ""
    return (
        f"{stage.name}: at most {looks} looks; with {sample:,.0f} labelled rows that both versions predict, a "
        f"difference of {found:.3g}{relative} in {workspace.loop.metric} beyond the margin is found 4 times of 5"
    )
