"""The profile of a training window: every row is counted once, as the model sees it, and is read back years later."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.training.reference_profile import ReferenceProfile, observe_features, profile_window

numbers = st.lists(st.one_of(st.floats(), st.none()), min_size=1, max_size=60)
words = st.lists(st.one_of(st.text(max_size=3), st.none()), min_size=1, max_size=60)


def frame_of(values: list[Any]) -> pd.DataFrame:
    kind = "float64" if all(value is None or isinstance(value, float) for value in values) else "object"
    return pd.DataFrame({"x": pd.Series(values, dtype=kind)})


@given(st.one_of(numbers, words), st.integers(0, 60))
def test_every_row_is_counted_once_and_parts_add_up(values: list[Any], cut: int) -> None:
    frame = frame_of(values)
    profile = profile_window({"whole": frame, "first": frame[:cut], "rest": frame[cut:]})
    counts = profile.counts("x")
    assert counts[0].sum() == len(values)
    np.testing.assert_array_equal(counts[1] + counts[2], counts[0])
    np.testing.assert_array_equal(observe_features(frame, profile.bins).profile.columns["x"].bin_counts, counts[0])


def test_bins_are_closed_on_the_right() -> None:
    profile = profile_window({"a": frame_of([1.0, 2.0, 3.0])})
    assert profile.bins.columns["x"].edges == (1.0, 2.0, 3.0)
    counted = observe_features(frame_of([1.0, 1.1, 2.0, 3.0, 3.1]), profile.bins).profile
    assert counted.columns["x"].bin_counts.tolist() == [1, 2, 1, 1, 0, 0]


def test_unseen_and_rare_categories_fall_into_the_rest() -> None:
    many = [f"c{number:03}" for number in range(60) for _ in range(60 - number)]
    profile = profile_window({"a": frame_of(many)})
    assert len(profile.bins.columns["x"].categories or ()) == 50
    counted = observe_features(frame_of(["c000", "c059", "new", None]), profile.bins).profile
    assert counted.columns["x"].bin_counts.tolist()[-2:] == [2, 1]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pd.Series([np.nan, np.nan]), "number"),
        (pd.Series([None, None], dtype="object"), "category"),
        (pd.Series([True, False]), "category"),
        (pd.Series([np.inf, -np.inf]), "number"),
        (pd.Series([7.0, 7.0]), "number"),
        (pd.Series([1.5, 2.5], dtype="float32"), "number"),
        (pd.Series(pd.to_datetime(["2013-01-06", None])), "time"),
        (pd.Series([date(2013, 1, 6), None], dtype="object"), "date"),
        (pd.Series(["a", None], dtype="category"), "category"),
        (pd.Series([1, 2], dtype="category"), "category"),
        (pd.Series([1, None], dtype="Int64"), "number"),
        (pd.Series([1, "one"], dtype="object"), "category"),
        (pd.Series([2**70, 1], dtype="object"), "category"),
        (pd.Series([[1], [2, 3]], dtype="object"), "category"),
        (pd.to_timedelta(pd.Series(["1h", "2h"])), "category"),
        (pd.Series([b"a", b"b"], dtype="object"), "category"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_kind_of_column_can_be_profiled(column: pd.Series, kind: str) -> None:
    profile = profile_window({"a": pd.DataFrame({"x": column}), "b": pd.DataFrame({"x": column})})
    assert profile.bins.kinds["x"] == kind
    assert profile.counts("x").sum(axis=1).tolist() == [2, 2]
    json.dumps(profile.to_dict(), allow_nan=False)


def test_floats_are_counted_where_they_lie_and_nan_is_told_from_null() -> None:
    values = np.array([1.0, np.nan, np.inf, 2.0])
    profile = profile_window({"a": pd.DataFrame({"x": values}), "b": pd.DataFrame({"x": pd.array([1, None], "Int64")})})
    first, second = (window.columns["x"] for window in profile.windows.values())
    assert (first.nan, first.nulls, first.infinite, first.values) == (1, 0, 1, 2)
    assert (second.nan, second.nulls, second.values) == (0, 1, 1)


def test_partitions_whose_columns_differ_are_profiled_as_the_model_got_them() -> None:
    profile = profile_window(
        {
            "a": pd.DataFrame({"x": [1, 2], "t": ["a", "b"], "m": [1.0, 2.0]}),
            "b": pd.DataFrame({"x": [1.5, 2.5], "m": ["one", "two"]}),
        }
    )
    assert profile.bins.kinds == {"x": "number", "t": "category", "m": "category"}
    assert profile.windows["b"].columns["t"].nulls == 2
    assert profile.bins.columns["m"].categories == ("1", "2", "one", "two")


def test_a_profile_survives_json() -> None:
    source = np.random.default_rng(0)
    frame = pd.DataFrame({"x": source.normal(size=200), "k": source.choice(["a", "ü"], 200)})
    profile = profile_window({"2013-01-06": frame[:100], "2013-01-13": frame[100:]})
    again = ReferenceProfile.from_dict(json.loads(json.dumps(profile.to_dict(), allow_nan=False)))
    assert again == profile
    assert profile.rows == 200
    assert profile.sums("x") == pytest.approx(np.sum([w.columns["x"].sums for w in profile.windows.values()], axis=0))


def test_columns_that_are_copies_are_worth_one_and_independent_ones_what_they_are() -> None:
    source = np.random.default_rng(1)
    values = source.normal(size=(4_000, 6))
    alone = profile_window({"a": pd.DataFrame(values, columns=list("abcdef"))})
    copies = profile_window({"a": pd.DataFrame(dict.fromkeys("abcdef", values[:, 0]))})
    assert [worth for _, worth in copies.effective] == pytest.approx([1.0] * 6, rel=0.2)
    assert [worth for _, worth in alone.effective] == pytest.approx([6.0] * 6, rel=0.15)
    assert profile_window({"a": pd.DataFrame({"x": values[:, 0]})}).effective == ()


def test_the_bins_of_a_large_window_are_made_of_a_part_of_it_and_the_same_every_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = pd.DataFrame({"x": np.random.default_rng(2).normal(size=20_000)})
    exact = profile_window({"a": frame})
    monkeypatch.setattr("airflow_mlops.core.training.reference_profile.BINS_ROWS", 5_000)
    first, second = profile_window({"a": frame}), profile_window({"a": frame})
    assert first == second
    assert first.counts("x").sum() == 20_000
    np.testing.assert_allclose(first.bins.columns["x"].edges, exact.bins.columns["x"].edges, atol=0.2)


OLD = {
    "bins": {
        "x": {"edges": [1.0, 2.0], "categories": None},
        "t": {"edges": [], "categories": ["a", "b"]},
    },
    "windows": {
        "2013-01-06": {"x": [50, 30, 20, 10, 40], "t": [70, 50, 30, 0]},
        "2013-01-13": {"x": [40, 40, 20, 0, 50], "t": [80, 70, 0, 0]},
    },
}


def test_the_profile_of_a_version_of_an_earlier_release_is_read() -> None:
    profile = ReferenceProfile.from_dict(json.loads(json.dumps(OLD)))
    assert profile.counts_only
    assert profile.counts("x").tolist() == [[50, 30, 20, 10, 40], [40, 40, 20, 0, 50]]
    assert profile.counts("t").tolist() == [[70, 50, 30, 0], [80, 70, 0, 0]]
    assert profile.sums("x") is None
    assert profile.rows == 300
    first = profile.windows["2013-01-06"].columns
    assert (first["x"].infinite, first["x"].nulls, first["t"].rest) == (10, 40, 30)
