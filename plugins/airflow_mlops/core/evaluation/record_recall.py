"""Record the recall of an earlier champion: it becomes the candidate again, and nothing is registered."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import Superseded, VersionRecalled
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.training.assemble import TrainingRequest, close_decision
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.core.workspace.append_decision import append_decision


def record_recall(workspace: Workspace, request: TrainingRequest, evaluated: dict[str, Any]) -> dict[str, Any]:
    """Record that a training ended with an earlier champion, and return its number and the record; idempotent.

    The version keeps its files, its signature and its card. The alias ``candidate`` follows the record.

    Raises
    ------
    NotReadyError
        If it was taken back since the evaluation, or serves by now; the decision is closed.
    """
    number = str(evaluated["recalled"])
    note_version(number)
    report = str(evaluated["report"])
    details = VersionRecalled(
        version=number,
        decision=request.decision,
        request=request.operation,
        report=report,
        champion=evaluated["champion"],
        tried=len(workspace.evidence.get(report)["recall"]["losses"]),
        metrics=evaluated["metrics"],
        training_seconds=evaluated.get("training_seconds"),
        left_out=evaluated.get("left_out"),
    )

    def draft(state: LoopState) -> Draft[VersionRecalled]:
        reason = why_void(state, number, request.decision)
        if reason is not None:
            close_decision(workspace, Superseded(decision=request.decision, reason=reason), request.partition)
            raise NotReadyError(reason)
        return workspace.draft(details, f"recalled:{request.operation}", request.partition, evidence=(report,))

    record = append_decision(workspace, draft, name=f"the recall of version {number}")
    if workspace.state().candidate is not None:
        workspace.registry.set_alias("candidate", number)
    return {"version": number, "record": record.sequence, "partition": request.partition, "recalled": True}


def why_void(state: LoopState, number: str, decision: int) -> str | None:
    """Return why a version can no longer be recalled by a decision; None if it can, or was before."""
    recall = state.versions[number].recall
    if recall is not None and recall.decision == decision:
        return None
    if number in state.quarantined:
        return f"version {number} was to be recalled, and was taken back meanwhile: {state.quarantined[number]}"
    if state.champion is not None and state.champion.number == number:
        return f"version {number} was to be recalled, and serves by now"
    return None
