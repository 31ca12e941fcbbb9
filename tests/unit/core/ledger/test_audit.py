"""The audit finds a changed record, a cut-off end and evidence that is gone, each by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import LedgerCorruptError, LedgerError
from airflow_mlops.core.ledger.audit import append_anchor, audit_ledger, export_records, head_anchor, read_anchors
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.testing.in_memory import InMemoryEvidence, InMemoryLedger


def ledger_with_evidence(count: int = 4) -> tuple[InMemoryLedger, InMemoryEvidence]:
    """Return a ledger of records that each rest on a document."""
    ledger, evidence = InMemoryLedger("toy"), InMemoryEvidence()
    grow(ledger, evidence, count)
    return ledger, evidence


def grow(ledger: InMemoryLedger, evidence: InMemoryEvidence, count: int, *, actor: str = "test") -> None:
    """Append records that each rest on a document."""
    for _ in range(count):
        number = ledger.head().sequence
        digest = evidence.put({"rows": number})
        details = SnapshotPublished(version=number, digest="d", rows=number)
        ledger.append(Draft(details, f"op{number}", None, actor, (digest,)), read=number)


class WrittenLedger(InMemoryLedger):
    """A ledger whose records were written past the interface, as by somebody with access to its table."""

    def __init__(self, records: list[Record[Any]]) -> None:
        super().__init__("toy")
        self._records = records


def test_a_whole_ledger_passes_with_its_evidence_and_anchors_counted(tmp_path: Path) -> None:
    ledger, evidence = ledger_with_evidence(2)
    append_anchor(head_anchor(ledger), tmp_path / "anchors.jsonl")
    grow(ledger, evidence, 2)
    append_anchor(head_anchor(ledger), tmp_path / "anchors.jsonl")
    audit = audit_ledger(ledger, evidence, read_anchors(tmp_path / "anchors.jsonl", "toy"))
    assert (audit.records, audit.evidence, audit.anchors) == (4, 4, 2)


def test_an_audit_since_an_anchor_reads_the_newer_records_only_and_finds_what_changed_there() -> None:
    ledger, evidence = ledger_with_evidence(3)
    anchor = head_anchor(ledger)
    grow(ledger, evidence, 2)
    first = next(iter(ledger.records())).evidence[0]
    evidence.contents.pop(first)  # of a record that was audited before
    audit = audit_ledger(ledger, evidence, [anchor], since=anchor)
    assert (audit.records, audit.evidence) == (2, 2)
    records = list(ledger.records())
    changed = WrittenLedger([*records[:4], dataclasses.replace(records[4], actor="somebody else")])
    with pytest.raises(LedgerCorruptError, match="record 5"):
        audit_ledger(changed, evidence, [anchor], since=anchor)
    anew = WrittenLedger([*records[:2], dataclasses.replace(records[2], hash="f" * 64), *records[3:]])
    with pytest.raises(LedgerCorruptError, match=r"record 3 has the hash .* written anew"):
        audit_ledger(anew, evidence, [anchor], since=anchor)


def test_a_cut_off_end_shows_against_an_anchor_and_only_there(tmp_path: Path) -> None:
    ledger, evidence = ledger_with_evidence()
    append_anchor(head_anchor(ledger), tmp_path / "anchors.jsonl")
    short = WrittenLedger(list(ledger.records())[:3])
    assert audit_ledger(short, evidence).records == 3
    with pytest.raises(LedgerCorruptError, match=r"ends at record 3, and record 4 .* was anchored: .* cut off"):
        audit_ledger(short, evidence, read_anchors(tmp_path / "anchors.jsonl", "toy"))


def test_a_ledger_written_anew_with_valid_hashes_shows_against_an_anchor(tmp_path: Path) -> None:
    ledger, _ = ledger_with_evidence()
    append_anchor(head_anchor(ledger), tmp_path / "anchors.jsonl")
    other, evidence = InMemoryLedger("toy"), InMemoryEvidence()
    grow(other, evidence, 4, actor="forger")
    with pytest.raises(LedgerCorruptError, match=r"record 4 has the hash .* the ledger was written anew"):
        audit_ledger(other, evidence, read_anchors(tmp_path / "anchors.jsonl", "toy"))


def test_a_changed_record_and_evidence_that_is_gone_or_changed_are_named() -> None:
    ledger, evidence = ledger_with_evidence()
    records = list(ledger.records())
    forged = [*records[:2], dataclasses.replace(records[2], actor="somebody else"), records[3]]
    with pytest.raises(LedgerCorruptError, match="3"):
        audit_ledger(WrittenLedger(forged), evidence)
    digest = records[1].evidence[0]
    kept = evidence.contents.pop(digest)
    with pytest.raises(LedgerError, match=r"record 2 \(snapshot_published\) rests on it: .* is missing"):
        audit_ledger(ledger, evidence)
    evidence.contents[digest] = kept + b" "
    with pytest.raises(LedgerError, match=r"record 2 .* was changed"):
        audit_ledger(ledger, evidence)


def test_anchors_of_another_model_or_no_anchors_at_all_are_refused(tmp_path: Path) -> None:
    ledger, _ = ledger_with_evidence(1)
    file = tmp_path / "anchors.jsonl"
    append_anchor(head_anchor(ledger), file)
    with pytest.raises(LedgerError, match="holds 1 anchors and none of other"):
        read_anchors(file, "other")
    with file.open("a") as out:
        out.write("nonsense\n")
    with pytest.raises(LedgerError, match=r"anchors.jsonl:2 is no anchor: 'nonsense'"):
        read_anchors(file, "toy")
    with pytest.raises(LedgerError, match="no record yet"):
        head_anchor(InMemoryLedger("toy"))


def test_an_export_holds_every_record_and_on_demand_its_documents() -> None:
    ledger, evidence = ledger_with_evidence(2)
    lines = [json.loads(json.dumps(values)) for values in export_records(ledger, evidence)]
    assert [line["sequence"] for line in lines] == [1, 2]
    assert [list(line["documents"].values()) for line in lines] == [[{"rows": 0}], [{"rows": 1}]]
    assert all("documents" not in line for line in export_records(ledger))
