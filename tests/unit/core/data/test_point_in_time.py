"""The history of a row is what was current when its partition was published, less erased and expired partitions."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlops.core.data.point_in_time import PAST, Past, history_pins, past_as_of
from airflow_mlops.core.ledger.kinds import read_details
from airflow_mlops.core.ledger.record import Draft
from airflow_mlops.testing.in_memory import InMemoryLedger


def ledger(*facts: tuple[str, str, dict[str, Any]]) -> InMemoryLedger:
    """Return a ledger of records of a kind, a partition and details."""
    records = InMemoryLedger("toy")
    for number, (kind, partition, details) in enumerate(facts):
        records.append(Draft(read_details(kind, details), f"op{number}", partition, "test"), read=number)
    return records


def past_of(facts: list[tuple[str, str, dict[str, Any]]], partition: str, version: int | None) -> Past:
    """Return the past of a partition, as the facts have it."""
    return past_as_of(ledger(*facts).records(*PAST), partition, version)


def publish(partition: str, version: int) -> tuple[str, str, dict[str, Any]]:
    return "snapshot_published", partition, {"version": version, "digest": f"d{version}"}


def forget(**versions: int) -> tuple[str, str, dict[str, Any]]:
    changes = {
        key: {
            "snapshots": {
                "version": version,
                "arrived_version": version,
                "digest": "e",
                "rows": 1,
                "snapshot_digest": "e",
                "snapshot_rows": 1,
                "was": "d",
            }
        }
        for key, version in versions.items()
    }
    return "subject_forgotten", "z", {"subject": "s", "partitions": changes}


def expire(*partitions: str) -> tuple[str, str, dict[str, Any]]:
    return "partitions_expired", "z", {"tables": {"snapshots": list(partitions)}}


A, B, C = publish("a", 0), publish("b", 1), publish("c", 2)


@pytest.mark.parametrize(
    ("facts", "partition", "version", "past"),
    [
        pytest.param([A, B, C], "c", 2, {"a": 0, "b": 1}, id="what_is_before"),
        pytest.param([A, B, C], "a", 0, {}, id="nothing_is_before"),
        pytest.param([A, B, C, publish("a", 3)], "c", 2, {"a": 0, "b": 1}, id="a_later_correction_is_not_seen"),
        pytest.param(
            [A, B, C, publish("a", 3), publish("c", 4)], "c", 4, {"a": 3, "b": 1}, id="taken_again_sees_corrections"
        ),
        pytest.param([A, C, B], "c", 2, {"a": 0}, id="what_arrived_late_is_not_seen"),
        pytest.param([A, B], "c", None, {"a": 0, "b": 1}, id="not_published_yet_sees_all"),
        pytest.param([A, B, C, forget(a=5)], "c", 2, {"a": 5, "b": 1}, id="an_erasure_reaches_back"),
        pytest.param(
            [A, B, C, publish("a", 3), forget(a=5, c=6)], "c", 6, {"a": 5, "b": 1}, id="an_erased_row_keeps_its_past"
        ),
        pytest.param([A, forget(a=5), publish("a", 6), C], "c", 2, {"a": 6}, id="published_after_an_erasure"),
    ],
)
def test_the_past_is_what_was_known(facts: Any, partition: str, version: int | None, past: dict[str, int]) -> None:
    assert past_of(facts, partition, version) == Past(past)


def test_what_is_let_go_is_named_apart() -> None:
    assert past_of([A, B, C, expire("a")], "c", 2) == Past({"b": 1}, frozenset({"a"}))
    assert past_of([A, B, expire("a"), publish("a", 7), C], "c", 2) == Past({"a": 7, "b": 1})


def test_versions_that_are_looked_back_on_are_those_of_every_published_partition() -> None:
    records = ledger(A, B, C, publish("a", 3), publish("d", 4))
    assert history_pins(records, records.state()) == [("a", 0), ("a", 3), ("b", 1), ("c", 2)]
