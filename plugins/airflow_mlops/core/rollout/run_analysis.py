"""Run an interim analysis of the open stage: reach a verdict once, record it, and act on it.

An analysis is stored with its number. A retry after a crash finds the record and acts on its verdict; it is no further
analysis, and a failure stands whatever later numbers would show.
"""

from __future__ import annotations

from airflow_mlops.core.errors import NotReadyError, RolloutError, StaleLedgerError
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.rollout_details import StageAnalysed
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.ports.spans import note_version, span
from airflow_mlops.core.rollout.analyse_stage import analyse_stage, plain_failure
from airflow_mlops.core.rollout.next_transition import next_transition
from airflow_mlops.core.rollout.preconditions import newest_partition, require_declared, require_not_older
from airflow_mlops.core.rollout.rollback import StageOutcome, ended_outcome, roll_back
from airflow_mlops.core.rollout.verdict import StageVerdict, insufficient_data
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import ATTEMPTS


@span("analyse")
def run_analysis(workspace: Workspace, version: str, index: int, as_of: str) -> StageOutcome:
    """Analyse stage ``index`` of a version's rollout; return the outcome if it has passed.

    Raises
    ------
    RolledBackError
        If the version was rolled back, now or before.
    NotReadyError
        If the stage holds: the analysis is inconclusive, none is due yet, or a person paused the rollout.
    RolloutError
        If the open stage is no longer declared.
    TargetError
        If the target's telemetry cannot be read; trying again may help.
    """
    note_version(version)
    stage, as_of = workspace.loop.rollout.stages[index], newest_partition(workspace, as_of)
    for _ in range(ATTEMPTS):
        state = workspace.state()
        rollout = state.rollout
        if rollout is None or rollout.version.number != version:
            return ended_outcome(workspace, state, version, stage.name)
        require_not_older(rollout, as_of)
        if rollout.failed is not None:
            roll_back(workspace, rollout, rollout.failed, as_of)
        if state.champion is None:
            return _analysis_of_first(workspace, rollout, index)
        require_declared(workspace, rollout)
        if rollout.stage > index or (rollout.stage == index and rollout.settled):
            return StageOutcome(version, stage.name, "passed before")
        if rollout.stage < index:
            raise NotReadyError(f"version {version} holds before {stage.name}: it was not entered")
        try:
            verdict = _record_verdict(workspace, state, rollout, as_of)
        except StaleLedgerError:
            continue
        return _act_on(workspace, rollout, verdict, as_of)
    raise RolloutError(f"{stage.name} could not be looked at in {ATTEMPTS} attempts: other records keep coming first")


def _analysis_of_first(workspace: Workspace, rollout: OpenRollout, index: int) -> StageOutcome:
    """Return the outcome of a stage before one that waits for a person; of the first version nothing is compared."""
    stages, version = workspace.loop.rollout.stages, rollout.version.number
    transition = next_transition(stages, rollout, first=True)
    if transition.to == "hold" and (rollout.paused is not None or index >= transition.stage):
        raise NotReadyError(f"version {version} holds before {stages[index].name}: {transition.reason}")
    return StageOutcome(version, stages[index].name, "passed over: there is no champion to compare it with")


def _act_on(workspace: Workspace, rollout: OpenRollout, verdict: StageVerdict, as_of: str) -> StageOutcome:
    """Return the outcome of a stage that passed; roll back where it failed, NotReadyError where it holds."""
    version, name = rollout.version.number, workspace.loop.rollout.stages[rollout.stage].name
    if verdict.verdict == "fail":
        roll_back(workspace, rollout, f"{name}: {verdict.reason}", as_of)
    if verdict.verdict == "inconclusive":
        raise NotReadyError(f"version {version} holds at {name}: {verdict.reason}")
    return StageOutcome(version, name, verdict.reason)


def can_wait(workspace: Workspace, version: str, index: int, as_of: str) -> bool:
    """Return whether a task can wait for a stage that holds: it is the open one, and live traffic brings new data.

    Waiting changes nothing for a stage that was not entered, a rollout that has ended, or a run whose partition is
    older than the version.
    """
    rollout = workspace.state().rollout
    if not workspace.loop.rollout.is_live or rollout is None or rollout.version.number != version:
        return False
    return rollout.stage == index and rollout.version.chosen_as_of <= newest_partition(workspace, as_of)


def _record_verdict(workspace: Workspace, state: LoopState, rollout: OpenRollout, as_of: str) -> StageVerdict:
    """Return the recorded verdict on the open stage: a new one, or on batch that of the same partition."""
    stage = workspace.loop.rollout.stages[rollout.stage]
    recorded_before = [record for record in rollout.looks if record.partition == as_of]
    if recorded_before and not workspace.loop.rollout.is_live:
        return _from_record(recorded_before[-1])
    if rollout.paused is not None:
        # A paused rollout is not analysed, as nothing would act on the verdict. Gross breakage needs no analysis.
        broken = plain_failure(workspace, state)
        verdict = broken or insufficient_data(f"paused: {rollout.paused}", 0)
        if broken is None:
            return verdict
    else:
        verdict = analyse_stage(workspace, state, stage, as_of)
    if workspace.loop.rollout.is_live and verdict.verdict == "inconclusive" and verdict.look == 0:
        return verdict  # asked again in seconds: that there is too little so far is no record
    recorded = workspace.ledger.append(_draft(workspace, rollout, verdict, as_of), read=state.sequence)
    return _from_record(recorded)


def _draft(workspace: Workspace, rollout: OpenRollout, verdict: StageVerdict, as_of: str) -> Draft[StageAnalysed]:
    # On batch a partition is analysed once; on live traffic the number of the analysis makes the operation unique.
    key = f"#{len(rollout.looks) + 1}" if workspace.loop.rollout.is_live else as_of
    name = workspace.loop.rollout.stages[rollout.stage].name
    return workspace.draft(verdict.details(rollout, name), f"look:{rollout.record}:{rollout.stage}:{key}", as_of)


def _from_record(record: Record[StageAnalysed]) -> StageVerdict:
    details = record.details
    return StageVerdict(details.verdict, details.reason, details.rows, details.look)
