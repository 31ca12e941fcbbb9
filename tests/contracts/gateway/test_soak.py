"""The benchmark of a gateway under load finds no error in a short run, and would find a wrong answer."""

from __future__ import annotations

import math
import time

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.sticky_share import StickySplit
from benchmarks.gateway_soak import gateway_soak
from benchmarks.traffic_history import TrafficHistory

CANARY = Traffic(2, "1", "2", "canary", 50.0, "rollout")
KEYS = [str(number) for number in range(50)]


def test_a_gateway_under_load_answers_each_key_by_the_version_of_its_moment_and_counts_exactly() -> None:
    errors, cost, memory, files = gateway_soak(seconds=5)
    assert (errors.ours, errors.reached) == (0, True)
    assert errors.peer > 100
    assert cost.ours > 0
    assert memory.ours > 50
    assert files.ours > 10


def test_an_answer_is_right_only_by_the_version_that_was_in_force_for_its_key() -> None:
    history = TrafficHistory(Traffic(1, "1"))
    history.apply(CANARY, lambda _traffic: None)
    began = time.monotonic()
    buckets = {key: StickySplit("rollout").bucket(key) for key in KEYS}
    for key, bucket in buckets.items():
        assert history.allows(key, "2", began, math.inf) == (bucket < 5_000)
        assert history.allows(key, "1", began, math.inf) == (bucket >= 5_000)
        assert not history.allows(key, "3", began, math.inf)
    assert 10 < sum(bucket < 5_000 for bucket in buckets.values()) < 40


def test_both_traffics_are_right_while_the_gateway_changes_and_the_older_one_is_not_afterwards() -> None:
    history, moments = TrafficHistory(Traffic(1, "1")), list[float]()
    before = time.monotonic()
    history.apply(Traffic(2, "2"), lambda _traffic: moments.append(time.monotonic()))
    (changing,) = moments
    after = time.monotonic()
    assert [history.allows("a", version, changing, changing) for version in ("1", "2")] == [True, True]
    assert [history.allows("a", version, before, before) for version in ("1", "2")] == [True, False]
    assert [history.allows("a", version, after, after) for version in ("1", "2")] == [False, True]
