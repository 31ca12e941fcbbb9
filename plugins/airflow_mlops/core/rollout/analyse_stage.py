"""Analyse the open stage: compare the challenger with the champion, and return a verdict.

On batch the labels of partitions decide (:mod:`~airflow_mlops.core.rollout.analyse_rows`). Where requests are answered
as they come, the target's telemetry does (:mod:`~airflow_mlops.core.rollout.analyse_traffic`). Nothing is recorded
here.
"""

from __future__ import annotations

from airflow_mlops.core.declaration.rollout import RolloutStage
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.rollout.analyse_rows import analyse_rows, count_partitions_since
from airflow_mlops.core.rollout.verdict import StageVerdict
from airflow_mlops.core.workspace import Workspace


def analyse_stage(workspace: Workspace, state: LoopState, stage: RolloutStage, as_of: str) -> StageVerdict:
    """Return the verdict on the stage that is open now; there is a champion to compare it with.

    Raises
    ------
    TargetError
        If the target's telemetry cannot be read.
    """
    if workspace.loop.rollout.is_live:
        from airflow_mlops.core.rollout.analyse_traffic import analyse_traffic

        return analyse_traffic(workspace, state, stage)
    return analyse_rows(workspace, state, stage, as_of)


def plain_failure(workspace: Workspace, state: LoopState) -> StageVerdict | None:
    """Return a failing verdict if the challenger is broken so grossly that no planned analysis is needed, else None.

    On batch a challenger that breaks serves nobody, and the next analysis fails it.
    """
    if state.champion is None or not workspace.loop.rollout.is_live:
        return None
    from airflow_mlops.core.rollout.analyse_traffic import broken_traffic

    return broken_traffic(workspace, state, workspace.target.telemetry())


def overdue_reason(workspace: Workspace, state: LoopState, stage: RolloutStage, as_of: str) -> str | None:
    """Return why the open stage has failed if it is undecided after ``max_wait``; None otherwise, or while paused.

    On batch the analysis of the last partition comes after the watch of it, and may still pass: the partition after
    that is the first one that shows that no analysis was run.
    """
    rollout = state.rollout
    assert rollout is not None
    if stage.max_wait is None or rollout.settled or rollout.paused is not None:
        return None
    if not workspace.loop.rollout.is_live:
        waited, unit = count_partitions_since(state, rollout, as_of) - 1, "partitions"
    else:
        telemetry = workspace.target.telemetry()
        waited, unit = (int(telemetry.seconds / 60) if telemetry.order == state.traffic_record else 0), "minutes"
    return None if waited < stage.max_wait else f"undecided after {waited} {unit}, max_wait is {stage.max_wait}"


def reason_to_resume(workspace: Workspace, version: str, index: int) -> str | None:
    """Return why a task that waits at a stage should resume; None while it has to wait.

    Parameters
    ----------
    version : str
        Number of the version whose rollout is waited for.
    index : int
        Position of its stage in the declaration, from 0.
    """
    state = workspace.state()
    rollout = state.rollout
    if rollout is None or rollout.version.number != version:
        return f"the rollout of version {version} has ended"
    if rollout.failed is not None or rollout.stage != index or rollout.settled or state.champion is None:
        return f"version {version} does not wait at this stage"
    broken = plain_failure(workspace, state)
    if broken is not None:
        return broken.reason
    if rollout.paused is not None:
        return None
    from airflow_mlops.core.rollout.analyse_traffic import reason_to_analyse

    return reason_to_analyse(workspace, state, workspace.loop.rollout.stages[index])
