"""How often a holdout was looked at: each candidate that is judged on the same rows makes the best of them luckier.

One of twenty candidates that are worth nothing passes a gate at 5 %. Nothing here forbids another look; the number is
stated beside the verdicts, so that a person knows how much to believe them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.protocols import EvidenceStore, Ledger
from airflow_mlops.core.ledger.training_details import CandidateRefused, CandidateRegistered, TrainingStarted
from airflow_mlops.core.training.assemble import TrainingRequest


@dataclass(frozen=True)
class Looks:
    """Trainings and candidates that were judged before on a holdout that shares partitions with this one."""

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
    """Return how often the partitions of a request's holdout were looked at before.

    A look is a training whose candidates were judged: one became a version, or they were refused. How many candidates
    it had stands in its report; it counts as one where that is gone.
    """
    holdout = {pin.partition for pin in request.window.holdout}
    shared: dict[int, set[str]] = {}
    judged: dict[int, int] = {}
    for record in ledger.records(TrainingStarted, CandidateRegistered, CandidateRefused):
        details = record.details
        if details.decision == request.decision:
            continue
        if isinstance(details, TrainingStarted):
            shared[details.decision] = holdout & {pin.partition for pin in details.window.holdout}
        elif shared.get(details.decision):
            judged[details.decision] = _candidates(details.report, evidence)
    seen = set().union(*(shared[decision] for decision in judged))
    return Looks(len(judged), sum(judged.values()), tuple(sorted(seen)))


def _candidates(report: str | None, evidence: EvidenceStore) -> int:
    if report is None:
        return 1
    try:
        return len(evidence.get(report)["candidates"])
    except LedgerError:
        return 1
