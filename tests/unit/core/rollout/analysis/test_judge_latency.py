"""Latencies are judged by counts within bins: exact against a limit, and inconclusive with too few requests."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES, Telemetry, VersionTelemetry
from airflow_mlops.core.rollout.analysis.judge_latency import (
    judge_latency,
    quantile_bound,
    slower_than,
    value_slower,
)
from airflow_mlops.core.rollout.analysis.judge_metric import Look

ONCE = Look(1, (1.0,), 1, alpha=0.05)
BINS = len(LATENCY_EDGES) + 1
Floats = npt.NDArray[np.float64]


def binned(seconds: npt.ArrayLike) -> npt.NDArray[np.int64]:
    return np.bincount(np.searchsorted(LATENCY_EDGES, np.asarray(seconds, float)), minlength=BINS)


def telemetry_of(challenger: npt.ArrayLike, champion: npt.ArrayLike) -> Telemetry:
    sides = {"challenger": challenger, "champion": champion}
    versions = {name: VersionTelemetry(latency=binned(seconds)) for name, seconds in sides.items()}
    return Telemetry(order=1, seconds=10.0, **versions)


def test_a_limit_on_the_99th_percentile_needs_299_quick_requests_to_pass() -> None:
    limit = LATENCY_EDGES[20]
    verdicts = [
        judge_latency(telemetry_of([limit * 0.9] * count, []), ONCE, at_most=limit).verdict for count in (0, 298, 299)
    ]
    assert verdicts == ["inconclusive", "inconclusive", "pass"]
    slow = judge_latency(telemetry_of([limit * 0.9] * 280 + [limit * 2] * 20, []), ONCE, at_most=limit)
    assert slow.verdict == "fail"
    assert "6.67% of 300 requests" in slow.reason


def test_requests_of_the_bin_that_the_limit_falls_into_neither_pass_nor_fail_it() -> None:
    low, high = LATENCY_EDGES[20:22]
    within = (low * high) ** 0.5
    result = judge_latency(telemetry_of([within] * 5_000, []), ONCE, at_most=within)
    assert result.verdict == "inconclusive"
    assert "0.00% to 100.00%" in result.reason


def test_a_slower_challenger_fails_against_the_champion_and_an_equal_one_passes() -> None:
    random = np.random.default_rng(1)
    champion = random.lognormal(-5.0, 0.3, 20_000)
    verdicts = {
        times: judge_latency(
            telemetry_of(times * random.lognormal(-5.0, 0.3, 5_000), champion), ONCE, worse_by=0.3
        ).verdict
        for times in (0.5, 1.0, 2.0, 4.0)
    }
    assert verdicts == {0.5: "pass", 1.0: "pass", 2.0: "fail", 4.0: "fail"}
    few = judge_latency(telemetry_of(random.lognormal(-5.0, 0.3, 100), champion), ONCE, worse_by=0.3)
    assert few.verdict == "inconclusive"
    assert judge_latency(telemetry_of([], champion), ONCE, worse_by=0.3).verdict == "inconclusive"


def test_a_challenger_as_quick_as_the_champion_is_stopped_less_often_than_stated() -> None:
    random, runs = np.random.default_rng(2), 400
    failed = sum(
        judge_latency(
            telemetry_of(random.lognormal(-5.0, 1.0, 500), random.lognormal(-5.0, 1.0, 2_000)), ONCE, worse_by=0.0
        ).verdict
        == "fail"
        for _ in range(runs)
    )
    assert failed / runs <= 0.05


def test_a_challenger_at_the_margin_and_a_bin_beyond_hardly_ever_passes() -> None:
    random, runs, bin_wide = np.random.default_rng(3), 300, LATENCY_EDGES[1] / LATENCY_EDGES[0]
    passed = sum(
        judge_latency(
            telemetry_of(1.2 * bin_wide * random.lognormal(-5.0, 1.0, 2_000), random.lognormal(-5.0, 1.0, 4_000)),
            ONCE,
            worse_by=0.2,
        ).verdict
        == "pass"
        for _ in range(runs)
    )
    assert passed / runs <= 0.05


def test_bounds_of_a_quantile_hold_it_as_often_as_stated() -> None:
    random, runs = np.random.default_rng(4), 500
    true = float(np.exp(-5.0 + 0.5 * 2.3263))
    above = below = 0
    for _ in range(runs):
        counts = binned(random.lognormal(-5.0, 0.5, 1_500))
        above += quantile_bound(counts, 0.99, z=1.645, upper=True) >= true
        below += quantile_bound(counts, 0.99, z=1.645, upper=False) <= true
    assert above / runs >= 0.93
    assert below / runs >= 0.93


def test_slower_than_anything_that_is_told_apart_still_counts() -> None:
    stuck = judge_latency(telemetry_of([60.0] * 400, [0.001] * 4_000), ONCE, worse_by=0.5, at_most=1.0)
    assert stuck.verdict == "fail"
    unknown = judge_latency(telemetry_of([60.0] * 400, [0.001] * 4_000), ONCE, at_most=30.0)
    assert unknown.verdict == "inconclusive"
    hopeless = judge_latency(telemetry_of([60.0] * 400, [60.0] * 4_000), ONCE, worse_by=0.5)
    assert hopeless.verdict == "inconclusive"


COUNTS = st.lists(st.integers(0, 300), min_size=BINS, max_size=BINS)


@given(COUNTS, COUNTS, st.floats(0.01, 0.999), st.floats(1e-6, 100.0), st.floats(0.0, 10.0))
@settings(max_examples=60)
def test_whatever_was_timed_the_result_can_be_recorded(
    challenger: list[int], champion: list[int], quantile: float, at_most: float, worse_by: float
) -> None:
    telemetry = Telemetry(
        1, 1.0, VersionTelemetry(latency=np.array(champion)), VersionTelemetry(latency=np.array(challenger))
    )
    result = judge_latency(telemetry, ONCE, quantile=quantile, at_most=at_most, worse_by=worse_by)
    json.dumps(result.to_dict(), allow_nan=False)
    surely, possibly = slower_than(np.array(challenger), at_most)
    assert 0 <= surely <= possibly <= sum(challenger)
    assert value_slower(np.array(challenger), sum(challenger) / 2) > 0


@pytest.mark.parametrize(
    "limits", [{}, {"at_most": 0.0}, {"at_most": float("nan")}, {"worse_by": -1.0}, {"at_most": 1.0, "quantile": 1.0}]
)
def test_limits_that_are_none_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"needs a limit|the quantile"):
        judge_latency(telemetry_of([1.0], [1.0]), ONCE, **limits)
