"""Registry of the kinds of ledger records, and the parser of their stored JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger import (
    data_details,
    notice_details,
    replay_details,
    rollout_details,
    training_details,
    watch_details,
)
from airflow_mlops.core.ledger.details import SCHEMA, WRITTEN_LATER, Details
from airflow_mlops.core.ledger.earlier_forms import EARLIER_KINDS, present_form
from airflow_mlops.core.ledger.watch_details import JUDGED, WindowJudged

KINDS: dict[str, type[Details]] = {
    details.KIND: details
    for details in (
        data_details.SnapshotPublished,
        data_details.PartitionRefused,
        data_details.PartitionsExpired,
        data_details.SubjectForgotten,
        data_details.PredictionsPublished,
        data_details.LabelsArrived,
        watch_details.WindowJudged,
        watch_details.ReportRendered,
        training_details.Escalated,
        training_details.RetrainDecided,
        training_details.TrainingStarted,
        training_details.TrainingFailed,
        training_details.CandidateRefused,
        training_details.CandidateRegistered,
        training_details.VersionRecalled,
        training_details.Superseded,
        training_details.Reproduced,
        training_details.CardWritten,
        rollout_details.RolloutStarted,
        rollout_details.StageEntered,
        rollout_details.StageApproved,
        rollout_details.StageAnalysed,
        rollout_details.StageSkipped,
        rollout_details.RolloutPaused,
        rollout_details.RolloutResumed,
        rollout_details.Promoted,
        rollout_details.RolledBack,
        rollout_details.QuarantineLifted,
        rollout_details.Approved,
        rollout_details.Rejected,
        rollout_details.ApprovalVoid,
        replay_details.PolicyReplayed,
        notice_details.ApprovalWanted,
        notice_details.Notified,
    )
}
"""The dataclass of each kind of record, by the kind as it is stored."""


def read_details(kind: str, stored: Mapping[str, Any]) -> Details:
    """Return the details of a stored record, of this release or of an earlier one.

    Raises
    ------
    LedgerError
        If the kind, its form or a field is of a later release, or a field is missing or of another type.
    """
    kind, values = present_form(kind, stored)
    if kind not in KINDS:
        raise LedgerError(f"no such kind of record: {kind!r}; {WRITTEN_LATER}")
    details = KINDS[kind]
    form = stored.get(SCHEMA, 0)
    if not isinstance(form, int) or form > details.FORM:
        # Its fields may mean something else by now: a decision must not rest on a guess.
        raise LedgerError(
            f"a record of kind {kind!r} has form {form!r}, and this release reads {details.FORM}; {WRITTEN_LATER}"
        )
    if details is WindowJudged:
        details = JUDGED.get(str(values.get("check")), WindowJudged)
    if SCHEMA not in stored:  # what the first form held besides is older than this release, and read by nobody
        values = {name: value for name, value in values.items() if name in details.__dataclass_fields__}
    return details.read(values)


def is_wanted(record: Any, kinds: tuple[type[Details], ...]) -> bool:
    """Return whether a record of one of :func:`stored_kinds` is of one of the dataclasses.

    One stored kind holds several dataclasses where checks have more to state; only then is the JSON read to tell.
    """
    if all(kind is KINDS[kind.KIND] for kind in kinds):
        return True
    return isinstance(record.details, kinds)


def stored_kinds(kinds: Iterable[type[Details]]) -> tuple[str, ...]:
    """Return the kinds under which records of some dataclasses are stored, those of earlier releases included."""
    return tuple(name for kind in kinds for name in (kind.KIND, *EARLIER_KINDS.get(kind.KIND, ())))
