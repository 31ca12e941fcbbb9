"""Repeated hashes are found exactly, in memory and through files, and the files go away."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.data.duplicate_keys import KeySpool

# Few values, so that they repeat, from both ends of what 64 bits hold.
hashes = st.lists(st.one_of(st.integers(0, 8), st.integers(2**64 - 8, 2**64 - 1), st.integers(0, 2**64 - 1)))


@given(st.lists(hashes, max_size=6), st.sampled_from([0, 3, 1000]))
def test_the_repeated_are_those_that_came_more_than_once(batches: list[list[int]], in_memory: int) -> None:
    counts = Counter(value for batch in batches for value in batch)
    with KeySpool(in_memory=in_memory) as spool:
        for batch in batches:
            spool.add(np.array(batch, np.uint64))
        assert spool.duplicates().tolist() == sorted(value for value, count in counts.items() if count > 1)
        assert spool.surplus() == sum(counts.values()) - len(counts)
        assert spool.count == sum(counts.values())


def test_three_million_keys_go_through_files_that_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    random = np.random.default_rng(7)
    keys = random.integers(0, 2**64, 3_000_000, np.uint64)
    keys[2_999_990:] = keys[:10]
    with KeySpool() as spool:
        for start in range(0, len(keys), 65_536):
            spool.add(keys[start : start + 65_536])
        assert any(tmp_path.rglob("*"))
        assert spool.duplicates().tolist() == sorted(keys[:10].tolist())
    assert not any(tmp_path.iterdir())


def test_what_was_added_may_be_overwritten_by_its_owner() -> None:
    batch = np.array([1, 2], np.uint64)
    with KeySpool() as spool:
        spool.add(batch)
        batch[:] = 9
        spool.add(np.array([1], np.uint64))
        assert spool.duplicates().tolist() == [1]
