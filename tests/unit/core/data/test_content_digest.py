"""The digest says what a table says: not how its rows are ordered or stored, and every cell counts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.errors import DataError

Row = tuple[str | None, float | None, int | None, bool | None]

cells = st.tuples(
    st.one_of(st.none(), st.text(max_size=4)),
    st.one_of(st.none(), st.floats(width=64)),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.one_of(st.none(), st.booleans()),
)
rows = st.lists(cells, min_size=1, max_size=12)


def table_of(found: list[Row]) -> pa.Table:
    text, number, whole, flag = zip(*found, strict=True)
    return pa.table(
        {
            "key": pa.array(text, pa.string()),
            "x": pa.array(number, pa.float64()),
            "n": pa.array(whole, pa.int64()),
            "f": pa.array(flag, pa.bool_()),
        }
    )


def digest(table: pa.Table) -> str:
    return content_digest(table, key="key")


@settings(max_examples=150, deadline=None)
@given(rows, st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_order_of_rows_and_columns_and_the_chunks_do_not_count(found: list[Row], order: Any, size: int) -> None:
    table = table_of(found)
    shuffled = order.sample(found, len(found))
    chunks = [table_of(shuffled[start : start + size]) for start in range(0, len(shuffled), size)]
    assert digest(pa.concat_tables(chunks)) == digest(table)
    assert digest(table.select(["f", "n", "key", "x"])) == digest(table)


@settings(max_examples=300, deadline=None)
@given(rows, st.data())
def test_any_changed_cell_gives_another_digest(found: list[Row], data: st.DataObject) -> None:
    row, column = data.draw(st.integers(0, len(found) - 1)), data.draw(st.integers(0, 3))
    replacement = data.draw(cells)[column]
    changed = [list(cells) for cells in found]
    changed[row][column] = replacement
    assume(sorted(map(repr, map(plain, found))) != sorted(map(repr, map(plain, changed))))
    assert digest(table_of(changed)) != digest(table_of(found))  # type: ignore[arg-type]


def plain(row: Any) -> list[Any]:
    """Return a row with -0.0 as 0.0: the digest holds them for the same number."""
    return [0.0 if isinstance(cell, float) and cell == 0 else cell for cell in row]


def test_null_nan_and_zero_are_three_different_things() -> None:
    seen = {digest(table_of([("a", value, 1, True)])) for value in (None, float("nan"), 0.0)}
    assert len(seen) == 3


def test_null_and_the_empty_text_are_different() -> None:
    assert digest(table_of([("", 1, 1, True)])) != digest(table_of([(None, 1, 1, True)]))


def test_minus_zero_is_zero() -> None:
    assert digest(table_of([("a", -0.0, 1, True)])) == digest(table_of([("a", 0.0, 1, True)]))


def test_text_that_is_cut_elsewhere_is_different() -> None:
    def of(*texts: str) -> str:
        return content_digest(pa.table({"key": ["a", "b"], "t": list(texts)}), key="key")

    assert of("ab", "c") != of("a", "bc")


def test_a_renamed_a_removed_and_an_added_column_give_other_digests() -> None:
    table = table_of([("a", 1.0, 1, True)])
    renamed = table.rename_columns(["key", "z", "n", "f"])
    assert len({digest(each) for each in (table, renamed, table.drop_columns(["x"]))}) == 3


@pytest.mark.parametrize("form", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("keys", [["a", "b", None], ["a", "a", "a"]])
def test_how_an_engine_keeps_text_does_not_count(form: pa.DataType, keys: list[str | None]) -> None:
    table = pa.table({"key": pa.array(keys), "t": pa.array(["ü", "x", None])})
    stored = pa.table({name: table.column(name).cast(form) for name in table.column_names})
    assert digest(stored) == digest(table)


def test_the_width_of_numbers_does_not_count() -> None:
    wide = pa.table({"key": pa.array([1, 2]), "x": pa.array([1.5, None])})
    narrow = pa.table({"key": pa.array([1, 2], pa.int8()), "x": pa.array([1.5, None], pa.float32())})
    assert digest(wide) == digest(narrow)


def test_a_moment_is_the_same_in_every_zone_and_another_one_without_a_zone() -> None:
    def of(zone: str | None) -> str:
        return content_digest(pa.table({"key": pa.array([5, 6], pa.timestamp("us", tz=zone))}), key="key")

    assert of("UTC") == of("America/New_York")
    assert of("UTC") != of(None)


def test_what_no_snapshot_can_keep_is_an_error_that_names_the_column() -> None:
    with pytest.raises(DataError, match="column 'x' has times finer than a microsecond"):
        digest(pa.table({"key": ["a"], "x": pa.array([1], pa.timestamp("ns"))}))
    for strange in (pa.array([[1]]), pa.array([b"x"]), pa.array([{"a": 1}])):
        with pytest.raises(DataError, match="column 'x' has the type"):
            digest(pa.table({"key": ["a"], "x": strange}))
