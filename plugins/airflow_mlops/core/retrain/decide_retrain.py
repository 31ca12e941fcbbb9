"""Decide on a retrain and record the decision; of two concurrent decisions exactly one is recorded."""

from __future__ import annotations

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import Escalated, RetrainDecided
from airflow_mlops.core.retrain.outside_alarms import newest_outside_alarm
from airflow_mlops.core.retrain.retrain_policy import Trigger, decide_retrain
from airflow_mlops.core.training.code_state import setup_digest
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import append_decision


def decide_and_record(workspace: Workspace, as_of: str, *, trigger: Trigger) -> Record[RetrainDecided]:
    """Decide on a retrain as of the newest published partition at or before ``as_of``, and record the decision.

    Idempotent: deciding again for the same partition and trigger returns the first decision.

    Raises
    ------
    NotReadyError
        If nothing is published yet.
    """
    setup = setup_digest(workspace)

    def draft(now: LoopState) -> Draft[RetrainDecided]:
        state = workspace.state(as_of=as_of)
        partition = state.published.newest(until=as_of)
        if partition is None:
            raise NotReadyError(f"no partition is published by {as_of}")
        decision = decide_retrain(state, workspace.loop, partition, trigger, now=now, setup=setup)
        # A person may ask again, and a monitor with each new alarm; the schedule and the watch ask once for each
        # partition.
        attempts = {"person": now.sequence, "outside": newest_outside_alarm(now)}
        attempt = f"{trigger}:{attempts[trigger]}" if trigger in attempts else trigger
        details = RetrainDecided(
            retrain=decision.retrain,
            cause=decision.cause,
            reason=decision.reason,
            trigger=trigger,
            numbers=decision.numbers,
            declared=workspace.loop.retrain.model_dump(mode="json", include={"policy", "cooldown", "budget"}),
        )
        return workspace.draft(details, f"retrain:{partition}:{attempt}", partition)

    return append_decision(workspace, draft, name="the decision to retrain")


def decide_by_hand(workspace: Workspace, as_of: str) -> Record[RetrainDecided]:
    """Return the open decision to retrain, or decide for a person who started a run by hand.

    Raises
    ------
    NotReadyError
        If nothing is published yet, or the policy refuses the person too.
    """
    decision = workspace.state().open_decision_by(as_of) or decide_and_record(workspace, as_of, trigger="person")
    if not decision.details.retrain:
        raise NotReadyError(str(decision.details.reason))
    return decision


def escalate(workspace: Workspace, decision: Record[RetrainDecided]) -> Record[Escalated] | None:
    """Record an escalation to a person, where a decision asks for one and the champion has none yet.

    Returns
    -------
    Record or None
        The record if it is new, so that a person is notified once and not at every partition.
    """
    state = workspace.state()
    if decision.details.cause != "escalated" or state.champion is None or state.champion.number in state.escalations:
        return None
    number = state.champion.number
    details = Escalated(champion=number, decision=decision.sequence, reason=decision.details.reason)
    return workspace.record_fact(workspace.draft(details, f"escalated:{state.champion.candidacy}", decision.partition))


def decision_to_emit(workspace: Workspace, as_of: str) -> Record[RetrainDecided] | None:
    """Return the open decision to retrain whose training has not started for the newest partition; None if none.

    Airflow drops an event while its consumer is paused, so an open decision is emitted again by every later watch or
    nightly run until a training has closed it.
    """
    state = workspace.state()
    if state.open_decision is None:
        return None
    newest = state.published.newest(until=as_of)
    started = state.training_started
    picked_up = started is not None and newest is not None and newest <= str(state.open_decision.partition)
    return None if picked_up else state.open_decision
