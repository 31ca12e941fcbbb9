"""The watchdog of a rollout: whatever became of the run that led it, nothing stays where it must not.

A run may be killed, a task cleared, a gateway restarted. Each watch run makes the target and the aliases say what the
ledger says, and takes back a challenger that has failed, is plainly broken, or has been undecided for too long.
"""

from __future__ import annotations

from airflow_mlops.core.errors import MlopsError, RolledBackError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.rollout.analyse_stage import overdue, plain_failure
from airflow_mlops.core.rollout.next_transition import stage_as_declared
from airflow_mlops.core.rollout.preconditions import newest_partition
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.rollout.rollback import roll_back
from airflow_mlops.core.workspace import Workspace


def watch_rollout(workspace: Workspace, as_of: str) -> list[str]:
    """Take back what has to go, and repair what differs from the ledger; return what was done, a sentence each.

    Raises
    ------
    RegistryError, TargetError
        If one of them cannot be reached; the other was repaired nevertheless.
    RolloutError
        If the target will not say what it has seen, whatever is tried; the rest was repaired nevertheless.
    """
    state, done = workspace.state(), []
    rollout = state.rollout
    silent: MlopsError | None = None
    if rollout is not None:
        reason = None
        try:
            reason = _must_go(workspace, state, rollout, as_of)
        except MlopsError as error:
            silent = error
        if reason is not None:
            try:
                roll_back(workspace, rollout, reason, newest_partition(workspace, as_of))
            except RolledBackError as error:
                done.append(str(error))
    done += reconcile(workspace)
    if silent is not None and not silent.retryable:  # one that does not answer now is asked again by the next watch
        raise silent
    return done


def _must_go(workspace: Workspace, state: LoopState, rollout: OpenRollout, as_of: str) -> str | None:
    """Return why the challenger has to go back; None where it may go on."""
    if rollout.failed is not None or rollout.stage < 0:
        return rollout.failed
    broken, stage = plain_failure(workspace, state), stage_as_declared(workspace.loop.rollout.stages, rollout)
    late = None if stage is None else overdue(workspace, state, stage, as_of)
    reason = broken.reason if broken is not None else late
    return None if reason is None else f"{rollout.kind}_{rollout.share}: {reason}"
