"""The digest depends on every cell of a table, and not on the order or the storage of its rows."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from airflow_mlops.core.data.content_digest import ContentDigest, content_digest
from airflow_mlops.core.data.row_hash import hash_rows
from airflow_mlops.core.errors import DataError

Row = tuple[str | None, float | None, int | None, bool | None]

cells = st.tuples(
    st.one_of(st.none(), st.text(max_size=4)),
    st.one_of(st.none(), st.floats(width=64)),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.booleans()),
)
rows = st.lists(cells, min_size=1, max_size=12)


def table_of(rows: list[Row]) -> pa.Table:
    text, number, count, flag = zip(*rows, strict=True)
    return pa.table(
        {
            "key": pa.array(text, pa.string()),
            "x": pa.array(number, pa.float64()),
            "n": pa.array(count, pa.int64()),
            "f": pa.array(flag, pa.bool_()),
        }
    )


@given(rows, st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_order_of_rows_and_columns_and_the_chunks_do_not_count(rows: list[Row], order: Any, size: int) -> None:
    table = table_of(rows)
    shuffled = order.sample(rows, len(rows))
    chunks = [table_of(shuffled[start : start + size]) for start in range(0, len(shuffled), size)]
    assert content_digest(pa.concat_tables(chunks)) == content_digest(table)
    assert content_digest(table.select(["f", "n", "key", "x"])) == content_digest(table)


@settings(max_examples=300)
@given(rows, st.data())
def test_any_changed_cell_gives_another_digest(rows: list[Row], data: st.DataObject) -> None:
    row, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 3))
    replacement = data.draw(cells)[column]
    changed = [list(cells) for cells in rows]
    changed[row][column] = replacement
    assume(sorted(map(repr, map(plain, rows))) != sorted(map(repr, map(plain, changed))))
    assert content_digest(table_of(changed)) != content_digest(table_of(rows))  # type: ignore[arg-type]


def plain(row: Any) -> list[Any]:
    """Return a row with -0.0 as 0.0, for the digest treats them as the same number."""
    return [0.0 if isinstance(cell, float) and cell == 0 else cell for cell in row]


def test_null_nan_and_zero_are_three_different_things() -> None:
    digests = {content_digest(table_of([("a", value, 1, True)])) for value in (None, float("nan"), 0.0)}
    assert len(digests) == 3


def test_null_and_the_empty_text_are_different() -> None:
    assert content_digest(table_of([("", 1, 1, True)])) != content_digest(table_of([(None, 1, 1, True)]))


def test_minus_zero_is_zero() -> None:
    assert content_digest(table_of([("a", -0.0, 1, True)])) == content_digest(table_of([("a", 0.0, 1, True)]))


def test_text_that_is_cut_elsewhere_is_different() -> None:
    def digest(*texts: str) -> str:
        return content_digest(pa.table({"key": ["a", "b"], "t": list(texts)}))

    assert digest("ab", "c") != digest("a", "bc")


def test_a_renamed_a_removed_and_an_added_column_give_other_digests() -> None:
    table = table_of([("a", 1.0, 1, True)])
    renamed = table.rename_columns(["key", "z", "n", "f"])
    assert len({content_digest(variant) for variant in (table, renamed, table.drop_columns(["x"]))}) == 3


@pytest.mark.parametrize("form", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("keys", [["a", "b", None], ["a", "a", "a"]])
def test_how_an_engine_keeps_text_does_not_count(form: pa.DataType, keys: list[str | None]) -> None:
    table = pa.table({"key": pa.array(keys), "t": pa.array(["ü", "x", None])})
    stored = pa.table({name: table.column(name).cast(form) for name in table.column_names})
    assert content_digest(stored) == content_digest(table)


def test_the_width_of_numbers_does_not_count() -> None:
    wide = pa.table({"key": pa.array([1, 2]), "x": pa.array([1.5, None])})
    narrow = pa.table({"key": pa.array([1, 2], pa.int8()), "x": pa.array([1.5, None], pa.float32())})
    assert content_digest(wide) == content_digest(narrow)


def test_a_moment_is_the_same_in_every_zone_and_another_one_without_a_zone() -> None:
    def digest(zone: str | None) -> str:
        return content_digest(pa.table({"key": pa.array([5, 6], pa.timestamp("us", tz=zone))}))

    assert digest("UTC") == digest("America/New_York")
    assert digest("UTC") != digest(None)


def test_what_no_snapshot_can_keep_is_an_error_that_names_the_column() -> None:
    with pytest.raises(DataError, match="column 'x' has times finer than a microsecond"):
        content_digest(pa.table({"key": ["a"], "x": pa.array([1], pa.timestamp("ns"))}))
    for column in (pa.array([[1]]), pa.array([b"x"]), pa.array([{"a": 1}])):
        with pytest.raises(DataError, match="column 'x' has the type"):
            content_digest(pa.table({"key": ["a"], "x": column}))


MICROSECONDS = [1_357_448_400_000_000, 0, -310_435_200_000_001, None]


def golden_table() -> pa.Table:
    """Return a table with every kind of column, a null in each, and values that are easily confused."""
    return pa.table(
        {
            "key": pa.array(["a", "", "ü", None]),
            "whole": pa.array([0, -1, 2**63 - 1, None]),
            "number": pa.array([0.0, -1.5, float("nan"), None]),
            "flag": pa.array([True, False, True, None]),
            "day": pa.array([date(2013, 1, 6), date(1969, 12, 31), date(1970, 1, 1), None]),
            "moment": pa.array(MICROSECONDS, pa.timestamp("us", tz="UTC")),
            "clock": pa.array(MICROSECONDS, pa.timestamp("us")),
            "price": pa.array([Decimal("1.50"), Decimal("-0.01"), Decimal("12345678.90"), None], pa.decimal128(10, 2)),
            "nothing": pa.nulls(4),
        }
    )


# Digests stand in every ledger. A release that changes one of these makes every partition look changed.
GOLDEN = {
    "key": "dec8155fb5fd1ac42df0d92f8a22193ad978b57f86e4971eb82b93aa265fec59",
    "whole": "02c781e33ef02584b67d669dcc867273013342b72c6565f2b92fa02a6dd3eb42",
    "number": "40143e1e8bb09e4d2d91557bdd0c38eb09fc835767deb1a86ef1b35a7b0b0ccc",
    "flag": "e35d78ad4236a1edf670227a1912e264f8e21052061d455630926b4cb846eebc",
    "day": "29ac87ba1250c8007b6945a00cd46168de19e04c90d90c10bb5f7a23c6c63376",
    "moment": "9052c348eacdfa15d16e45f6b88530fcbeeee9744b4f389751fed7d05ca26ff4",
    "clock": "f86fef064bfe8a00739f7e9701503c0e5c5576e579fabf16910ca5f0c2757468",
    "price": "990305fbea3e71953a7645b21d4abcb75e6fbf230a328b4ea530c105fb004592",
    "nothing": "04d63c28285670f5fd416d46e08b74453fa4c60ed78f60828e1778af0e1b9cf4",
    "all": "ca4ddb9badabf214592b9539f6f13a95611e8c7a3ea981d2071d97c900c630e9",
    "none": "a1e49de5d23e76dbf2e92f31959ed770b089f601ad31aec0f10d6623f73d60fc",
}


def test_no_release_changes_the_digest_of_what_was_recorded() -> None:
    table = golden_table()
    digests = {name: content_digest(table.select([name])) for name in table.column_names}
    assert digests | {"all": content_digest(table), "none": content_digest(table.slice(0, 0))} == GOLDEN


@settings(max_examples=60)
@given(rows, st.integers(1, 7))
def test_a_digest_taken_batch_by_batch_is_that_of_the_whole(rows: list[Row], size: int) -> None:
    table = table_of(rows)
    digest = ContentDigest()
    hashes = [digest.update(batch) for batch in table.to_batches(max_chunksize=size)]
    assert digest.hexdigest() == content_digest(table)
    assert digest.rows == sum(map(len, hashes)) == len(rows)


def test_a_text_that_repeats_is_hashed_like_one_that_does_not() -> None:
    # Beyond some hundred rows a column that repeats itself goes through a dictionary.
    few = pa.table({"t": pa.array(["x", None, "ü"] * 1000)})
    parts = [few.slice(start, 100) for start in range(0, 3000, 100)]
    digest = ContentDigest()
    for part in parts:
        digest.update(part.combine_chunks().to_batches()[0])
    assert digest.hexdigest() == content_digest(few)


def test_values_that_move_between_columns_or_between_rows_show() -> None:
    straight = pa.table({"a": [1, 2], "b": [3, 4]})
    across = pa.table({"a": [3, 2], "b": [1, 4]})
    down = pa.table({"a": [2, 1], "b": [3, 4]})
    columns = pa.table({"a": [3, 4], "b": [1, 2]})
    assert len({content_digest(table) for table in (straight, across, down, columns)}) == 4


def test_a_row_that_stands_there_twice_counts_twice() -> None:
    zero = pa.table({"a": [0], "b": [0.0]})
    assert len({content_digest(pa.concat_tables([zero] * count)) for count in (1, 2, 3)}) == 3


def test_every_nan_is_the_same() -> None:
    other = np.array([0x7FF8000000000123, 0xFFF8000000000000], np.uint64).view(np.float64)
    assert content_digest(pa.table({"x": other})) == content_digest(pa.table({"x": [float("nan")] * 2}))


def test_a_decimal_is_its_value_whatever_its_scale() -> None:
    narrow = pa.array([Decimal("1.5"), None, Decimal(-20)], pa.decimal128(5, 1))
    wide = narrow.cast(pa.decimal256(40, 9))
    other = pa.array([Decimal("1.5"), None, Decimal("-20.1")], pa.decimal128(5, 1))
    assert content_digest(pa.table({"p": narrow})) == content_digest(pa.table({"p": wide}))
    assert content_digest(pa.table({"p": narrow})) != content_digest(pa.table({"p": other}))
    with pytest.raises(DataError, match=r"column 'p' .* has values of more than 38 digits"):
        content_digest(pa.table({"p": pa.array([Decimal("1e-60")], pa.decimal256(76, 60))}))


def test_an_unsigned_number_beyond_the_signed_is_no_negative_number() -> None:
    unsigned = pa.table({"n": pa.array([2**64 - 1, 3], pa.uint64())})
    assert content_digest(unsigned) != content_digest(pa.table({"n": [-1, 3]}))
    assert content_digest(unsigned.slice(1)) == content_digest(pa.table({"n": [3]}))


def test_a_column_that_changes_its_kind_between_batches_is_an_error_that_names_it() -> None:
    digest = ContentDigest()
    digest.update(pa.RecordBatch.from_pydict({"a": [1], "b": [1]}))
    with pytest.raises(DataError, match="column 'b' is not the same in all batches"):
        digest.update(pa.RecordBatch.from_pydict({"a": [1], "b": [1.0]}))


def test_the_hash_without_the_key_is_the_same_for_rows_that_differ_in_it_alone() -> None:
    batch = pa.RecordBatch.from_pydict({"id": ["a", "b", "c"], "x": [1.0, 1.0, 2.0], "t": ["u", "u", "u"]})
    hashed = hash_rows(batch, key="id")
    assert hashed.keys is not None
    assert hashed.rest is not None
    assert len(set(hashed.rows.tolist())) == len(set(hashed.keys.tolist())) == 3
    assert hashed.rest[0] == hashed.rest[1] != hashed.rest[2]
