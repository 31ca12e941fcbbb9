"""Cells: bins are joined in order, each cell expects enough rows, and the statistic keeps to its distribution."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import power_divergence

from airflow_mlops.core.training.column_cells import TEST_CELLS, cells_of, join_bins
from airflow_mlops.core.watch.drift.column_drift import cressie_read, measure_column
from airflow_mlops.core.watch.drift.reference_spread import Spread, spread_of

counts = st.lists(st.integers(0, 200), min_size=3, max_size=66)


@given(counts, st.integers(0, 100))
def test_joining_keeps_the_order_of_bins_and_every_group_has_enough_rows(total: list[int], least: int) -> None:
    group = join_bins(np.array(total), least)
    assert group[0] == 0
    assert set(np.diff(group)) <= {0, 1}
    if group.max() > 0:
        assert np.bincount(group, total).min() >= least
    heavy = [place for place, count in enumerate(total) if count >= max(sum(total) / TEST_CELLS, least, 1)]
    assert group.max() <= TEST_CELLS + 2 * len(heavy)
    for first, second in pairwise(heavy):
        assert group[first] != group[second]


@pytest.mark.parametrize("rest", [0.05, 0.001])
@pytest.mark.parametrize("place", [0, 3, 9])
def test_a_column_that_is_one_value_nearly_always_is_watched_all_the_same(rest: float, place: int) -> None:
    source, shares = np.random.default_rng(1), np.full(12, rest / 9)
    shares[place], shares[-2:] = 1 - rest, 0.0
    moved = shares.copy()
    moved[place] -= 0.1
    moved[(place + 1) % 10] += 0.1
    past = source.multinomial(5_000, shares, size=8)
    distance = measure_column("x", past, source.multinomial(2_000, moved))
    assert distance.freedom >= 1
    assert distance.distance == pytest.approx(0.1, abs=0.03)
    assert distance.statistic > 100


@given(counts, counts)
def test_every_row_is_in_one_cell_or_is_rare(first: list[int], second: list[int]) -> None:
    size = min(len(first), len(second))
    total, window = np.array(first[:size]), np.array(second[:size])
    if not total.sum() or not window.sum():
        return
    cells = cells_of(total[None], window)
    for counted in (total, window):
        assert cells.count(counted).sum() + sum(counted[place] for place in cells.rare) == counted.sum()
    assert np.array_equal(cells.count(np.array([total, window])), [cells.count(total), cells.count(window)])


def test_frequent_categories_stay_by_themselves_wherever_their_names_stand() -> None:
    total = np.array([30, 500, 30, 300, 30, 30, 200, 30, 0, 0])
    group = cells_of(total[None], total, ordered=False).group
    assert [int((group == group[place]).sum()) for place in (1, 3, 6)] == [1, 1, 1]
    assert len(set(group[[0, 2, 4, 5, 7]])) == 1


def test_nulls_are_a_cell_where_they_are_common_and_apart_where_they_are_rare() -> None:
    values = np.full(64, 100)
    common = cells_of(np.array([[*values, 0, 640]]), np.array([*values, 0, 640]))
    assert common.rare == [-2]
    assert common.group[-1] == common.size - 1
    assert cells_of(np.array([[*values, 0, 1]]), np.array([*values, 0, 0])).rare == [-2, -1]


def test_a_reference_without_any_value_is_compared_all_the_same() -> None:
    distance = measure_column("x", np.array([[0, 0, 0, 0, 900]]), np.array([300, 300, 300, 0, 0]))
    assert distance.distance == pytest.approx(1.0)
    assert distance.statistic > 500


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), min_size=2, max_size=10))
def test_the_statistic_is_that_of_cressie_and_read(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array(column, float) for column in zip(*pairs, strict=True))
    if second.sum() == 0:
        return
    table = np.array([first, second])
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    expected_statistic = power_divergence(table.ravel(), expected.ravel(), lambda_="cressie-read").statistic
    assert cressie_read(first, second) == pytest.approx(expected_statistic, rel=1e-9, abs=1e-9)


def test_the_spread_of_independent_rows_is_one_and_that_of_weeks_is_more_and_goes_one_way() -> None:
    source, shares = np.random.default_rng(0), np.full(10, 0.1)
    calm = spread_of(source.multinomial(5_000, shares, size=60))
    assert calm.dispersion == pytest.approx(1.0, abs=0.2)
    assert calm.p_value > 0.01
    tilt = np.linspace(-0.05, 0.05, 10)
    weeks = [source.multinomial(5_000, shares + tilt * source.normal(scale=0.5)) for _ in range(60)]
    one_way = spread_of(np.array(weeks))
    assert one_way.dispersion > 5
    assert one_way.directions == 1.0
    every_way = spread_of(np.array([source.multinomial(5_000, source.dirichlet(shares * 300)) for _ in range(60)]))
    assert every_way.dispersion > 5
    assert every_way.directions > 4


@pytest.mark.parametrize("past", [[[5, 5, 5]], [[5, 0], [7, 0]], [[0, 0, 0], [5, 5, 5]], [[0, 0], [0, 0]]])
def test_windows_that_cannot_be_told_apart_have_no_spread(past: list[list[int]]) -> None:
    assert spread_of(np.array(past)) == Spread()
