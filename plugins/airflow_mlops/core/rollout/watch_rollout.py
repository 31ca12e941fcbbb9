"""The watchdog of a rollout: whatever became of the run that led it, nothing stays where it must not.

A run may be killed, a task cleared, a gateway restarted. Each watch run makes the target and the aliases say what the
ledger says, and takes back a challenger that has failed, is plainly broken, or has been undecided for too long.
"""

from __future__ import annotations

from airflow_mlops.core.errors import RolledBackError, RolloutError
from airflow_mlops.core.governance.reconcile import reconcile
from airflow_mlops.core.governance.state import LoopState, OpenRollout
from airflow_mlops.core.rollout.analyse_stage import overdue, plain_failure
from airflow_mlops.core.rollout.end_rollout import newest_partition, roll_back
from airflow_mlops.core.workspace import Workspace


def watch_rollout(workspace: Workspace, as_of: str) -> list[str]:
    """Take back what has to go, and repair what differs from the ledger; return what was done, a sentence each.

    Raises
    ------
    RegistryError, TargetError
        If one of them cannot be reached; the other was repaired nevertheless.
    """
    state, done = workspace.state(), []
    rollout = state.rollout
    if rollout is not None:
        reason = _must_go(workspace, state, rollout, as_of)
        if reason is not None:
            try:
                roll_back(workspace, rollout, reason, newest_partition(workspace, as_of))
            except RolledBackError as error:
                done.append(str(error))
    return [*done, *reconcile(workspace)]


def _must_go(workspace: Workspace, state: LoopState, rollout: OpenRollout, as_of: str) -> str | None:
    """Return why the challenger has to go back; None where it may go on, or the target cannot be asked now."""
    stages = workspace.loop.rollout.stages
    if rollout.failed is not None or not 0 <= rollout.stage < len(stages):
        return rollout.failed
    try:
        broken = plain_failure(workspace, state)
        late = overdue(workspace, state, stages[rollout.stage], as_of)
    except RolloutError as error:
        if not error.retryable:
            raise
        return None  # reconcile meets the same target, and says that it does not answer
    reason = broken.reason if broken is not None else late
    return None if reason is None else f"{stages[rollout.stage].name}: {reason}"
