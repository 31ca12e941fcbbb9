"""Count the uses of a holdout: the best of many candidates on the same rows is partly luck.

One of twenty worthless candidates passes a gate at 5 %. Nothing here forbids another use; the report states the number
beside the verdicts, so that a reader can judge how reliable they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.protocols import EvidenceStore, Ledger
from airflow_mlops.core.ledger.training_details import (
    CandidateRefused,
    CandidateRegistered,
    TrainingStarted,
    VersionRecalled,
)
from airflow_mlops.core.training.assemble import TrainingRequest


@dataclass(frozen=True)
class Looks:
    """Earlier trainings and candidates that were judged on partitions of this holdout."""

    trainings: int
    candidates: int
    partitions: tuple[str, ...]

    @property
    def words(self) -> str:
        """The count as a sentence."""
        if self.trainings == 0:
            return "no candidate was judged on these partitions before"
        return (
            f"{self.candidates} candidates of {self.trainings} trainings were judged before on partitions of this "
            "holdout; the best of many is partly luck"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the count as JSON values."""
        return {**asdict(self), "partitions": list(self.partitions), "words": self.words}


def count_looks(ledger: Ledger, request: TrainingRequest, evidence: EvidenceStore) -> Looks:
    """Return the number of earlier uses of the partitions of a request's holdout.

    A use is a training whose candidates were judged: one became a version, they were refused, or an
    earlier champion was recalled. The number of its
    candidates is in its report; without the report it counts as one.
    """
    holdout = {pin.partition for pin in request.window.holdout}
    shared_partitions: dict[int, set[str]] = {}
    candidates: dict[int, int] = {}
    for record in ledger.records(TrainingStarted, CandidateRegistered, CandidateRefused, VersionRecalled):
        details = record.details
        if details.decision == request.decision:
            continue
        if isinstance(details, TrainingStarted):
            shared_partitions[details.decision] = holdout & {pin.partition for pin in details.window.holdout}
        elif shared_partitions.get(details.decision):
            candidates[details.decision] = _count_candidates(details.report, evidence)
    partitions = set().union(*(shared_partitions[decision] for decision in candidates))
    return Looks(len(candidates), sum(candidates.values()), tuple(sorted(partitions)))


def _count_candidates(report: str | None, evidence: EvidenceStore) -> int:
    if report is None:
        return 1
    try:
        return len(evidence.get(report)["candidates"])
    except LedgerError:
        return 1
