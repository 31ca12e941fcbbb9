"""Decide on a retrain and record the decision: exactly one of two that decide at once is recorded."""

from __future__ import annotations

from airflow_mlops.core.errors import LedgerError, NotReadyError, StaleLedgerError
from airflow_mlops.core.ledger.fault_point import fault_point
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.retrain.outside_alarms import how_many_told
from airflow_mlops.core.retrain.retrain_policy import Trigger, decide_retrain
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import ATTEMPTS


def decide_and_record(workspace: Workspace, as_of: str, *, trigger: Trigger) -> Record:
    """Return the decision on the newest published partition at or before ``as_of``, now recorded.

    Deciding again for the same partition and trigger returns the first decision.

    Raises
    ------
    NotReadyError
        If nothing is published yet.
    """
    for _ in range(ATTEMPTS):
        now = workspace.state()
        state = workspace.state(as_of=as_of)
        partition = state.newest(state.published, as_of)
        if partition is None:
            raise NotReadyError(f"no partition is published by {as_of}")
        # What is under way, and how far decisions have come, is asked of now: only data is seen as it was.
        state.decisions, state.open_decision = now.decisions, now.open_decision
        state.candidate, state.rollout = now.candidate, now.rollout
        decision = decide_retrain(state, workspace.loop, partition, trigger)
        # A person may ask again, and a monitor with each new alarm; the schedule and the watch ask once for each
        # partition.
        again = {"person": now.sequence, "outside": how_many_told(now)}
        asked = f"{trigger}:{again[trigger]}" if trigger in again else trigger
        draft = workspace.draft(
            "retrain_decided",
            f"retrain:{partition}:{asked}",
            partition,
            trigger=trigger,
            **decision.to_dict(),
        )
        fault_point("before_retrain_decided")
        try:
            record = workspace.ledger.append(draft, read=now.sequence)
        except StaleLedgerError:
            continue
        fault_point("retrain_decided")
        return record
    raise LedgerError(f"no decision could be recorded in {ATTEMPTS} attempts: other records keep coming first")


def decide_by_hand(workspace: Workspace, as_of: str) -> Record:
    """Return the decision to retrain that stands open, or the one that a run started by hand now makes.

    Raises
    ------
    NotReadyError
        If nothing is published yet, or the policy says no to the person too.
    """
    decision = workspace.state().open_decision_by(as_of) or decide_and_record(workspace, as_of, trigger="person")
    if not decision.details["retrain"]:
        raise NotReadyError(str(decision.details["reason"]))
    return decision


def escalate(workspace: Workspace, decision: Record) -> Record | None:
    """Record that a person must look, where a decision says so and none has said it of this champion before.

    Returns the record if it is new, so that a person is told once and not at every partition.
    """
    state = workspace.state()
    if decision.details["cause"] != "escalated" or state.champion is None:
        return None
    number = state.champion.number
    if any(str(known.details["champion"]) == number for known in state.escalations):
        return None
    return workspace.record_fact(
        workspace.draft(
            "escalated", f"escalated:{number}", decision.partition, champion=number, decision=decision.sequence,
            reason=decision.details["reason"],
        )
    )  # fmt: skip


def decision_to_emit(workspace: Workspace, as_of: str) -> Record | None:
    """Return the decision that the training still has to hear of: open, and not picked up for this partition.

    An event is dropped for good while its consumer is paused, so an open decision is emitted again by
    every later watch or nightly run until a training has closed it.
    """
    state = workspace.state()
    if state.open_decision is None:
        return None
    newest = state.newest(state.published, as_of)
    started = state.training_started
    picked_up = started is not None and newest is not None and newest <= str(state.open_decision.partition)
    return None if picked_up else state.open_decision
