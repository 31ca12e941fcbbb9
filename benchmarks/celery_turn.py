"""Measure what a turn of a loop costs an Airflow of many workers: CPU seconds of all its processes.

A turn is one partition through all Dags of a loop, of few rows and a straight line, as in ``loops_300_turn``; here each
task is a process of a Celery worker that imports its libraries, rows and models are in S3, and MLflow, PostgreSQL,
Redis and the S3 are counted with the rest. The peer is the same turn under Airflow's LocalExecutor, with workers that
the scheduler has warmed. It is told, and has no bar. Each is run by the environment of ``make celery``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import psutil

from airflow_mlops.testing.child_processes import session_members
from airflow_mlops.testing.stack import LocalStack
from benchmarks.loops_300 import QUICK
from benchmarks.row import Row

HOUSE = Path(__file__).resolve().parents[1]
PYTHON = HOUSE / ".venv-celery" / "bin" / "python"
TURNS = 3
PATIENCE = 600.0


def celery_turn() -> list[Row]:
    """Return the row: CPU seconds of one turn under CeleryExecutor, beside one under LocalExecutor."""
    ours, peer = turn_seconds("celery"), turn_seconds("local")
    return [
        Row(
            name="celery_turn",
            ours=round(ours, 1),
            peer=round(peer, 1),
            unit="CPU s/turn",
            peer_name="LocalExecutor with warm workers, files on this machine",
            ratio=round(ours / peer, 3),
            bar="none: it is told",
            reached=True,
        )
    ]


def turn_seconds(executor: str) -> float:
    """Return the median CPU seconds of some turns, measured by a process of its own."""
    command = [str(PYTHON), "-m", "benchmarks.celery_turn", executor]
    process = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, check=False)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{process.stderr[-3000:]}")
    turns: list[float] = json.loads(process.stdout.splitlines()[-1])
    print(f"    {executor}: {turns} CPU s", flush=True)
    return median(turns)


def cpu_of_sessions(leaders: Iterable[int]) -> float:
    """Return the CPU seconds of the processes of sessions, and of all that they have waited for."""
    seconds = 0.0
    for process in session_members(list(leaders)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def measure(stack: LocalStack, leaders: Callable[[], list[int]]) -> list[float]:
    """Bring a loop its first champion, and return the CPU seconds of each turn after that."""
    from tests.loop.project import KEYS, night

    stages = ("control", "rollout", "train", "watch", "score", "nightly", "ingest")
    stack.client.wait_for_dags("loop_ingest", timeout_seconds=PATIENCE)
    stack.client.unpause(*(f"loop_{stage}" for stage in stages))

    def run(stage: str, key: str) -> None:
        stack.client.trigger(f"loop_{stage}", key)
        stack.wait_until_settled("loop", timeout_seconds=PATIENCE)

    seconds = []
    for number, key in enumerate(KEYS[: TURNS + 2]):
        before = cpu_of_sessions(leaders())
        run("ingest", key)
        if number:
            run("nightly", night(key))
        if number > 1:
            seconds.append(round(cpu_of_sessions(leaders()) - before, 1))
    failed = stack.client.task_instances(state=["failed", "upstream_failed"])
    if failed:
        raise RuntimeError(f"{len(failed)} tasks failed, such as {failed[0]['dag_id']}.{failed[0]['task_id']}")
    return seconds


@contextmanager
def under_celery(folder: Path, root: Path) -> Iterator[tuple[LocalStack, Callable[[], list[int]]]]:
    """Yield an Airflow with a Celery worker, and the leaders of its sessions."""
    from tests.many_workers.celery_stack import ManyWorkers

    with ManyWorkers(folder, root) as airflow:
        airflow.start_worker("worker", "default")
        yield airflow.stack, airflow.sessions


@contextmanager
def under_local(folder: Path, root: Path) -> Iterator[tuple[LocalStack, Callable[[], list[int]]]]:
    """Yield an Airflow with LocalExecutor, and the leaders of its sessions."""
    with LocalStack(
        folder / "airflow",
        dags_folder=root / "dags",
        project_root=root,
        plugins_folder=HOUSE / "plugins",
        parallelism=2,
        report=lambda _line: None,
    ) as stack:
        yield stack, stack.sessions


def main(executor: str) -> None:
    """Print the CPU seconds of the turns under an executor."""
    from tests.loop.project import KEYS, make_project

    with tempfile.TemporaryDirectory(prefix="airflow-mlops-turns-") as name:
        folder = Path(name)
        project = make_project(folder / "project", model="loop", **QUICK)
        for key in KEYS[: TURNS + 2]:
            project.put(key)
        with (under_celery if executor == "celery" else under_local)(folder, project.root) as (stack, leaders):
            turns = measure(stack, leaders)
    print(json.dumps(turns))


if __name__ == "__main__":
    main(sys.argv[1])
