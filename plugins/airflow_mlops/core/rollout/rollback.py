"""Roll back a challenger: quarantine its version for good, while the champion serves on.

The record stands before the effect. Neither the challenger nor the registry is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from airflow_mlops.core.errors import MlopsError, NotReadyError, RegistryError, RolledBackError, RolloutError
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.core.ledger.rollout_details import RolledBack
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.ports.rollout_target import TargetError
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.rollout.approvals import version_in_question
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import append_decision


@dataclass(frozen=True)
class StageOutcome:
    """The state of a rollout after a stage: the version, the stage's name and the verdict in words."""

    version: str
    stage: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return dict(vars(self))


def roll_back(workspace: Workspace, rollout: OpenRollout, reason: str, as_of: str) -> NoReturn:
    """Record that a challenger is rolled back, quarantine its version, and raise RolledBackError with the reason.

    The target is changed first. If the registry is down, the next ``reconcile`` repairs the aliases.

    Raises
    ------
    RolledBackError
        Once the record stands: a rolled-back rollout is a failure that says why.
    TargetError, RolloutError
        If the target has not followed, though the record stands; or the rollout has ended meanwhile, with a promotion.
    """
    version = rollout.version.number
    note_version(version)
    operation = f"rolled_back:{version}:{rollout.record}"

    def draft(state: LoopState) -> Draft[RolledBack]:
        if state.rollout is None or state.rollout.record != rollout.record:
            ended_outcome(workspace, state, version, reason)
            raise RolloutError(f"version {version} was to be rolled back at {reason}, and was promoted meanwhile")
        return workspace.draft(RolledBack(version=version, reason=reason), operation, as_of)

    append_decision(workspace, draft, name="the rollback")
    _raise_rolled_back(workspace, f"version {version} was rolled back at {reason}")


def apply_side_effects(workspace: Workspace, recorded: str) -> tuple[str, ...]:
    """Make target and aliases follow what was ``recorded``; return a note if the aliases will follow later.

    Raises
    ------
    TargetError, RolloutError
        If the target has not followed; says that the record stands, and what changes the target again.
    """
    try:
        reconcile(workspace)
    except RegistryError as error:
        return (f"the aliases follow with the next reconcile: {error}",)
    except MlopsError as error:
        kind = TargetError if error.retryable else RolloutError
        raise kind(
            f"{recorded}; that stands in the ledger, but the target has not followed. The next watch sends it again, "
            f"or at once: airflow-mlops reconcile {workspace.loop.model}. {error}"
        ) from error
    return ()


def ended_outcome(workspace: Workspace, state: LoopState, version: str, name: str) -> StageOutcome:
    """Return the outcome of a rollout that is no longer open, at the stage ``name``.

    Raises
    ------
    RolledBackError
        If the version was rolled back, or promoted and taken back later.
    NotReadyError
        If the version is not being rolled out.
    """
    if version in state.quarantined:
        _raise_rolled_back(workspace, f"version {version} was rolled back: {state.quarantined[version]}")
    if state.was_champion(version):
        reconcile(workspace)
        return StageOutcome(version, name, "promoted before")
    raise NotReadyError(f"version {version} is not being rolled out")


def describe_ending(state: LoopState, version: str) -> str | None:
    """Return how the rollout of a version ended, in words; None while it is under way or has not begun."""
    if version in state.quarantined:
        return f"version {version} was rolled back: {state.quarantined[version]}"
    under_way = version_in_question(state)
    if under_way is not None and under_way.number == version:
        return None  # also of an earlier champion, which was promoted before
    return f"version {version} was promoted" if state.was_champion(version) else None


def _raise_rolled_back(workspace: Workspace, message: str) -> NoReturn:
    """Raise RolledBackError with a message and the notes of the side effects."""
    notes = apply_side_effects(workspace, message)
    raise RolledBackError("; ".join([message, "the champion serves all keys", *notes]))
