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
from airflow_mlops.core.rollout.next_transition import Transition, next_transition
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


def roll_out_first(workspace: Workspace, as_of: str) -> StageOutcome | None:
    """Start the rollout of the first version and end it at once: there is no champion to compare it with.

    Idempotent: after a crash a repetition as of the same partition returns the outcome again. Returns None, and leaves
    the rest to the stages, where there is a champion or a stage waits for a person.

    Raises
    ------
    NotReadyError
        If there is no candidate from up to ``as_of``, or a person paused the rollout.
    RolledBackError, PolicyError, TargetError
        As :func:`enter_stage`.
    """
    as_of = newest_partition(workspace, as_of)
    state = workspace.state()
    if state.champion is None:
        version = start_rollout(workspace, as_of)
        rollout = workspace.state().rollout
        stages = workspace.loop.rollout.stages
        if rollout is None or next_transition(stages, rollout, first=True).to == "promote":
            return enter_stage(workspace, version, len(stages) - 1, as_of)
        return None
    number = state.champion.number
    promoted = state.promoted.get(number)
    straight = promoted is not None and promoted.reason is not None
    waiting = state.candidate is not None or state.rollout is not None
    if straight and state.promoted_at == as_of and not waiting:
        return ended_outcome(workspace, state, number, _LIVE)
    return None


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
        transition = next_transition(workspace.loop.rollout.stages, rollout, first=state.champion is None)
        if transition.to == "roll_back":
            roll_back(workspace, rollout, transition.reason, as_of)
        step = _step_of_first if state.champion is None else _step_beside_champion
        try:
            return step(workspace, state, transition, index, as_of)
        except StaleLedgerError:
            continue
    raise RolloutError(f"{stage.name} could not be entered in {ATTEMPTS} attempts: other records keep coming first")


_NOT_PASSED = "it has not passed"
_LIVE = "live_100"
UNCOMPARED = "there is no champion to compare it with"
"""Why the first version goes live without its stages."""


def _step_of_first(
    workspace: Workspace, state: LoopState, transition: Transition, index: int, as_of: str
) -> StageOutcome:
    """Promote the first version, whichever stage is asked for, unless a person paused it or has to approve one."""
    rollout, stage = state.rollout, workspace.loop.rollout.stages[index]
    assert rollout is not None
    version = rollout.version.number
    if transition.to == "promote":
        return _promote(workspace, state, version, as_of)
    if rollout.paused is None and index < transition.stage:
        return StageOutcome(version, stage.name, f"passed over: {UNCOMPARED}; {transition.reason}")
    raise NotReadyError(f"version {version} holds at its start: {transition.reason}")


def _step_beside_champion(
    workspace: Workspace, state: LoopState, transition: Transition, index: int, as_of: str
) -> StageOutcome:
    """Enter a stage that is due, and apply its traffic; live is the promotion."""
    rollout, stage = state.rollout, workspace.loop.rollout.stages[index]
    assert rollout is not None
    version = rollout.version.number
    require_declared(workspace, rollout)
    if rollout.stage >= index:
        _serve_or_roll_back(workspace, rollout, stage.name, as_of)
        return StageOutcome(version, stage.name, "entered before")
    if transition.stage != index or transition.to not in ("enter", "promote"):
        raise NotReadyError(
            f"version {version} holds at {_stage_name(workspace, rollout)}: {transition.reason or _NOT_PASSED}"
        )
    _roll_back_if_broken(workspace, state, rollout, as_of)
    if transition.to == "promote":
        return _promote(workspace, state, version, as_of)
    _enter(workspace, state, index, as_of)
    _serve_or_roll_back(workspace, rollout, stage.name, as_of)
    return StageOutcome(version, stage.name, "entered")


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
    details = Promoted(version=version, previous=previous, reason=_reason_without_stages(workspace, state))
    draft = workspace.draft(details, operation, as_of)
    workspace.ledger.append(draft, read=state.sequence)
    reconcile(workspace)
    because = "" if details.reason is None else f": {details.reason}"
    return StageOutcome(version, _LIVE, f"version {version} is the champion; before it {previous or 'none'}{because}")


def _reason_without_stages(workspace: Workspace, state: LoopState) -> str | None:
    """Return why the first version goes live without its stages, naming them; None of a later one."""
    if state.champion is not None:
        return None
    names = ", ".join(stage.name for stage in workspace.loop.rollout.stages if stage.kind != "live")
    return f"{UNCOMPARED}, so it went live without {names}" if names else UNCOMPARED


def _prepare_or_roll_back(workspace: Workspace, state: LoopState, version: str, as_of: str) -> None:
    """Prepare a version before its promotion is recorded; roll back one that cannot be prepared."""
    try:
        workspace.target.prepare(state.versions[version])
    except RolloutError as error:
        if error.retryable or state.rollout is None:
            raise
        roll_back(workspace, state.rollout, f"{_LIVE}: it cannot be served: {error}", as_of)
