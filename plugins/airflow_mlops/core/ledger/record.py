"""A ledger record: what was decided or done, in order, chained by hashes.

The hash of a record covers all of it and the hash before it, so a changed, removed or reordered
record shows. ``Draft`` is what a stage wants to say; the ledger numbers and chains it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_mlops.core.errors import LedgerCorruptError, LedgerError

GENESIS = "0" * 64

KINDS = {
    "snapshot_published": "A partition may be used from here on: its version, digest, rows and quarantined rows.",
    "partition_refused": "A partition may not be used, and why. It can be delivered and ingested again.",
    "partitions_expired": "Partitions that are beyond their retention and were let go, by table.",
    "subject_forgotten": "A subject's rows were erased: from which partitions, and which versions had seen them.",
    "predictions_published": "A partition was scored: by which champion, beside which challenger, and who served.",
    "drift_judged": "The inputs of a scored partition against the training window of the champion that scored it.",
    "performance_judged": "The metric of the served predictions on the labels, against its value at registration.",
    "check_judged": "One more check of a scored partition: what it looked at, its verdict, and the numbers behind it.",
    "regret_measured": "What the champion lost on a partition against a fresh model, as a share of the fresh loss.",
    "labels_arrived": "Labels of a source of their own: of which delivery, how many, and which partitions they touch.",
    "report_rendered": "The page that a person opens about a partition, kept as evidence.",
    "escalated": "Something that a person must look at, since the loop alone gets no further; and why.",
    "retrain_decided": "Yes or no, the cause in a word, the reason in a sentence, and the numbers behind it.",
    "training_started": "A decision to retrain was picked up, with its window pinned to versions and digests.",
    "training_failed": "A decision ended without a usable model, and why.",
    "candidate_refused": "A decision ended with a candidate that did not pass its gates, with their numbers.",
    "candidate_registered": "A candidate passed its gates and became a version of the model.",
    "rollout_started": "A version became the challenger.",
    "stage_entered": "The challenger entered a stage of its rollout, with its share of the keys.",
    "stage_approved": "A person let a stage of a rollout begin.",
    "stage_analysed": "One look at a stage: pass, fail or inconclusive, with the numbers it rests on.",
    "stage_skipped": "A person let a stage count as passed that had not, and why.",
    "rollout_paused": "A person stopped a rollout where it is: traffic stays, and nothing goes on; and why.",
    "rollout_resumed": "A person let a paused rollout go on, and why.",
    "promoted": "A version became the champion, and which one was before it.",
    "rolled_back": "A challenger or champion was taken back and its version quarantined, why, and who serves instead.",
    "quarantine_lifted": "A person let a rolled-back version serve again, and why.",
    "approved": "A person let a version be rolled out: who, and in which run they were asked.",
    "rejected": "A person refused a version; it is quarantined.",
    "approval_void": "An approval that does not count, and why.",
    "reproduced": "A version was made again from its stored request: identical, within a tolerance, or different.",
    "card_written": "The model card of a version: its digest, and what it lacks.",
    "superseded": "A decision or a candidate that something newer, or an equal model, has made needless.",
}
"""Every kind of record, and what it says."""


@dataclass(frozen=True)
class Draft:
    """What a stage asks the ledger to record.

    ``operation`` is unique within a model: recording it again returns the first record unchanged.
    """

    kind: str
    operation: str
    partition: str | None
    actor: str
    details: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LedgerError(f"no such kind of record: {self.kind!r}; one of {', '.join(sorted(KINDS))}")
        refuse_not_finite(self.details, self.kind)


@dataclass(frozen=True)
class Record:
    """A fact in the ledger. ``sequence`` counts from 1 within a model."""

    model: str
    sequence: int
    operation: str
    kind: str
    actor: str
    partition: str | None
    details: dict[str, Any]
    evidence: tuple[str, ...]
    recorded_at: str
    previous_hash: str
    hash: str

    def computed_hash(self) -> str:
        """Return the SHA-256 of everything in the record but the hash itself."""
        body = asdict(self)
        del body["hash"]
        return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def chained(draft: Draft, *, model: str, sequence: int, previous_hash: str, recorded_at: str) -> Record:
    """Return ``draft`` as record number ``sequence`` of ``model``, chained to the hash before it."""
    details = json.loads(canonical_json(dict(draft.details)))
    open_record = Record(
        model, sequence, draft.operation, draft.kind, draft.actor, draft.partition, details,
        tuple(draft.evidence), recorded_at, previous_hash, "",
    )  # fmt: skip
    return Record(**{**asdict(open_record), "evidence": open_record.evidence, "hash": open_record.computed_hash()})


def verify_chain(records: Iterable[Record]) -> int:
    """Return how many records there are, all intact and in order.

    Raises
    ------
    LedgerCorruptError
        Naming the first record that was changed, removed or moved.
    """
    previous, count = GENESIS, 0
    for record in records:
        count += 1
        if record.sequence != count:
            raise LedgerCorruptError(f"{record.model}: record {count} is missing, {record.sequence} stands there")
        if record.previous_hash != previous or record.computed_hash() != record.hash:
            raise LedgerCorruptError(f"{record.model}: record {count} ({record.kind}) was changed after it was written")
        previous = record.hash
    return count


def canonical_json(value: Any) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces; NaN and infinity are errors."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def refuse_not_finite(value: Any, where: str) -> None:
    """Raise :class:`LedgerError` where a number below ``value`` is NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        raise LedgerError(f"{where}: {value} is no number a decision can rest on")
    if isinstance(value, Mapping):
        for key, item in value.items():
            refuse_not_finite(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            refuse_not_finite(item, f"{where}[{index}]")
