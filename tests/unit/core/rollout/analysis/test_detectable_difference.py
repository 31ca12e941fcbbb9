"""A difference of the detectable size is detected with the stated power."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.ports.rollout_target import Telemetry, UnitSums, VersionTelemetry
from airflow_mlops.core.rollout.analysis.detectable_difference import (
    describe_detectable_errors,
    detectable_difference,
)
from airflow_mlops.core.rollout.analysis.judge_errors import judge_errors
from airflow_mlops.core.rollout.analysis.judge_metric import Look
from airflow_mlops.core.rollout.analysis.judge_values import judge_values

ONCE = Look(1, (1.0,), 1, alpha=0.05)


def test_a_rise_of_the_errors_as_large_as_said_is_found_four_times_of_five() -> None:
    random, runs, challenger, champion, rate = np.random.default_rng(1), 1_500, 600, 5_400, 0.10
    rise = detectable_difference(challenger, champion, rate=rate)
    assert rise is not None
    failures = 0
    for bad, before in zip(
        random.binomial(challenger, rate + rise, runs).tolist(),
        random.binomial(champion, rate, runs).tolist(),
        strict=True,
    ):
        telemetry = Telemetry(1, 1.0, VersionTelemetry(champion, before), VersionTelemetry(challenger, bad))
        failures += judge_errors(telemetry, ONCE, worse_by=0.0).verdict == "fail"
    assert failures / runs == pytest.approx(0.8, abs=0.05)


def test_a_change_of_a_mean_as_large_as_said_is_found_four_times_of_five() -> None:
    random, runs = np.random.default_rng(2), 1_000
    change = detectable_difference(150, 600, sd=3.0)
    assert change is not None
    failures = sum(
        judge_values(
            UnitSums(random.normal(10 + change, 3.0, 150), np.ones(150)),
            UnitSums(random.normal(10, 3.0, 600), np.ones(600)),
            ONCE,
            margin=0.0,
            better="lower",
        ).verdict
        == "fail"
        for _ in range(runs)
    )
    assert failures / runs == pytest.approx(0.8, abs=0.04)


def test_two_points_of_a_five_percent_error_rate_need_tens_of_thousands_of_requests_at_a_five_percent_canary() -> None:
    few, many = (detectable_difference(0.05 * total, 0.95 * total, rate=0.05) for total in (10_000, 50_000))
    assert few is not None
    assert many is not None
    assert few > 0.02 > many


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.floats(0, 1))
def test_more_requests_never_find_less(challenger: int, champion: int, rate: float) -> None:
    difference = detectable_difference(challenger, champion, rate=rate)
    more = detectable_difference(10 * challenger, 10 * champion, rate=rate)
    if difference is not None:
        assert 0 < difference <= 1 - rate
        assert more is not None
        assert more <= difference + 1e-9


def test_the_sentences_name_numbers_and_say_what_is_not_found() -> None:
    text = describe_detectable_errors(200, 1_800, rate=0.10, margin=0.01)
    assert text.startswith("with 200 requests beside the champion's 1,800, a rise of the error share from 10.0% by ")
    assert "points is found 4 times of 5" in text
    assert "with a margin of 1 points an equal challenger passes less often than that" in text
    assert "margin" not in describe_detectable_errors(200, 1_800, rate=0.10, margin=0.2)
    assert describe_detectable_errors(0, 100, rate=0.1) == (
        "with 0 requests beside the champion's 100, no rise of the error share from 10.0% is found 4 times of 5"
    )


def test_half_a_question_is_refused() -> None:
    wrong: list[dict[str, Any]] = [{}, {"sd": 1.0, "rate": 0.1}, {"rate": 1.1}, {"sd": -1.0}, {"sd": 1.0, "power": 1.0}]
    for arguments in wrong:
        with pytest.raises(ValueError, match=r"exactly one|cannot be"):
            detectable_difference(10, 10, **arguments)
