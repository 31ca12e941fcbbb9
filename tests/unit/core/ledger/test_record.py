"""Records: chained so that any change shows, and holding nothing that is no number."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.errors import LedgerCorruptError, LedgerError
from airflow_mlops.core.ledger.kinds import KINDS, read_details
from airflow_mlops.core.ledger.record import GENESIS, Draft, Record, chain_record, verify_chain
from airflow_mlops.core.ledger.training_details import RetrainDecided
from airflow_mlops.core.ledger.watch_details import PerformanceJudged

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.text(),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def chain(numbers: list[dict[str, Any]]) -> list[Record[RetrainDecided]]:
    records: list[Record[RetrainDecided]] = []
    for number, each in enumerate(numbers, start=1):
        decided = RetrainDecided(retrain=True, numbers=each)
        draft = Draft(decided, f"op{number}", "2013-01-06T00:00:00", "ann", ("e",))
        previous = records[-1].hash if records else GENESIS
        records.append(chain_record(draft, model="toy", sequence=number, previous_hash=previous, recorded_at="now"))
    return records


CHANGES: dict[str, Any] = {
    "model": "other",
    "sequence": 99,
    "operation": "x",
    "kind": "rolled_back",
    "actor": "eve",
    "partition": None,
    "stored": {"changed": 1},
    "evidence": (),
    "recorded_at": "then",
    "previous_hash": "f" * 64,
    "hash": "f" * 64,
}


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
    forged = dataclasses.replace(records[1], stored={"n": 99})
    records[1] = dataclasses.replace(forged, hash=forged.computed_hash())
    with pytest.raises(LedgerCorruptError, match="record 3"):
        verify_chain(records)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_cannot_be_recorded_and_is_named(number: float) -> None:
    with pytest.raises(LedgerError, match=r"retrain_decided\.numbers\.mae\[1\]: (nan|-?inf) is no number"):
        chain([{"mae": [1.0, number]}])


def test_a_kind_that_nobody_folds_cannot_be_read() -> None:
    record = dataclasses.replace(chain([{}])[0], kind="promotd")
    with pytest.raises(LedgerError, match="no such kind of record: 'promotd'"):
        _ = record.details


def test_a_record_does_not_change_when_the_draft_s_details_do() -> None:
    numbers = {"list": [1]}
    record = chain([numbers])[0]
    numbers["list"].append(2)
    assert record.details.numbers == {"list": [1]}
    assert record.computed_hash() == record.hash


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_record_states_the_form_that_it_is_written_in(kind: str) -> None:
    assert KINDS[kind].FORM >= 1
    assert KINDS[kind].SUMMARY.endswith(".")


def test_details_read_back_what_they_wrote_and_leave_out_what_is_none() -> None:
    details = PerformanceJudged(verdict="alarm", value=2.5, low=None, alarmed=("whole",), slices={"worst": [{"n": 1}]})
    stored = details.stored()
    assert stored["schema"] == 1
    assert "low" not in stored
    assert read_details(details.KIND, stored) == details


def test_details_that_do_not_fit_their_kind_are_refused_by_the_field() -> None:
    with pytest.raises(LedgerError, match=r"'stage_entered' cannot be read: .*`\$\.share`"):
        read_details("stage_entered", {"version": "1", "stage": 0, "kind": "canary", "share": "much"})
