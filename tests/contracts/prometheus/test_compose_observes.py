"""The services of the profile observe, as processes of this machine: the exporter, and Prometheus with its file."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_mlops.cli.metrics_commands import PORT
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.embedded_postgres import EmbeddedPostgres
from tests.contracts.prometheus.measured_loops import append, hours_ago
from tests.contracts.prometheus.prometheus_server import promtool, running_prometheus
from tests.contracts.prometheus.test_scrape import ROOT, STARTED, wait_for

DOCKER = ROOT / "docker"
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "OMP_WAIT_POLICY", "VIRTUAL_ENV")
"""Variables of this process that a container would have, too."""


@pytest.fixture
def services() -> dict[str, dict[str, Any]]:
    """The services of the compose file."""
    services: dict[str, dict[str, Any]] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    return services


@contextmanager
def exporter_of_compose(service: Mapping[str, Any], socket_folder: str, home: Path) -> Iterator[str]:
    """Yield the host and port of the exporter, run as its service says, with its variables and no other."""
    declared = service["environment"]["AIRFLOW_CONN_MLOPS_LEDGER"].replace("${POSTGRES_PASSWORD}", "unused")
    connection = {**json.loads(declared), "host": "", "login": "postgres", "extra": {"host": socket_folder}}
    environment = {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        **service["environment"],
        "AIRFLOW_CONN_MLOPS_LEDGER": json.dumps(connection),
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "plugins"), str(ROOT)]),
    }
    command = shlex.split(service["command"].replace("python", sys.executable, 1).replace("0.0.0.0", "127.0.0.1"))
    child = start_child("exporter", [*command, "--port", "0"], environment, home / "exporter.log")
    try:
        wait_until_ready(child, lambda: STARTED.search(child.log.read_text()) is not None, timeout_seconds=60)
        address = STARTED.search(child.log.read_text())
        assert address is not None
        yield address[1]
    finally:
        stop_sessions([child.pid], patience_seconds=5)
        child.process.wait()


def test_a_prometheus_scrapes_the_exporter_of_the_compose_file_and_evaluates_the_rules(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    rules = next(path for path in services["prometheus"]["volumes"] if "rules" in path).split(":")[0]
    postgres = EmbeddedPostgres(tmp_path / "postgres", ["ledger"])
    postgres.start()
    try:
        append(SqlLedger(postgres.uri("ledger", "psycopg"), "bakery"), "snapshot_published", hours_ago(1))
        with (
            exporter_of_compose(services["exporter"], postgres.socket_folder, tmp_path / "home") as address,
            running_prometheus(tmp_path, [address], (DOCKER / rules).resolve()) as server,
        ):
            published = 'airflow_mlops_newest_published_timestamp_seconds{model="bakery"}'
            assert wait_for(lambda: len(server.query(published)) == 1)
            assert len(server.get("rules")["groups"]) >= 2
    finally:
        postgres.stop()


def test_the_file_of_prometheus_is_one_and_names_the_exporter(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    written = yaml.safe_load((DOCKER / "observe" / "prometheus.yaml").read_text())
    (job,) = written["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"exporter:{PORT}"]}]
    assert written["rule_files"] == [
        volume.split(":")[1] for volume in services["prometheus"]["volumes"] if "rules" in volume
    ]
    written["rule_files"] = [str(ROOT / "plugins" / "airflow_mlops" / "observe" / "airflow_mlops_rules.yml")]
    file = tmp_path / "prometheus.yaml"
    file.write_text(yaml.safe_dump(written))
    assert "SUCCESS" in promtool("check", "config", str(file))
