"""The audit of a ledger: is it whole, is its evidence there, and is it as long as it was when it was anchored?

The chain of hashes shows a record that was changed, removed or put in between. That the newest records were cut
off shows only against an anchor: the head of the ledger, written down in a place that its writers cannot reach.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import LedgerCorruptError, LedgerError
from airflow_mlops.core.ledger.protocols import EvidenceStore
from airflow_mlops.core.ledger.record import Record, verify_chain


@dataclass(frozen=True)
class Anchor:
    """The head of a ledger at some time: its last record's number, hash and time."""

    model: str
    sequence: int
    hash: str
    recorded_at: str


@dataclass(frozen=True)
class Audit:
    """What an audit found right: how many records, documents of evidence, and anchors were compared."""

    records: int
    evidence: int
    anchors: int


def head(records: Sequence[Record]) -> Anchor:
    """Return the anchor of a ledger as it is now.

    Raises
    ------
    LedgerError
        If it has no record.
    """
    if not records:
        raise LedgerError("the ledger has no record yet; there is nothing to anchor")
    last = records[-1]
    return Anchor(last.model, last.sequence, last.hash, last.recorded_at)


def append_anchor(anchor: Anchor, file: Path) -> None:
    """Write an anchor as one line of JSON at the end of a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(asdict(anchor)) + "\n")


def read_anchors(file: Path, model: str) -> list[Anchor]:
    """Return the anchors of a model that a file holds.

    Raises
    ------
    LedgerError
        If the file cannot be read, a line is no anchor, or none is of the model.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LedgerError(f"anchors cannot be read from {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise LedgerError(f"anchors cannot be read from {file}: no UTF-8 at byte {error.start}") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(Anchor(**json.loads(line)))
        except (ValueError, TypeError):
            raise LedgerError(f"{file}:{number} is no anchor: {line[:80]!r}") from None
    own = [anchor for anchor in found if anchor.model == model]
    if not own:
        raise LedgerError(f"{file} holds {len(found)} anchors and none of {model}")
    return own


def audit_ledger(records: Sequence[Record], evidence: EvidenceStore, anchors: Sequence[Anchor] = ()) -> Audit:
    """Recompute every hash, read every document of evidence, and compare with what was anchored.

    Raises
    ------
    LedgerError
        Naming the first record that was changed, document that is gone or changed, or anchor that does not hold.
    """
    count = verify_chain(records)
    for anchor in anchors:
        if anchor.sequence > count:
            raise LedgerCorruptError(
                f"{anchor.model}: the ledger ends at record {count}, and record {anchor.sequence} of "
                f"{anchor.recorded_at[:19]} was anchored: the newest records were cut off"
            )
        if records[anchor.sequence - 1].hash != anchor.hash:
            raise LedgerCorruptError(
                f"{anchor.model}: record {anchor.sequence} has the hash {records[anchor.sequence - 1].hash[:12]}…, and "
                f"{anchor.hash[:12]}… was anchored on {anchor.recorded_at[:19]}: the ledger was written anew"
            )
    digests = {digest: record for record in records for digest in record.evidence}
    for digest, record in digests.items():
        try:
            evidence.get(digest)
        except LedgerError as error:
            raise LedgerError(f"record {record.sequence} ({record.kind}) rests on it: {error}") from error
    return Audit(count, len(digests), len(anchors))


def exported(records: Sequence[Record], evidence: EvidenceStore | None = None) -> Iterator[dict[str, Any]]:
    """Yield each record as JSON values, with its documents of evidence in full if a store is given."""
    for record in records:
        values = asdict(record)
        if evidence is not None:
            values["documents"] = {digest: evidence.get(digest) for digest in record.evidence}
        yield values
