"""A ledger record: a decision or an action, in order and chained by hashes.

The hash of a record covers all of it and the hash before it, so a changed, removed or reordered record shows.
``Draft`` is what a stage asks the ledger to record; the ledger numbers and chains it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from airflow_mlops.core.errors import LedgerCorruptError
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.kinds import read_details

GENESIS = "0" * 64
D = TypeVar("D", bound=Details)
D_co = TypeVar("D_co", bound=Details, covariant=True)


@dataclass(frozen=True)
class Draft(Generic[D]):
    """A record that a stage asks the ledger to append.

    ``operation`` is unique within a model: recording it again returns the first record unchanged.
    """

    details: D
    operation: str
    partition: str | None
    actor: str
    evidence: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of record, as the ledger stores it."""
        return self.details.KIND


@dataclass(frozen=True)
class Record(Generic[D_co]):
    """A fact in the ledger. ``sequence`` counts from 1 within a model; ``stored`` is the JSON that the hash covers."""

    model: str
    sequence: int
    operation: str
    kind: str
    actor: str
    partition: str | None
    stored: dict[str, Any]
    evidence: tuple[str, ...]
    recorded_at: str
    previous_hash: str
    hash: str

    @cached_property
    def details(self) -> D_co:
        """The content of the record, in the current schema.

        Raises
        ------
        LedgerError
            If the kind is unknown or the stored JSON does not fit it.
        """
        return cast(D_co, read_details(self.kind, self.stored))

    def computed_hash(self) -> str:
        """Return the SHA-256 of everything in the record but the hash itself."""
        body = {
            "model": self.model,
            "sequence": self.sequence,
            "operation": self.operation,
            "kind": self.kind,
            "actor": self.actor,
            "partition": self.partition,
            "details": self.stored,
            "evidence": self.evidence,
            "recorded_at": self.recorded_at,
            "previous_hash": self.previous_hash,
        }
        return hashlib.sha256(canonical_json(body).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, its details as they are stored."""
        kept = {name: value for name, value in vars(self).items() if name not in ("details", "stored", "evidence")}
        return {**kept, "details": self.stored, "evidence": list(self.evidence)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record[Any]:
        """Return the record that ``to_json`` wrote."""
        rest = {name: value for name, value in values.items() if name not in ("details", "evidence")}
        return cls(**rest, stored=values["details"], evidence=tuple(values["evidence"]))


AnyRecord = Record[Details]


def chain_record(draft: Draft[D], *, model: str, sequence: int, previous_hash: str, recorded_at: str) -> Record[D]:
    """Return ``draft`` as record number ``sequence`` of ``model``, chained to the hash before it."""
    record: Record[D] = Record(
        model,
        sequence,
        draft.operation,
        draft.kind,
        draft.actor,
        draft.partition,
        json.loads(canonical_json(draft.details.stored())),
        tuple(draft.evidence),
        recorded_at,
        previous_hash,
        "",
    )
    return replace(record, hash=record.computed_hash())


def verify_chain(records: Iterable[Record[Any]], *, sequence: int = 0, previous_hash: str = GENESIS) -> int:
    """Verify that records are intact and in order; return the number of the last one.

    Parameters
    ----------
    records : iterable of Record
        The records after number ``sequence``, oldest first; they are read one at a time.
    sequence : int
        Number of the record before the first one.
    previous_hash : str
        Its hash.

    Raises
    ------
    LedgerCorruptError
        Naming the first record that was changed, removed or moved.
    """
    for record in records:
        sequence += 1
        if record.sequence != sequence:
            raise LedgerCorruptError(f"{record.model}: record {sequence} is missing, {record.sequence} stands there")
        if record.previous_hash != previous_hash or record.computed_hash() != record.hash:
            raise LedgerCorruptError(
                f"{record.model}: record {sequence} ({record.kind}) was changed after it was written"
            )
        previous_hash = record.hash
    return sequence


def canonical_json(value: Any) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces; NaN and infinity are errors."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
