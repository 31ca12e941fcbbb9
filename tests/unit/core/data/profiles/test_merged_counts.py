"""Counts of splits, merged in order, are the counts of all rows to the last bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.data.profiles.bottom_sample import BottomSample
from airflow_mlops.core.data.profiles.profile_rows import CHUNK, Profiler, profile_bins
from airflow_mlops.core.data.row_hash import hash_rows

FLOATS = st.one_of(st.none(), st.floats(width=64), st.sampled_from([0.1, -0.0, 1e300, -1e300, float("inf")]))
ROWS = st.lists(st.tuples(FLOATS, st.sampled_from([None, "a", "b", "c", "d"])), min_size=1, max_size=60)


def batches_of(rows: list[tuple[float | None, str | None]], size: int) -> list[pa.RecordBatch]:
    table = pa.table(
        {"x": pa.array([x for x, _ in rows], pa.float64()), "t": pa.array([text for _, text in rows], pa.string())}
    )
    return table.to_batches(max_chunksize=size)


@given(rows=ROWS, size=st.integers(1, 20), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_merged_profiles_equal_the_profile_of_all_batches(
    rows: list[tuple[float | None, str | None]], size: int, cuts: list[int]
) -> None:
    bins = profile_bins(pa.table({"x": [1.0, 2.0, 3.0], "t": ["a", "b", "a"]}))
    batches = batches_of(rows, size)
    whole, merged = Profiler(bins), Profiler(bins)
    for batch in batches:
        whole.update(batch)
    places = [0, *sorted(cuts), len(batches)]
    for start, stop in pairwise(places):
        part = Profiler(bins, keep_chunks=True)
        for batch in batches[start:stop]:
            part.update(batch)
        merged.merge(part.counts())
    assert repr(merged.profile()) == repr(whole.profile())


def test_sums_are_added_chunk_by_chunk_and_not_split_by_split() -> None:
    x = np.random.default_rng(0).normal(size=6 * CHUNK) * 10.0 ** np.random.default_rng(1).integers(-9, 9, 6 * CHUNK)
    bins = profile_bins(pa.table({"x": [0.0]}))
    batches = pa.table({"x": x}).to_batches(max_chunksize=2 * CHUNK)
    whole, merged, rounded = Profiler(bins), Profiler(bins), 0.0
    for batch in batches:
        whole.update(batch)
        part = Profiler(bins, keep_chunks=True)
        part.update(batch)
        merged.merge(part.counts())
        rounded += sum(part.profile().columns["x"].sums)
    assert merged.profile() == whole.profile()
    assert rounded != sum(whole.profile().columns["x"].sums), "the order of the sums must matter here"


@given(rows=ROWS, size=st.integers(1, 20), kept=st.integers(1, 20), cut=st.integers(0, 60))
def test_merged_samples_are_the_sample_of_all_rows(
    rows: list[tuple[float | None, str | None]], size: int, kept: int, cut: int
) -> None:
    batches = batches_of(rows, size)
    whole, merged = BottomSample(kept), BottomSample(kept)
    for batch in batches:
        whole.update(batch, hash_rows(batch).rows)
    for part in (batches[:cut], batches[cut:]):
        sample = BottomSample(kept)
        for batch in part:
            sample.update(batch, hash_rows(batch).rows)
        rows_and_hashes = sample.parts()
        if rows_and_hashes is not None:
            table, hashes = rows_and_hashes
            merged.update(table.combine_chunks().to_batches()[0], hashes)
    assert repr(merged.table()) == repr(whole.table())
