"""The contract of every evidence store: the name of a document is the digest of its content."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.evidence_files import EvidenceFiles
from airflow_mlops.core.ledger.protocols import EvidenceStore
from airflow_mlops.testing.in_memory import InMemoryEvidence

Change = Callable[[str, bytes], None]
DOCUMENT = {"b": [1, 2.5, None, "ü"], "a": {"x": True}}


@pytest.fixture(params=["files", "in memory"])
def store_and_change(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[EvidenceStore, Change]:
    if request.param == "files":
        folder = tmp_path / "evidence"
        return EvidenceFiles(folder), lambda digest, content: (folder / f"{digest}.json").write_bytes(content) and None
    store = InMemoryEvidence()
    return store, lambda digest, content: store.contents.update({digest: content})


@pytest.fixture
def store(store_and_change: tuple[EvidenceStore, Change]) -> EvidenceStore:
    return store_and_change[0]


def test_a_document_comes_back_equal(store: EvidenceStore) -> None:
    assert store.get(store.put(DOCUMENT)) == DOCUMENT


def test_the_same_document_in_any_order_of_keys_has_one_digest(store: EvidenceStore) -> None:
    assert store.put({"a": 1, "b": 2}) == store.put({"b": 2, "a": 1})


def test_another_document_has_another_digest(store: EvidenceStore) -> None:
    assert store.put({"a": 1}) != store.put({"a": 2})


def test_a_missing_document_is_a_ledger_error_that_names_it(store: EvidenceStore) -> None:
    with pytest.raises(LedgerError, match=r"f{64} is missing"):
        store.get("f" * 64)


def test_a_changed_document_is_refused(store_and_change: tuple[EvidenceStore, Change]) -> None:
    store, change = store_and_change
    digest = store.put(DOCUMENT)
    change(digest, b'{"a":2}')
    with pytest.raises(LedgerError, match="was changed after it was written"):
        store.get(digest)


def test_nan_is_no_evidence(store: EvidenceStore) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        store.put({"p_value": float("nan")})


def test_many_writers_of_one_document_at_once_all_succeed(store: EvidenceStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: store.put(DOCUMENT), range(64)))
    assert len(digests) == 1
    assert store.get(digests.pop()) == DOCUMENT
