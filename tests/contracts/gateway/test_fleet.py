"""Four gateways behind one address, under load with swaps, kills and joins: no needless failure, and exact counts.

What is promised, and held here:

* No request fails but those that a replica held when it was killed by SIGKILL.
* Of a replica that was not killed so, every answer is one line of its log, and no line is without an answer.
* The counters of the loop are the lines of all replicas, unit by unit, over restarts and after a SIGKILL. What the
  killed replica had answered and not yet written is lost to both.
"""

from __future__ import annotations

import http.client
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from airflow_mlops.core.ports.rollout_target import TargetError, Telemetry, Traffic
from airflow_mlops.core.rollout.sticky_share import BUCKETS, StickySplit
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.testing.free_ports import free_port
from airflow_mlops.testing.gateway_process import TELL_TOKEN
from tests.contracts.gateway.fleet_load import Load
from tests.contracts.gateway.haproxy_server import running_haproxy
from tests.contracts.gateway.toy_project import ToyProject

CLIENTS = 4
CANARY = Traffic(2, "1", "2", "canary", 30.0, "s")
WIDER = Traffic(3, "1", "2", "canary", 50.0, "s")
LIVE = Traffic(4, "2", standby="1")
WAIT_SECONDS = 60.0


class Fleet:
    """Four replicas and their target; the second is killed, the third comes back old, the fourth joins late."""

    def __init__(self, project: ToyProject) -> None:
        ports = [free_port() for _ in range(4)]
        peers = [part for port in ports for part in ("--peer", f"http://127.0.0.1:{port}")]
        options = ("--peer-seconds", "1", "--drain-seconds", "2", "--log-seconds", "1")
        self.project, self.ports = project, ports
        self.replicas = [project.gateway(f"replica-{place}", *peers, *options) for place in range(1, 5)]
        for replica, port in zip(self.replicas, ports, strict=True):
            replica.port = port

    def target(self, *numbers: int) -> GatewayTarget:
        urls = [self.replicas[number - 1].url for number in numbers]
        return GatewayTarget(self.project.workspace, urls, TELL_TOKEN)

    def start(self, *numbers: int, until: str = "/health") -> None:
        """Start replicas side by side."""
        each_at_once(
            [threading.Thread(target=self.replicas[number - 1].start, kwargs={"until": until}) for number in numbers]
        )

    def stop(self, *numbers: int) -> None:
        """Stop replicas side by side, by SIGTERM."""
        each_at_once([threading.Thread(target=self.replicas[number - 1].stop) for number in numbers])


