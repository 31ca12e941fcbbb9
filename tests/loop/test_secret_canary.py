"""A secret in a connection is found nowhere that people, services or other processes read."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyarrow.fs import FileSelector, S3FileSystem

from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port
from tests.loop.canary_history import CANARY, canary
from tests.loop.receivers import span_collector, webhook
from tests.loop.test_warehouse_and_object_store import answers

HOUSE = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(1800)  # some sixty tasks, each a process, and minutes where others have the cores
FORMS = (CANARY.encode(), base64.b64encode(f"ann:{CANARY}".encode())[:16])
"""A canary as it is, and as the header of basic authentication begins with it."""


@dataclass
class History:
    """Everything that a loop with canaries in its connections has left behind, by the place where it is read."""

    phases: dict[str, dict[str, int]]
    places: dict[str, bytes]
    headers: list[dict[str, str]]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """The loop to its first champion, and through five services that refuse."""
    folder = tmp_path_factory.mktemp("canary")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    child = start_child("s3", command, dict(os.environ), tmp_path_factory.mktemp("s3") / "s3.log")
    endpoint = f"http://127.0.0.1:{port}"
    wait_until_ready(child, lambda: answers(endpoint), timeout_seconds=60)
    access = {"access_key": "ann", "secret_key": canary("mlops-lake"), "region": "us-east-1"}
    files = S3FileSystem(**access, endpoint_override=endpoint, allow_bucket_creation=True)
    files.create_dir("lake")
    with webhook() as chat, webhook() as lineage, span_collector() as spans:
        transport = {"type": "http", "url": f"http://127.0.0.1:{lineage.port}", "retry": {"total": 0}}
        settings = {
            "PYTHONPATH": os.pathsep.join([str(HOUSE / "plugins"), str(HOUSE)]),
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            **spans.environment,
        }
        answer, printed, commands = run_history(folder, endpoint, f"http://127.0.0.1:{chat.port}", settings)
        left = json.loads(answer)
        yield History(
            phases=left["phases"],
            headers=chat.headers,
            places={
                "what the scheduler printed": printed,
                "command lines of processes": "\n".join(commands).encode(),
                "errors of tasks": "\n".join(left["errors"]).encode(),
                "rows of the ledger": json.dumps(left["ledger"]).encode(),
                "messages": json.dumps([*chat.bodies, *chat.refused]).encode(),
                "OpenLineage": json.dumps([*lineage.bodies, *lineage.refused]).encode(),
                "spans": "\n".join(map(str, spans.spans)).encode(),
                "logs": content_of(folder / "airflow" / "logs"),
                "Airflow's database": content_of(folder / "airflow", "*.db*"),
                "everything else on disk": content_of(folder),
                "the lake": lake_content(files),
            },
        )
    stop_sessions([child.pid], patience_seconds=2)
    child.process.wait()


def run_history(folder: Path, endpoint: str, chat: str, settings: dict[str, str]) -> tuple[str, bytes, set[str]]:
    """Return the answer of the process of the loop, what it printed, and the command lines of it and its children."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    command = [sys.executable, "-m", "tests.loop.canary_history", str(folder), endpoint, chat]
    commands: set[str] = set()
    with (
        (folder / "answer.json").open("w") as answer,
        (folder / "printed.txt").open("w") as printed,
        subprocess.Popen(command, cwd=HOUSE, env={**inherited, **settings}, stdout=answer, stderr=printed) as loop,
    ):
        while loop.poll() is None:
            commands |= command_lines(loop.pid)
            time.sleep(0.5)
    content = (folder / "printed.txt").read_bytes()
    assert loop.returncode == 0, content[-6000:].decode()
    return (folder / "answer.json").read_text(), content, commands


def command_lines(pid: int) -> set[str]:
    """Return the command lines of a process and of all below it; those that end meanwhile are left out."""
    lines: set[str] = set()
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            lines.add(" ".join(process.cmdline()))
    except psutil.NoSuchProcess:
        return lines
    return lines


def content_of(folder: Path, pattern: str = "*") -> bytes:
    """Return the content of the files below a folder, one after another."""
    return b"\n".join(file.read_bytes() for file in sorted(folder.rglob(pattern)) if file.is_file())


def lake_content(files: S3FileSystem) -> bytes:
    """Return the content of every object in the lake."""
    objects: list[Any] = files.get_file_info(FileSelector("lake", recursive=True))
    return b"\n".join(files.open_input_stream(info.path).read() for info in objects if info.is_file)


def test_the_loop_succeeded_and_failed_with_the_canaries_in_use(history: History) -> None:
    assert history.phases["success"].get("failed", 0) == 0, history.phases
    assert history.phases["success"]["success"] >= 15
    refusing = {phase: counts.get("failed", 0) for phase, counts in history.phases.items() if phase != "success"}
    assert refusing
    assert min(refusing.values()) >= 1, refusing
    # The receiver of messages is the one place that must see its secret: the canary was used.
    assert any(CANARY in str(headers) or FORMS[1].decode() in str(headers) for headers in history.headers)


@pytest.mark.parametrize(
    "place",
    [
        "what the scheduler printed",
        "command lines of processes",
        "errors of tasks",
        "rows of the ledger",
        "messages",
        "OpenLineage",
        "spans",
        "logs",
        "Airflow's database",
        "everything else on disk",
        "the lake",
    ],
)
def test_no_canary_is_found(history: History, place: str) -> None:
    content = history.places[place]
    assert len(content) > 100, f"nothing was searched: {place}"
    places = [content[max(0, at - 150) : at + 60] for form in FORMS if (at := content.find(form)) >= 0]
    assert places == []
