"""A replica that joins late or comes back old takes the traffic in force from the others before it serves."""

from __future__ import annotations

import shutil
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import TargetError, Traffic
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.core.rollout.targets.gateway.replica_addresses import resolve_replicas
from airflow_mlops.testing.free_ports import free_port
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import ToyProject, picky, row

CANARY = Traffic(2, "1", "2", "canary", 25.0, "rollout-2")


class Fleet:
    """Replicas that know each other, and the target of those that are named."""

    def __init__(self, project: ToyProject, count: int, *more: str) -> None:
        ports = [free_port() for _ in range(count)]
        peers = [part for port in ports for part in ("--peer", f"http://127.0.0.1:{port}")]
        options = ("--peer-seconds", "0.2", "--peer-wait-seconds", "1", *more)
        self._project = project
        self.replicas = [project.gateway(f"replica-{port}", *peers, *options) for port in ports]
        for replica, port in zip(self.replicas, ports, strict=True):
            replica.port = port

    def target(self, *places: int) -> GatewayTarget:
        return GatewayTarget(self._project.workspace, [self.replicas[place].url for place in places], TELL_TOKEN)


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    ended = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        ended.wait(0.05)
    raise AssertionError("the condition does not hold")


def observed(replica: GatewayProcess) -> dict[str, object]:
    return dict(replica.control("GET", "traffic").json())


@pytest.fixture
def fleet(project: ToyProject) -> Fleet:
    """Two replicas that serve version 1, and a third that is not started."""
    made = Fleet(project, 3)
    made.replicas[0].start()
    made.replicas[1].start()
    target = made.target(0, 1)
    target.prepare(project.version(1))
    target.apply(Traffic(1, "1"))
    return made


def test_a_replica_that_joins_late_is_ready_with_the_traffic_in_force_and_nobody_told_it(
    project: ToyProject, fleet: Fleet
) -> None:
    fleet.target(0, 1).prepare(project.version(2))
    fleet.target(0, 1).apply(CANARY)
    wait_until(lambda: fleet.target(0).telemetry().seconds > 3)
    served_for = fleet.target(0).telemetry().seconds
    fleet.replicas[2].start(until="/ready")
    assert fleet.target(0, 1, 2).observe() == CANARY
    assert fleet.target(2).telemetry().seconds > served_for, "a replica that joins makes no stage wait anew"
    keys = [row(f"k{number}") for number in range(100)]
    assert fleet.replicas[2].predict(keys) == fleet.replicas[0].predict(keys)


def test_a_replica_that_comes_back_old_serves_nobody_before_it_has_the_newer_traffic(
    project: ToyProject, fleet: Fleet
) -> None:
    fleet.replicas[1].stop(signal.SIGKILL)
    fleet.target(0).prepare(project.version(2))
    fleet.target(0).apply(CANARY)
    models = project.lake / "toy" / "models"
    models.rename(models.with_name("away"))
    old = fleet.replicas[1].start()
    wait_until(lambda: "not followed yet" in str(observed(old)["problem"]))
    assert old.page_status("/ready") == 503
    with old.client() as client:
        assert client.post("/predict", json=row()).status_code == 503
    with pytest.raises(TargetError, match=f"{old.url} serves nothing.*of record 2, not followed yet"):
        fleet.target(0, 1).observe()
    models.with_name("away").rename(models)
    wait_until(lambda: old.page_status("/ready") == 200)
    assert fleet.target(0, 1).observe() == CANARY


def test_with_everything_else_down_a_replica_takes_newer_traffic_of_versions_that_it_has(
    project: ToyProject, fleet: Fleet
) -> None:
    fleet.target(0, 1).prepare(project.version(2))
    fleet.target(0, 1).apply(CANARY)
    fleet.replicas[1].stop(signal.SIGKILL)
    shutil.rmtree(project.lake)
    fleet.target(0).rollback(Traffic(3, "1"))
    fleet.replicas[1].start(until="/ready")
    assert fleet.target(0, 1).observe() == Traffic(3, "1")


def test_a_replica_that_finds_nobody_serves_what_it_saved(fleet: Fleet) -> None:
    for replica in fleet.replicas[:2]:
        replica.stop(signal.SIGKILL)
    fleet.replicas[0].start(until="/ready")
    assert fleet.replicas[0].predict(row())["version"] == "1"


