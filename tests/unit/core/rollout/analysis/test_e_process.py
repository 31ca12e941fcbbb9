"""The e-process between looks: at any number of tests it keeps its error rate, and it stops a bad version quickly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from airflow_mlops.core.rollout.analysis.e_process import e_value, exceeds_bound, log_e_value


@pytest.mark.parametrize(
    ("errors", "requests", "bound"), [(3, 20, 0.05), (0, 30, 0.1), (12, 40, 0.2), (2.5, 7.25, 0.3)]
)
def test_the_e_value_is_the_mean_of_the_bets_on_all_rates_above_the_bound(
    errors: float, requests: float, bound: float
) -> None:
    weigh = beta(0.5, 0.5)

    def bet(rate: float) -> float:
        won = (rate / bound) ** errors * ((1 - rate) / (1 - bound)) ** (requests - errors)
        return float(won * weigh.pdf(rate) / weigh.sf(bound))

    expected, _ = quad(bet, bound, 1, limit=200)
    assert e_value(errors, requests, bound) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("bound", [0.02, 0.2])
def test_a_version_at_the_bound_is_hardly_ever_stopped_though_it_is_asked_after_every_request(bound: float) -> None:
    alpha, runs, requests = 0.1, 150, 400
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(runs):
        errors = np.cumsum(random.random(requests) < bound)
        wrong += any(
            exceeds_bound(int(errors_so_far), count, bound, alpha)
            for count, errors_so_far in enumerate(errors.tolist(), start=1)
        )
    # Three standard errors above what is promised for ever.
    assert wrong / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def test_the_mean_of_the_e_value_at_the_bound_is_one() -> None:
    requests, bound = 30, 0.1
    chances = [math.comb(requests, k) * bound**k * (1 - bound) ** (requests - k) for k in range(requests + 1)]
    mean = sum(chance * e_value(k, requests, bound) for k, chance in enumerate(chances))
    assert mean == pytest.approx(1.0)
    lower = 0.05
    below = [math.comb(requests, k) * lower**k * (1 - lower) ** (requests - k) for k in range(requests + 1)]
    assert sum(chance * e_value(k, requests, bound) for k, chance in enumerate(below)) < 1


def test_a_version_that_always_errs_is_stopped_within_a_handful_of_requests() -> None:
    needed = next(count for count in range(1, 100) if exceeds_bound(count, count, 0.05, alpha=0.001))
    assert needed <= 4


def test_five_times_the_bound_is_found_in_a_few_hundred_requests() -> None:
    random = np.random.default_rng(4)
    needed = []
    for _ in range(100):
        errors = np.cumsum(random.random(1_000) < 0.10)
        needed.append(next(n for n in range(10, 1_000) if exceeds_bound(int(errors[n - 1]), n, 0.02, alpha=0.001)))
    assert np.quantile(needed, 0.9) <= 300


@example(1375, 3989 - 1375, 0.64453125)  # the share of rates beyond the bound is a subnormal number
@given(st.integers(0, 5_000), st.integers(0, 100_000), st.floats(1e-6, 1 - 1e-6))
def test_it_is_always_a_number_and_an_error_more_is_never_less_evidence(errors: int, others: int, bound: float) -> None:
    requests = errors + others
    evidence = log_e_value(errors, requests, bound)
    assert math.isfinite(evidence)
    assert math.isfinite(e_value(errors, requests, bound))
    if errors < requests:
        assert log_e_value(errors + 1, requests, bound) >= evidence - 1e-6 * max(1.0, abs(evidence))


@given(st.floats(1e-6, 1 - 1e-6))
def test_no_request_and_no_error_are_no_evidence(bound: float) -> None:
    assert log_e_value(0, 0, bound) == 0
    assert log_e_value(0, 500, bound) <= 0
    assert not exceeds_bound(0, 0, bound, alpha=0.05)


@pytest.mark.parametrize(
    ("errors", "requests", "bound"),
    [(1, 10, 0.0), (1, 10, 1.0), (11, 10, 0.5), (-1, 10, 0.5), (math.nan, 10, 0.5), (1, math.inf, 0.5)],
)
def test_what_cannot_be_is_refused(errors: float, requests: float, bound: float) -> None:
    with pytest.raises(ValueError, match=r"must be|cannot be"):
        log_e_value(errors, requests, bound)
