"""The error metric keeps its error rates, passes no challenger without data, and detects bad ones."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact, norm

from airflow_mlops.core.errors import GateError
from airflow_mlops.core.ports.rollout_target import Telemetry, UnitSums, VersionTelemetry
from airflow_mlops.core.rollout.analysis.judge_errors import ErrorCount, champion_share_at, judge_errors
from airflow_mlops.core.rollout.analysis.judge_metric import Look

ONCE = Look(1, (1.0,), 1, alpha=0.05)
FIRST_OF_TEN = Look(1, (0.1,), 10, alpha=0.05)


def by_request(errors: int, requests: int) -> VersionTelemetry:
    return VersionTelemetry(requests=requests, errors=errors)


def by_unit(errors: npt.ArrayLike, requests: npt.ArrayLike) -> VersionTelemetry:
    sums = UnitSums(np.asarray(errors, float), np.asarray(requests, float))
    return VersionTelemetry(int(sums.count.sum()), int(sums.total.sum()), sums)


def telemetry_of(challenger: VersionTelemetry, champion: VersionTelemetry) -> Telemetry:
    return Telemetry(order=1, seconds=60.0, champion=champion, challenger=challenger)


def test_no_error_passes_only_once_so_many_requests_would_have_shown_one() -> None:
    # 0.99 ** 298 is above 5 %, 0.99 ** 299 below.
    too_few = judge_errors(telemetry_of(by_request(0, 298), by_request(0, 100_000)), ONCE, worse_by=0.01)
    enough = judge_errors(telemetry_of(by_request(0, 299), by_request(0, 100_000)), ONCE, worse_by=0.01)
    assert (too_few.verdict, enough.verdict) == ("inconclusive", "pass")
    assert "by request" in enough.reason


def test_no_error_at_all_never_passes_a_margin_of_nothing() -> None:
    result = judge_errors(telemetry_of(by_request(0, 10_000), by_request(0, 10_000)), ONCE, worse_by=0.0)
    assert result.verdict == "inconclusive"


def test_one_error_too_many_by_chance_stops_nobody() -> None:
    result = judge_errors(telemetry_of(by_request(1, 100), by_request(0, 1_000)), ONCE, worse_by=0.0)
    assert result.verdict == "inconclusive"
    exact = fisher_exact([[1, 99], [0, 1_000]], alternative="greater").pvalue
    assert norm.sf(result.numbers["worse"]) == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize(
    ("challenger", "champion"), [((40, 400), (60, 1_200)), ((9, 80), (10, 300)), ((5, 90), (0, 200))]
)
def test_without_a_margin_the_evidence_is_about_that_of_fishers_exact_test(
    challenger: tuple[int, int], champion: tuple[int, int]
) -> None:
    result = judge_errors(telemetry_of(by_request(*challenger), by_request(*champion)), ONCE, worse_by=0.0)
    table = [[errors, requests - errors] for errors, requests in (challenger, champion)]
    exact = norm.isf(fisher_exact(table, alternative="greater").pvalue)
    assert result.numbers["worse"] == pytest.approx(exact, abs=0.25)


def test_a_challenger_that_raises_on_every_request_is_stopped_at_the_first_of_ten_looks() -> None:
    every = by_unit(np.full(40, 3), np.full(40, 3))
    result = judge_errors(telemetry_of(every, by_unit(np.zeros(900), np.full(900, 3))), FIRST_OF_TEN, worse_by=0.01)
    assert result.verdict == "fail"
    assert "100.000% of 120 requests" in result.reason
    assert "40 and 900" in result.reason


@pytest.mark.parametrize(
    ("challenger", "champion"),
    [
        (by_request(0, 0), by_request(0, 1_000)),
        (by_request(0, 1_000), by_request(0, 0)),
        (by_request(0, 0), by_request(0, 0)),
        (by_unit([], []), by_unit([0, 0], [5, 5])),
        (by_unit([0], [10_000]), by_unit(np.zeros(500), np.ones(500))),
    ],
    ids=["none of the challenger", "none of the champion", "none", "no unit", "one unit"],
)
def test_who_was_not_asked_or_only_by_one_unit_neither_passes_nor_fails(
    challenger: VersionTelemetry, champion: VersionTelemetry
) -> None:
    result = judge_errors(telemetry_of(challenger, champion), ONCE, worse_by=0.05, at_most=0.1)
    assert result.verdict == "inconclusive"


def test_errors_of_one_unit_count_less_than_as_many_of_many() -> None:
    champion = by_unit(np.tile([1, 0, 0, 0, 0, 0, 0, 0, 0, 0], 100), np.full(1_000, 10))
    spread = np.zeros(100)
    spread[:30] = 1
    lumped = np.zeros(100)
    lumped[:3] = 10
    many, few = (
        judge_errors(telemetry_of(by_unit(errors, np.full(100, 10)), champion), ONCE, worse_by=0.0)
        for errors in (spread, lumped)
    )
    assert many.numbers["difference"] == pytest.approx(few.numbers["difference"])
    assert many.verdict == "fail"
    assert few.verdict == "inconclusive"
    assert few.numbers["design_effect"] > 3


def test_the_hard_limit_looks_at_the_challenger_alone() -> None:
    bad_champion = by_request(500, 1_000)
    above = judge_errors(telemetry_of(by_request(50, 1_000), bad_champion), ONCE, at_most=0.02)
    below = judge_errors(telemetry_of(by_request(2, 1_000), bad_champion), ONCE, at_most=0.02)
    unsure = judge_errors(telemetry_of(by_request(20, 1_000), bad_champion), ONCE, at_most=0.02)
    assert [result.verdict for result in (above, below, unsure)] == ["fail", "pass", "inconclusive"]
    both = judge_errors(telemetry_of(by_request(50, 1_000), bad_champion), ONCE, at_most=0.02, worse_by=0.01)
    assert both.verdict == "fail"
    assert {"worse_by.difference", "at_most.limit"} <= set(both.numbers)


@pytest.mark.parametrize(
    ("champion_rate", "margin", "requests"), [(0.05, 0.02, 400), (0.002, 0.01, 300), (0.3, 0.0, 150)]
)
def test_a_challenger_exactly_at_the_margin_fails_and_passes_as_seldom_as_stated(
    champion_rate: float, margin: float, requests: int
) -> None:
    random, runs = np.random.default_rng(5), 1_500
    challenger, champion = (
        random.binomial(count, rate, runs)
        for count, rate in ((requests, champion_rate + margin), (4 * requests, champion_rate))
    )
    verdicts = [
        judge_errors(telemetry_of(by_request(a, requests), by_request(b, 4 * requests)), ONCE, worse_by=margin).verdict
        for a, b in zip(challenger.tolist(), champion.tolist(), strict=True)
    ]
    # Three standard errors of the simulation above 5 %; an exact test of few errors stays below.
    assert verdicts.count("fail") / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    assert verdicts.count("pass") / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


@given(st.tuples(*[st.integers(0, 500)] * 4), st.floats(0, 1), st.floats(0, 1))
def test_whatever_was_counted_gives_a_result_that_can_be_recorded(
    counts: tuple[int, int, int, int], worse_by: float, at_most: float
) -> None:
    challenger, fine, champion, rest = counts
    telemetry = telemetry_of(by_request(challenger, challenger + fine), by_request(champion, champion + rest))
    result = judge_errors(telemetry, FIRST_OF_TEN, worse_by=worse_by, at_most=at_most)
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.reason
    if challenger + fine == 0:
        assert result.verdict == "inconclusive"


@given(st.integers(0, 200), st.floats(0, 0.3))
def test_one_error_more_never_makes_a_challenger_look_better(errors: int, margin: float) -> None:
    less, more = (
        judge_errors(telemetry_of(by_request(count, 201), by_request(30, 1_000)), ONCE, worse_by=margin).numbers
        for count in (errors, errors + 1)
    )
    assert more["worse"] >= less["worse"] - 1e-9
    assert more["within"] <= less["within"] + 1e-9


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50), st.integers(1, 50), st.floats(0, 0.5))
def test_the_champions_share_at_the_limit_is_the_most_likely_one(
    challenger: int, challenger_requests: int, champion: int, champion_requests: int, margin: float
) -> None:
    a = ErrorCount(min(challenger, challenger_requests), challenger_requests, challenger_requests, None)
    b = ErrorCount(min(champion, champion_requests), champion_requests, champion_requests, None)

    def likelihood(share: float) -> float:
        total = 0.0
        for count, rate in ((a, share + margin), (b, share)):
            with np.errstate(divide="ignore"):
                for hits, of_rate in ((count.errors, rate), (count.requests - count.errors, 1 - rate)):
                    total += hits * float(np.log(max(of_rate, 1e-300))) if hits else 0.0
        return total

    likeliest = champion_share_at(a, b, margin)
    grid = np.linspace(0, 1 - margin, 101)
    assert 0 <= likeliest <= 1 - margin
    assert likelihood(likeliest) >= max(likelihood(float(share)) for share in grid) - 1e-6


def test_numbers_that_cannot_be_counts_are_refused() -> None:
    with pytest.raises(GateError, match="12 errors in 10 requests"):
        judge_errors(telemetry_of(by_request(12, 10), by_request(0, 10)), ONCE, worse_by=0.1)
    odd = VersionTelemetry(6, 0, UnitSums(np.array([np.nan, 0.0]), np.array([3.0, 3.0])))
    with pytest.raises(GateError, match="NaN"):
        judge_errors(telemetry_of(odd, by_request(0, 10)), ONCE, worse_by=0.1)
    for limits in ({}, {"worse_by": -0.1}, {"at_most": 1.5}):
        with pytest.raises(ValueError, match="limit within 0 and 1"):
            judge_errors(telemetry_of(by_request(0, 10), by_request(0, 10)), ONCE, **limits)
