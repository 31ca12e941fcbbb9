"""A real Prometheus scrapes a real exporter: a stopped loop is told from a healthy one, and a dead exporter shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.testing.child_processes import Child, start_child, stop_sessions, wait_until_ready
from tests.contracts.prometheus.measured_loops import append, hours_ago, make_ledger, publish_hourly
from tests.contracts.prometheus.prometheus_server import running_prometheus

ROOT = Path(__file__).parents[3]
STARTED = re.compile(r"metrics at http://(\S+)/metrics")


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a command whose stores are in a home."""
    paths = os.pathsep.join([str(ROOT / "plugins"), str(ROOT)])
    return {**os.environ, "AIRFLOW_HOME": str(home), "PYTHONPATH": paths}


@contextmanager
def running_exporter(home: Path) -> Iterator[tuple[Child, str]]:
    """Yield an exporter of the ledger in a home, as its process and its host and port; stop it afterwards."""
    command = [sys.executable, "-m", "airflow_mlops.cli", "exporter", "--port", "0"]
    child = start_child("exporter", command, environment(home), home / "exporter.log")
    try:
        wait_until_ready(child, lambda: STARTED.search(child.log.read_text()) is not None, timeout_seconds=60)
        match = STARTED.search(child.log.read_text())
        assert match is not None
        yield child, match[1]
    finally:
        stop_sessions([child.pid], patience_seconds=5)
        child.process.wait()


@pytest.fixture
def impatient_rules(tmp_path: Path) -> Path:
    """The shipped rules, which wait for nothing: their expressions are as they are."""
    command = [sys.executable, "-m", "airflow_mlops.cli", "metrics", "--rules"]
    ran = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=True)
    rules = yaml.safe_load(ran.stdout)
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    file = tmp_path / "impatient_rules.yml"
    file.write_text(yaml.safe_dump(rules))
    return file


def wait_for(condition: Callable[[], bool], *, seconds: float = 60) -> bool:
    """Return whether a condition came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.5)
    return False


def stays(condition: Callable[[], bool], *, seconds: float = 6) -> bool:
    """Return whether a condition holds for so long, which is several scrapes and evaluations."""
    return not wait_for(lambda: not condition(), seconds=seconds)


def test_a_stopped_loop_fires_a_healthy_one_does_not_and_a_dead_exporter_is_seen(
    tmp_path: Path, impatient_rules: Path
) -> None:
    home = tmp_path / "home"
    ledger_of = make_ledger(home)
    healthy, stopped = ledger_of("healthy"), ledger_of("stopped")
    publish_hourly(healthy, newest=0.5)
    publish_hourly(stopped, newest=6)
    append(healthy, "predictions_published", hours_ago(0.5))
    with (
        running_exporter(home) as (exporter, address),
        running_prometheus(tmp_path, [address], impatient_rules) as server,
    ):
        assert wait_for(lambda: server.firing() == {("AirflowMlopsLoopStopped", "stopped")}), server.firing()
        assert stays(lambda: server.firing() == {("AirflowMlopsLoopStopped", "stopped")}), server.firing()
        interval = server.query("airflow_mlops_partition_interval_seconds")
        assert sorted(interval.values()) == [3600.0, 3600.0]
        # It goes on: the next partition ends the alert.
        append(stopped, "snapshot_published", hours_ago(0.1), quarantined=0)
        assert wait_for(lambda: server.firing() == set()), server.firing()
        append(stopped, "rolled_back", hours_ago(0.1), version="1", reason="worse")
        assert wait_for(lambda: server.firing() == {("AirflowMlopsRolledBack", "stopped")})
        os.kill(exporter.pid, signal.SIGTERM)
        assert exporter.process.wait(20) == 0
        assert wait_for(lambda: ("AirflowMlopsExporterAbsent", None) in server.firing())
    assert "Traceback" not in exporter.log.read_text()


def test_an_exporter_listens_on_loopback_says_what_is_wrong_once_and_refuses_a_taken_port(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with running_exporter(home) as (child, address), httpx.Client(trust_env=False) as client:
        assert address.startswith("127.0.0.1:")
        for _ in range(2):
            page = client.get(f"http://{address}/metrics", timeout=30)
            assert page.headers["content-type"].startswith("text/plain; version=")
            assert "airflow_mlops_up 0.0" in page.text
        ledger: SqlLedger = make_ledger(home)("late")
        append(ledger, "snapshot_published", hours_ago(1))
        assert "airflow_mlops_up 1.0" in client.get(f"http://{address}/metrics", timeout=30).text
        lines = child.log.read_text().splitlines()
        assert [line.partition(": there is")[0] for line in lines] == [
            f"metrics at http://{address}/metrics",
            "airflow-mlops: the ledger cannot be read",
            "airflow-mlops: the ledger can be read again",
        ]
        command = [sys.executable, "-m", "airflow_mlops.cli", "exporter", "--port", address.rpartition(":")[2]]
        second = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert second.stderr.splitlines()[-1].startswith("airflow-mlops: port ")
        assert "cannot be opened: Address already in use; name another by --port" in second.stderr
