"""The audit finds a changed record, a cut-off end and evidence that is gone, each by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from airflow_mlops.core.errors import LedgerCorruptError, LedgerError
from airflow_mlops.core.ledger.audit import append_anchor, audit_ledger, exported, head, read_anchors
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.testing.in_memory import InMemoryEvidence, InMemoryLedger


def ledger_with_evidence(count: int = 4) -> tuple[InMemoryLedger, InMemoryEvidence]:
    """Return a ledger of records that each rest on a document."""
    ledger, evidence = InMemoryLedger("toy"), InMemoryEvidence()
    for number in range(count):
        digest = evidence.put({"rows": number})
        draft = Draft("snapshot_published", f"op{number}", None, "test", {"rows": number}, (digest,))
        ledger.append(draft, read=number)
    return ledger, evidence


def test_a_whole_ledger_passes_with_its_evidence_and_anchors_counted(tmp_path: Path) -> None:
    ledger, evidence = ledger_with_evidence()
    for until in (2, 4):
        append_anchor(head(ledger.records()[:until]), tmp_path / "anchors.jsonl")
    found = audit_ledger(ledger.records(), evidence, read_anchors(tmp_path / "anchors.jsonl", "toy"))
    assert (found.records, found.evidence, found.anchors) == (4, 4, 2)


def test_a_cut_off_end_shows_against_an_anchor_and_only_there(tmp_path: Path) -> None:
    ledger, evidence = ledger_with_evidence()
    append_anchor(head(ledger.records()), tmp_path / "anchors.jsonl")
    short = ledger.records()[:3]
    assert audit_ledger(short, evidence).records == 3
    with pytest.raises(LedgerCorruptError, match=r"ends at record 3, and record 4 .* was anchored: .* cut off"):
        audit_ledger(short, evidence, read_anchors(tmp_path / "anchors.jsonl", "toy"))


def test_a_ledger_written_anew_with_valid_hashes_shows_against_an_anchor(tmp_path: Path) -> None:
    ledger, _ = ledger_with_evidence()
    append_anchor(head(ledger.records()), tmp_path / "anchors.jsonl")
    other = InMemoryLedger("toy")
    for number in range(4):
        other.append(Draft("snapshot_published", f"op{number}", None, "forger", {"rows": number}), read=number)
    with pytest.raises(LedgerCorruptError, match=r"record 4 has the hash .* the ledger was written anew"):
        audit_ledger(other.records(), InMemoryEvidence(), read_anchors(tmp_path / "anchors.jsonl", "toy"))


def test_a_changed_record_and_evidence_that_is_gone_or_changed_are_named() -> None:
    ledger, evidence = ledger_with_evidence()
    records = ledger.records()
    forged = [*records[:2], dataclasses.replace(records[2], actor="somebody else"), records[3]]
    with pytest.raises(LedgerCorruptError, match="3"):
        audit_ledger(forged, evidence)
    digest = records[1].evidence[0]
    kept = evidence.contents.pop(digest)
    with pytest.raises(LedgerError, match=r"record 2 \(snapshot_published\) rests on it: .* is missing"):
        audit_ledger(records, evidence)
    evidence.contents[digest] = kept + b" "
    with pytest.raises(LedgerError, match=r"record 2 .* was changed"):
        audit_ledger(records, evidence)


def test_anchors_of_another_model_or_no_anchors_at_all_are_refused(tmp_path: Path) -> None:
    ledger, _ = ledger_with_evidence(1)
    file = tmp_path / "anchors.jsonl"
    append_anchor(head(ledger.records()), file)
    with pytest.raises(LedgerError, match="holds 1 anchors and none of other"):
        read_anchors(file, "other")
    with file.open("a") as out:
        out.write("nonsense\n")
    with pytest.raises(LedgerError, match=r"anchors.jsonl:2 is no anchor: 'nonsense'"):
        read_anchors(file, "toy")
    with pytest.raises(LedgerError, match="no record yet"):
        head([])


def test_an_export_holds_every_record_and_on_demand_its_documents() -> None:
    ledger, evidence = ledger_with_evidence(2)
    lines = [json.loads(json.dumps(values)) for values in exported(ledger.records(), evidence)]
    assert [line["sequence"] for line in lines] == [1, 2]
    assert [list(line["documents"].values()) for line in lines] == [[{"rows": 0}], [{"rows": 1}]]
    assert all("documents" not in line for line in exported(ledger.records()))
