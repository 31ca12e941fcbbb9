"""Predictions are compared without labels: a constant is found in a few hundred, a good retrain is not disturbed."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ks_2samp

from airflow_mlops.core.ports.rollout_target import Telemetry, VersionTelemetry
from airflow_mlops.core.rollout.analysis.judge_metric import Look
from airflow_mlops.core.rollout.analysis.judge_predictions import judge_predictions, kuiper_distance, kuiper_tail

Floats = npt.NDArray[np.float64]
ONCE = Look(1, (1.0,), 1, alpha=0.05)
FIRST_OF_TEN = Look(1, (0.1,), 10, alpha=0.05, metrics=4)


def telemetry_of(challenger: npt.ArrayLike, champion: npt.ArrayLike) -> Telemetry:
    sides = {"challenger": challenger, "champion": champion}
    versions = {name: VersionTelemetry(predictions=np.asarray(values, float)) for name, values in sides.items()}
    return Telemetry(order=1, seconds=10.0, **versions)


def shadow(champion: npt.ArrayLike, challenger: npt.ArrayLike) -> Telemetry:
    none = VersionTelemetry()
    return Telemetry(1, 10.0, none, none, paired=np.column_stack([champion, challenger]).astype(float))


@pytest.mark.parametrize("constant", [-100.0, 0.0, 0.5, 100.0])
def test_a_constant_is_found_in_400_predictions_at_the_first_of_ten_looks_whatever_it_is(constant: float) -> None:
    champion = np.random.default_rng(1).normal(size=3_000)
    result = judge_predictions(telemetry_of(np.full(400, constant), champion), FIRST_OF_TEN)
    assert result.verdict == "fail"
    assert f"each is {constant:.4g}" in result.reason
    # Which the distance of Kolmogorov and Smirnov would not show of a constant in the middle.
    assert constant or ks_2samp(np.full(400, constant), champion).statistic < 0.53


def test_a_retrained_model_that_predicts_nearly_the_same_passes() -> None:
    random = np.random.default_rng(2)
    result = judge_predictions(telemetry_of(random.normal(0.1, 1.1, 400), random.normal(size=3_000)), ONCE)
    assert result.verdict == "pass"


def test_a_shadow_says_more_than_the_distributions_do() -> None:
    random = np.random.default_rng(3)
    champion = random.normal(50.0, 10.0, 2_000)
    close = shadow(champion, champion + random.normal(0.0, 1.0, 2_000))
    shuffled = shadow(champion, random.permutation(champion))
    assert judge_predictions(close, ONCE, disagree_at_most=0.5).verdict == "pass"
    assert judge_predictions(shuffled, ONCE).verdict == "pass"
    result = judge_predictions(shuffled, ONCE, disagree_at_most=0.5)
    assert result.verdict == "fail"
    assert "differ by more than 0.25 of the champion's spread" in result.reason
    constant = judge_predictions(shadow(champion[:400], np.full(400, 50.0)), FIRST_OF_TEN, disagree_at_most=0.5)
    assert constant.verdict == "fail"


def test_predictions_that_are_no_numbers_are_left_out() -> None:
    random = np.random.default_rng(4)
    challenger = random.normal(size=500)
    challenger[:100] = np.nan
    result = judge_predictions(telemetry_of(challenger, random.normal(size=3_000)), ONCE)
    assert result.numbers["predictions"] == 400
    pairs = shadow(random.normal(size=50), np.full(50, np.nan))
    assert judge_predictions(pairs, ONCE, disagree_at_most=0.5).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("challenger", "champion"), [([], []), ([1.0], []), ([], [1.0]), ([1.0], [1.0]), ([1.0] * 5, [2.0] * 5)]
)
def test_with_few_predictions_neither_is_shown(challenger: list[float], champion: list[float]) -> None:
    assert judge_predictions(telemetry_of(challenger, champion), ONCE, disagree_at_most=0.9).verdict == "inconclusive"
    assert judge_predictions(telemetry_of(challenger, champion), ONCE).verdict == "inconclusive"


def test_the_tail_bounds_the_error_of_a_sample() -> None:
    random, runs, rows = np.random.default_rng(5), 2_000, 60
    grid = np.linspace(0, 1, 4_001)
    sizes = []
    for _ in range(runs):
        shares = np.searchsorted(np.sort(random.random(rows)), grid, side="right") / rows - grid
        sizes.append(np.sqrt(rows) * (shares.max() - shares.min()))
    for size in (1.4, 1.6, 1.8):
        seen_above = np.mean(np.array(sizes) > size)
        assert seen_above <= kuiper_tail(size) + 3 * np.sqrt(kuiper_tail(size) / runs)
    assert kuiper_tail(1.4) - np.mean(np.array(sizes) > 1.4) < 0.2


def test_two_versions_exactly_at_the_limit_are_told_apart_less_often_than_stated() -> None:
    random, runs = np.random.default_rng(6), 400
    verdicts = [
        judge_predictions(telemetry_of(random.uniform(0.5, 1.5, 300), random.random(1_000)), ONCE, at_most=0.5).verdict
        for _ in range(runs)
    ]
    assert verdicts.count("fail") / runs <= 0.05
    assert verdicts.count("pass") / runs <= 0.05


VALUES = arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e308, 1e308) | st.sampled_from([0.0, 1.0]))


@given(VALUES, VALUES)
def test_the_distance_is_within_0_and_1_the_same_both_ways_and_never_below_that_of_kolmogorov(
    challenger: Floats, champion: Floats
) -> None:
    distance = kuiper_distance(challenger, champion)
    at = np.concatenate([challenger, champion])
    apart = max(abs(np.mean(challenger <= value) - np.mean(champion <= value)) for value in at)
    assert apart - 1e-9 <= distance <= 1 + 1e-9
    assert distance == pytest.approx(kuiper_distance(champion, challenger))
    assert kuiper_distance(challenger, challenger) == 0
    both = min(challenger.size, champion.size)
    result = judge_predictions(shadow(champion[:both], challenger[:both]), ONCE, disagree_at_most=0.1)
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize("limits", [{"at_most": 1.5}, {"disagree_at_most": -0.1}, {"tolerance": float("nan")}])
def test_limits_outside_of_what_can_be_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="within 0 and 1"):
        judge_predictions(telemetry_of([1.0], [1.0]), ONCE, **limits)


def probabilities(rows: int, seed: int, *, weights: tuple[float, float, float] = (2.0, 5.0, 3.0)) -> Floats:
    """Return probabilities of three classes, shape (rows, 3)."""
    return np.random.default_rng(seed).dirichlet(weights, rows)


def test_of_three_classes_each_is_compared_under_its_name_and_any_of_them_fails() -> None:
    champion, alike = probabilities(3_000, 1), probabilities(1_000, 2)
    names = ("early", "on time", "late")
    result = judge_predictions(telemetry_of(alike, champion), ONCE, at_most=0.3, names=names)
    assert result.verdict == "pass"
    assert [result.numbers[f"distance.{name}.predictions"] for name in names] == [1_000] * 3
    swapped = alike[:, [1, 0, 2]]
    result = judge_predictions(telemetry_of(swapped, champion), ONCE, at_most=0.3, names=names)
    assert result.verdict == "fail"
    assert result.reason.startswith("early: unlike")
    assert "late: alike" in result.reason


def test_of_three_classes_a_class_of_which_nothing_is_known_cannot_pass() -> None:
    names = ("early", "on time", "late")
    assert judge_predictions(telemetry_of([], probabilities(900, 1)), ONCE, names=names).verdict == "inconclusive"
    assert judge_predictions(telemetry_of([], []), ONCE, names=names, disagree_at_most=0.1).verdict == "inconclusive"


def test_two_rows_of_three_classes_agree_if_they_do_in_every_class() -> None:
    champion, names = probabilities(2_000, 3), ("early", "on time", "late")
    other = champion.copy()
    other[:300, 1:] = champion[:300, :0:-1]
    none = VersionTelemetry()
    pairs = Telemetry(1, 10.0, none, none, paired=np.stack([champion, other], axis=1))
    result = judge_predictions(pairs, ONCE, disagree_at_most=0.3, names=names)
    assert 0.1 < result.numbers["disagreement.differ"] <= 0.15
    assert result.verdict == "pass"
    assert judge_predictions(pairs, ONCE, disagree_at_most=0.05, names=names).verdict == "fail"


@given(arrays(float, 40, elements=st.floats(-10, 10)), arrays(float, 60, elements=st.floats(-10, 10)))
def test_one_number_is_judged_as_a_single_class_is(challenger: Floats, champion: Floats) -> None:
    plain = judge_predictions(telemetry_of(challenger, champion), ONCE)
    column = judge_predictions(telemetry_of(challenger[:, None], champion[:, None]), ONCE)
    assert plain == column
