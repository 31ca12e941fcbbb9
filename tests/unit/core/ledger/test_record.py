"""Records: chained so that any change shows, and holding nothing that is no number."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.errors import LedgerCorruptError, LedgerError
from airflow_mlops.core.ledger.record import GENESIS, Draft, Record, chained, verify_chain

json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def chain(details: list[dict[str, Any]]) -> list[Record]:
    records: list[Record] = []
    for number, each in enumerate(details, start=1):
        draft = Draft("promoted", f"op{number}", "2013-01-06T00:00:00", "ann", each, ("e",))
        previous = records[-1].hash if records else GENESIS
        records.append(chained(draft, model="toy", sequence=number, previous_hash=previous, recorded_at="now"))
    return records


CHANGES: dict[str, Any] = {
    "model": "other", "sequence": 99, "operation": "x", "kind": "rolled_back", "actor": "eve", "partition": None,
    "details": {"changed": 1}, "evidence": (), "recorded_at": "then", "previous_hash": "f" * 64, "hash": "f" * 64,
}  # fmt: skip


@given(st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=6))
def test_an_untouched_chain_verifies_whatever_it_says(details: list[dict[str, Any]]) -> None:
    assert verify_chain(chain(details)) == len(details)


@given(st.integers(1, 6), st.data(), st.sampled_from(sorted(CHANGES)))
def test_any_changed_field_of_any_record_is_found(count: int, data: st.DataObject, name: str) -> None:
    records = chain([{"n": number} for number in range(count)])
    place = data.draw(st.integers(0, count - 1))
    records[place] = dataclasses.replace(records[place], **{name: CHANGES[name]})
    with pytest.raises(LedgerCorruptError, match=f"record {place + 1} "):
        verify_chain(records)


@given(st.permutations(range(5)))
def test_any_other_order_is_found(order: list[int]) -> None:
    records = chain([{"n": number} for number in range(5)])
    moved = [records[place] for place in order]
    if moved == records:
        assert verify_chain(moved) == 5
        return
    with pytest.raises(LedgerCorruptError):
        verify_chain(moved)


@pytest.mark.parametrize("place", range(4))
def test_a_record_removed_anywhere_but_at_the_end_is_found(place: int) -> None:
    records = chain([{"n": number} for number in range(5)])
    del records[place]
    with pytest.raises(LedgerCorruptError, match=f"record {place + 1} is missing"):
        verify_chain(records)


def test_a_record_rewritten_with_a_fitting_hash_is_found_by_the_next_one() -> None:
    records = chain([{"n": number} for number in range(3)])
    forged = dataclasses.replace(records[1], details={"n": 99})
    records[1] = dataclasses.replace(forged, hash=forged.computed_hash())
    with pytest.raises(LedgerCorruptError, match="record 3"):
        verify_chain(records)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_cannot_be_recorded_and_is_named(number: float) -> None:
    with pytest.raises(LedgerError, match=r"promoted\.metrics\.mae\[1\]: (nan|-?inf) is no number"):
        Draft("promoted", "op", None, "ann", {"metrics": {"mae": [1.0, number]}})


def test_a_kind_that_nobody_folds_cannot_be_recorded() -> None:
    with pytest.raises(LedgerError, match="no such kind of record: 'promotd'"):
        Draft("promotd", "op", None, "ann")


def test_a_record_does_not_change_when_the_draft_s_details_do() -> None:
    details = {"list": [1]}
    record = chained(
        Draft("promoted", "op", None, "ann", details), model="m", sequence=1, previous_hash=GENESIS, recorded_at=""
    )
    details["list"].append(2)
    assert record.details == {"list": [1]}
    assert record.computed_hash() == record.hash
