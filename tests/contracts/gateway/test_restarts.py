"""Restarts and kills of a gateway, replicas that come and go, and a challenger that was taken out."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from typing import Any

import numpy as np
import pytest

from airflow_mlops.core.ports.registry import MODEL_FILE
from airflow_mlops.core.ports.rollout_target import OlderTrafficError, TargetError, Traffic
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import ToyProject, picky, row

KEYS = [f"passenger-{number}" for number in range(400)]
CANARY = Traffic(2, "1", "2", "canary", 25.0, "rollout-2")
CANARY_LATER = Traffic(3, "1", "2", "canary", 25.0, "rollout-2")


@pytest.fixture
def served(project: ToyProject) -> GatewayProcess:
    """Return a gateway whose champion is version 1, which says 1 times x."""
    gateway = project.gateway().start()
    target_of(project, gateway).prepare(project.version(1))
    target_of(project, gateway).apply(Traffic(1, "1"))
    return gateway


def target_of(project: ToyProject, *gateways: GatewayProcess) -> GatewayTarget:
    return GatewayTarget(project.workspace, [gateway.url for gateway in gateways], TELL_TOKEN)


def roll_out(project: ToyProject, gateway: GatewayProcess, traffic: Traffic, model: Any = None) -> GatewayTarget:
    """Apply traffic with version 2 as the challenger, and return the target."""
    target = target_of(project, gateway)
    target.prepare(project.version(2, model))
    target.apply(traffic)
    return target


def test_the_gateway_takes_a_failing_challenger_out_before_it_has_met_one_request_in_a_hundred(
    project: ToyProject, served: GatewayProcess
) -> None:
    target = roll_out(project, served, Traffic(2, "1", "2", "canary", 10.0, "rollout-2"), picky(2.0))
    random = np.random.default_rng(0)
    versions: Counter[str] = Counter()
    for number in range(3_000):
        kind = "new" if random.random() < 0.5 else "a"
        versions[served.predict(row(f"k{number}", kind=kind))["version"]] += 1
        if number % 100 == 99 and target.telemetry().tripped:
            break
    seen = target.telemetry()
    assert seen.tripped is not None
    assert "rows failed" in seen.tripped
    assert "are allowed" in seen.tripped
    assert seen.challenger.requests < 30
    assert target.observe() == Traffic(2, "1", "2", "canary", 0.0, "rollout-2")
    after = served.predict([row(key) for key in KEYS])
    assert after["versions"] == ["1"] * 400
    with pytest.raises(TargetError, match="has taken the challenger out by itself"):
        target.apply(Traffic(3, "1", "2", "canary", 50.0, "rollout-2"))
    assert served.predict([row(key) for key in KEYS])["versions"] == ["1"] * 400
    served.stop(signal.SIGKILL)
    served.start(until="/ready")
    assert served.predict([row(key) for key in KEYS])["versions"] == ["1"] * 400
    target.rollback(Traffic(4, "1"))
    assert target.telemetry().tripped is None


def test_a_rolling_share_is_a_share_of_the_replicas(project: ToyProject, served: GatewayProcess) -> None:
    other = project.gateway("other").start()
    target = target_of(project, served, other)
    rolling = Traffic(2, "1", "2", "rolling", 30.0, "s")
    project.version(2)
    target.apply(rolling)
    assert target.observe() == rolling
    assert set(served.predict([row(key) for key in KEYS])["versions"]) == {"2"}
    assert set(other.predict([row(key) for key in KEYS])["versions"]) == {"1"}
    seen = target.telemetry()
    assert (seen.champion.requests, seen.challenger.requests) == (400, 400)
    target.apply(Traffic(3, "1", "2", "rolling", 51.0, "s"))
    assert set(other.predict([row(key) for key in KEYS])["versions"]) == {"2"}


def test_a_replica_that_serves_something_else_is_named_and_one_that_is_new_gets_what_it_lacks(
    project: ToyProject, served: GatewayProcess
) -> None:
    other = project.gateway("other").start()
    target = target_of(project, served, other)
    with pytest.raises(TargetError, match=f"{other.url} serves nothing"):
        target.observe()
    target.apply(Traffic(2, "1"))
    assert other.predict(row())["version"] == "1"
    project.version(2)
    target_of(project, other).apply(CANARY_LATER)
    with pytest.raises(TargetError, match=served.url):
        target.observe()
    with pytest.raises(TargetError, match="different traffic"):
        target.telemetry()


def test_a_replica_that_is_down_is_named_and_the_others_are_rolled_back_all_the_same(
    project: ToyProject, served: GatewayProcess
) -> None:
    other = project.gateway("other").start()
    target = target_of(project, served, other)
    target.prepare(project.version(2))
    target.apply(CANARY_LATER)
    other.stop(signal.SIGKILL)
    with pytest.raises(TargetError, match=f"{other.url} does not answer"):
        target.rollback(Traffic(4, "1"))
    assert served.predict([row(key) for key in KEYS])["versions"] == ["1"] * 400
    other.start(until="/ready")
    target.rollback(Traffic(4, "1"))
    assert target.observe() == Traffic(4, "1")


def test_after_its_state_folder_is_deleted_it_takes_an_older_order_as_of_a_ledger_restored_from_a_backup(
    project: ToyProject, served: GatewayProcess
) -> None:
    target = target_of(project, served)
    target.apply(Traffic(9, "1"))
    with pytest.raises(OlderTrafficError):
        target.apply(Traffic(4, "1"))
    served.stop()
    shutil.rmtree(served.state)
    served.start()
    assert served.page_status("/ready") == 503
    target.prepare(project.version(1))
    target.apply(Traffic(4, "1"))
    assert target.observe() == Traffic(4, "1")
    assert served.predict(row())["version"] == "1"


def test_an_order_of_a_later_release_is_refused_whole_and_what_is_served_stays(
    project: ToyProject, served: GatewayProcess
) -> None:
    before = target_of(project, served).observe()
    traffic = {"order": 9, "champion": "1", "kind": "none", "later": True}
    refused = served.control("PUT", "traffic", {"traffic": traffic})
    assert refused.status_code == 422
    assert "traffic: 'later' is unknown" in refused.text
    assert target_of(project, served).observe() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_after_a_restart_with_everything_else_down_the_last_good_traffic_is_served(
    project: ToyProject, served: GatewayProcess, number: signal.Signals
) -> None:
    target = roll_out(project, served, CANARY)
    before = served.predict([row(key) for key in KEYS])
    served.stop(number)
    shutil.rmtree(project.lake)
    served.start(until="/ready")
    assert served.predict([row(key) for key in KEYS]) == before
    assert target.observe() == CANARY
    target.rollback(Traffic(3, "1"))
    assert served.predict([row(key) for key in KEYS])["versions"] == ["1"] * 400


def test_a_challenger_whose_files_are_spoiled_is_taken_out_after_a_restart_and_the_champion_serves(
    project: ToyProject, served: GatewayProcess
) -> None:
    target = roll_out(project, served, CANARY)
    signature = project.version(2).details.signature
    served.stop(signal.SIGKILL)
    for models in (served.state / "models", project.lake / "toy" / "models"):
        (models / signature.digest / MODEL_FILE).write_bytes(b"half a mo")
    served.start(until="/ready")
    assert served.predict([row(key) for key in KEYS])["versions"] == ["1"] * 400
    tripped = target.telemetry().tripped
    assert tripped is not None
    assert "cannot be loaded after a restart" in tripped
    assert target.observe().exposed == 0


def test_without_a_champion_it_lives_and_is_not_ready_and_says_why(project: ToyProject) -> None:
    gateway = project.gateway().start()
    assert (gateway.page_status("/health"), gateway.page_status("/ready")) == (200, 503)
    with gateway.client() as client:
        answer = client.post("/predict", json=row())
    assert answer.status_code == 503
    assert "no champion is served: no champion was applied" in answer.json()["error"]
    assert target_of(project, gateway).observe() == Traffic(0, None)
