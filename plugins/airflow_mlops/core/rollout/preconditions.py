"""Preconditions of a step of a rollout: a partition that is new enough, and a declaration that still has the stage."""

from __future__ import annotations

from airflow_mlops.core.errors import NotReadyError, RolloutError
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.rollout.next_transition import stage_as_declared
from airflow_mlops.core.workspace import Workspace


def newest_partition(workspace: Workspace, as_of: str) -> str:
    """Return the newest published partition at or before ``as_of``: the partition of a rollout's records."""
    return workspace.state().published.newest(until=as_of) or as_of


def require_not_older(rollout: OpenRollout, as_of: str) -> None:
    """Raise NotReadyError if a partition is older than the version that is rolled out.

    Raises
    ------
    NotReadyError
        If ``as_of`` is before the partition of the version.
    """
    if rollout.version.chosen_as_of > as_of:
        raise NotReadyError(f"version {rollout.version.number} was {rollout.version.origin}; {as_of} is older")


def require_declared(workspace: Workspace, rollout: OpenRollout) -> None:
    """Raise RolloutError if the open stage is no longer declared at its position.

    Raises
    ------
    RolloutError
        If the declaration was changed since: what it says of a stage may not hold for the one that is open.
    """
    stages, number = workspace.loop.rollout.stages, rollout.version.number
    if rollout.stage >= 0 and stage_as_declared(stages, rollout) is None:
        names, model = ", ".join(stage.name for stage in stages), workspace.loop.model
        raise RolloutError(
            f"version {number} is at {rollout.kind}_{rollout.share}, stage {rollout.stage + 1} of its rollout, and the "
            f"declaration now says {names}: put the stages back until it has ended, or take it back: airflow-mlops "
            f"rollout abort {model}"
        )
