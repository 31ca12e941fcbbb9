"""Targets of a rollout behind a server that verifies who asks: a wrong secret is refused, and told by nobody.

The server is a careless one, which repeats in its answer what it was sent: an error that quotes the answer would tell.
"""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import MlopsError, RolloutError
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.gateway.other_replicas import get_traffic
from airflow_mlops.hooks.ports import rollout_target
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import toy_loop

RIGHT, WRONG = "the-right-token-of-the-gateway", "canary0f7d3c-wrong-token-of-the-gateway"
TRAFFIC = {"record": 3, "champion": "1", "challenger": None, "mode": None, "share": 0.0, "salt": "s"}


@dataclass
class GuardedServer:
    """A server that answers 401 to whoever does not send its secret; it keeps what it was sent."""

    port: int
    sent: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def guarded_server(status: int = 401) -> Iterator[GuardedServer]:
    """Run a server that verifies the token of control, and repeats all that it was sent where it refuses."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            received = f"{self.path} {dict(self.headers)} {body}"
            served.sent.append(received)
            right = self.headers.get("authorization") == f"Bearer {RIGHT}"
            content = json.dumps({"traffic": TRAFFIC} if right else {"error": f"who are you? {received}"}).encode()
            self.send_response(200 if right else status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.answer()

        def do_PUT(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = GuardedServer(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def declare(monkeypatch: pytest.MonkeyPatch, conn_id: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def target_of(folder: Path, kind: str) -> Any:
    """Return the target of a loop, as a task opens it by its connection."""
    return rollout_target(in_memory_workspace(toy_loop(rollout={"target": kind}), {}, scratch=folder))


def texts_of(error: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    """Return all that a task's log says of an error: its chain with every cause, and what was logged before."""
    return "".join(traceback.format_exception(error)) + caplog.text


@pytest.mark.parametrize("call", ["observe", "telemetry", "apply"])
def test_a_gateway_that_refuses_the_token_is_told_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with guarded_server() as server:
        declare(monkeypatch, "mlops_gateway", conn_type="http", host="127.0.0.1", port=server.port, password=WRONG)
        target = target_of(tmp_path, "gateway")
        with pytest.raises(RolloutError, match=f"the gateway at {server.url} refuses with 401: who are you") as refused:
            getattr(target, call)(*([Traffic(3, "1", None, None, 0.0, "s")] if call == "apply" else []))
    assert any(WRONG in received for received in server.sent)  # it was asked with the secret
    assert WRONG not in texts_of(refused.value, caplog)
    assert not refused.value.retryable


def test_a_peer_that_refuses_the_token_of_a_replica_is_told_without_it(caplog: pytest.LogCaptureFixture) -> None:
    with guarded_server() as server:
        assert get_traffic(server.url, RIGHT)["traffic"] == TRAFFIC
        with pytest.raises(RolloutError, match="answers 401 to a replica") as refused:
            get_traffic(server.url, WRONG)
    assert any(WRONG in received for received in server.sent)
    assert WRONG not in texts_of(refused.value, caplog)


def test_an_endpoint_whose_keys_aws_refuses_is_told_without_them_and_the_secret_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="airflow_mlops")
    serving = {
        "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1",
        "role": "arn:aws:iam::123456789012:role/serve",
        "storage": "s3://serving/toy",
    }
    with guarded_server(status=403) as server:
        place = {"region_name": "us-east-1", "endpoint_url": server.url, "serving": serving}
        declare(monkeypatch, "mlops_sagemaker", conn_type="aws", login="AKIAEXAMPLE", password=WRONG, extra=place)
        with pytest.raises(MlopsError, match="403") as refused:
            target_of(tmp_path, "sagemaker").observe()
    assert server.sent
    assert not any(WRONG in received for received in server.sent)
    assert WRONG not in texts_of(refused.value, caplog)
