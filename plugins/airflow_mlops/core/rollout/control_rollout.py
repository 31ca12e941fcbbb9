"""Control a rollout under way by hand: pause it, resume it, skip a stage, approve a stage.

An abort is :func:`~airflow_mlops.core.rollout.manual_rollback.roll_back_now`, which beats all of these. Each is a
record and needs neither the challenger nor the target: the rollout's next step finds it there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from airflow_mlops.core.errors import NotReadyError, PolicyError, RolloutError
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.rollout_details import RolloutPaused, RolloutResumed, StageApproved, StageSkipped
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.rollout.approvals import people_behind, why_void
from airflow_mlops.core.rollout.manual_rollback import roll_back_now
from airflow_mlops.core.rollout.next_transition import next_transition
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import append_decision

D = TypeVar("D", bound=Details)
ACTIONS = ("pause", "resume", "skip", "abort")
"""Names of the actions of :func:`control_rollout`."""


def control_rollout(workspace: Workspace, action: str, *, reason: str, only: str | None = None) -> str:
    """Carry out an action on the rollout, one of ``ACTIONS``; return a message about its effect.

    Parameters
    ----------
    reason : str
        Why, for the ledger.
    only : str, optional
        Number of the version that a person saw under way: it is done to the rollout of no other one.

    Raises
    ------
    RolloutError
        If there is no such action, it cannot be done now, or the rollout is of another version.
    """
    if only is not None and action in ACTIONS:
        number = _open(workspace, workspace.state()).version.number
        if number != only:
            raise RolloutError(f"version {only} was meant, and version {number} is being rolled out now; look again")
    if action == "abort":
        number = _open(workspace, workspace.state()).version.number
        # That version and no other: a look may take it back this very moment, and then the champion is not meant.
        rollback = roll_back_now(workspace, reason=reason, only=number)
        return "; ".join([f"version {number} was taken back, version {rollback.champion} serves", *rollback.notes])
    actions: dict[str, Callable[..., Record[Any]]] = {
        "pause": pause_rollout,
        "resume": resume_rollout,
        "skip": skip_stage,
    }
    if action not in actions:
        raise RolloutError(f"{action!r} cannot be done to a rollout; {', '.join(ACTIONS)} can")
    record = actions[action](workspace, reason=reason)
    step = getattr(record.details, "name", "")
    messages = {"pause": "is paused", "resume": "goes on", "skip": f"skips {step}"}
    return f"version {record.details.version} {messages[action]} (record {record.sequence})"


def pause_rollout(workspace: Workspace, *, reason: str) -> Record[RolloutPaused]:
    """Pause the rollout where it is: traffic stays, no analysis is run and no stage entered.

    A challenger that is grossly broken, such as one that raises, is still rolled back.

    Raises
    ------
    RolloutError
        If there is no rollout, or it is paused already.
    """

    def draft(state: LoopState) -> Draft[RolloutPaused]:
        rollout = _open(workspace, state)
        if rollout.paused is not None:
            raise RolloutError(f"the rollout of version {rollout.version.number} is paused already: {rollout.paused}")
        return _draft(workspace, state, rollout, RolloutPaused(version=rollout.version.number, reason=reason))

    return append_decision(workspace, draft, name="the pause")


def resume_rollout(workspace: Workspace, *, reason: str) -> Record[RolloutResumed]:
    """Resume a paused rollout.

    Raises
    ------
    RolloutError
        If there is no rollout, or it is not paused.
    """

    def draft(state: LoopState) -> Draft[RolloutResumed]:
        rollout = _open(workspace, state)
        if rollout.paused is None:
            raise RolloutError(f"the rollout of version {rollout.version.number} is not paused")
        return _draft(workspace, state, rollout, RolloutResumed(version=rollout.version.number, reason=reason))

    return append_decision(workspace, draft, name="the resumption")


def skip_stage(workspace: Workspace, *, reason: str) -> Record[StageSkipped]:
    """Pass the open stage by a person's decision; one that has failed cannot be skipped.

    Raises
    ------
    RolloutError
        If there is no rollout, no stage is open, or it has failed.
    """

    def draft(state: LoopState) -> Draft[StageSkipped]:
        rollout = _open(workspace, state)
        number = rollout.version.number
        if rollout.failed is not None:
            raise RolloutError(f"version {number} has failed and is rolled back, not skipped: {rollout.failed}")
        if rollout.stage < 0 or rollout.settled:
            raise RolloutError(f"no stage of version {number} is undecided; the run of the rollout enters the next one")
        name = f"{rollout.kind}_{rollout.share}"
        details = StageSkipped(version=number, stage=rollout.stage, name=name, reason=reason)
        return _draft(workspace, state, rollout, details)

    return append_decision(workspace, draft, name="the skip")


def stage_to_approve(workspace: Workspace, index: int, as_of: str) -> OpenRollout:
    """Return the rollout whose stage ``index`` waits for approval.

    Raises
    ------
    NotReadyError
        If there is none from up to ``as_of``, or the stage is not the next one.
    """
    state, name = workspace.state(), workspace.loop.rollout.stages[index].name
    rollout = state.rollout
    if rollout is None or rollout.version.chosen_as_of > as_of:
        raise NotReadyError(f"no rollout from up to {as_of} waits at {name}")
    note_version(rollout.version.number)
    if state.champion is None:
        # Nothing is compared before it: each approval is asked for in its turn.
        due = next_transition(workspace.loop.rollout.stages, rollout, first=True).stage >= index
    else:
        due = rollout.stage == index - 1 and (rollout.settled or rollout.stage < 0)
    if not due and rollout.stage < index:
        raise NotReadyError(f"version {rollout.version.number} has not come to {name} yet")
    return rollout


def approve_stage(
    workspace: Workspace, index: int, by: tuple[str, ...], *, version: str | None = None, started_by: str | None = None
) -> Record[StageApproved]:
    """Approve the start of stage ``index``, in the name of a person who had no hand in making the version.

    Parameters
    ----------
    by : tuple of str
        The names the person goes by; none of them where nobody answered.
    version : str, optional
        Number of the version that the person was asked about: their answer counts for no other.
    started_by : str, optional
        Who started the run in which they were asked.

    Raises
    ------
    PolicyError
        If the person started a run that made the version, or nobody answered.
    RolloutError
        If there is no rollout, or of another version.
    """
    stage = workspace.loop.rollout.stages[index]

    def draft(state: LoopState) -> Draft[StageApproved]:
        rollout = _open(workspace, state)
        if stage.approval != "human":
            raise RolloutError(f"{stage.name} asks for no person; stages that do declare approval: human")
        if version not in (None, rollout.version.number):
            raise RolloutError(f"version {version} was asked about, and version {rollout.version.number} is under way")
        behind = {*people_behind(workspace.ledger, rollout.version), *([started_by] if started_by else [])}
        void = why_void(rollout.version, by, behind)
        if void is not None:
            raise PolicyError(void)
        details = StageApproved(version=rollout.version.number, stage=index, name=stage.name, by=by[0])
        return _draft(workspace, state, rollout, details)

    return append_decision(workspace, draft, name="the approval")


def _open(workspace: Workspace, state: LoopState) -> OpenRollout:
    if state.rollout is None:
        served = "no version" if state.champion is None else f"version {state.champion.number}"
        raise RolloutError(f"no rollout of {workspace.loop.model} is under way; {served} serves")
    return state.rollout


def _draft(workspace: Workspace, state: LoopState, rollout: OpenRollout, details: D) -> Draft[D]:
    # What is asked twice of one state is one record; asked again later it is another.
    operation = f"{details.KIND}:{rollout.record}:{state.sequence}"
    partition = max(state.published.newest() or rollout.version.chosen_as_of, rollout.version.chosen_as_of)
    return workspace.draft(details, operation, partition)