def each_at_once(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def fleet(project: ToyProject) -> Fleet:
    """Three replicas that serve version 1, and a fourth that is not started."""
    made = Fleet(project)
    made.start(1, 2, 3)
    for number in (1, 2):
        made.target(1, 2, 3).prepare(project.version(number))
    made.target(1, 2, 3).apply(Traffic(1, "1"))
    return made


@pytest.fixture
def load(fleet: Fleet) -> Iterator[Load]:
    """Run clients that ask the proxy."""
    with running_haproxy(fleet.project.folder, fleet.ports) as proxy:
        made = Load(proxy.port, CLIENTS)
        made.start()
        yield made
        made.stop()


def wait_for_answers(load: Load, count: int, *replicas: int) -> None:
    """Wait until each of some replicas has answered so many requests more."""
    before, deadline = load.answered(), time.monotonic() + WAIT_SECONDS
    names = [f"replica-{number}" for number in replicas]
    while any(load.answered()[name] < before[name] + count for name in names):
        assert time.monotonic() < deadline, (load.answered(), before)
        threading.Event().wait(0.05)


def test_under_load_no_request_fails_that_the_proxy_could_send_elsewhere_and_all_counts_agree(
    fleet: Fleet, load: Load
) -> None:
    fleet.target(1, 2, 3).apply(CANARY)
    wait_for_answers(load, 50, 1, 2, 3)
    third = fleet.replicas[2]
    third.stop()
    with pytest.raises(TargetError, match=f"{third.url} does not answer"):
        fleet.target(1, 2, 3).apply(WIDER)
    back_at = time.time()
    fleet.start(3, 4, until="/ready")
    fleet.target(1, 2, 3, 4).apply(WIDER)
    wait_for_answers(load, 50, 1, 2, 3, 4)

    second = fleet.replicas[1]
    killed_at = time.time()
    second.stop(signal.SIGKILL)
    wait_for_answers(load, 20, 1, 3, 4)
    second.start(until="/ready")
    wait_for_answers(load, 50, 2)
    load.pause()
    wider = fleet.target(1, 2, 3, 4).telemetry()
    fleet.target(1, 2, 3, 4).apply(LIVE)
    load.resume()
    wait_for_answers(load, 50, 1, 2, 3, 4)
    load.pause()
    live = fleet.target(1, 2, 3, 4).telemetry()
    require_no_control(load.port)
    fleet.stop(1, 2, 3, 4)
    lines = {f"replica-{number}": fleet.replicas[number - 1].lines() for number in range(1, 5)}

    require_answers(load, killed_at)
    require_lines(load, lines, killed="replica-2", killed_at=killed_at)
    late = lines["replica-4"] + [line for line in lines["replica-3"] if line["received"].timestamp() > back_at]
    assert {line["order"] for line in late} == {3, 4}, "nobody was answered by an older record after it joined"
    every_line = [line for replica in lines.values() for line in replica]
    require_counts(wider, every_line, WIDER)
    require_counts(live, every_line, LIVE)


def require_answers(load: Load, killed_at: float) -> None:
    """Hold that all answers are right, and that none is missing but of what was under way when a replica was killed."""
    failed = [reply for reply in load.replies if reply.status != 200]
    assert len(failed) <= CLIENTS, failed
    assert all(abs(reply.at - killed_at) < 5 for reply in failed), failed
    assert all(reply.prediction == float(reply.version) for reply in load.replies if reply.status == 200)
    assert len({reply.key for reply in load.replies}) == len(load.replies)


def require_lines(load: Load, lines: dict[str, list[dict[str, Any]]], *, killed: str, killed_at: float) -> None:
    """Hold that lines are answers, one for one; what a killed replica lacks it had answered before the kill."""
    answers: dict[str, Counter[str]] = {name: Counter() for name in lines}
    for reply in load.replies:
        if reply.status == 200:
            answers[reply.replica][reply.key] += 1
    for name, replica_lines in lines.items():
        logged = Counter(line["key"] for line in replica_lines)
        if name != killed:
            assert logged == answers[name], name
            continue
        lost = answers[name] - logged
        answered_at = {reply.key: reply.at for reply in load.replies}
        assert all(answered_at[key] <= killed_at + 1 for key in lost)
        assert set(logged - answers[name]) <= {reply.key for reply in load.replies if reply.status != 200}
        assert max(logged.values()) == 1


def require_counts(telemetry: Telemetry, lines: list[dict[str, Any]], traffic: Traffic) -> None:
    """Hold that the merged counters are the lines of a record, unit by unit."""
    split = StickySplit(traffic.salt)
    lines = [line for line in lines if line["order"] == traffic.order]
    assert telemetry.order == traffic.order
    for counted, version in ((telemetry.champion, traffic.champion), (telemetry.challenger, traffic.challenger)):
        units = [split.bucket(line["key"]) for line in lines if line["version"] == version]
        per_unit = np.bincount(np.array(units, np.int64), minlength=BUCKETS)
        assert counted.errors_by_unit is not None
        assert (counted.requests, counted.errors, int(counted.latency.sum())) == (len(units), 0, len(units))
        np.testing.assert_array_equal(counted.errors_by_unit.count, per_unit[per_unit > 0])


def require_no_control(port: int) -> None:
    """Hold that users cannot say through the proxy what is served, not even with the control token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/control/traffic", headers={"Authorization": f"Bearer {TELL_TOKEN}"})
    assert connection.getresponse().status == 404
    connection.close()
