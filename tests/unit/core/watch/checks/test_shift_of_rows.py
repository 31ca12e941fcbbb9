"""Shifts that no column shows: found by both checks of all columns together, at a rate that holds, whatever breaks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from airflow_mlops.core.data.profiles.column_bins import ColumnBins, quantile_edges
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.watch.checks.check_result import CheckResult
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.multivariate import judge_telling_apart
from airflow_mlops.core.watch.checks.reconstruction import judge_reconstruction
from airflow_mlops.core.watch.drift.drift_verdict import judge_columns

TERMS = CheckTerms(alarm_rate=0.002)
Judge = Callable[..., CheckResult]
both = pytest.mark.parametrize("judge", [judge_telling_apart, judge_reconstruction])


def rows(source: np.random.Generator, count: int, *, together: float = 0.8, week: float = 0.0) -> pd.DataFrame:
    """Return four normal columns, of which the first two go together, and one of categories.

    ``week`` is by how much the first column of the whole week may lie elsewhere.
    """
    columns = source.normal(size=(count, 4))
    columns[:, 1] = together * columns[:, 0] + np.sqrt(1 - together**2) * columns[:, 1]
    columns[:, 0] += source.normal() * week
    return pd.DataFrame(columns, columns=list("abcd")).assign(kind=source.choice(["x", "y", "z"], count))


def drifted_columns(reference: list[pd.DataFrame], window: pd.DataFrame) -> list[str]:
    past, now = {}, {}
    for name in "abcd":
        bins = ColumnBins(quantile_edges(pd.concat(reference)[name].to_numpy()))
        past[name], now[name] = [bins.count(frame[name]) for frame in reference], bins.count(window[name])
    return judge_columns(past, now, alarm_rate=0.01, min_effect=0.1).drifted


@both
def test_columns_that_went_together_and_go_apart_are_found_though_no_column_drifts(judge: Judge) -> None:
    source = np.random.default_rng(1)
    reference, turned = [rows(source, 1_000) for _ in range(8)], rows(source, 1_000, together=-0.8)
    assert drifted_columns(reference, turned) == []
    assert judge(reference, turned, TERMS).verdict == "alarm"
    assert judge(reference, rows(source, 1_000), TERMS).verdict != "alarm"


@both
@pytest.mark.parametrize("windows", [3, 7])
def test_windows_without_a_shift_alarm_about_as_often_as_stated(judge: Judge, windows: int) -> None:
    terms, repeats = CheckTerms(alarm_rate=0.1, min_effect=0.0), 60 if judge is judge_reconstruction else 14
    alarms = 0
    for seed in range(repeats):
        source = np.random.default_rng(seed)
        reference = [rows(source, 120)[["a", "b", "kind"]] for _ in range(windows)]
        alarms += judge(reference, rows(source, 120)[["a", "b", "kind"]], terms).verdict == "alarm"
    assert alarms <= binom.ppf(0.99, repeats, 0.1)


def test_a_week_that_differs_as_the_weeks_of_the_reference_do_is_no_shift() -> None:
    terms = CheckTerms(alarm_rate=0.01, min_effect=0.0)
    alarms = {"weeks that differ": 0, "weeks that do not": 0}
    for seed in range(6):
        source = np.random.default_rng(seed)
        window = rows(source, 300, week=1.0)
        for name, week in (("weeks that differ", 1.0), ("weeks that do not", 0.0)):
            reference = [rows(source, 300, week=week) for _ in range(6)]
            alarms[name] += judge_telling_apart(reference, window, terms).verdict == "alarm"
    assert alarms["weeks that differ"] <= 1
    assert alarms["weeks that do not"] >= 3


@both
def test_where_the_weeks_of_the_reference_differ_by_more_than_the_effect_nothing_can_be_said(judge: Judge) -> None:
    source = np.random.default_rng(8)
    reference = [rows(source, 500, week=30.0) for _ in range(8)]
    result = judge(reference, rows(source, 500, week=30.0), TERMS)
    assert (result.verdict, result.numbers["needed"]) == ("insufficient data", None)
    assert "the reference's own windows differ by more than the least effect" in result.message


@both
def test_eight_rows_are_insufficient_and_so_are_those_that_could_not_show_the_effect(judge: Judge) -> None:
    source = np.random.default_rng(2)
    reference = [rows(source, 1_000) for _ in range(8)]
    few = judge(reference, rows(source, 8), TERMS)
    some = judge(reference, rows(source, 120), TERMS)
    assert (few.verdict, some.verdict) == ("insufficient data", "insufficient data")
    assert some.numbers["needed"] > 120
    assert f"{some.numbers['needed']:,} rows would do" in some.message


@both
def test_broken_columns_are_left_out_by_name_and_hide_nothing(judge: Judge) -> None:
    source = np.random.default_rng(3)
    reference = [
        rows(source, 1_000).assign(
            gone=1.0 * np.arange(1_000),
            empty=source.normal(size=1_000),
            text=source.normal(size=1_000),
            endless=source.normal(size=1_000),
            constant=7.0,
        )
        for _ in range(8)
    ]
    turned = rows(source, 1_000, together=-0.8).assign(
        empty=np.nan, text="a", endless=np.inf, constant=source.normal(size=1_000), new=1.0
    )
    result = judge(reference, turned, TERMS)
    assert result.verdict == "alarm"
    for name, reason in {
        "gone": "missing",
        "empty": "no value",
        "text": "of another kind",
        "endless": "no finite",
    }.items():
        assert f"{name} ({reason}" in result.message
    assert "constant" in result.message


@both
def test_where_no_column_can_be_compared_that_is_said(judge: Judge) -> None:
    frame = pd.DataFrame({"a": np.ones(100)})
    with pytest.raises(NotReadyError, match="no column can be compared"):
        judge([frame, frame], frame, TERMS)


def test_ten_thousand_categories_and_huge_numbers_are_judged_like_any_column() -> None:
    source = np.random.default_rng(4)

    def wide(count: int) -> pd.DataFrame:
        huge = source.normal(size=count) * 1e300
        return rows(source, count).assign(name=source.integers(0, 10_000, count).astype(str), huge=huge)

    reference = [wide(1_000) for _ in range(6)]
    for judge in (judge_telling_apart, judge_reconstruction):
        assert judge(reference, wide(1_000), TERMS).verdict != "alarm"


def test_one_column_has_nothing_to_be_put_together_from() -> None:
    source = np.random.default_rng(5)
    reference = [rows(source, 400)[["a"]] for _ in range(3)]
    result = judge_reconstruction(reference, rows(source, 400)[["a"]], TERMS)
    assert (result.verdict, result.message) == ("insufficient data", "one column has nothing to go together with")


def test_the_rows_least_like_the_reference_come_first_with_their_reasons_and_without_their_values() -> None:
    source = np.random.default_rng(6)
    reference, window = [rows(source, 500) for _ in range(6)], rows(source, 500)
    window.loc[17, ["a", "c"]] = [98765.4321, -5e9]
    window.loc[17, "kind"] = "<img src=x>"
    window.loc[42, "d"] = np.nan
    keys = np.array([f"key-{number}" for number in range(500)])
    report = judge_reconstruction(reference, window, TERMS, keys=keys).report
    assert report is not None
    first, second = report["unlike"][:2]
    assert (first["key"], first["unlike"]) == ("key-17", 3)
    assert [reason.split(":")[0] for reason in first["reasons"]] == ["a", "c", "kind"]
    assert "reference's largest" in first["reasons"][0]
    assert "reference's smallest" in first["reasons"][1]
    assert second["unlike"] == 1
    reasons = {row["key"]: row["reasons"] for row in report["unlike"]}
    assert reasons["key-42"] == ["d: null or infinite, and the reference has no such value"]
    assert "98765" not in str(report)
    assert "<img" not in str(report)
