"""A real HAProxy on loopback, by the file of this repository, before four gateways."""

from __future__ import annotations

import http.client
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port

CONFIG = Path(__file__).parents[3] / "docker" / "haproxy.cfg"


def haproxy_program() -> str:
    """Return the path of ``haproxy``.

    Raises
    ------
    AssertionError
        If it is not installed: what a proxy does under load cannot be told without one.
    """
    path = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    assert path, "haproxy is not on the PATH; on Debian: apt-get install -y --no-install-recommends haproxy"
    return path


@dataclass(frozen=True)
class HAProxy:
    """A running proxy: its port for requests, and its process."""

    port: int
    pid: int


@contextmanager
def running_haproxy(folder: Path, ports: Sequence[int]) -> Iterator[HAProxy]:
    """Yield a proxy before the gateways on four ports, once one of them is ready, and stop it afterwards."""
    port = free_port()
    replicas = {f"REPLICA_{place}": f"127.0.0.1:{each}" for place, each in enumerate(ports, start=1)}
    environment = {**os.environ, "LISTEN": f"127.0.0.1:{port}", **replicas}
    command = [haproxy_program(), "-db", "-f", str(CONFIG)]
    child = start_child("haproxy", command, environment, folder / "haproxy.log")

    def ready() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    try:
        wait_until_ready(child, ready, timeout_seconds=30)
        yield HAProxy(port, child.pid)
    finally:
        stop_sessions([child.pid], patience_seconds=5)
        child.process.wait()
