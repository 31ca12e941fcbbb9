"""The approval of a version by a person who had no hand in making it (four-eyes principle).

The person who started a run stands in the actor of its records, as ``… for person:ann``. People who started the
decision, the training or the rollout of a version cannot approve it: their approval is recorded as void.
"""

from __future__ import annotations

import re
from itertools import islice

from airflow_mlops.core.errors import NotReadyError, PolicyError
from airflow_mlops.core.ledger.notice_details import ApprovalWanted
from airflow_mlops.core.ledger.protocols import Ledger
from airflow_mlops.core.ledger.rollout_details import ApprovalVoid, Approved, Rejected, RolloutStarted
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import CandidateRegistered, TrainingStarted, VersionRecalled
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.workspace import Workspace

PERSON = re.compile(r"(?:^|\s)person:(\S.*)$")
QUESTIONS_READ = 50
"""Questions that are looked through for one, from the newest."""


def version_to_approve(workspace: Workspace, as_of: str, *, expected: str | None = None) -> Version:
    """Return the version that waits for an approval.

    Parameters
    ----------
    expected : str, optional
        Number of the version that a person was asked about: their answer counts for no other.

    Raises
    ------
    NotReadyError
        If none waits as of a partition, or another one than the person was asked about.
    """
    waiting = version_in_question(workspace.state())
    if waiting is None or waiting.chosen_as_of > as_of:
        raise NotReadyError(f"no version from up to {as_of} waits for an approval")
    note_version(waiting.number)
    if expected not in (None, waiting.number):
        raise NotReadyError(
            f"version {expected} was asked about, and version {waiting.number} waits now: the answer counts for neither"
        )
    return waiting


def version_in_question(state: LoopState) -> Version | None:
    """Return the version that an answer of a person would be about: under way, or waiting for its rollout."""
    return state.rollout.version if state.rollout else state.candidate


def question_asked(ledger: Ledger, question: str) -> ApprovalWanted | None:
    """Return the version and step of a question by its words; None where it is not among the newest."""
    records = islice(ledger.records(ApprovalWanted, newest_first=True), QUESTIONS_READ)
    return next((record.details for record in records if record.details.question == question), None)


def people_behind(ledger: Ledger, version: Version) -> list[str]:
    """Return the people who started the runs that decided on, trained, registered or rolled out a version.

    Of a recalled version they are those who had a hand in its recall.
    """
    decision = version.chosen_by
    decided = ledger.record(decision)
    # Not who reproduced it: whoever fits a version again to look at it is the one who should answer.
    since = ledger.records(TrainingStarted, CandidateRegistered, VersionRecalled, RolloutStarted, after=decision)
    records = [] if decided is None else [decided]
    for record in since:
        details = record.details
        # An adopted version has no decision of here, and shares the number 0 with others.
        trained = (
            decision
            and isinstance(details, TrainingStarted | CandidateRegistered | VersionRecalled)
            and details.decision == decision
        )
        if trained or getattr(details, "version", None) == version.number:
            records.append(record)
    matches = [PERSON.search(record.actor) for record in records]
    return sorted({match.group(1) for match in matches if match})


def record_question(workspace: Workspace, version: Version, question: str, *, step: str = "") -> None:
    """Record that a person is asked about a version, or a step of its rollout: once, however often Airflow asks."""
    details = ApprovalWanted(version=version.number, name=step, question=question)
    operation = f"{details.KIND}:{version.candidacy}:{step}"
    workspace.record_fact(workspace.draft(details, operation, version.chosen_as_of))


def record_approval(workspace: Workspace, version: Version, by: tuple[str, ...], *, started_by: str | None) -> None:
    """Record that a person approved the rollout of a version.

    Parameters
    ----------
    by : tuple of str
        The names the person goes by: user name and id. None of them where nobody answered in time and an operator
        was given a default, which is no approval.
    started_by : str, optional
        Who started the run in which they were asked.

    Raises
    ------
    PolicyError
        If the person started a run that made the version; that is recorded too, and the version still waits.
    """
    behind = {*people_behind(workspace.ledger, version), *([started_by] if started_by else [])}
    name, reason = by[0] if by else "nobody", why_void(version, by, behind)
    if reason is not None:
        _record(workspace, version, ApprovalVoid(version=version.number, by=name, reason=reason))
        raise PolicyError(reason)
    if version.number not in workspace.state().approved:  # a task that is tried again gives no second approval
        _record(workspace, version, Approved(version=version.number, by=name, made_by=tuple(sorted(behind))))


def why_void(version: Version, by: tuple[str, ...], behind: set[str]) -> str | None:
    """Return why an approval is void; None if it is valid.

    Parameters
    ----------
    by : tuple of str
        The names the person goes by.
    behind : set of str
        Who started the runs that made the version, or that ask.
    """
    if not by:
        return f"nobody answered about version {version.number}; a person must approve it"
    answering = {_fold_name(name) for name in by}
    own = sorted(name for name in behind if _fold_name(name) in answering)
    return f"{own[0]} started a run that made version {version.number}; somebody else must approve it" if own else None


def record_rejection(workspace: Workspace, version: Version, by: str, reason: str) -> None:
    """Record that a person refused a version: it is quarantined and never rolled out, unless that is lifted."""
    message = f"rejected by {by}" + (f": {reason}" if reason else "")
    if version.number not in workspace.state().quarantined:
        _record(workspace, version, Rejected(version=version.number, by=by, reason=message))
    reconcile(workspace)


def _fold_name(name: str) -> str:
    """Return a name in the form in which logins are compared: without outer spaces and without case."""
    return name.strip().casefold()


def _record(workspace: Workspace, version: Version, details: Approved | ApprovalVoid | Rejected) -> None:
    state = workspace.state()
    partition = max(state.published.newest() or version.chosen_as_of, version.chosen_as_of)
    operation = f"{details.KIND}:{version.number}:{state.sequence}:{details.by}"
    workspace.record_fact(workspace.draft(details, operation, partition))
