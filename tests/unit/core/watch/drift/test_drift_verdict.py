"""Drift: the alarm rate that is stated is the one that happens, and only a shift that matters alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from airflow_mlops.core.watch.drift.drift_verdict import (
    DriftVerdict,
    effective_number_of_tests,
    holm_step_down,
    judge_columns,
    rows_needed,
    single_test_rate,
)

COLUMNS, PARTITIONS, ROWS = 20, 8, 5_000
Counts = npt.NDArray[np.int64]
EDGES = norm.ppf(np.arange(1, 64) / 64)


def shares_of(number: int) -> npt.NDArray[np.float64]:
    """Return the shares of one of four kinds of column: quantiles, spikes with nulls, categories, rare oddities."""
    values = {
        0: (np.full(64, 1 / 64), 0.0, 0.0),
        1: (np.exp(-0.5 * np.arange(12)), 0.0, 0.02),
        2: (np.arange(10.0, 0.0, -1.0), 0.0, 0.0),
        3: (np.full(64, 1 / 64), 0.0003, 0.0002),
    }[number % 4]
    return np.append(values[0] / values[0].sum() * (1 - values[1] - values[2]), values[1:])


SHARES = {f"c{number:02}": shares_of(number) for number in range(COLUMNS)}


def normal_shares(shift: float) -> npt.NDArray[np.float64]:
    """Return the shares of a shifted normal variable in the 64 quantile bins of a standard one."""
    return np.append(np.diff(np.concatenate([[0.0], norm.cdf(EDGES - shift), [1.0]])), [0.0, 0.0])


def reference(source: np.random.Generator, *, rows: int = ROWS, windows: int = PARTITIONS) -> dict[str, Counts]:
    return {name: source.multinomial(rows, shares, size=windows) for name, shares in SHARES.items()}


def window(source: np.random.Generator, rows: int, **moved: npt.NDArray[np.float64]) -> dict[str, Counts]:
    return {name: source.multinomial(rows, shares) for name, shares in {**SHARES, **moved}.items()}


def judge(past: Any, now: Any, *, alarm_rate: float = 0.01, min_effect: float = 0.0, **kwargs: Any) -> DriftVerdict:
    return judge_columns(past, now, alarm_rate=alarm_rate, min_effect=min_effect, **kwargs)


@pytest.mark.parametrize("rows", [100, 5_000, 100_000])
def test_without_drift_windows_of_any_size_alarm_about_as_often_as_stated(rows: int) -> None:
    # Were the rate just within half to one and a half of the stated one, this would fail once in a thousand seeds.
    rate, windows, references = 0.2, 200, 50
    alarms = 0
    for seed in range(references):
        source = np.random.default_rng([rows, seed])
        past = reference(source)
        alarms += sum(
            judge(past, window(source, rows), alarm_rate=rate).verdict == "alarm" for _ in range(windows // references)
        )
    assert binom.ppf(0.001, windows, 0.5 * rate) <= alarms <= binom.ppf(0.999, windows, 1.5 * rate)


@pytest.mark.parametrize(("rows", "shift", "least"), [(5_000, 0.2, 0.05), (100_000, 0.05, 0.01)])
def test_a_small_shift_of_one_of_twenty_columns_is_found_and_named(rows: int, shift: float, least: float) -> None:
    detected = 0
    for seed in range(20):
        source = np.random.default_rng([9, seed])
        past = reference(source, rows=rows)
        verdict = judge(past, window(source, rows, c00=normal_shares(shift)), min_effect=least)
        detected += "c00" in verdict.drifted
    assert detected >= 19


@pytest.mark.parametrize("size", [0.05, 0.3, 3.0])
def test_weeks_that_move_together_by_themselves_alarm_about_as_often_as_stated(size: float) -> None:
    # One column, whose mean is another one every week: one factor moves all its cells. A stated 0.05 gave 0.163
    # when the spread of the weeks was taken to be as well known as it has cells.
    rate, repeats, alarms = 0.05, 300, 0
    for seed in range(repeats):
        source = np.random.default_rng([5, seed])
        weeks = np.array([source.multinomial(2_000, normal_shares(size * source.normal())) for _ in range(9)])
        alarms += judge({"x": weeks[:8]}, {"x": weeks[8]}, alarm_rate=rate).verdict == "alarm"
    assert alarms <= binom.ppf(0.999, repeats, 1.5 * rate)


def test_what_is_a_shift_of_calm_weeks_is_none_of_restless_ones() -> None:
    alarms = {0.0: 0, 0.3: 0}
    for seed in range(20):
        for spread in alarms:
            source = np.random.default_rng([6, seed])
            weeks = np.array([source.multinomial(2_000, normal_shares(spread * source.normal())) for _ in range(8)])
            now = source.multinomial(2_000, normal_shares(0.3))
            verdict = judge({"x": weeks}, {"x": now})
            alarms[spread] += verdict.verdict == "alarm"
            if spread and verdict.restless:
                assert verdict.columns[0].detectable > 0.1
    assert alarms[0.0] == 20
    assert alarms[0.3] <= 3


def test_a_shift_below_the_minimum_effect_never_alarms_however_significant() -> None:
    source = np.random.default_rng(3)
    past = reference(source, rows=100_000)
    verdict = judge(past, window(source, 100_000, c00=normal_shares(0.1)), min_effect=0.1)
    column = verdict.columns[0]
    assert column.p_value < 1e-9
    assert column.distance < 0.1
    assert verdict.verdict == "no alarm"


def test_fewer_rows_than_the_effect_needs_are_insufficient_data_unless_the_shift_is_too_large_to_miss() -> None:
    source = np.random.default_rng(4)
    past = reference(source)
    calm = judge(past, window(source, 300), min_effect=0.1)
    assert (calm.verdict, calm.rows) == ("insufficient data", 300)
    assert calm.needed is not None
    assert calm.needed > 300
    assert judge(past, window(source, calm.needed), min_effect=0.1).verdict == "no alarm"
    assert judge(past, window(source, 300, c00=normal_shares(2.0)), min_effect=0.1).drifted == ["c00"]


def test_the_rows_that_are_needed_find_the_least_effect_in_about_four_windows_of_five() -> None:
    # The shift that is hardest to find moves the same part of every cell; the cell in the middle sees none of it.
    shares, effect, source = SHARES["c00"], 0.1, np.random.default_rng(7)
    moved = shares * np.append(np.repeat([1 + 2 * effect, 1 - 2 * effect], 32), [0, 0])
    needed = rows_needed(effect, 0.01, 80_000)
    assert needed is not None
    detected = 0
    for _ in range(300):
        past = source.multinomial(10_000, shares, size=8)
        detected += judge({"x": past}, {"x": source.multinomial(needed, moved)}).verdict == "alarm"
    assert 0.65 <= detected / 300 <= 0.85


def test_a_reference_too_small_for_the_effect_says_so_whatever_the_window() -> None:
    source = np.random.default_rng(8)
    past = {"x": source.multinomial(200, SHARES["c00"], size=1)}
    verdict = judge(past, {"x": source.multinomial(1_000_000, past["x"][0] / 200)}, min_effect=0.05)
    assert (verdict.verdict, verdict.needed) == ("insufficient data", None)


@pytest.mark.parametrize("rows", [0, 8, 49])
def test_below_fifty_rows_there_is_insufficient_data_whatever_they_say(rows: int) -> None:
    source = np.random.default_rng(3)
    verdict = judge(reference(source), window(source, rows, c00=normal_shares(9.0)))
    assert (verdict.verdict, verdict.rows, verdict.needed, verdict.columns) == ("insufficient data", rows, 50, ())


@pytest.mark.parametrize("rate", [0.0, 1e-4])
def test_a_kind_of_value_that_was_rare_is_found_where_it_is_common_and_not_where_it_is_rare(rate: float) -> None:
    source = np.random.default_rng(11)
    shares = np.append(np.full(64, (1 - rate) / 64), [0.0, rate])
    past = {"x": source.multinomial(5_000, shares, size=8)}
    few, many = (
        np.append(source.multinomial(1_000 - nulls, shares[:65] / shares[:65].sum()), nulls) for nulls in (1, 30)
    )
    assert judge(past, {"x": few}).verdict == "no alarm"
    assert judge(past, {"x": many}).drifted == ["x"]


def test_a_burst_of_nulls_as_the_reference_had_them_is_nothing_new() -> None:
    source = np.random.default_rng(12)
    past = source.multinomial(5_000, SHARES["c00"], size=8)
    past[3, -1] = 15
    now = source.multinomial(5_000, SHARES["c00"])
    now[-1] = 15
    assert judge({"x": past}, {"x": now}).verdict == "no alarm"
    assert judge({"x": past[:3]}, {"x": now}).drifted == ["x"]


def test_a_shift_among_rare_categories_is_found_wherever_their_names_stand() -> None:
    source = np.random.default_rng(13)
    shares = np.append(np.array([0.3, 0.1] * 2 + [0.02] * 10), [0.0, 0.0])
    moved = shares.copy()
    moved[[0, 1]] += [-0.1, 0.1]
    past = {"x": source.multinomial(5_000, shares, size=8)}
    now = {"x": source.multinomial(5_000, moved)}
    assert judge(past, now, min_effect=0.09, unordered={"x"}).drifted == ["x"]


def test_a_reference_of_one_partition_that_counts_as_usual_is_judged_as_independent_rows() -> None:
    source = np.random.default_rng(14)
    past = reference(source, windows=1)
    assert judge(past, window(source, 2_000), lone_is_usual=True).verdict == "no alarm"
    verdict = judge(past, window(source, 2_000, c00=normal_shares(0.5)), lone_is_usual=True)
    assert (verdict.drifted, verdict.restless, verdict.columns[0].dispersion) == (["c00"], False, 1.0)


def test_a_reference_of_one_partition_finds_a_gross_shift_and_says_nothing_of_smaller_ones() -> None:
    source = np.random.default_rng(14)
    past = reference(source, windows=1)
    for shift in (0.0, 0.5):
        verdict = judge(past, window(source, 2_000, c00=normal_shares(shift)))
        assert (verdict.verdict, verdict.columns[0].doubt) == ("insufficient data", "one")
    assert judge(past, window(source, 2_000, c00=normal_shares(4.0))).drifted == ["c00"]


def test_columns_that_are_copies_of_one_alarm_as_often_as_one() -> None:
    rate, repeats, alarms = 0.2, 150, {"shared": 0, "known": 0}
    for seed in range(repeats):
        source = np.random.default_rng([15, seed])
        past, now = source.multinomial(2_000, SHARES["c00"], size=8), source.multinomial(2_000, SHARES["c00"])
        copies, window_of = {f"c{n}": past for n in range(10)}, {f"c{n}": now for n in range(10)}
        alarms["shared"] += judge(copies, window_of, alarm_rate=rate).verdict == "alarm"
        alarms["known"] += judge(copies, window_of, alarm_rate=rate, effective=((rate, 1.0),)).verdict == "alarm"
    assert alarms["shared"] <= 10
    assert binom.ppf(0.001, repeats, 0.5 * rate) <= alarms["known"] <= binom.ppf(0.999, repeats, 1.5 * rate)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.4))
def test_stepping_down_finds_what_sharing_finds_and_no_more_than_each_alone(values: list[float], rate: float) -> None:
    significant = holm_step_down(values, alarm_rate=rate, tests=len(values))
    single = single_test_rate(rate, len(values))
    pairs = list(zip(significant, values, strict=True))
    assert all(rejected or value > single for rejected, value in pairs)
    assert all(value <= rate for rejected, value in pairs if rejected)
    assert sorted(values)[: sum(significant)] == sorted(value for rejected, value in pairs if rejected)


@given(st.floats(1e-6, 0.4), st.integers(1, 200))
def test_independent_columns_at_the_rate_of_one_alarm_together_at_the_stated_rate(rate: float, columns: int) -> None:
    assert 1 - (1 - single_test_rate(rate, columns)) ** columns == pytest.approx(rate, rel=1e-9)


def test_effective_number_of_tests_is_interpolated_between_rates() -> None:
    effective = ((0.1, 4.0), (0.01, 8.0))
    assert [effective_number_of_tests(effective, rate, 20) for rate in (0.4, 0.1, 0.01, 0.001)] == [4.0, 4.0, 8.0, 8.0]
    assert 4.0 < effective_number_of_tests(effective, 0.03, 20) < 8.0
    assert effective_number_of_tests(effective, 0.01, 5) == 5.0
    assert effective_number_of_tests((), 0.01, 20) == 20.0


def test_judging_twice_says_the_same() -> None:
    source = np.random.default_rng(16)
    past = {
        name: np.array([source.multinomial(500, source.dirichlet(shares * 500 + 0.01)) for _ in range(8)])
        for name, shares in SHARES.items()
    }
    now = window(source, 1_000)
    first = judge(past, now)
    assert first.restless
    assert first == judge(past, now)
