"""The prediction log: one line for each row, whatever happens, and all of them on disk after a SIGTERM."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections import Counter

import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.gateway.prediction_log import SCHEMA
from airflow_mlops.testing.gateway_process import PREDICT_TOKEN, TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import ToyProject, line, row

RUNS = 20
CLIENTS = 4


class Client(threading.Thread):
    """A client that sends requests until the gateway is gone, and counts the answers by key."""

    def __init__(self, gateway: GatewayProcess, number: int) -> None:
        super().__init__()
        self._port, self._number = gateway.port, number
        self.answered: Counter[str] = Counter()

    def run(self) -> None:
        """Send requests until the gateway is gone."""
        count = 0
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=20) as connection:
                    reader = connection.makefile("rb")
                    while True:
                        count += 1
                        self._ask(connection, f"{self._number}-{count}")
                        if not self._read_answer(reader, f"{self._number}-{count}"):
                            break
            except OSError:
                return

    def _ask(self, connection: socket.socket, key: str) -> None:
        body = json.dumps(row(key)).encode()
        head = (
            f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {PREDICT_TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)

    def _read_answer(self, reader: object, key: str) -> bool:
        """Read an answer; return False if the connection was closed."""
        status = reader.readline()  # type: ignore[attr-defined]
        if not status:
            return False
        assert b" 200 " in status, status
        length = 0
        while (header := reader.readline().strip()) != b"":  # type: ignore[attr-defined]
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        assert len(reader.read(length)) == length  # type: ignore[attr-defined]
        self.answered[key] += 1
        return True


def start_with_canary(project: ToyProject, gateway: GatewayProcess) -> GatewayProcess:
    """Start a gateway whose champion is version 1 and whose canary is version 2."""
    gateway.start()
    target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
    for number in (1, 2):
        target.prepare(project.version(number))
    target.apply(Traffic(1, "1", "2", "canary", 30.0, "s"))
    return gateway


def test_after_a_sigterm_under_load_counters_and_lines_agree_every_time(project: ToyProject) -> None:
    gateway = start_with_canary(project, project.gateway("gateway", "--log-rows", "300"))
    for run in range(RUNS):
        if gateway.child is None:
            gateway.start(until="/ready")
        before = len(gateway.lines())
        clients = [Client(gateway, run * CLIENTS + number) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        while sum(client.answered.total() for client in clients) < 200 + 37 * run:
            threading.Event().wait(0.005)
        gateway.stop(signal.SIGTERM)
        for client in clients:
            client.join()
        answered = sum((client.answered for client in clients), Counter())
        lines = gateway.lines()[before:]
        counted = gateway.final_counts()
        assert Counter(entry["key"] for entry in lines) == answered
        assert counted["rows"] == counted["lines"] == counted["requests"]["200"] == answered.total()
        assert counted["lost"] == 0


def test_a_line_says_who_answered_what_and_when(project: ToyProject) -> None:
    gateway = start_with_canary(project, project.gateway())
    keys = [f"k{number}" for number in range(60)]
    gateway.predict([row(key, x=2.0) for key in keys])
    gateway.stop()
    lines = gateway.lines()
    in_challenger_share = sticky_share(keys, salt="s", percent=30.0)
    assert [line["key"] for line in lines] == keys
    assert [line["version"] for line in lines] == ["2" if flag else "1" for flag in in_challenger_share]
    assert [line["prediction"] for line in lines] == [4.0 if flag else 2.0 for flag in in_challenger_share]
    assert [line["challenger_prediction"] for line in lines] == [4.0 if flag else None for flag in in_challenger_share]
    assert [line["champion_prediction"] for line in lines] == [None if flag else 2.0 for flag in in_challenger_share]
    assert {(line["kind"], line["share"], line["order"], line["error"]) for line in lines} == {
        ("canary", 30.0, 1, None)
    }
    assert len({line["request"] for line in lines}) == 60
    assert all(0 < line["seconds"] < 10 for line in lines)
    assert all(line["received"].tzinfo is not None for line in lines)


def test_what_a_kill_loses_is_what_was_not_written_yet_and_no_file_is_half_written(project: ToyProject) -> None:
    gateway = start_with_canary(project, project.gateway("gateway", "--log-rows", "100", "--log-seconds", "3600"))
    gateway.predict([row(f"early-{number}") for number in range(100)])
    while len(gateway.lines()) < 100:
        threading.Event().wait(0.05)
    gateway.predict([row(f"late-{number}") for number in range(30)])
    gateway.stop(signal.SIGKILL)
    assert {entry["key"].partition("-")[0] for entry in gateway.lines()} == {"early"}
    assert all(pq.read_schema(file).equals(SCHEMA) for file in gateway.log.glob("*.parquet"))


def test_a_row_that_nobody_answers_has_a_line_that_says_why(project: ToyProject) -> None:
    gateway = project.gateway().start()
    target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
    target.prepare(project.version(1, line(1e308)))
    target.apply(Traffic(1, "1"))
    with gateway.client() as client:
        assert client.post("/predict", json=row("a", x=1e3)).status_code == 503
        assert client.post("/predict", json={"id": "b"}).status_code == 422
    gateway.stop()
    [entry] = gateway.lines()
    assert (entry["key"], entry["version"], entry["prediction"]) == ("a", None, None)
    assert entry["error"] == "the model gave inf"
    assert gateway.final_counts()["requests"] == {"422": 1, "503": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_it_drains_it_is_not_ready_and_still_answers(project: ToyProject, number: signal.Signals) -> None:
    gateway = start_with_canary(project, project.gateway("gateway", "--drain-seconds", "1.5"))
    assert gateway.child is not None
    assert gateway.page_status("/ready") == 200
    gateway.child.process.send_signal(number)
    while gateway.page_status("/ready") == 200:
        threading.Event().wait(0.01)
    assert gateway.page_status("/ready") == 503
    assert gateway.page_status("/health") == 200
    gateway.predict(row())
    assert gateway.child.process.wait(20) == 0
    assert len(gateway.lines()) == 1
