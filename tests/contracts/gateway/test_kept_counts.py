"""Counts over restarts: what a replica counts is what its log has on disk, however it was ended."""

from __future__ import annotations

import shutil
import signal
import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.fault_point import VARIABLE
from airflow_mlops.core.ports.rollout_target import Telemetry, Traffic, VersionTelemetry
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.gateway.counts_file import FILE
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import ToyProject, row

CANARY = Traffic(1, "1", "2", "canary", 30.0, "s")
SELDOM = ("--log-seconds", "3600", "--log-rows", "100000")
"""The log is written when the gateway stops, and at no other time."""


def target_of(project: ToyProject, *gateways: GatewayProcess) -> GatewayTarget:
    return GatewayTarget(project.workspace, [gateway.url for gateway in gateways], TELL_TOKEN)


def start_canary(project: ToyProject, name: str, *more: str) -> tuple[GatewayProcess, GatewayTarget]:
    """Start a gateway with version 1 as champion and version 2 as canary."""
    gateway = project.gateway(name, *more).start()
    target = target_of(project, gateway)
    for number in (1, 2):
        target.prepare(project.version(number))
    target.apply(CANARY)
    return gateway, target


def counts_of(version: VersionTelemetry) -> tuple[Any, ...]:
    sums = version.errors_by_unit
    assert sums is not None
    return (
        version.requests,
        version.errors,
        sums.count.tolist(),
        sums.total.tolist(),
        version.latency.tolist(),
        sorted(version.predictions.tolist()),
    )


def all_counts(telemetry: Telemetry) -> tuple[Any, ...]:
    return counts_of(telemetry.champion), counts_of(telemetry.challenger), sorted(telemetry.paired.tolist())


def wait_for_exit(gateway: GatewayProcess) -> None:
    assert gateway.child is not None
    gateway.child.process.wait(30)
    gateway.child = None


def test_counts_go_on_after_a_restart_unit_by_unit(project: ToyProject) -> None:
    gateway, target = start_canary(project, "one", *SELDOM)
    gateway.predict([row(f"k{number}", x=float(number)) for number in range(200)])
    before = target.telemetry()
    gateway.stop()
    gateway.start(until="/ready")
    again = target.telemetry()
    assert before.champion.requests + before.challenger.requests == 200
    assert before.challenger.requests > 20
    assert all_counts(again) == all_counts(before)
    assert again.seconds > 0
    gateway.predict([row(f"k{number}", x=float(number)) for number in range(200)])
    doubled = target.telemetry()
    assert doubled.challenger.requests == 2 * before.challenger.requests
    assert doubled.champion.errors_by_unit is not None
    assert before.champion.errors_by_unit is not None
    np.testing.assert_array_equal(doubled.champion.errors_by_unit.count, 2 * before.champion.errors_by_unit.count)
    target.apply(Traffic(2, "1", "2", "canary", 31.0, "s"))
    gateway.stop()
    gateway.start(until="/ready")
    assert target.telemetry().champion.requests == 0, "counts are of the traffic in force"


def test_pairs_of_a_shadow_are_counted_over_a_restart(project: ToyProject) -> None:
    gateway, target = start_canary(project, "one", *SELDOM)
    target.apply(Traffic(2, "1", "2", "shadow", 100.0, "s"))
    gateway.predict([row(f"k{number}", x=float(number)) for number in range(50)])
    while len(target.telemetry().paired) < 50:
        threading.Event().wait(0.05)
    before = target.telemetry()
    gateway.stop()
    gateway.start(until="/ready")
    assert all_counts(target.telemetry()) == all_counts(before)


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        ("gateway.counts.before", 40),
        ("gateway.counts.after", 100),
        ("predictions.log.after", 100),
    ],
)
def test_wherever_a_kill_meets_a_write_of_the_log_counts_and_lines_agree_afterwards(
    project: ToyProject, point: str, kept: int
) -> None:
    gateway, target = start_canary(project, "one", *SELDOM)
    gateway.predict([row(f"early-{number}") for number in range(40)])
    gateway.stop()
    gateway.environment = {VARIABLE: f"{point}:kill"}
    gateway.start(until="/ready")
    gateway.predict([row(f"late-{number}") for number in range(60)])
    assert gateway.child is not None
    gateway.child.process.send_signal(signal.SIGTERM)
    wait_for_exit(gateway)
    gateway.environment = {}
    gateway.start(until="/ready")
    seen = target.telemetry()
    gateway.predict([row(f"last-{number}") for number in range(10)])
    gateway.stop()
    lines = gateway.lines()
    assert seen.champion.requests + seen.challenger.requests == kept
    assert len(lines) == kept + 10
    assert max(Counter(line["request"] for line in lines).values()) == 1


def test_counts_that_cannot_be_read_begin_at_zero_and_keep_nobody_from_being_served(project: ToyProject) -> None:
    gateway, target = start_canary(project, "one", *SELDOM)
    gateway.predict([row(f"k{number}") for number in range(40)])
    gateway.stop()
    (gateway.state / FILE).write_bytes(b"half a fi")
    gateway.start(until="/ready")
    assert target.telemetry().champion.requests == 0
    assert gateway.predict(row())["version"] in {"1", "2"}
    assert gateway.child is not None
    assert f"{FILE} cannot be read, so its counts begin at zero" in gateway.child.log.read_text()


def test_a_replica_with_two_addresses_is_counted_once_and_a_copied_state_folder_is_refused(
    project: ToyProject,
) -> None:
    gateway, target = start_canary(project, "one", *SELDOM)
    gateway.predict([row(f"k{number}") for number in range(40)])
    by_two_names = GatewayTarget(
        project.workspace, [gateway.url, gateway.url.replace("127.0.0.1", "localhost")], TELL_TOKEN
    )
    assert all_counts(by_two_names.telemetry()) == all_counts(target.telemetry())
    copy = project.gateway("copy", *SELDOM)
    shutil.copytree(gateway.state, copy.state)
    copy.start(until="/ready")
    with pytest.raises(RolloutError, match="have the same id") as error:
        target_of(project, gateway, copy).telemetry()
    assert gateway.url in str(error.value)
    assert copy.url in str(error.value)


def test_a_second_gateway_on_the_same_state_folder_does_not_start(project: ToyProject) -> None:
    gateway, _target = start_canary(project, "one")
    second = project.gateway("one")
    with pytest.raises(Exception, match="another gateway runs on the state folder"):
        second.start()
    assert gateway.page_status("/ready") == 200
