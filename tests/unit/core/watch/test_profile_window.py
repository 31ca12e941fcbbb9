"""Profiles: every row is counted once, counts add up, and nothing is lost on the way through JSON."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops.core.watch.profile_window import ReferenceProfile, bins_of, count_columns, profile_window

numbers = st.lists(st.one_of(st.floats(), st.none()), min_size=1, max_size=60)
words = st.lists(st.one_of(st.text(max_size=3), st.none()), min_size=1, max_size=60)


def frame_of(values: list[object]) -> pd.DataFrame:
    kind = "float64" if all(value is None or isinstance(value, float) for value in values) else "object"
    return pd.DataFrame({"x": pd.Series(values, dtype=kind)})


@settings(deadline=None)
@given(st.one_of(numbers, words), st.one_of(numbers))
def test_every_row_falls_into_exactly_one_bin(reference: list[object], window: list[object]) -> None:
    frame = frame_of(reference)
    bins = {"x": bins_of(frame["x"])}
    assert count_columns(frame, bins)["x"].sum() == len(reference)
    if bins["x"].categories is None:
        assert count_columns(frame_of(window), bins)["x"].sum() == len(window)


@settings(deadline=None)
@given(numbers, st.integers(0, 60))
def test_the_counts_of_two_parts_add_up_to_those_of_the_whole(values: list[object], cut: int) -> None:
    whole = frame_of(values)
    bins = {"x": bins_of(whole["x"])}
    parts = [count_columns(part, bins)["x"] for part in (whole[:cut], whole[cut:])]
    assert np.array_equal(parts[0] + parts[1], count_columns(whole, bins)["x"])


def test_bins_are_closed_on_the_right() -> None:
    column = pd.Series([1.0, 2.0, 3.0])
    bins = bins_of(column)
    assert bins.edges == (1.0, 2.0, 3.0)
    assert bins.count(pd.Series([1.0, 1.1, 2.0, 3.0, 3.1])).tolist() == [1, 2, 1, 1, 0, 0]


def test_nulls_and_infinities_are_bins_of_their_own() -> None:
    bins = bins_of(pd.Series([1.0, 2.0, np.nan, np.inf]))
    assert bins.count(pd.Series([np.nan, np.nan, np.inf, -np.inf, 1.0])).tolist()[-2:] == [2, 2]


def test_unseen_and_rare_categories_fall_into_the_rest() -> None:
    many = [f"c{number:03}" for number in range(60) for _ in range(60 - number)]
    bins = bins_of(pd.Series(many))
    assert bins.categories is not None
    assert len(bins.categories) == 50
    assert bins.count(pd.Series(["c000", "c059", "new", None])).tolist()[-2:] == [2, 1]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([np.nan, np.nan]),
        pd.Series([None, None], dtype="object"),
        pd.Series([True, False]),
        pd.Series([np.inf, -np.inf]),
        pd.Series([7.0, 7.0]),
        pd.Series(pd.to_datetime(["2013-01-06", None])),
        pd.Series(["a", None], dtype="category"),
        pd.Series([1, None], dtype="Int64"),
    ],
    ids=["no number", "nothing", "booleans", "infinite", "constant", "times", "categories", "nullable integers"],
)
def test_any_kind_of_column_can_be_profiled(column: pd.Series) -> None:
    profile = profile_window({"a": pd.DataFrame({"x": column}), "b": pd.DataFrame({"x": column})})
    assert profile.windows["a"]["x"].sum() == 2


def test_a_profile_survives_json() -> None:
    source = np.random.default_rng(0)
    frame = pd.DataFrame({"x": source.normal(size=200), "k": source.choice(["a", "ü"], 200)})
    profile = profile_window({"2013-01-06": frame[:100], "2013-01-13": frame[100:]})
    again = ReferenceProfile.from_dict(json.loads(json.dumps(profile.to_dict(), allow_nan=False)))
    assert again.bins == profile.bins
    assert again.to_dict() == profile.to_dict()


def test_a_column_the_reference_does_not_know_is_not_counted() -> None:
    bins = {"x": bins_of(pd.Series([1.0, 2.0]))}
    assert list(count_columns(pd.DataFrame({"x": [1.0], "new": [2.0]}), bins)) == ["x"]
    assert count_columns(pd.DataFrame({"new": [2.0]}), bins) == {}
