"""A comparison by entity keeps its error rate where a comparison by request does not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm

from airflow_mlops.core.errors import GateError
from airflow_mlops.core.rollout.analysis.entity_difference import entity_difference, ratio_of_sums

Floats = npt.NDArray[np.float64]


def traffic(random: np.random.Generator, entities: int, spread: float, rate: float = 0.2) -> tuple[Floats, Floats]:
    """Return errors and requests of entities whose own error rates, and numbers of requests, differ by ``spread``."""
    requests = 1 + random.poisson(8, entities) * (1 + (random.random(entities) < 0.1) * 10)
    own = rate if spread == 0 else random.beta(rate / spread, (1 - rate) / spread, entities)
    return random.binomial(requests, own).astype(float), requests.astype(float)


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.5], ids=["none", "moderate", "heavy"])
def test_equal_versions_are_told_apart_as_seldom_as_stated_whatever_entities_are_like(spread: float) -> None:
    random, runs = np.random.default_rng(11), 2_000
    by_entity, by_request = [], []
    for _ in range(runs):
        (bad, of), (bad_before, of_before) = (traffic(random, count, spread) for count in (300, 900))
        by_entity.append(entity_difference(ratio_of_sums(bad, of), ratio_of_sums(bad_before, of_before)).z)
        challenger_rate, champion_rate = bad.sum() / of.sum(), bad_before.sum() / of_before.sum()
        error = np.sqrt(
            challenger_rate * (1 - challenger_rate) / of.sum() + champion_rate * (1 - champion_rate) / of_before.sum()
        )
        by_request.append((challenger_rate - champion_rate) / error)
    limit = norm.isf(0.025)
    rejected = np.mean(np.abs(by_entity) > limit)
    assert rejected == pytest.approx(0.05, abs=0.02)
    if spread == 0.5:
        assert np.mean(np.abs(by_request) > limit) > 0.15


def test_one_request_for_each_entity_is_the_ordinary_difference_of_two_means() -> None:
    random = np.random.default_rng(3)
    challenger, champion = random.normal(1.0, 2.0, 400), random.normal(0.5, 1.0, 500)
    difference = entity_difference(
        ratio_of_sums(challenger, np.ones(400)), ratio_of_sums(champion, np.ones(500)), margin=0.1
    )
    error = np.sqrt(challenger.var(ddof=1) / 400 + champion.var(ddof=1) / 500)
    assert difference.difference == pytest.approx(challenger.mean() - champion.mean())
    assert difference.standard_error == pytest.approx(error)
    assert difference.z == pytest.approx((difference.difference - 0.1) / error)
    assert (difference.high - difference.low) / 2 == pytest.approx(norm.isf(0.025) * error)


@pytest.mark.parametrize(
    ("total", "count", "words"),
    [
        ([1.0], [1.0], "1 entities; 2 are needed"),
        ([1.0, 2.0], [1.0], "sums for"),
        ([1.0, np.nan], [1.0, 1.0], "1 of 2 entities"),
        ([1.0, 2.0], [1.0, 0.0], "1 of 2 entities have no requests"),
    ],
)
def test_what_cannot_be_compared_is_refused(total: list[float], count: list[float], words: str) -> None:
    with pytest.raises(GateError, match=words):
        ratio_of_sums(total, count)
