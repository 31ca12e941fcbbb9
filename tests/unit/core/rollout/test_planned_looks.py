"""Boundaries of planned looks agree with the published ones, and keep what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from airflow_mlops.core.rollout.planned_looks import boundaries, spent_by

PUBLISHED = [
    # Five evenly spaced looks, one-sided 0.025 (Lan and DeMets, O'Brien-Fleming shape), as tables print them.
    ((0.2, 0.4, 0.6, 0.8, 1.0), 0.025, (4.877, 3.357, 2.680, 2.290, 2.031)),
    ((1.0,), 0.025, (1.960,)),
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
@settings(max_examples=25, deadline=None)
def test_the_last_look_asks_for_no_less_than_one_look_alone_would(shares: list[float]) -> None:
    found = boundaries(sorted(shares), 0.025)
    assert found[-1] >= norm.isf(spent_by(max(shares), 0.025)) - 1e-6
    assert all(z > 0 for z in found)


@pytest.mark.parametrize(
    ("information", "alpha"), [((), 0.05), ((0.5, 0.4), 0.05), ((0.5, 1.2), 0.05), ((0.0, 1.0), 0.05), ((1.0,), 0.7)]
)
def test_shares_that_do_not_rise_and_no_alpha_at_all_are_refused(information: tuple[float, ...], alpha: float) -> None:
    with pytest.raises(ValueError, match="must"):
        boundaries(information, alpha)
