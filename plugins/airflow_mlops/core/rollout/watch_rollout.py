"""The watchdog of a rollout, independent of the run that leads it.

A run may be killed, a task cleared, a gateway restarted. Each watch run reconciles the target and the aliases with the
ledger, and takes back a challenger that has failed, is grossly broken, or has been undecided for too long.
"""

from __future__ import annotations

from airflow_mlops.core.errors import MlopsError, RolledBackError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.rollout.analyse_stage import overdue_reason, plain_failure
from airflow_mlops.core.rollout.next_transition import stage_as_declared
from airflow_mlops.core.rollout.preconditions import newest_partition
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.rollout.rollback import roll_back
from airflow_mlops.core.workspace import Workspace


def watch_rollout(workspace: Workspace, as_of: str) -> list[str]:
    """Roll back a failed challenger, and repair what differs from the ledger; return the repairs, a sentence each.

    Raises
    ------
    RegistryError, TargetError
        If one of them cannot be reached; the other was repaired nevertheless.
    RolloutError
        If the target's telemetry cannot be read, whatever is tried; the rest was repaired nevertheless.
    """
    state, repairs = workspace.state(), []
    rollout = state.rollout
    failure: MlopsError | None = None
    if rollout is not None:
        reason = None
        try:
            reason = _rollback_reason(workspace, state, rollout, as_of)
        except MlopsError as error:
            failure = error
        if reason is not None:
            try:
                roll_back(workspace, rollout, reason, newest_partition(workspace, as_of))
            except RolledBackError as error:
                repairs.append(str(error))
    repairs += reconcile(workspace)
    if failure is not None and not failure.retryable:  # a retryable error is tried again by the next watch
        raise failure
    return repairs


def _rollback_reason(workspace: Workspace, state: LoopState, rollout: OpenRollout, as_of: str) -> str | None:
    """Return why the challenger has to be rolled back; None if it may go on."""
    if rollout.failed is not None or rollout.stage < 0:
        return rollout.failed
    broken, stage = plain_failure(workspace, state), stage_as_declared(workspace.loop.rollout.stages, rollout)
    overdue = None if stage is None else overdue_reason(workspace, state, stage, as_of)
    reason = broken.reason if broken is not None else overdue
    return None if reason is None else f"{rollout.kind}_{rollout.share}: {reason}"