def test_replicas_that_start_together_agree_on_the_newest_record(project: ToyProject, fleet: Fleet) -> None:
    fleet.target(0).prepare(project.version(2))
    fleet.target(0).apply(CANARY)
    for replica in fleet.replicas[:2]:
        replica.stop(signal.SIGKILL)
    starts = [threading.Thread(target=replica.start, kwargs={"until": "/ready"}) for replica in fleet.replicas[:2]]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    wait_until(lambda: [observed(replica)["traffic"] for replica in fleet.replicas[:2]] == [CANARY.to_dict()] * 2)


def test_a_replica_that_missed_an_order_while_it_stood_still_follows_and_older_traffic_never_wins(
    project: ToyProject, fleet: Fleet
) -> None:
    fleet.target(0, 1).prepare(project.version(2))
    still = fleet.replicas[1]
    assert still.child is not None
    still.child.process.send_signal(signal.SIGSTOP)
    fleet.target(0).apply(CANARY)
    fleet.target(0).rollback(Traffic(3, "1"))
    still.child.process.send_signal(signal.SIGCONT)
    wait_until(lambda: observed(still)["traffic"] == Traffic(3, "1").to_dict())
    fleet.target(0, 1).apply(Traffic(4, "2"))
    assert fleet.target(0, 1).observe() == Traffic(4, "2")


def test_a_challenger_that_one_replica_takes_out_is_taken_out_by_all(project: ToyProject, fleet: Fleet) -> None:
    fleet.target(0, 1).prepare(project.version(2, picky(2.0)))
    fleet.target(0, 1).apply(replace(CANARY, share=100.0))
    for number in range(50):
        fleet.replicas[0].predict(row(f"k{number}", kind="new"))
    wait_until(lambda: observed(fleet.replicas[1])["tripped"] is not None)
    assert f"{fleet.replicas[0].url} has taken it out" in str(observed(fleet.replicas[1])["tripped"])
    assert fleet.replicas[1].predict(row())["version"] == "1"
    fleet.replicas[2].start(until="/ready")
    wait_until(lambda: observed(fleet.replicas[2])["tripped"] is not None)
    assert fleet.target(0, 1, 2).observe().exposed == 0


def test_a_rolling_stage_is_told_by_the_loop_alone(project: ToyProject, fleet: Fleet) -> None:
    rolling = Traffic(2, "1", "2", "rolling", 50.0, "s")
    project.version(2)
    fleet.target(0, 1).apply(rolling)
    late = fleet.replicas[2].start()
    wait_until(lambda: "airflow-mlops reconcile" in str(observed(late)["problem"]))
    assert late.page_status("/ready") == 503
    fleet.target(0, 1, 2).rollback(Traffic(3, "1"))
    assert late.page_status("/ready") == 200


def test_a_target_by_name_tells_every_address_that_the_name_has_then(project: ToyProject, fleet: Fleet) -> None:
    known = [fleet.replicas[0].url]
    target = GatewayTarget(project.workspace, ["http://control:8600"], TELL_TOKEN, resolve=lambda _name: known)
    assert target.observe() == Traffic(1, "1")
    known.append(fleet.replicas[1].url)
    target.prepare(project.version(2))
    target.apply(CANARY)
    for replica in fleet.replicas[:2]:
        replica.predict([row(f"k{number}") for number in range(30)])
    seen = target.telemetry()
    assert seen.champion.requests + seen.challenger.requests == 60
    with pytest.raises(RolloutError, match="one replica after another"):
        target.apply(Traffic(3, "1", "2", "rolling", 50.0, "s"))
    assert fleet.target(0, 1).observe() == CANARY


def test_a_name_stands_for_all_of_its_addresses() -> None:
    addresses = {entry[4][0] for entry in socket.getaddrinfo("localhost", 8600, type=socket.SOCK_STREAM)}
    expected = {
        f"http://[{address}]:8600" if ":" in str(address) else f"http://{address}:8600" for address in addresses
    }
    assert set(resolve_replicas("http://localhost:8600")) == expected
    assert resolve_replicas("http://[::1]:8600") == ("http://[::1]:8600",)
    with pytest.raises(TargetError, match="has no address, so no replica is known"):
        resolve_replicas("http://control.invalid:8600")
    with pytest.raises(RolloutError, match="for https list the replicas one by one"):
        resolve_replicas("https://localhost:8600")


def test_a_peer_with_another_control_token_is_named_in_the_log(project: ToyProject, fleet: Fleet) -> None:
    stranger = fleet.replicas[2]
    stranger.environment = {"AIRFLOW_MLOPS_GATEWAY_CONTROL_TOKEN": "a token that nobody else has"}
    stranger.start()
    assert stranger.child is not None
    log = stranger.child.log
    wait_until(lambda: f"{fleet.replicas[0].url} answers 401" in log.read_text())
    assert stranger.page_status("/ready") == 503
