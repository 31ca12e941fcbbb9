"""Steps of a loop read the new records of the ledger, however many came before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.ledger import sql_facts, sql_ledger
from benchmarks.partition_growth import PERIOD, open_loop, run_partition, write_history, write_source_file

SINCE_THE_PROMOTION = PERIOD // 2
HISTORIES = (2 * PERIOD + SINCE_THE_PROMOTION, 4 * PERIOD + SINCE_THE_PROMOTION)
"""Partitions of two histories; in each an earlier champion stands beside the one that serves."""
WARM = 2


def counted(function: Callable[..., Any], name: str, counts: Counter[str]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        counts[name] += 1
        return function(*args)

    return call


def counted_keys(function: Callable[..., list[str]], counts: Counter[str]) -> Callable[..., list[str]]:
    def call(*args: Any) -> list[str]:
        keys = function(*args)
        counts["keys"] += len(keys)
        return keys

    return call


def reads_of_a_partition(folder: Path, partitions: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Counter[str]]:
    """Return how many records a partition adds, and what its steps read, after a history of so many partitions."""
    write_history(folder, partitions)
    for number in range(partitions, partitions + WARM):
        write_source_file(folder, number)
        run_partition(folder, number)
    counts: Counter[str] = Counter()
    before = open_loop(folder).ledger.head().sequence
    write_source_file(folder, partitions + WARM)
    with monkeypatch.context() as patch:
        patch.setattr(sql_ledger, "_record_of", counted(sql_ledger._record_of, "records", counts))
        patch.setattr(sql_facts, "decode", counted(sql_facts.decode, "facts", counts))
        patch.setattr(sql_facts.SqlFacts, "keys", counted_keys(sql_facts.SqlFacts.keys, counts))
        run_partition(folder, partitions + WARM)
    return open_loop(folder).ledger.head().sequence - before, counts


def test_a_partition_reads_the_records_that_are_new_and_as_many_facts_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (new, few), (also_new, many) = (
        reads_of_a_partition(tmp_path / str(partitions), partitions, monkeypatch) for partitions in HISTORIES
    )
    assert few["records"] == new == also_new == many["records"]
    assert 0 < many["facts"] <= few["facts"]
    assert 0 < many["keys"] <= few["keys"]
