"""Roll out a challenger: enter a stage, analyse it, and advance, hold, or roll back.

The pure function :func:`~airflow_mlops.core.rollout.next_transition.next_transition` says what happens next. Every
transition is decided on a ledger record that was read, and loses if another came first. The target and the registry's
aliases follow the record; a crash between the two is repaired by the retry, by the watch, or by ``reconcile``.
"""

from __future__ import annotations

from airflow_mlops.core.errors import NotReadyError, RolloutError, StaleLedgerError
from airflow_mlops.core.ledger.rollout_details import Promoted, RolloutStarted, StageEntered
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.ledger.training_details import Superseded
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.rollout.analyse_stage import plain_failure
from airflow_mlops.core.rollout.next_transition import next_transition
from airflow_mlops.core.rollout.plan_of_rollout import plan_of_rollout
from airflow_mlops.core.rollout.preconditions import newest_partition, require_declared, require_not_older
from airflow_mlops.core.rollout.promotion_policy import require_policy
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.rollout.reconcile_target import reconcile_target
from airflow_mlops.core.rollout.rollback import StageOutcome, ended_outcome, roll_back
from airflow_mlops.core.rollout.run_analysis import run_analysis
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import ATTEMPTS


def start_rollout(workspace: Workspace, as_of: str) -> str:
    """Start the rollout of the candidate, or go on with the one under way; return the version's number.

    Raises
    ------
    NotReadyError
        If there is no candidate from up to ``as_of``, or a newer champion serves already.
    """
    as_of = newest_partition(workspace, as_of)
    for _ in range(ATTEMPTS):
        state = workspace.state()
        if state.rollout is not None:
            note_version(state.rollout.version.number)
            return state.rollout.version.number
        candidate = state.candidate
        if candidate is None or candidate.chosen_as_of > as_of:
            raise NotReadyError(f"there is no candidate from up to {as_of} to roll out")
        note_version(candidate.number)
        if state.champion is not None and state.champion.chosen_as_of > candidate.chosen_as_of:
            reason = (
                f"version {candidate.number} was {candidate.origin}; "
                f"the champion {state.champion.number} is newer ({state.champion.chosen_as_of})"
            )
            workspace.record_fact(
                workspace.draft(
                    Superseded(version=candidate.number, reason=reason), f"superseded:{candidate.candidacy}", as_of
                )
            )
            reconcile(workspace)
            raise NotReadyError(reason)
        if workspace.loop.rollout.approval == "human" and candidate.number not in state.approved:
            raise NotReadyError(f"version {candidate.number} waits for a person's approval")
        plan = tuple(plan_of_rollout(workspace, state, candidate))
        details = RolloutStarted(version=candidate.number, plan=plan)
        draft = workspace.draft(details, f"rollout:{candidate.number}:{state.sequence}", as_of)
        try:
            workspace.ledger.append(draft, read=state.sequence)
        except StaleLedgerError:
            continue
        reconcile(workspace)
        return candidate.number
    raise RolloutError(f"the rollout could not be started in {ATTEMPTS} attempts: other records keep coming first")


def run_rollout_step(workspace: Workspace, version: str, index: int, as_of: str) -> StageOutcome:
    """Enter stage ``index`` of a version's rollout if it is due, and analyse it; idempotent.

    Raises
    ------
    RolledBackError
        If the version was rolled back, now or before.
    NotReadyError
        If the analysis is inconclusive, or the stage is not due: it holds, and a later run analyses it again.
    """
    entered = enter_stage(workspace, version, index, as_of)
    if workspace.loop.rollout.stages[index].kind == "live":
        return entered
    return run_analysis(workspace, version, index, as_of)


