"""A real Prometheus on loopback, and promtool, which reads what it would read."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port


def program(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``.

    Raises
    ------
    AssertionError
        If it is not installed: what Prometheus makes of a file cannot be told without one.
    """
    path = shutil.which(name)
    assert path, f"{name} is not on the PATH; on Debian: apt-get install -y --no-install-recommends prometheus"
    return path


def promtool(*words: str, text: str | None = None) -> str:
    """Return the output of promtool, both streams together; it must accept its input."""
    ran = subprocess.run(
        [program("promtool"), *words], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **params: str) -> Any:
        """Return the data of an answer of its API."""
        with httpx.Client(trust_env=False) as client:
            answer = client.get(f"{self.url}/api/v1/{path}", params=params, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return the values of an instant query by their labels."""
        result = self.get("query", query=expression)["result"]
        return {tuple(sorted(entry["metric"].items())): float(entry["value"][1]) for entry in result}

    def firing(self) -> set[tuple[str, str | None]]:
        """Return the alerts that fire, each as its name and its model."""
        alerts = self.get("alerts")["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("model"))
            for alert in alerts
            if alert["state"] == "firing"
        }


@contextmanager
def running_prometheus(folder: Path, targets: Sequence[str], rules: Path) -> Iterator[Prometheus]:
    """Yield a Prometheus that scrapes targets every two seconds and evaluates rules, and stop it afterwards."""
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
                "rule_files": [str(rules)],
                "scrape_configs": [{"job_name": "loops", "static_configs": [{"targets": list(targets)}]}],
            }
        )
    )
    promtool("check", "config", str(config))
    port = free_port()
    command = [program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    child = start_child("prometheus", command, dict(os.environ), folder / "prometheus.log")
    server = Prometheus(f"http://127.0.0.1:{port}")

    def ready() -> bool:
        try:
            with httpx.Client(trust_env=False) as client:
                return client.get(f"{server.url}/-/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until_ready(child, ready, timeout_seconds=60)
        yield server
    finally:
        stop_sessions([child.pid], patience_seconds=5)
        child.process.wait()
