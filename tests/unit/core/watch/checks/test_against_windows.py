"""One number against the reference's own windows: the rate that is stated is the one that happens."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from airflow_mlops.core.watch.checks.against_windows import Estimate, compare

REPEATS = 4_000


def alarm_share(*, windows: int, spread: float, error: float, now_error: float, both_sides: bool = False) -> float:
    """Return how often a window alarms that is drawn as the reference's are, at a rate of 0.05."""
    source = np.random.default_rng(1)
    alarms = 0
    for _ in range(REPEATS):
        middle = source.normal(size=windows + 1) * spread
        past = [Estimate(float(value + source.normal() * error), error) for value in middle[:-1]]
        now = Estimate(float(middle[-1] + source.normal() * now_error), now_error)
        alarms += compare(now, past, both_sides=both_sides).p_value <= 0.05
    return alarms / REPEATS


@pytest.mark.parametrize("both_sides", [False, True])
@pytest.mark.parametrize(("spread", "now_error"), [(0.0, 1.0), (2.0, 1.0), (2.0, 5.0)])
def test_windows_like_those_of_the_reference_alarm_as_often_as_stated(
    spread: float, now_error: float, both_sides: bool
) -> None:
    share = alarm_share(windows=8, spread=spread, error=1.0, now_error=now_error, both_sides=both_sides)
    assert 0.02 <= share <= 0.075


def test_a_window_of_more_rows_than_the_reference_has_alarms_no_more_often_for_it() -> None:
    assert alarm_share(windows=8, spread=1.0, error=1.0, now_error=0.2) <= 0.05


def test_few_windows_count_by_their_errors_alone() -> None:
    share = alarm_share(windows=3, spread=0.0, error=1.0, now_error=1.0)
    low, high = binom.interval(0.999, REPEATS, 0.05)
    assert low / REPEATS <= share <= high / REPEATS
    assert alarm_share(windows=3, spread=3.0, error=1.0, now_error=1.0) > 0.2  # as the module says


def test_the_verdict_needs_significance_and_the_least_difference_and_rows() -> None:
    past = [Estimate(0.0, 0.01)] * 8
    comparison = compare(Estimate(0.2, 0.01), past)
    assert comparison.verdict(rows=1_000, alarm_rate=0.01, least=0.1)[0] == "alarm"
    assert comparison.verdict(rows=1_000, alarm_rate=0.01, least=0.3)[0] == "no alarm"
    assert comparison.verdict(rows=20, alarm_rate=0.01, least=0.1)[0] == "insufficient data"
    verdict, needed = compare(Estimate(0.2, 0.2), past).verdict(rows=100, alarm_rate=0.01, least=0.1)
    assert verdict == "insufficient data"
    assert needed == pytest.approx(100 * (2.326 * 0.2 / 0.1) ** 2, rel=0.01)


def test_numbers_without_an_error_are_the_same_or_another() -> None:
    past = [Estimate(1.0, 0.0)] * 7
    assert compare(Estimate(1.0, 0.0), past).p_value == 0.5
    assert compare(Estimate(1.0, 0.0), past, both_sides=True).p_value == 1.0
    assert compare(Estimate(1.1, 0.0), past).p_value == 0.0
    assert compare(Estimate(0.9, 0.0), past).p_value == 1.0
