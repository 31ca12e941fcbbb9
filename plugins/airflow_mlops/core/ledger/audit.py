"""Audit a ledger: recompute its hash chain, read its evidence, and compare it with its anchors.

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
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.ledger.protocols import EvidenceStore, Ledger
from airflow_mlops.core.ledger.record import GENESIS, Record, verify_chain


@dataclass(frozen=True)
class Anchor:
    """The head of a ledger at some time: its last record's number, hash and time."""

    model: str
    sequence: int
    hash: str
    recorded_at: str


@dataclass(frozen=True)
class Audit:
    """The result of an audit without errors: the numbers of records, evidence documents and anchors compared."""

    records: int
    evidence: int
    anchors: int


def head_anchor(ledger: Ledger) -> Anchor:
    """Return an anchor of the current head of a ledger.

    Raises
    ------
    LedgerError
        If it has no record.
    """
    last = ledger.record(ledger.head().sequence)
    if last is None:
        raise LedgerError("the ledger has no record yet; there is nothing to anchor")
    return Anchor(last.model, last.sequence, last.hash, last.recorded_at)


def append_anchor(anchor: Anchor, file: Path) -> None:
    """Write an anchor as one line of JSON at the end of a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with external_write("anchor.append"), file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(asdict(anchor)) + "\n")


def read_anchors(file: Path, model: str) -> list[Anchor]:
    """Return the anchors of a model in a file.

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
    anchors = []
    for number, line in enumerate(lines, start=1):
        try:
            anchors.append(Anchor(**json.loads(line)))
        except (ValueError, TypeError):
            raise LedgerError(f"{file}:{number} is no anchor: {line[:80]!r}") from None
    own = [anchor for anchor in anchors if anchor.model == model]
    if not own:
        raise LedgerError(f"{file} holds {len(anchors)} anchors and none of {model}")
    return own


def audit_ledger(
    ledger: Ledger, evidence: EvidenceStore, anchors: Sequence[Anchor] = (), *, since: Anchor | None = None
) -> Audit:
    """Recompute every hash, read every document of evidence, and compare the ledger with its anchors.

    Records are read once and one at a time, so memory does not grow with their number.

    Parameters
    ----------
    anchors : sequence of Anchor
        What was written down of the ledger before.
    since : Anchor, optional
        An anchor up to which the ledger was audited before: only newer records are, and the anchored record itself.

    Raises
    ------
    LedgerError
        Naming the first record that was changed, document that is gone or changed, or anchor that does not hold.
    """
    pending = {anchor.sequence: anchor for anchor in anchors if since is None or anchor.sequence > since.sequence}
    if since is not None:
        _require_anchored(ledger.record(since.sequence), since, ledger.head().sequence)
    documents = 0

    def read() -> Iterator[Record[Any]]:
        nonlocal documents
        for record in ledger.records(after=since.sequence if since else 0):
            yield record
            if record.sequence in pending:
                _require_anchored(record, pending.pop(record.sequence), record.sequence)
            documents += _read_evidence(record, evidence)

    last = (
        verify_chain(read())
        if since is None
        else verify_chain(read(), sequence=since.sequence, previous_hash=since.hash)
    )
    for anchor in pending.values():
        _require_anchored(None, anchor, last)
    return Audit(last - (since.sequence if since else 0), documents, len(anchors))


def verify_tail(ledger: Ledger, count: int) -> int:
    """Verify the hash chain of the newest records, ``count`` at most; return the number of the last one.

    Raises
    ------
    LedgerCorruptError
        Naming the first record that was changed, removed or moved.
    """
    since = max(ledger.head().sequence - count, 0)
    before = ledger.record(since) if since else None
    if since and before is None:
        raise LedgerCorruptError(f"{ledger.model}: record {since} is missing")
    return verify_chain(
        ledger.records(after=since), sequence=since, previous_hash=GENESIS if before is None else before.hash
    )


def _require_anchored(record: Record[Any] | None, anchor: Anchor, last: int) -> None:
    if record is None:
        raise LedgerCorruptError(
            f"{anchor.model}: the ledger ends at record {last}, and record {anchor.sequence} of "
            f"{anchor.recorded_at[:19]} was anchored: the newest records were cut off"
        )
    if record.hash != anchor.hash:
        raise LedgerCorruptError(
            f"{anchor.model}: record {anchor.sequence} has the hash {record.hash[:12]}…, and "
            f"{anchor.hash[:12]}… was anchored on {anchor.recorded_at[:19]}: the ledger was written anew"
        )


def _read_evidence(record: Record[Any], evidence: EvidenceStore) -> int:
    for digest in record.evidence:
        try:
            evidence.get(digest)
        except LedgerError as error:
            raise LedgerError(f"record {record.sequence} ({record.kind}) rests on it: {error}") from error
    return len(record.evidence)


def export_records(ledger: Ledger, evidence: EvidenceStore | None = None) -> Iterator[dict[str, Any]]:
    """Yield each record as JSON values, with its documents of evidence in full if a store is given."""
    for record in ledger.records():
        values = record.to_json()
        if evidence is not None:
            values["documents"] = {digest: evidence.get(digest) for digest in record.evidence}
        yield values
