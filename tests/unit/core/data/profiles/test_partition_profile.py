"""Profiles agree with numpy, add up to the profile of all rows, and do not depend on the order of rows."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops.core.data.profiles.bottom_sample import BottomSample
from airflow_mlops.core.data.profiles.column_bins import ColumnBins, EdgeFinder, quantile_edges
from airflow_mlops.core.data.profiles.partition_profile import PartitionProfile
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins, Profiler, bin_codes, profile_bins
from airflow_mlops.core.data.row_hash import hash_rows
from airflow_mlops.core.errors import ProfileMismatchError

Row = tuple[float | None, str | None, bool | None]

rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(width=16), st.integers(-3, 3).map(float)),
        st.one_of(st.none(), st.sampled_from("abcdef")),
        st.one_of(st.none(), st.booleans()),
    ),
    max_size=30,
)


def table_of(rows: list[Row]) -> pa.Table:
    x, t, f = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table({"x": pa.array(x, pa.float64()), "t": pa.array(t, pa.string()), "f": pa.array(f, pa.bool_())})


def profile_table(table: pa.Table, bins: ProfileBins, size: int = 1000) -> PartitionProfile:
    profiler = Profiler(bins)
    for batch in table.to_batches(max_chunksize=size):
        profiler.update(batch)
    return profiler.profile()


def assert_same(first_profile: PartitionProfile, second_profile: PartitionProfile) -> None:
    """Assert that two profiles agree: counts exactly, sums up to the order of addition."""
    first, second = first_profile.to_dict(), second_profile.to_dict()
    for column, twin in zip(first["columns"].values(), second["columns"].values(), strict=True):
        assert column.pop("sums") == pytest.approx(twin.pop("sums"), rel=1e-9, abs=1e-6)
    assert first == second


@given(rows, rows, rows, st.randoms(use_true_random=False), st.integers(1, 7))
def test_merged_profiles_are_the_profile_of_all_rows_in_any_order(
    sample: list[Row], first: list[Row], second: list[Row], order: Any, size: int
) -> None:
    bins = profile_bins(table_of(sample))
    total = profile_table(table_of(order.sample(first + second, len(first) + len(second))), bins, size)
    first_part, second_part = profile_table(table_of(first), bins), profile_table(table_of(second), bins)
    assert_same(first_part.merge(second_part), total)
    assert_same(second_part.merge(first_part), total)


@given(rows, rows)
def test_the_numbers_are_those_of_numpy(sample: list[Row], rows: list[Row]) -> None:
    bins = profile_bins(table_of(sample))
    column = profile_table(table_of(rows), bins).columns["x"]
    values = np.array([x for x, _, _ in rows if x is not None], np.float64)
    finite = values[np.isfinite(values)]
    codes = np.searchsorted(bins.columns["x"].edges, finite, side="left")
    assert column.counts == tuple(np.bincount(codes, minlength=len(column.counts)))
    assert column.nulls == len(rows) - len(values)
    assert column.nan == np.isnan(values).sum()
    assert column.infinite == np.isinf(values).sum()
    if len(finite):
        assert (column.low, column.high) == (finite.min(), finite.max())
        assert column.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-6)
    else:
        assert (column.low, column.high, column.mean) == (None, None, None)


@given(rows, rows)
def test_the_bin_of_each_row_adds_up_to_the_counts(sample: list[Row], rows: list[Row]) -> None:
    bins, table = profile_bins(table_of(sample)), table_of(rows)
    profile = profile_table(table, bins)
    for name in ("x", "t", "f"):
        column, bin_counts = table.column(name).combine_chunks(), profile.columns[name].bin_counts
        codes = bin_codes(column, bins.columns[name])
        np.testing.assert_array_equal(np.bincount(codes, minlength=len(bin_counts)), bin_counts)
    numbers = table.column("x").to_pandas().to_numpy(float)
    np.testing.assert_array_equal(bins.columns["x"].count(numbers), profile.columns["x"].bin_counts)


@settings(max_examples=300)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, unique_by=lambda x: x + 0.0),
    st.lists(st.floats(allow_nan=False, allow_infinity=False)),
)
def test_the_quick_search_finds_the_bins_of_searchsorted(edges: list[float], values: list[float]) -> None:
    ordered = np.unique(edges)
    with np.errstate(over="ignore"):
        near = np.concatenate([values, ordered, np.nextafter(ordered, np.inf), np.nextafter(ordered, -np.inf)])
    near = near[np.isfinite(near)]
    np.testing.assert_array_equal(EdgeFinder(ordered).codes(near), np.searchsorted(ordered, near, side="left"))


@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_cauchy", "lognormal"])
def test_the_quick_search_is_exact_on_quantiles_of_what_data_look_like(draw: str) -> None:
    random = np.random.default_rng(11)
    values = getattr(random, draw)(size=100_000)
    edges = np.array(quantile_edges(values[:10_000]))
    near = np.concatenate([values, edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])
    np.testing.assert_array_equal(EdgeFinder(edges).codes(near), np.searchsorted(edges, near, side="left"))


def test_a_profile_and_its_bins_survive_json() -> None:
    table = pa.table(
        {
            "x": [1.0, float("inf"), float("nan"), None],
            "big": [1.7e308, 1.7e308, -1.0, None],
            "day": [date(2013, 1, 6), None, date(2013, 1, 7), date(2013, 1, 7)],
            "at": pa.array([datetime.fromisoformat("2013-01-06T00:00:00+00:00"), None, None, None]),
            "p": [Decimal("1.50"), Decimal("2.50"), None, None],
            "t": ["a", "b", "b", "prose " * 50],
            "nothing": pa.nulls(4),
        }
    )
    bins = profile_bins(table)
    profile = profile_table(table, bins)
    text = json.dumps([bins.to_dict(), profile.to_dict()], allow_nan=False)
    assert ProfileBins.from_dict(json.loads(text)[0]) == bins
    assert PartitionProfile.from_dict(json.loads(text)[1]) == profile
    assert bins.kinds == {
        "x": "number",
        "big": "number",
        "day": "date",
        "at": "time",
        "p": "number",
        "t": "category",
        "nothing": "category",
    }
    assert (profile.columns["day"].low, profile.columns["day"].high) == (15_711, 15_712)
    assert profile.columns["p"].mean == 2.0
    assert bins.columns["t"].categories == ("a", "b")
    assert profile.columns["t"].rest == 1


@pytest.mark.parametrize(("values", "varies"), [(["a", "a", None], False), (["a", "b"], True), ([None, None], False)])
def test_a_column_of_text_knows_whether_it_varies_even_beyond_its_categories(
    values: list[str | None], varies: bool
) -> None:
    bins = profile_bins(pa.table({"t": pa.array(["x"])}))
    profile = profile_table(pa.table({"t": pa.array(values, pa.string())}), bins, size=1)
    assert profile.columns["t"].varies is varies
    other = profile_table(pa.table({"t": pa.array(["z"])}), bins)
    assert profile.merge(other).columns["t"].varies is (values[0] is not None)


def test_a_million_different_texts_stay_bounded() -> None:
    texts = pa.table({"t": pa.array(np.arange(1_000_000)).cast(pa.string())})
    bins = profile_bins(texts.slice(0, 50_000))
    profile = profile_table(texts, bins, 65_536)
    assert len(profile.columns["t"].counts) == 50
    assert profile.columns["t"].values == 1_000_000


@pytest.mark.parametrize("form", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_how_an_engine_keeps_text_does_not_count(form: pa.DataType) -> None:
    plain = pa.table({"t": pa.array(["a", "b", None, "b"])})
    stored = pa.table({"t": plain.column("t").cast(form)})
    assert profile_bins(stored) == profile_bins(plain)
    assert profile_table(stored, profile_bins(plain)) == profile_table(plain, profile_bins(plain))


def test_what_was_counted_otherwise_is_not_added() -> None:
    numbers, others = pa.table({"x": [1.0, 2.0]}), pa.table({"x": [1.0, 3.0]})
    profile = profile_table(numbers, profile_bins(numbers))
    with pytest.raises(ProfileMismatchError, match="column 'x' was counted on the number bins"):
        profile.merge(profile_table(numbers, profile_bins(others)))
    with pytest.raises(ProfileMismatchError, match="column 'x' is in one of the two"):
        profile.merge(profile_table(pa.table({"y": [1.0]}), profile_bins(pa.table({"y": [1.0]}))))
    with pytest.raises(ProfileMismatchError, match="column 'x' has the type string; its bins are those of a number"):
        profile_table(pa.table({"x": ["a"]}), profile_bins(numbers))
    with pytest.raises(ProfileMismatchError, match="column 'x' has bins and is missing"):
        profile_table(pa.table({"z": ["a"]}), profile_bins(numbers))


def test_new_columns_get_bins_and_the_others_keep_theirs() -> None:
    bins = profile_bins(pa.table({"x": [1.0, 2.0]}))
    more = bins.extend(pa.table({"x": [7.0], "y": [5.0]}))
    assert more.columns["x"] == bins.columns["x"]
    assert more.columns["y"] == ColumnBins((5.0,))


@settings(max_examples=60)
@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 90), st.randoms(use_true_random=False))
def test_the_sample_is_the_same_in_every_order_and_is_the_rows_with_the_smallest_hashes(
    count: int, size: int, batch: int, order: Any
) -> None:
    table = pa.table({"x": pa.array([i // 2 for i in range(count)], pa.int64()), "t": ["z"] * count})
    shuffled = table.take(pa.array(order.sample(range(count), count), pa.int64()))

    def take_sample(rows: pa.Table, batch_rows: int) -> pa.Table | None:
        sample = BottomSample(size)
        for part in rows.to_batches(max_chunksize=batch_rows):
            sample.update(part, hash_rows(part).rows)
        return sample.table()

    in_order, shuffled_sample = take_sample(table, 1000), take_sample(shuffled, batch)
    if count == 0:
        assert in_order is None
        return
    assert in_order is not None
    assert shuffled_sample is not None
    assert in_order.equals(shuffled_sample)
    hashes = hash_rows(table.combine_chunks().to_batches()[0]).rows
    assert sorted(in_order.column("x").to_pylist()) == sorted(
        table.column("x").take(pa.array(np.argsort(hashes, kind="stable")[:size])).to_pylist()
    )


def test_the_sample_is_uniform() -> None:
    table = pa.table({"x": np.arange(200_000)})
    sample = BottomSample(20_000)
    for part in table.to_batches(max_chunksize=65_536):
        sample.update(part, hash_rows(part).rows)
    table = sample.table()
    assert table is not None
    assert table.num_rows == 20_000
    # The mean of 20,000 of 200,000 uniform values has a standard error of 387.
    assert abs(float(np.mean(table.column("x").to_numpy())) - 99_999.5) < 4 * 387


@settings(max_examples=60)
@given(st.lists(st.lists(st.one_of(st.none(), st.sampled_from("abcxyz")), max_size=20), min_size=1, max_size=4))
def test_dictionaries_of_text_are_counted_as_the_text_they_stand_for(chunks: list[list[str | None]]) -> None:
    bins = profile_bins(pa.table({"t": pa.array(["a", "b", "c"])}))
    plain, coded = Profiler(bins), Profiler(bins)
    for chunk in chunks:
        texts = pa.array(chunk, pa.string())
        plain.update(pa.RecordBatch.from_arrays([texts], ["t"]))
        coded.update(pa.RecordBatch.from_arrays([texts.dictionary_encode(null_encoding="encode")], ["t"]))
    assert coded.profile() == plain.profile()


def test_many_profiles_add_up_to_what_two_and_two_add_up_to() -> None:
    random = np.random.default_rng(3)
    tables = [table_of([(float(x), "abc"[x % 3], None) for x in random.integers(0, 9, 40)]) for _ in range(5)]
    parts = [profile_table(table, profile_bins(tables[0])) for table in tables]
    assert_same(
        PartitionProfile.merge_all(parts), parts[0].merge(parts[1]).merge(parts[2]).merge(parts[3]).merge(parts[4])
    )
    with pytest.raises(ProfileMismatchError, match="no profile"):
        PartitionProfile.merge_all([])
