"""Gross breakage of any kind is detected at once; a challenger that is only worse is left to the planned looks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES, Telemetry, UnitSums, VersionTelemetry
from airflow_mlops.core.rollout.analysis.gross_breakage import gross_breakage


def version(errors: int, requests: int, units: int = 0) -> VersionTelemetry:
    if not units:
        return VersionTelemetry(requests, errors)
    each = np.full(units, requests / units)
    lumped = np.minimum(np.maximum(errors - each.cumsum() + each, 0), each)
    return VersionTelemetry(requests, errors, UnitSums(lumped, each))


def telemetry_of(challenger: VersionTelemetry, champion: VersionTelemetry) -> Telemetry:
    return Telemetry(order=1, seconds=10.0, champion=champion, challenger=challenger)


def test_a_challenger_that_always_raises_is_broken_after_five_requests() -> None:
    message = gross_breakage(telemetry_of(version(5, 5), version(10, 2_000)))
    assert message is not None
    assert "100.00% of 5 requests" in message
    assert gross_breakage(telemetry_of(version(1, 1), version(10, 2_000))) is None


def test_five_times_the_errors_of_a_champion_that_errs_seldom_is_gross_once_it_is_beyond_five_points() -> None:
    assert gross_breakage(telemetry_of(version(100, 500), version(80, 2_000))) is not None
    assert gross_breakage(telemetry_of(version(45, 500), version(80, 2_000))) is None


def test_the_declared_limit_counts_whatever_the_champion_does() -> None:
    broken = telemetry_of(version(60, 500), version(300, 500))
    assert gross_breakage(broken) is None
    message = gross_breakage(broken, errors_at_most=0.02)
    assert message is not None
    assert "limit of 2.00%" in message
    assert gross_breakage(telemetry_of(version(60, 500), version(0, 0)), errors_at_most=0.02) is not None
    assert gross_breakage(telemetry_of(version(1, 500), version(0, 0)), errors_at_most=0.0) is not None


def test_one_unit_that_always_errs_is_no_gross_breakage() -> None:
    assert gross_breakage(telemetry_of(version(300, 1_000), version(0, 4_000))) is not None
    assert gross_breakage(telemetry_of(version(300, 1_000, units=10), version(0, 4_000, units=40))) is None
    assert gross_breakage(telemetry_of(version(300, 1_000, units=200), version(0, 4_000, units=800))) is not None


def test_a_challenger_that_is_slow_beyond_what_its_quantile_allows_is_broken() -> None:
    slow, quick = (np.zeros(len(LATENCY_EDGES) + 1, np.int64) for _ in range(2))
    slow[45], quick[5] = 60, 60
    message = gross_breakage(
        telemetry_of(replace(version(0, 60), latency=slow), replace(version(0, 60), latency=quick)), latency_at_most=0.1
    )
    assert message is not None
    assert "100.00% of 60 requests" in message
    fine = telemetry_of(replace(version(0, 60), latency=quick), replace(version(0, 60), latency=slow))
    assert gross_breakage(fine, latency_at_most=0.1) is None


def test_what_the_target_did_by_itself_is_said_first_and_nothing_seen_is_nothing_broken() -> None:
    nothing = telemetry_of(version(0, 0), version(0, 0))
    assert gross_breakage(nothing, errors_at_most=0.01, latency_at_most=0.1) is None
    message = gross_breakage(replace(nothing, tripped="its process died 3 times"))
    assert message == "the target took the challenger out by itself: its process died 3 times"


def test_an_equal_challenger_is_hardly_ever_called_broken_however_its_units_err() -> None:
    random = np.random.default_rng(2)
    called = 0
    for _ in range(300):
        sides = []
        for units in (100, 400):
            requests = (1 + random.poisson(5, units)).astype(float)
            own = random.beta(0.1 / 0.5, 0.9 / 0.5, units)
            errors = random.binomial(requests.astype(int), own).astype(float)
            sides.append(VersionTelemetry(int(requests.sum()), int(errors.sum()), UnitSums(errors, requests)))
        called += gross_breakage(telemetry_of(*sides)) is not None
    assert called <= 2
