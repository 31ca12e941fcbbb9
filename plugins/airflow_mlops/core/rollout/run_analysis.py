"""Look at the stage that is open: say pass, fail or inconclusive once, record it, and act on it.

A look is stored with its number. Looking again after a crash finds it there and acts on what it said; it is no
further look, and a failure stands whatever later numbers would say.
"""

from __future__ import annotations

from airflow_mlops.core.errors import NotReadyError, RolloutError, StaleLedgerError
from airflow_mlops.core.ledger.fault_point import fault_point
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.rollout_details import StageAnalysed
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.rollout.analyse_stage import analyse_stage, plain_failure
from airflow_mlops.core.rollout.preconditions import newest_partition, require_declared, require_not_older
from airflow_mlops.core.rollout.rollback import StageOutcome, ended_outcome, roll_back
from airflow_mlops.core.rollout.verdict import StageVerdict, too_little
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import ATTEMPTS


def run_analysis(workspace: Workspace, version: str, index: int, as_of: str) -> StageOutcome:
    """Look at stage ``index`` of a version's rollout; return that it has passed.

    Raises
    ------
    RolledBackError
        If the version was rolled back, now or before.
    NotReadyError
        If the stage holds: the look is inconclusive, none is due yet, or a person paused the rollout.
    RolloutError
        If the declaration has no such stage any more.
    TargetError
        If the target cannot say what it has seen; trying again may help.
    """
    stage, as_of = workspace.loop.rollout.stages[index], newest_partition(workspace, as_of)
    for _ in range(ATTEMPTS):
        state = workspace.state()
        rollout = state.rollout
        if rollout is None or rollout.version.number != version:
            return ended_outcome(workspace, state, version, stage.name)
        require_not_older(rollout, as_of)
        if rollout.failed is not None:
            roll_back(workspace, rollout, rollout.failed, as_of)
        require_declared(workspace, rollout)
        if rollout.stage > index or (rollout.stage == index and rollout.settled):
            return StageOutcome(version, stage.name, "passed before")
        if rollout.stage < index:
            raise NotReadyError(f"version {version} holds before {stage.name}: it was not entered")
        try:
            said = _said(workspace, state, rollout, as_of)
        except StaleLedgerError:
            continue
        if said.verdict == "fail":
            roll_back(workspace, rollout, f"{stage.name}: {said.reason}", as_of)
        if said.verdict == "inconclusive":
            raise NotReadyError(f"version {version} holds at {stage.name}: {said.reason}")
        return StageOutcome(version, stage.name, said.reason)
    raise RolloutError(f"{stage.name} could not be looked at in {ATTEMPTS} attempts: other records keep coming first")


def comes_by_itself(workspace: Workspace, version: str, index: int, as_of: str) -> bool:
    """Whether a stage that holds can be waited for: it is the open one, and what a look needs comes in by itself.

    Not so a stage that was not entered, a rollout that is over, or one that the run is too old for: however long
    somebody waits, they would be told the same.
    """
    rollout = workspace.state().rollout
    if not workspace.loop.rollout.is_live or rollout is None or rollout.version.number != version:
        return False
    return rollout.stage == index and rollout.version.partition <= newest_partition(workspace, as_of)


def _said(workspace: Workspace, state: LoopState, rollout: OpenRollout, as_of: str) -> StageVerdict:
    """Return what is said about the open stage, now recorded, or as of the same partition before."""
    stage = workspace.loop.rollout.stages[rollout.stage]
    known = [record for record in rollout.looks if record.partition == as_of]
    if known and not workspace.loop.rollout.is_live:
        return _as_recorded(known[-1])
    if rollout.paused is not None:
        # Looking without acting on it would be a look that nobody planned. What is plain needs no look.
        broken = plain_failure(workspace, state)
        verdict = broken or too_little(f"paused: {rollout.paused}", 0)
        if broken is None:
            return verdict
    else:
        verdict = analyse_stage(workspace, state, stage, as_of)
    if workspace.loop.rollout.is_live and verdict.verdict == "inconclusive" and verdict.look == 0:
        return verdict  # asked again in seconds: that there is too little so far is no record
    recorded = workspace.ledger.append(_draft(workspace, rollout, verdict, as_of), read=state.sequence)
    fault_point("stage_analysed")
    return _as_recorded(recorded)


def _draft(workspace: Workspace, rollout: OpenRollout, verdict: StageVerdict, as_of: str) -> Draft[StageAnalysed]:
    # On batch a partition is looked at once; where requests are answered, it is the number that makes a look one.
    which = f"#{len(rollout.looks) + 1}" if workspace.loop.rollout.is_live else as_of
    name = workspace.loop.rollout.stages[rollout.stage].name
    return workspace.draft(verdict.details(rollout, name), f"look:{rollout.record}:{rollout.stage}:{which}", as_of)


def _as_recorded(record: Record[StageAnalysed]) -> StageVerdict:
    details = record.details
    return StageVerdict(details.verdict, details.reason, details.rows, details.look)
