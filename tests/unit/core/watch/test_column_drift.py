"""Drift: the alarm rate that is stated is the one that happens, and only a shift that matters alarms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2_contingency

from airflow_mlops.core.watch.column_drift import (
    ColumnDrift,
    dispersion,
    drift_verdict,
    judge_columns,
    measure_column,
    merged_bins,
    two_sample,
)
from airflow_mlops.core.watch.profile_window import ReferenceProfile, count_columns, profile_window

PARTITIONS, ROWS, COLUMNS = 8, 5_000, 20


def drawn(source: np.random.Generator, rows: int, *, shift: float = 0.0) -> pd.DataFrame:
    """Return 20 independent columns: normal, skewed, rounded to few values, and categories with nulls."""
    columns: dict[str, Any] = {}
    for number in range(COLUMNS):
        kind = number % 4
        if kind == 0:
            values: Any = source.normal(size=rows) + (shift if number == 0 else 0.0)
        elif kind == 1:
            values = source.lognormal(size=rows)
        elif kind == 2:
            values = source.poisson(3, rows).astype(float)
            values[source.random(rows) < 0.02] = np.nan
        else:
            values = pd.Series(source.choice(list("abcdefghij"), rows, p=np.arange(10, 0, -1) / 55))
        columns[f"c{number:02}"] = values
    return pd.DataFrame(columns)


def profile_of(source: np.random.Generator, *, rows: int = ROWS) -> ReferenceProfile:
    return profile_window({f"p{number}": drawn(source, rows) for number in range(PARTITIONS)})


def verdict(
    profile: ReferenceProfile, frame: pd.DataFrame, *, alarm_rate: float = 0.01, min_effect: float = 0.0
) -> dict[str, Any]:
    reference = {name: [window[name] for window in profile.windows.values()] for name in profile.bins}
    return drift_verdict(reference, count_columns(frame, profile.bins), alarm_rate=alarm_rate, min_effect=min_effect)


@pytest.fixture(scope="module")
def profile() -> ReferenceProfile:
    return profile_of(np.random.default_rng(0))


@pytest.mark.parametrize("rows", [100, 1_000, 5_000])
def test_without_drift_windows_of_any_size_alarm_at_most_half_again_as_often_as_stated(rows: int) -> None:
    # Of 150 windows against five references. Were the rate just within the bar, more alarms than this would
    # come once in a thousand runs; the draws are seeded, so a run that passes once passes always.
    rate, windows, references = 0.2, 150, 5
    alarms = 0
    for seed in range(references):
        source = np.random.default_rng([rows, seed])
        reference = profile_of(source)
        alarms += sum(
            verdict(reference, drawn(source, rows), alarm_rate=rate)["verdict"] == "alarm"
            for _ in range(windows // references)
        )
    assert alarms <= binom.ppf(0.999, windows, 1.5 * rate)
    assert alarms > 0


@pytest.mark.parametrize("rows", [1_000, 5_000])
def test_a_large_shift_of_one_of_twenty_columns_is_found_and_named(profile: ReferenceProfile, rows: int) -> None:
    for seed in range(10):
        found = verdict(profile, drawn(np.random.default_rng([9, seed]), rows, shift=0.5), min_effect=0.1)
        assert (found["verdict"], found["drifted"]) == ("alarm", ["c00"])


def test_a_shift_below_the_minimum_effect_never_alarms_however_significant(profile: ReferenceProfile) -> None:
    found = verdict(profile, drawn(np.random.default_rng(3), 100_000, shift=0.1), min_effect=0.1)
    (shifted,) = [column for column in found["columns"] if column["column"] == "c00"]
    assert shifted["p_value"] < 1e-9
    assert shifted["distance"] < 0.1
    assert found["verdict"] == "no alarm"


def test_below_fifty_rows_there_is_insufficient_data_whatever_they_say(profile: ReferenceProfile) -> None:
    found = verdict(profile, drawn(np.random.default_rng(3), 49, shift=9.0))
    assert (found["verdict"], found["rows"], found["needed"]) == ("insufficient data", 49, 50)
    assert verdict(profile, drawn(np.random.default_rng(3), 50, shift=9.0))["verdict"] == "alarm"


def test_a_missing_column_is_a_finding_of_its_own(profile: ReferenceProfile) -> None:
    frame = drawn(np.random.default_rng(3), 1_000).drop(columns=["c03", "c07"])
    found = verdict(profile, frame, alarm_rate=1e-9)
    assert (found["verdict"], found["missing"], found["drifted"]) == ("alarm", ["c03", "c07"], [])


def test_new_nulls_new_categories_and_infinities_are_drift(profile: ReferenceProfile) -> None:
    frame = drawn(np.random.default_rng(3), 2_000)
    frame.loc[: len(frame) // 4, "c00"] = np.nan
    frame.loc[: len(frame) // 4, "c01"] = np.inf
    frame.loc[: len(frame) // 4, "c03"] = "never seen"
    assert verdict(profile, frame, min_effect=0.1)["drifted"] == ["c00", "c01", "c03"]


def test_weeks_that_differ_by_themselves_need_a_larger_shift() -> None:
    alarms = {"calm": 0, "restless": 0}
    for seed in range(20):
        for name, spread in (("calm", 0.0), ("restless", 0.3)):
            source = np.random.default_rng([5, seed])
            weeks = {
                f"p{n}": pd.DataFrame({"x": source.normal(spread * source.normal(), size=2_000)}) for n in range(8)
            }
            found = verdict(profile_window(weeks), pd.DataFrame({"x": source.normal(0.3, size=2_000)}))
            alarms[name] += found["verdict"] == "alarm"
    assert alarms["calm"] == 20
    assert alarms["restless"] <= 4


def test_a_reference_of_one_partition_has_no_dispersion_of_its_own() -> None:
    assert dispersion([np.array([5, 5, 5])]) == (1.0, 0)
    found = measure_column("x", [np.array([500, 500, 0])], np.array([300, 0, 0]))
    assert found.dispersion == 1.0
    assert found.p_value < 1e-9


counts = st.lists(st.integers(0, 200), min_size=2, max_size=12)


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), min_size=2, max_size=10))
def test_the_statistic_is_pearson_s(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array(column) for column in zip(*pairs, strict=True))
    if second.sum() == 0:
        return
    expected = chi2_contingency(np.array([first, second]), correction=False).statistic
    assert two_sample(first, second) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(counts.filter(any), st.integers(1, 5_000))
def test_merging_keeps_the_order_of_bins_and_no_more_than_ten(total: list[int], rows: int) -> None:
    group = merged_bins(np.array(total), rows)
    assert group[0] == 0
    assert set(np.diff(group)) <= {0, 1}
    assert group.max() < max(11, rows / 5 + 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.4))
def test_holm_finds_at_least_what_bonferroni_finds_and_no_more_than_no_correction(
    p_values: list[float], rate: float
) -> None:
    tested = [ColumnDrift(str(place), value, 1.0, 1.0) for place, value in enumerate(p_values)]
    drifted = {each.column for each in judge_columns(tested, alarm_rate=rate, min_effect=0.5) if each.drifted}
    assert {each.column for each in tested if each.p_value <= rate / len(tested)} <= drifted
    assert drifted <= {each.column for each in tested if each.p_value <= rate}
    assert not any(each.drifted for each in judge_columns(tested, alarm_rate=rate, min_effect=1.1))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(50, 400))
def test_a_verdict_depends_on_counts_alone_not_on_the_order_of_rows(seed: int, rows: int) -> None:
    source = np.random.default_rng(seed)
    reference = profile_window({"a": drawn(source, 300), "b": drawn(source, 300)})
    frame = drawn(source, rows)
    assert verdict(reference, frame) == verdict(reference, frame.sample(frac=1, random_state=1))


def test_an_empty_window_of_a_known_column_is_insufficient_data() -> None:
    reference: Mapping[str, Any] = {"x": [np.array([50, 50])]}
    found = drift_verdict(reference, {}, alarm_rate=0.01, min_effect=0.1)
    assert (found["verdict"], found["rows"], found["missing"]) == ("insufficient data", 0, ["x"])
