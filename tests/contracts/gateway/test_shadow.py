"""The shadow: a process of its own that predicts beside the champion, and delays no request."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from airflow_mlops.core.ports.rollout_target import Telemetry, Traffic
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import ToyProject, picky, row

KEYS = [f"passenger-{number}" for number in range(300)]


@pytest.fixture
def shadowed(project: ToyProject) -> tuple[GatewayProcess, GatewayTarget]:
    """Return a gateway whose champion is version 1; half of the keys go to version 2 as well, and 20 may wait."""
    gateway = project.gateway("gateway", "--shadow-waiting", "20").start()
    target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
    target.prepare(project.version(1))
    target.prepare(project.version(2, picky(2.0)))
    target.apply(Traffic(1, "1", "2", "shadow", 50.0, "s"))
    return gateway, target


def wait_for_telemetry(target: GatewayTarget, holds: Callable[[Telemetry], bool]) -> Telemetry:
    """Return the first telemetry of which something holds."""
    for _ in range(400):
        seen = target.telemetry()
        if holds(seen):
            return seen
        threading.Event().wait(0.05)
    raise AssertionError(seen)


def shadow_of(gateway: GatewayProcess) -> psutil.Process:
    assert gateway.child is not None
    [child] = psutil.Process(gateway.child.pid).children()
    return child


def count_dropped(gateway: GatewayProcess) -> int:
    return int(gateway.control("GET", "traffic").json()["shadow_dropped"])


def test_the_champion_answers_all_and_the_shadow_is_paired_with_it_on_its_share(
    shadowed: tuple[GatewayProcess, GatewayTarget],
) -> None:
    gateway, target = shadowed
    challenger_keys = [key for key, flag in zip(KEYS, sticky_share(KEYS, salt="s", percent=50.0), strict=True) if flag]
    for at in range(0, 300, 10):
        assert gateway.predict([row(key, x=float(at)) for key in KEYS[at : at + 10]])["versions"] == ["1"] * 10
        wait_for_telemetry(
            target, lambda seen, at=at: seen.challenger.requests == sum(k in challenger_keys for k in KEYS[: at + 10])
        )
    seen = target.telemetry()
    assert (seen.champion.requests, seen.challenger.requests, seen.challenger.errors) == (300, len(challenger_keys), 0)
    assert seen.paired.shape == (len(challenger_keys), 2)
    assert seen.paired[:, 1].tolist() == pytest.approx((2 * seen.paired[:, 0]).tolist())
    assert seen.challenger.errors_by_unit is not None
    assert seen.challenger.errors_by_unit.count.sum() == len(challenger_keys)
    gateway.stop()
    predictions = {line["request"]: line["challenger_prediction"] for line in gateway.lines("shadow")}
    paired = [
        (line["champion_prediction"], predictions[line["request"]])
        for line in gateway.lines()
        if line["request"] in predictions
    ]
    assert len(paired) == len(challenger_keys)
    assert all(second == pytest.approx(2 * first) for first, second in paired)


def test_a_shadow_that_raises_is_counted_and_nobody_notices(shadowed: tuple[GatewayProcess, GatewayTarget]) -> None:
    gateway, target = shadowed
    [challenger_keys] = [
        key for key, flag in zip(KEYS, sticky_share(KEYS, salt="s", percent=50.0), strict=True) if flag
    ][:1]
    assert gateway.predict(row(challenger_keys, kind="new")) == {"prediction": 1.0, "version": "1"}
    seen = wait_for_telemetry(target, lambda seen: seen.challenger.requests == 1)
    assert (seen.challenger.errors, seen.champion.errors, len(seen.paired)) == (1, 0, 0)


def test_a_shadow_that_hangs_costs_no_answer_and_rows_over_the_cap_are_counted_as_dropped(
    shadowed: tuple[GatewayProcess, GatewayTarget],
) -> None:
    gateway, target = shadowed
    challenger_keys = int(sticky_share(KEYS, salt="s", percent=50.0).sum())
    shadow = shadow_of(gateway)
    shadow.suspend()
    assert gateway.predict([row(key) for key in KEYS])["versions"] == ["1"] * 300
    assert count_dropped(gateway) == challenger_keys - 20
    shadow.resume()
    assert wait_for_telemetry(target, lambda seen: seen.challenger.requests == 20).champion.requests == 300


def test_a_shadow_that_was_killed_comes_back_and_ends_with_its_traffic(
    shadowed: tuple[GatewayProcess, GatewayTarget],
) -> None:
    gateway, target = shadowed
    first = shadow_of(gateway)
    os.kill(first.pid, signal.SIGKILL)
    gateway.predict([row(key) for key in KEYS[:20]])
    deadline = time.monotonic() + 30
    while target.telemetry().challenger.requests == 0 and time.monotonic() < deadline:
        assert gateway.predict(row(KEYS[0]))["version"] == "1"
        gateway.predict([row(key) for key in KEYS[:10]])
        threading.Event().wait(0.1)
    second = shadow_of(gateway)
    assert second.pid != first.pid
    target.rollback(Traffic(2, "1"))
    second.wait(10)
    assert gateway.predict(row())["version"] == "1"


def test_the_shadow_ends_with_the_gateway_however_that_ends(shadowed: tuple[GatewayProcess, GatewayTarget]) -> None:
    gateway, _target = shadowed
    shadow = shadow_of(gateway)
    assert gateway.child is not None
    os.kill(gateway.child.pid, signal.SIGKILL)
    shadow.wait(10)
    gateway.child.process.wait(10)
