"""The sticky split: the same key, the same side, and never fewer keys as the share grows."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2_contingency

from airflow_mlops.core.rollout.sticky_share import StickySplit, sticky_share

KEYS = [f"2013-01-{day:02}-{number}" for day in range(1, 32) for number in range(300)]
keys = st.lists(st.one_of(st.text(max_size=8), st.integers()), max_size=50)
shares = st.floats(0, 100)


@given(keys, shares, shares, st.text(max_size=5))
def test_the_keys_of_a_share_are_among_those_of_every_larger_one(
    keys: list[object], share: float, other_share: float, salt: str
) -> None:
    small = sticky_share(keys, salt=salt, percent=min(share, other_share))
    large = sticky_share(keys, salt=salt, percent=max(share, other_share))
    assert not np.any(small & ~large)


@given(keys, shares, st.randoms(use_true_random=False))
def test_the_side_of_a_key_depends_on_no_other_key(keys: list[object], share: float, order: object) -> None:
    together = sticky_share(keys, salt="s", percent=share).tolist()
    assert [sticky_share([key], salt="s", percent=share)[0] for key in keys] == together


@given(keys)
def test_nobody_is_in_no_share_and_everybody_in_all(keys: list[object]) -> None:
    assert not sticky_share(keys, salt="s", percent=0).any()
    assert sticky_share(keys, salt="s", percent=100).all()
    assert len(sticky_share(keys, salt="s", percent=50)) == len(keys)


@pytest.mark.parametrize("percent", [0.5, 1, 10, 33.3, 50, 99])
@pytest.mark.parametrize("salt", ["rollout-1", "rollout-2"])
def test_the_share_of_keys_is_within_binomial_bounds(percent: float, salt: str) -> None:
    served = int(sticky_share(KEYS, salt=salt, percent=percent).sum())
    assert binom.ppf(1e-4, len(KEYS), percent / 100) <= served <= binom.ppf(1 - 1e-4, len(KEYS), percent / 100)


def test_two_rollouts_try_on_independent_halves() -> None:
    first, second = (sticky_share(KEYS, salt=salt, percent=50) for salt in ("rollout-1", "rollout-2"))
    table = np.histogram2d(first, second, bins=2)[0]
    assert chi2_contingency(table).pvalue > 1e-3


def test_the_split_is_by_blake2b_of_the_salt_and_the_key_in_ten_thousand_buckets() -> None:
    # Stated here a second time: another hash would move customers to the other side in the middle of a rollout.
    def bucket(key: str) -> int:
        return int.from_bytes(hashlib.blake2b(f"rollout-7|{key}".encode(), digest_size=8).digest(), "big") % 10_000

    expected = [bucket(key) < 1_000 for key in KEYS[:500]]
    assert sticky_share(KEYS[:500], salt="rollout-7", percent=10).tolist() == expected


@given(keys, st.text(max_size=5))
def test_many_keys_at_once_fall_into_the_buckets_that_each_falls_into_alone(keys: list[object], salt: str) -> None:
    split = StickySplit(salt)
    assert split.buckets(keys).tolist() == [split.bucket(key) for key in keys]
