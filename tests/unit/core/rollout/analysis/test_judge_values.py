"""Means of values and of losses: by unit, against a share of the champion's mean that is itself estimated."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm, ttest_1samp, ttest_ind

from airflow_mlops.core.errors import GateError
from airflow_mlops.core.ports.rollout_target import UnitSums
from airflow_mlops.core.rollout.analysis.judge_metric import Look
from airflow_mlops.core.rollout.analysis.judge_values import judge_mean, judge_paired, judge_values

ONCE = Look(1, (1.0,), 1, alpha=0.05)


def single(values: npt.ArrayLike) -> UnitSums:
    """Return the sums of values with a unit of their own each."""
    total = np.asarray(values, float)
    return UnitSums(total, np.ones(total.size))


def test_with_one_value_for_each_unit_it_is_welchs_test() -> None:
    random = np.random.default_rng(3)
    challenger, champion = random.normal(1.0, 2.0, 12), random.normal(0.5, 1.0, 20)
    result = judge_values(single(challenger), single(champion), ONCE, margin=0.0, better="lower")
    expected = ttest_ind(challenger, champion, equal_var=False, alternative="greater").pvalue
    assert norm.sf(result.numbers["z"]) == pytest.approx(expected, rel=1e-6)
    other = judge_values(single(challenger), single(champion), ONCE, margin=0.0, better="higher")
    assert other.numbers["z"] == pytest.approx(-result.numbers["z"])


def test_paired_losses_of_independent_rows_are_the_paired_t_test() -> None:
    random = np.random.default_rng(4)
    champion = random.gamma(2.0, 1.0, 15)
    challenger = champion + random.normal(0.1, 0.5, 15)
    result = judge_paired(challenger, champion, ONCE, margin=0.05)
    expected = ttest_1samp(challenger - 1.05 * champion, 0.0, alternative="greater").pvalue
    assert norm.sf(result.numbers["z"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("better", ["lower", "higher"])
@pytest.mark.parametrize("level", [100.0, -100.0])
def test_the_margin_is_a_share_of_the_champions_mean_whatever_its_sign(better: str, level: float) -> None:
    random = np.random.default_rng(6)
    champion = level + random.normal(size=4_000)
    worse = 1.0 if better == "lower" else -1.0
    verdicts = [
        judge_values(
            single(level + worse * by + random.normal(size=4_000)), single(champion), ONCE, margin=0.02, better=better
        ).verdict  # type: ignore[arg-type]
        for by in (0.0, 1.5, 2.0, 2.5)
    ]
    assert verdicts == ["pass", "pass", "inconclusive", "fail"]


def test_rows_of_one_unit_are_one_observation() -> None:
    random = np.random.default_rng(8)
    runs, fails = 600, {"by unit": 0, "by row": 0}
    for _ in range(runs):
        units = np.repeat(np.arange(60), 10)
        shift = np.repeat(random.normal(size=60), 10)
        champion = 5 + random.normal(size=600)
        challenger = champion + shift + 0.3 * random.normal(size=600)
        named = np.array([f"customer {unit}" for unit in units], object)
        fails["by unit"] += judge_paired(challenger, champion, ONCE, margin=0.0, units=named).verdict == "fail"
        fails["by row"] += judge_paired(challenger, champion, ONCE, margin=0.0).verdict == "fail"
    assert fails["by unit"] / runs == pytest.approx(0.05, abs=0.03)
    assert fails["by row"] / runs > 0.15


def test_a_challenger_exactly_at_the_margin_fails_and_passes_as_seldom_as_stated() -> None:
    random, runs = np.random.default_rng(9), 2_000
    results = [
        judge_values(
            single(random.normal(11.0, 3.0, 80)),
            single(random.normal(10.0, 3.0, 300)),
            ONCE,
            margin=0.1,
            better="lower",
        ).verdict
        for _ in range(runs)
    ]
    for verdict in ("fail", "pass"):
        assert results.count(verdict) / runs == pytest.approx(0.05, abs=3 * np.sqrt(0.05 * 0.95 / runs))


@pytest.mark.parametrize(
    ("challenger", "champion"),
    [([], [1.0, 2.0]), ([1.0], [1.0, 2.0]), ([1.0, np.nan], [1.0, 2.0]), ([1e308] * 9, [-1e308] * 9)],
)
def test_too_little_or_what_is_no_number_neither_passes_nor_fails(
    challenger: list[float], champion: list[float]
) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        result = judge_values(single(challenger), single(champion), ONCE, margin=0.5, better="lower")
    assert result.verdict == "inconclusive"
    assert "cannot tell" in result.reason


def test_values_that_never_vary_need_some_units_to_say_anything() -> None:
    few, many = (
        judge_values(single(np.full(count, 2.0)), single(np.full(count, 2.0)), ONCE, margin=0.1, better="lower").verdict
        for count in (2, 10)
    )
    assert (few, many) == ("inconclusive", "pass")
    nothing = judge_values(single(np.zeros(1_000)), single(np.zeros(1_000)), ONCE, margin=0.1, better="lower")
    assert nothing.verdict == "inconclusive"
    gone = judge_values(single(np.zeros(30)), single(np.ones(30)), ONCE, margin=0.1, better="higher")
    assert gone.verdict == "fail"


def test_the_same_model_twice_passes_by_its_margin() -> None:
    losses = np.random.default_rng(1).gamma(2.0, 1.0, 500)
    assert judge_paired(losses, losses.copy(), ONCE, margin=0.05).verdict == "pass"
    assert judge_paired(losses, losses.copy(), ONCE, margin=0.0).verdict == "inconclusive"


def test_losses_that_cannot_be_compared_say_so() -> None:
    with pytest.raises(GateError, match="losses of the challenger"):
        judge_paired(np.ones(3), np.ones(4), ONCE, margin=0.1)
    with pytest.raises(GateError, match="2 units for 3 rows"):
        judge_paired(np.ones(3), np.ones(3), ONCE, margin=0.1, units=["a", "b"])
    single_key = judge_paired(np.ones(300), np.ones(300), ONCE, margin=0.1, units=["a"] * 300)
    assert single_key.verdict == "inconclusive"
    holes = judge_paired(np.array([1.0, np.nan, 2.0]), np.ones(3), ONCE, margin=0.1)
    assert holes.verdict == "inconclusive"
    assert "1 of 3 losses" in holes.reason
    with pytest.raises(ValueError, match="margin"):
        judge_paired(np.ones(3), np.ones(3), ONCE, margin=-0.1)


FINITE = st.floats(-1e300, 1e300)


@given(arrays(np.float64, st.integers(0, 8), elements=FINITE), arrays(np.float64, st.integers(0, 8), elements=FINITE))
def test_whatever_the_values_are_the_result_can_be_recorded(
    challenger: npt.NDArray[np.float64], champion: npt.NDArray[np.float64]
) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        result = judge_values(single(challenger), single(champion), ONCE, margin=0.1, better="higher")
        both = min(challenger.size, champion.size)
        paired = judge_paired(challenger[:both], champion[:both], ONCE, margin=0.1)
    for judged in (result, paired):
        json.dumps(judged.to_dict(), allow_nan=False)
    if min(challenger.size, champion.size) < 2:
        assert result.verdict == paired.verdict == "inconclusive"


def test_a_limit_of_the_challengers_own_mean_asks_for_enough_units_as_well() -> None:
    random = np.random.default_rng(12)
    means = {4.0: "pass", 5.0: "inconclusive", 6.0: "fail"}
    for mean, expected in means.items():
        values = mean - 5.0 + (drawn := random.normal(5.0, 1.0, 200)) - drawn.mean() + 5.0
        assert judge_mean(single(values), ONCE, at_most=5.0).verdict == expected
    assert judge_mean(single([]), ONCE, at_most=5.0).verdict == "inconclusive"
    assert judge_mean(single([1.0] * 3), ONCE, at_most=5.0).verdict == "inconclusive"
    assert judge_mean(single([1.0] * 9), ONCE, at_most=5.0).verdict == "pass"