def enter_stage(workspace: Workspace, version: str, index: int, as_of: str) -> StageOutcome:
    """Enter stage ``index`` of a version's rollout if it is due, and apply its traffic; live is the promotion.

    Raises
    ------
    RolledBackError
        If the version was rolled back, now or before; also where the target cannot serve it, or it has broken since
        its last analysis.
    NotReadyError
        If the stage is not due: one before it has not passed, a person paused the rollout, or has to approve.
    RolloutError
        If the open stage is no longer declared.
    TargetError
        If the target does not serve what the record says; trying again may help.
    """
    note_version(version)
    stage, as_of = workspace.loop.rollout.stages[index], newest_partition(workspace, as_of)
    for _ in range(ATTEMPTS):
        state = workspace.state()
        rollout = state.rollout
        if rollout is None or rollout.version.number != version:
            return ended_outcome(workspace, state, version, stage.name)
        require_not_older(rollout, as_of)
        transition = next_transition(workspace.loop.rollout.stages, rollout)
        if transition.to == "roll_back":
            roll_back(workspace, rollout, transition.reason, as_of)
        require_declared(workspace, rollout)
        if rollout.stage >= index:
            _serve_or_roll_back(workspace, rollout, stage.name, as_of)
            return StageOutcome(version, stage.name, "entered before")
        if transition.stage != index or transition.to not in ("enter", "promote"):
            raise NotReadyError(
                f"version {version} holds at {_stage_name(workspace, rollout)}: {transition.reason or _NOT_PASSED}"
            )
        _roll_back_if_broken(workspace, state, rollout, as_of)
        try:
            if transition.to == "promote":
                return _promote(workspace, state, version, as_of)
            _enter(workspace, state, index, as_of)
        except StaleLedgerError:
            continue
        _serve_or_roll_back(workspace, rollout, stage.name, as_of)
        return StageOutcome(version, stage.name, "entered")
    raise RolloutError(f"{stage.name} could not be entered in {ATTEMPTS} attempts: other records keep coming first")


_NOT_PASSED = "it has not passed"


def _stage_name(workspace: Workspace, rollout: OpenRollout) -> str:
    """Return the name of the open stage, or ``its start`` before the first."""
    stages = workspace.loop.rollout.stages
    return stages[min(rollout.stage, len(stages) - 1)].name if rollout.stage >= 0 else "its start"


def _enter(workspace: Workspace, state: LoopState, index: int, as_of: str) -> None:
    rollout, stage = state.rollout, workspace.loop.rollout.stages[index]
    assert rollout is not None
    operation = f"stage:{rollout.record}:{index}"
    details = StageEntered(version=rollout.version.number, stage=index, kind=stage.kind, share=stage.share)
    draft = workspace.draft(details, operation, as_of)
    workspace.ledger.append(draft, read=state.sequence)


def _roll_back_if_broken(workspace: Workspace, state: LoopState, rollout: OpenRollout, as_of: str) -> None:
    """Roll back a challenger that has broken since its analysis, such as while a stage waited for approval."""
    broken = plain_failure(workspace, state) if rollout.stage >= 0 else None
    if broken is not None:
        roll_back(workspace, rollout, f"{_stage_name(workspace, rollout)}: {broken.reason}", as_of)


def _serve_or_roll_back(workspace: Workspace, rollout: OpenRollout, name: str, as_of: str) -> None:
    """Reconcile the target; roll back a challenger that it cannot serve."""
    try:
        reconcile_target(workspace)
    except RolloutError as error:
        if error.retryable:
            raise
        roll_back(workspace, rollout, f"{name}: it cannot be served: {error}", as_of)


def _promote(workspace: Workspace, state: LoopState, version: str, as_of: str) -> StageOutcome:
    require_policy(workspace, state, state.versions[version])
    if workspace.loop.rollout.is_live:
        _prepare_or_roll_back(workspace, state, version, as_of)
    previous = state.champion.number if state.champion else None
    operation = f"promoted:{version}:{state.rollout.record if state.rollout else 0}"
    draft = workspace.draft(Promoted(version=version, previous=previous), operation, as_of)
    workspace.ledger.append(draft, read=state.sequence)
    reconcile(workspace)
    return StageOutcome(version, "live_100", f"version {version} is the champion; before it {previous or 'none'}")


def _prepare_or_roll_back(workspace: Workspace, state: LoopState, version: str, as_of: str) -> None:
    """Prepare a version before its promotion is recorded; roll back one that cannot be prepared."""
    try:
        workspace.target.prepare(state.versions[version])
    except RolloutError as error:
        if error.retryable or state.rollout is None:
            raise
        roll_back(workspace, state.rollout, f"live_100: it cannot be served: {error}", as_of)
