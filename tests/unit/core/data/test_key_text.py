"""The text of a key of several columns, and the name of the column that holds it."""

from __future__ import annotations

import copy
import pickle

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.data.key_text import join_key, join_key_columns, split_key
from airflow_mlops.core.declaration.key_columns import KeyColumn, key_columns, read_key, write_key

TEXT = st.text(alphabet=st.sampled_from("ab+\\|\n é"), max_size=5)
KEYS = st.lists(TEXT, min_size=2, max_size=3)


@given(KEYS)
def test_the_parts_of_a_key_are_read_back_from_its_text(parts: list[str]) -> None:
    assert split_key(join_key(parts)) == parts


@given(KEYS, KEYS)
def test_two_keys_have_one_text_only_if_they_are_one_key(first: list[str], second: list[str]) -> None:
    assert (join_key(first) == join_key(second)) == (first == second)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=8))
def test_columns_are_joined_as_single_keys_are(rows: list[tuple[str, str]]) -> None:
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in (0, 1)]
    assert join_key_columns(columns).to_pylist() == [join_key(row) for row in rows]


def test_a_key_without_one_of_its_parts_is_null() -> None:
    columns = [pa.array([1, None, 3]), pa.array(["a", "b", None])]
    assert join_key_columns(columns).to_pylist() == ["1+a", None, None]


def test_a_part_is_written_in_one_way_whatever_the_width_or_the_zone_of_its_type() -> None:
    moments = pa.array([1_357_430_400_000_000], pa.timestamp("us", tz="UTC"))
    zoned = moments.cast(pa.timestamp("us", tz="Europe/Berlin"))
    narrow = join_key_columns([pa.array([7], pa.int16()), zoned])
    assert narrow.equals(join_key_columns([pa.array([7], pa.int64()), moments]))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda key: pickle.loads(pickle.dumps(key))])
def test_the_key_column_keeps_its_parts_when_it_is_copied(copied: object) -> None:
    key = copied(KeyColumn(("order_id", "line")))  # type: ignore[operator]
    assert (key, key_columns(key)) == ("order_id+line", ("order_id", "line"))


def test_a_list_of_one_name_is_that_name() -> None:
    assert type(read_key(["id"])) is str
    assert write_key(read_key(["id"])) == "id"
    assert write_key(read_key(["a", "b"])) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "lists no column"),
        (["a", "a"], "names 'a' more than once"),
        (["a", 7], "lists 7, which is no name of a column"),
        (["a", ""], "lists '', which is no name of a column"),
        (7, "the name of a column, or a list of names"),
        ([f"{letter}" * 64 for letter in "ab"], "names of 129 characters together"),
    ],
)
def test_what_is_no_key_is_refused(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_key(value)
