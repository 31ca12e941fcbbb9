"""Rows of a quarantine as a person is shown them: by reason, few, short, and without what is personal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pyarrow as pa
import pytest

from airflow_mlops.core.data.quarantined_rows import SCHEMA
from airflow_mlops.core.data.sample_quarantine import (
    BROKEN,
    CHARACTERS,
    FIELDS,
    LONGEST,
    REASONS,
    ROWS_OF_REASON,
    ROWS_READ,
    WITHHELD,
    QuarantineSample,
    sample_quarantine,
)
from airflow_mlops.core.declaration.contract import Contract


def batch(*rows: tuple[list[str], dict[str, Any]]) -> pa.RecordBatch:
    """Return rows of the quarantine from their reasons and fields."""
    entries = [
        {"key": None, "stage": "contract", "reasons": json.dumps(reasons), "row": json.dumps(row), "at": None}
        for reasons, row in rows
    ]
    return pa.RecordBatch.from_pylist(entries, schema=SCHEMA)


def values_of(sample: QuarantineSample) -> list[dict[str, str | None]]:
    """Return the fields of every row of a sample."""
    return [dict(row.fields) for reason in sample.reasons for row in reason.sample]


def test_rows_are_counted_at_every_rule_that_they_break_and_the_most_frequent_comes_first() -> None:
    rows = batch(
        (["age: 'old' is no int"], {"id": "1", "age": "old"}),
        (["age: 'older' is no int", "id: is null"], {"id": None, "age": "older"}),
    )
    sample = sample_quarantine([rows], ())
    assert [(reason.reason, reason.rows) for reason in sample.reasons] == [("age: is no int", 2), ("id: is null", 1)]
    assert (sample.read, sample.complete, sample.others) == (2, True, 0)
    assert sample.reasons[0].sample[0].fields == (("age", "old"), ("id", "1"))


def test_values_of_personal_columns_are_withheld_in_rows_and_in_reasons() -> None:
    rows = batch(
        (["name: 'Ann' is no level; there are 'a'", "name: odd 'Ann'"], {"name": "Ann", "x": "1"}),
        (["has 5 values, 'Ann' among them"], {"": "Ann,1,2,3,4"}),
    )
    sample = sample_quarantine([rows], {"name"})
    assert "Ann" not in repr(sample)
    assert {reason.reason for reason in sample.reasons} == {
        "name: is no level; there are 'a'",
        "name: breaks a rule",
        BROKEN,
    }
    assert values_of(sample)[0] == {"name": WITHHELD, "x": "1"}


def test_every_value_is_withheld_where_nobody_recorded_what_is_personal() -> None:
    rows = batch((["x: 'secret' is odd"], {"x": "secret", "y": None}))
    sample = sample_quarantine([rows], None)
    assert "secret" not in repr(sample)
    assert values_of(sample) == [{"x": WITHHELD, "y": None}]
    assert "secret" in repr(sample_quarantine([rows], ()))


def test_a_sample_is_small_whatever_is_in_quarantine() -> None:
    wide = {f"column_{number}": "v" * 500 for number in range(200)}
    rows = batch(*(([f"column_{number % 40}: is null"], wide) for number in range(400)))
    sample = sample_quarantine([rows], ())
    assert len(sample.reasons) == REASONS
    assert sample.others == 40 - REASONS
    shown = [row for reason in sample.reasons for row in reason.sample]
    assert all(len(reason.sample) <= ROWS_OF_REASON for reason in sample.reasons)
    assert {(len(row.fields), row.left_out) for row in shown} == {(FIELDS, 200 - FIELDS)}
    assert max(len(value or "") for row in shown for _, value in row.fields) == LONGEST + 1
    largest_row = FIELDS * (2 * LONGEST + 1)
    assert sum(len(name) + len(value or "") for row in shown for name, value in row.fields) < CHARACTERS + largest_row


def test_reading_ends_after_so_many_rows_and_after_so_long() -> None:
    row = batch((["x: is null"], {"x": None}))
    many = pa.Table.from_batches([row] * 5_000).combine_chunks().to_batches()[0]

    def endless(read: list[int]) -> Iterator[pa.RecordBatch]:
        for number in count():
            read.append(number)
            yield many

    read: list[int] = []
    sample = sample_quarantine(endless(read), ())
    assert (sample.read, sample.complete) == (ROWS_READ, False)
    assert len(read) == ROWS_READ // 5_000 + 1

    slow = count(0, 10)
    late = sample_quarantine(endless([]), (), clock=lambda: float(next(slow)))
    assert (late.read, late.complete) == (1_000, False)


@pytest.mark.parametrize(
    ("changed", "personal"),
    [
        ({}, set()),
        ({"name": {"type": "text", "privacy": "personal", "feature": False}}, {"name"}),
        ({"name": {"type": "text", "privacy": "sensitive"}}, {"name"}),
        ({"name": {"type": "text", "mask": True}}, {"name"}),
    ],
)
def test_a_contract_says_which_columns_are_personal(changed: dict[str, Any], personal: set[str]) -> None:
    columns = {"id": {"type": "text"}, "at": {"type": "time"}, "name": {"type": "text"}}
    contract = Contract.model_validate(
        {"contract": "people", "key": "id", "time": "at", "columns": {**columns, **changed}}
    )
    assert contract.personal == personal


def test_the_subject_and_a_key_with_a_personal_part_are_personal() -> None:
    columns = {
        "guest": {"type": "text", "nullable": False, "privacy": "personal", "feature": False},
        "night": {"type": "text", "nullable": False},
        "account": {"type": "text"},
        "at": {"type": "time"},
    }
    fields = {"contract": "stays", "key": ["guest", "night"], "time": "at", "subject": "account", "columns": columns}
    assert Contract.model_validate(fields).personal == {"guest", "guest+night", "account"}
