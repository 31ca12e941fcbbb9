"""A gateway as a child process on a free port, for tests."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq

import airflow_mlops
from airflow_mlops.gateway.settings import CONTROL_TOKEN, TOKEN
from airflow_mlops.testing.child_processes import Child, start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port

PREDICT_TOKEN = "a token for predictions"
TELL_TOKEN = "a token for what is served"


@dataclass
class GatewayProcess:
    """A gateway of one loop.

    :param loop: path of the declaration
    :param root: project folder
    :param lake: folder of the lake
    :param home: folder for the gateway's state, log and output
    :param keys: files of public keys whose signatures count
    :param more: further arguments of the command line
    :param python: interpreter that runs it
    """

    loop: Path
    root: Path
    lake: Path
    home: Path
    keys: Sequence[Path]
    more: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    python: Path = Path(sys.executable)
    port: int = 0
    child: Child | None = None

    def start(self, *, until: str = "/health", timeout_seconds: float = 60) -> GatewayProcess:
        """Start the process and wait until the page ``until`` answers 200; a restart uses the same port."""
        self.port = self.port or free_port()
        command = [
            str(self.python),
            "-m",
            "airflow_mlops.gateway",
            str(self.loop),
            "--root",
            str(self.root),
            "--lake",
            str(self.lake),
            "--state-dir",
            str(self.state),
            "--log-dir",
            str(self.log),
            "--port",
            str(self.port),
            *(part for file in self.keys for part in ("--public-key", str(file))),
            *self.more,
        ]
        plugins = str(Path(airflow_mlops.__file__).parents[1])
        environment = {
            **os.environ,
            "PYTHONPATH": plugins,
            TOKEN: PREDICT_TOKEN,
            CONTROL_TOKEN: TELL_TOKEN,
            **self.environment,
        }
        self.child = start_child("gateway", command, environment, self.home / "gateway.out")
        wait_until_ready(self.child, lambda: self.page_status(until) == 200, timeout_seconds=timeout_seconds)
        return self

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connection(self) -> str:
        """The Airflow connection to the gateway, as JSON."""
        return json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": self.port, "password": TELL_TOKEN})

    @property
    def state(self) -> Path:
        """The folder of its state."""
        return self.home / "state"

    @property
    def log(self) -> Path:
        """The folder of its prediction log."""
        return self.home / "log"

    def page_status(self, page: str) -> int:
        """Return the HTTP status of a page; 0 without an answer."""
        try:
            with httpx.Client(trust_env=False) as client:
                return client.get(f"{self.url}{page}", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def client(self, token: str | None = PREDICT_TOKEN) -> httpx.Client:
        """Return an HTTP client that sends a token; the caller closes it."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)

    def predict(self, rows: Any) -> Any:
        """Return the answer to a row or a list of rows."""
        with self.client() as client:
            answer = client.post("/predict", json=rows)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def control(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Return the answer to a control request."""
        with self.client(TELL_TOKEN) as client:
            return client.request(method, f"/control/{path}", json=body)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, patience_seconds: float = 20) -> None:
        """Send a signal, wait for the exit, and kill the remaining processes of the session."""
        if self.child is None:
            return
        if self.child.process.poll() is None:
            os.kill(self.child.pid, number)
        self.child.process.wait(patience_seconds)
        stop_sessions([self.child.pid], patience_seconds=2)
        self.child = None

    def final_counts(self) -> Any:
        """Return the counters that the process wrote when a signal stopped it."""
        return json.loads((self.state / "stopped.json").read_text())

    def lines(self, folder: str = ".") -> list[dict[str, Any]]:
        """Return the entries of the prediction log on disk, oldest file first."""
        files = sorted((self.log / folder).glob("*.parquet"))
        return [line for file in files for line in pq.ParquetFile(file).read().to_pylist()]
