"""Boundaries of planned looks agree with the published ones, and keep their error rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from airflow_mlops.core.rollout.analysis.interim_analyses import boundaries, spent_alpha

PUBLISHED = [
    # Five evenly spaced looks, one-sided 0.025 (Lan and DeMets, O'Brien-Fleming shape), as tables print them.
    ((0.2, 0.4, 0.6, 0.8, 1.0), 0.025, (4.877, 3.357, 2.680, 2.290, 2.031)),
    ((1.0,), 0.025, (1.960,)),
    # Two, three and four looks, one-sided 0.025 and 0.05, as the packages of clinical trials print them.
    ((0.5, 1.0), 0.025, (2.963, 1.969)),
    ((1 / 3, 2 / 3, 1.0), 0.025, (3.710, 2.511, 1.993)),
    ((0.25, 0.5, 0.75, 1.0), 0.025, (4.333, 2.963, 2.359, 2.014)),
    ((0.25, 0.5, 0.75, 1.0), 0.05, (3.74955, 2.53993, 2.01604, 1.72014)),
    # Ten looks, one-sided 0.025.
    (
        tuple(look / 10 for look in range(1, 11)),
        0.025,
        (6.991, 4.877, 3.930, 3.367, 2.989, 2.715, 2.504, 2.336, 2.197, 2.081),
    ),
]


@pytest.mark.parametrize(("information", "alpha", "expected"), PUBLISHED)
def test_boundaries_are_those_of_published_tables(
    information: tuple[float, ...], alpha: float, expected: tuple[float, ...]
) -> None:
    assert boundaries(information, alpha) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("looks", [2, 5, 10])
def test_a_challenger_at_the_limit_is_stopped_as_often_as_stated(looks: int) -> None:
    alpha, runs = 0.05, 200_000
    shares = np.arange(1, looks + 1) / looks
    steps = np.random.default_rng(7).normal(size=(runs, looks)) * np.sqrt(np.diff(shares, prepend=0.0))
    z = steps.cumsum(axis=1) / np.sqrt(shares)
    stopped = (z > np.array(boundaries(shares.tolist(), alpha))).any(axis=1).mean()
    # Four standard errors of the simulation.
    assert stopped == pytest.approx(alpha, abs=4 * np.sqrt(alpha * (1 - alpha) / runs))
    # What this is for: an ordinary test at every look.
    assert looks == 2 or (z > norm.isf(alpha)).any(axis=1).mean() > 2 * alpha


@given(st.lists(st.floats(0.05, 1.0), min_size=1, max_size=6, unique_by=lambda share: round(share, 2)))
@settings(max_examples=25)
def test_the_last_look_asks_for_no_less_than_one_look_alone_would(shares: list[float]) -> None:
    z_values = boundaries(sorted(shares), 0.025)
    assert z_values[-1] >= norm.isf(spent_alpha(max(shares), 0.025)) - 1e-6
    assert all(z > 0 for z in z_values)


@pytest.mark.parametrize("came", [0.6, 1.0, 1.5], ids=["less than planned", "as planned", "more than planned"])
def test_the_last_look_spends_what_is_left_and_no_more_whatever_came_in(came: float) -> None:
    alpha, runs = 0.05, 200_000
    shares = np.array([0.2, 0.5, came])
    steps = np.random.default_rng(9).normal(size=(runs, 3)) * np.sqrt(np.diff(shares, prepend=0.0))
    z = steps.cumsum(axis=1) / np.sqrt(shares)
    limits = boundaries(shares.tolist(), alpha, spend_by=[0.2, 0.5, 1.0])
    stopped = (z > np.array(limits)).any(axis=1).mean()
    assert stopped == pytest.approx(alpha, abs=4 * np.sqrt(alpha * (1 - alpha) / runs))


def test_two_looks_at_nearly_the_same_rows_have_boundaries_all_the_same() -> None:
    apart = boundaries([0.2, 0.5, 1.0], 0.05)
    together = boundaries([0.2, 0.5, 0.5 + 1e-9, 1.0], 0.05)
    assert together[:2] == apart[:2]
    assert together[2] > together[1]
    assert together[3] == pytest.approx(apart[2], abs=2e-3)


@pytest.mark.parametrize("spend_by", [(0.5,), (0.5, 0.4), (0.5, 1.1), (0.0, 1.0)])
def test_spending_more_than_there_is_or_taking_it_back_is_refused(spend_by: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="never fall"):
        boundaries((0.5, 1.0), 0.05, spend_by=spend_by)


@pytest.mark.parametrize(
    ("information", "alpha"), [((), 0.05), ((0.5, 0.4), 0.05), ((0.5, 1.2), 0.05), ((0.0, 1.0), 0.05), ((1.0,), 0.7)]
)
def test_shares_that_do_not_rise_and_no_alpha_at_all_are_refused(information: tuple[float, ...], alpha: float) -> None:
    with pytest.raises(ValueError, match="must"):
        boundaries(information, alpha)
