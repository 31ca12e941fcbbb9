"""The health of what serves: against what is declared, or the first look, and never from a target that has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from airflow_mlops.core.declaration.rollout import OnlineMetric
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.watch_details import WindowJudged
from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES, TargetError, Telemetry, Traffic, VersionTelemetry
from airflow_mlops.core.watch.checks.check_result import CheckResult
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.watch.checks.service import Served, judge_service
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import week
from tests.unit.core.watch.checks.watched_loop import scored_loop

TERMS = CheckTerms(alarm_rate=0.01, min_rows=100)


def latencies(requests: int, seconds: float, *, seed: int = 0) -> npt.NDArray[np.int64]:
    took = np.random.default_rng(seed).lognormal(np.log(seconds), 0.3, requests)
    return np.bincount(np.searchsorted(LATENCY_EDGES, took), minlength=len(LATENCY_EDGES) + 1).astype(np.int64)


def served_counts(requests: int = 5_000, *, errors: int = 5, seconds: float = 0.01, seed: int = 0) -> Served:
    return Served(requests, errors, latencies(requests, seconds, seed=seed), 600.0)


def judge(now: Served, first: Served | None = None, *declared: OnlineMetric) -> CheckResult:
    return judge_service(now, first, declared, TERMS)


def test_the_first_look_is_what_later_ones_are_held_against() -> None:
    assert judge(served_counts()).verdict == "insufficient data"
    assert judge(served_counts(seed=1), served_counts()).verdict == "no alarm"
    assert judge(served_counts(errors=200), served_counts()).verdict == "alarm"
    slow = judge(served_counts(seconds=0.03), served_counts())
    assert slow.verdict == "alarm"
    assert "took longer than" in slow.message


def test_a_declared_limit_holds_from_the_first_look_on() -> None:
    errors = OnlineMetric(metric="errors", at_most=0.02)
    latency = OnlineMetric(metric="latency", at_most=0.05)
    assert judge(served_counts(), None, errors, latency).verdict == "no alarm"
    assert judge(served_counts(errors=200), None, errors).verdict == "alarm"
    assert judge(served_counts(seconds=0.1), None, latency).verdict == "alarm"


def test_a_little_more_than_at_first_is_no_alarm() -> None:
    assert judge(served_counts(errors=30), served_counts()).verdict == "no alarm"
    assert judge(served_counts(seconds=0.011), served_counts()).verdict == "no alarm"


def test_few_requests_are_insufficient() -> None:
    result = judge(served_counts(requests=8, errors=8), served_counts())
    assert (result.verdict, result.numbers["needed"]) == ("insufficient data", 100)


def test_throughput_and_quantiles_are_said_in_numbers() -> None:
    numbers = judge(served_counts(), served_counts()).numbers
    assert numbers["per_second"] == pytest.approx(5_000 / 600)
    assert numbers["error_share"] == pytest.approx(0.001)
    assert numbers["latency_p50"] == pytest.approx(0.01, rel=0.25)
    assert numbers["latency_p99"] == pytest.approx(0.01 * np.exp(0.3 * 2.326), rel=0.25)


class Endpoint:
    """A target that says what it is told to say."""

    name = "gateway"

    def __init__(self, champion: str) -> None:
        self.champion, self.seen, self.down = champion, served_counts(), False

    def telemetry(self) -> Telemetry:
        if self.down:
            raise TargetError("the gateway at http://127.0.0.1:9 does not answer")
        version = VersionTelemetry(self.seen.requests, self.seen.errors, None, self.seen.latency)
        return Telemetry(7, self.seen.seconds, version, VersionTelemetry())

    def observe(self) -> Traffic:
        return Traffic(7, self.champion)

    def prepare(self, version: Version) -> None: ...
    def apply(self, traffic: Traffic) -> None: ...
    def rollback(self, traffic: Traffic) -> None: ...
    def finalize(self, traffic: Traffic) -> None: ...


@pytest.fixture
def gateway(tmp_path: Path) -> tuple[Workspace, Endpoint]:
    """A loop of two scored partitions, which a gateway serves from now on."""
    batch = scored_loop(tmp_path, checks=("service",), scored=(3, 4))
    target = Endpoint("1")
    rollout = batch.loop.rollout.model_copy(update={"target": "gateway"})
    loop = batch.loop.model_copy(update={"rollout": rollout})
    return replace(batch, loop=loop, ports=replace(batch.ports, target=lambda _workspace: target)), target


def service_result(workspace: Workspace, number: int) -> WindowJudged:
    return run_checks(workspace, week(number))["service"]


def test_each_look_is_at_what_came_since_the_last_one(gateway: tuple[Workspace, Endpoint]) -> None:
    workspace, target = gateway
    assert service_result(workspace, 3).verdict == "insufficient data"
    before = target.seen
    target.seen = Served(10_000, 210, before.latency * 2, 1_200.0)
    second = service_result(workspace, 4)
    assert second.verdict == "alarm"
    assert second.numbers["error_share"] == pytest.approx(205 / 5_000)
    assert second.numbers["available"] is True


def test_a_target_that_has_counted_anew_is_taken_at_its_word(gateway: tuple[Workspace, Endpoint]) -> None:
    workspace, target = gateway
    service_result(workspace, 3)
    target.seen = Served(500, 0, latencies(500, 0.01), 60.0)
    second = service_result(workspace, 4)
    assert (second.verdict, second.numbers["requests"]) == ("no alarm", 500)


def test_a_target_that_does_not_answer_alarms(gateway: tuple[Workspace, Endpoint]) -> None:
    workspace, target = gateway
    target.down = True
    result = service_result(workspace, 3)
    assert (result.verdict, result.numbers) == ("alarm", {"available": False})
    assert "does not answer" in result.message


def test_a_batch_has_no_service_to_ask_about(tmp_path: Path) -> None:
    workspace = scored_loop(tmp_path, checks=("service",))
    result = service_result(workspace, 3)
    assert result.verdict == "insufficient data"
    assert "batch" in result.message


def test_what_serves_now_says_nothing_of_a_historical_partition(gateway: tuple[Workspace, Endpoint]) -> None:
    from airflow_mlops.core.retrain.decide_retrain import decide_and_record

    workspace, target = gateway
    decide_and_record(workspace, week(4), trigger="watch")
    target.down = True
    assert service_result(workspace, 3).verdict == "insufficient data"
