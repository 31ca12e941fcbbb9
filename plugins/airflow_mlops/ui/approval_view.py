"""The values of the page of a question: the version that is meant, its gates, and the effect of each answer."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.notice_details import ApprovalWanted
from airflow_mlops.core.ledger.protocols import EvidenceStore, Ledger
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.overview.model_history import gates_of
from airflow_mlops.core.rollout.approvals import people_behind, question_asked, version_in_question, why_void
from airflow_mlops.ui.actions import LONGEST, SHOWN
from airflow_mlops.ui.airflow_facts import OpenApproval

OPTIONS = (APPROVE, REJECT) = ("Approve", "Reject")
"""The options of :class:`~airflow_mlops.operators.approval.ApproveVersionOperator`, which a page need not import."""


def approval_view(
    approval: OpenApproval, ledger: Ledger, evidence: EvidenceStore, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return the values of the page of a question to a person who goes by some names.

    ``obstacle`` is why no answer is taken, and ``void`` why this person cannot approve; each None where nothing is in
    the way.
    """
    state, wanted = ledger.state(), question_asked(ledger, approval.subject)
    obstacle = obstacle_to_answer(wanted, state)
    gates, lost = ([], "") if wanted is None else gates_in_words(wanted.version, state, evidence)
    return {
        "subject": approval.subject,
        "version": "" if wanted is None else wanted.version,
        "obstacle": obstacle,
        "void": None if obstacle else void_approval(approval, ledger, state, names),
        "effects": {} if obstacle or wanted is None else effects_of(wanted, state),
        "options": OPTIONS,
        "gates": gates,
        "lost": lost,
    }


def obstacle_to_answer(wanted: ApprovalWanted | None, state: LoopState) -> str | None:
    """Return why a question cannot be answered now, in words; None where it can."""
    if wanted is None:
        return "The ledger does not know which version this question is about; answer it on Airflow's own page."
    waiting = version_in_question(state)
    if waiting is None:
        return f"Version {wanted.version} was asked about, and no version waits any more."
    if waiting.number != wanted.version:
        return f"Version {wanted.version} was asked about, and version {waiting.number} waits now."
    return None


def effects_of(wanted: ApprovalWanted, state: LoopState) -> dict[str, str]:
    """Return the effect of each answer, a sentence by its option."""
    number, champion = wanted.version, state.champion
    serves = "no version serves" if champion is None else f"version {champion.number} serves"
    first = (
        "there is no champion to compare it with, so it goes live without stages, as soon as nobody else is to be asked"
    )
    if wanted.name:
        further = f"goes on to {wanted.name.replace('_', ' ')} %" if champion else f"goes on: {first}"
        back = "nobody serves" if champion is None else f"version {champion.number} serves everything"
        return {
            APPROVE: f"Version {number} {further}.",
            REJECT: f"Version {number} is taken back at once and goes into quarantine; {back}.",
        }
    return {
        APPROVE: (
            f"The rollout of version {number} begins with its first stage; {serves} until it is promoted."
            if champion
            else f"The rollout of version {number} begins: {first}."
        ),
        REJECT: f"Version {number} goes into quarantine and is not rolled out; {serves}.",
    }


def void_approval(approval: OpenApproval, ledger: Ledger, state: LoopState, names: tuple[str, ...]) -> str | None:
    """Return why the approval of a person would be void: they started a run that made the version; None otherwise."""
    version = version_in_question(state)
    if version is None:
        return None
    started = [approval.started_by] if approval.started_by else []
    return why_void(version, names, {*people_behind(ledger, version), *started})


def refused_answer(approval: OpenApproval, ledger: Ledger, form: dict[str, str], names: tuple[str, ...]) -> str | None:
    """Return why an answer is not taken, in words; None where it is."""
    state, wanted = ledger.state(), question_asked(ledger, approval.subject)
    obstacle = obstacle_to_answer(wanted, state)
    if obstacle is not None or wanted is None:
        return obstacle
    shown, answer, reason = form.get(SHOWN, ""), form.get("answer", ""), form.get("reason", "").strip()
    if shown != wanted.version:
        return f"You were shown version {shown or 'none'}, and version {wanted.version} waits now; look again."
    if answer not in OPTIONS:
        return f"The answer cannot be {answer[:40]!r}; choose one of {', '.join(OPTIONS)}."
    if answer == APPROVE:
        return void_approval(approval, ledger, state, names)
    if not reason:
        return "Why, for the ledger is empty; a rejection needs it."
    if len(reason) > LONGEST:
        return f"Why, for the ledger has {len(reason)} characters; at most {LONGEST} are taken."
    return None


def gates_in_words(number: str, state: LoopState, evidence: EvidenceStore) -> tuple[list[dict[str, Any]], str]:
    """Return the gate reports of a version, and the reason where they cannot be read."""
    version = state.versions.get(number)
    if version is None:
        return [], f"version {number} is not in the ledger"
    try:
        return gates_of(version, evidence), ""
    except LedgerError as error:
        return [], str(error)
