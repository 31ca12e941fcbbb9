"""How a rollout ends that does not go live: rolled back, for good, with the champion serving on.

The record stands before the effect. Neither the challenger nor the registry is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from airflow_mlops.core.errors import MlopsError, NotReadyError, RegistryError, RolledBackError, RolloutError
from airflow_mlops.core.ledger.fault_point import fault_point
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.core.ledger.rollout_details import RolledBack
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.ports.rollout_target import TargetError
from airflow_mlops.core.rollout.next_transition import stage_as_declared
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import append_decision


@dataclass(frozen=True)
class StageOutcome:
    """Where a rollout stands after a stage: the version, the stage's name and the verdict in words."""

    version: str
    stage: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return dict(vars(self))


def newest_partition(workspace: Workspace, as_of: str) -> str:
    """Return the newest published partition at or before ``as_of``, which is what a rollout's records are about."""
    return workspace.state().published.newest(until=as_of) or as_of


def refuse_older(rollout: OpenRollout, as_of: str) -> None:
    """Let nothing move for a partition from before the version was made."""
    if rollout.version.partition > as_of:
        number, made = rollout.version.number, rollout.version.partition
        raise NotReadyError(f"version {number} was made as of {made}; {as_of} is older")


def require_declared(workspace: Workspace, rollout: OpenRollout) -> None:
    """Let a rollout go on whose open stage the declaration still has in its place.

    Raises
    ------
    RolloutError
        If the declaration was changed since: what is declared of a stage says nothing of the one that is open.
    """
    stages, number = workspace.loop.rollout.stages, rollout.version.number
    if rollout.stage >= 0 and stage_as_declared(stages, rollout) is None:
        names, model = ", ".join(stage.name for stage in stages), workspace.loop.model
        raise RolloutError(
            f"version {number} is at {rollout.kind}_{rollout.share}, stage {rollout.stage + 1} of its rollout, and the "
            f"declaration now says {names}: put the stages back until it has ended, or take it back: airflow-mlops "
            f"rollout abort {model}"
        )


def roll_back(workspace: Workspace, rollout: OpenRollout, reason: str, as_of: str) -> NoReturn:
    """Take a challenger back, quarantine its version, and say why.

    The target is told first, and where the registry is down the aliases are repaired by the next ``reconcile``.

    Raises
    ------
    RolledBackError
        Once the record stands: a rolled-back rollout is a failure that says why.
    TargetError, RolloutError
        If who serves has not followed, though the record stands; or the rollout has ended meanwhile, with a promotion.
    """
    version = rollout.version.number
    operation = f"rolled_back:{version}:{rollout.record}"

    def draft(state: LoopState) -> Draft[RolledBack]:
        if state.rollout is None or state.rollout.record != rollout.record:
            ended(workspace, state, version, reason)
            raise RolloutError(f"version {version} was to be rolled back at {reason}, and was promoted meanwhile")
        return workspace.draft(RolledBack(version=version, reason=reason), operation, as_of)

    append_decision(workspace, draft, name="the rollback")
    fault_point("rolled_back")
    said = f"version {version} was rolled back at {reason}"
    raise RolledBackError("; ".join([said, "the champion serves all keys", *bring_effects(workspace, said)]))


def bring_effects(workspace: Workspace, recorded: str) -> tuple[str, ...]:
    """Let target and aliases follow what was ``recorded``; return that the aliases do later, where they have to.

    Raises
    ------
    TargetError, RolloutError
        If who serves has not followed; says that the record stands, and what tells the target again.
    """
    try:
        reconcile(workspace)
    except RegistryError as error:
        return (f"the aliases follow with the next reconcile: {error}",)
    except MlopsError as error:
        kind = TargetError if error.retryable else RolloutError
        raise kind(
            f"{recorded}; that stands in the ledger, but who serves has not followed. The next watch tells it again, "
            f"or at once: airflow-mlops reconcile {workspace.loop.model}. {error}"
        ) from error
    return ()


def ended(workspace: Workspace, state: LoopState, version: str, name: str) -> StageOutcome:
    """Say how a rollout that is no longer open ended; one that was promoted and taken back later was taken back."""
    if version in state.quarantined:
        said = f"version {version} was rolled back: {state.quarantined[version]}"
        raise RolledBackError("; ".join([said, "the champion serves all keys", *bring_effects(workspace, said)]))
    if state.was_champion(version):
        reconcile(workspace)
        return StageOutcome(version, name, "promoted before")
    raise NotReadyError(f"version {version} is not being rolled out")


def how_it_ended(state: LoopState, version: str) -> str | None:
    """Return how the rollout of a version ended, in words; None while it is under way or has not begun."""
    if version in state.quarantined:
        return f"version {version} was rolled back: {state.quarantined[version]}"
    if state.was_champion(version):
        return f"version {version} was promoted"
    return None
