"""Real processes killed at random moments of a running loop: ``python -m tests.drill.kills``.

A real Airflow with PostgreSQL and MLflow takes a loop through its partitions, while workers, the scheduler, the Dag
processor, the API server, MLflow and PostgreSQL are killed as by ``kill -9`` and started again, in the order of a seed.
Afterwards the loop must stand where it stands by the core alone, without a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import MlopsError
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.airflow_client import AirflowApiError
from airflow_mlops.testing.child_processes import Child, session_members
from airflow_mlops.testing.stack import LocalStack
from tests.drill.numbers import HOUSE, add_numbers
from tests.drill.trials import essence
from tests.loop.by_core import live_through
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project

WEIGHTS = {"worker": 60, "mlflow": 12, "scheduler": 8, "dag-processor": 8, "api-server": 8, "postgres": 4}
"""How often each process is chosen, of a hundred kills."""
SERVICES = ("mlflow", "api-server", "scheduler", "dag-processor")
"""The processes that are started again where they have ended."""
PAUSE = (0.5, 4.0)
"""Seconds between two kills, drawn evenly."""
LIVENESS = 45.0
"""Seconds without an end after which the scheduler is started again, as a liveness probe does: a worker of Airflow's
local executor that is killed while it takes a task leaves the others waiting for ever."""
PATIENCE = 600.0
"""Seconds in which the loop must have nothing left to do once nothing is killed any more."""
QUICK = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "4",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "12",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
}
"""Airflow finds what was killed within seconds, where it takes minutes by default."""
DAG_FILE = '''"""Airflow Dags of the loop whose processes are killed."""
from datetime import timedelta

from airflow_mlops import build_dags

build_dags("include/loops/{model}.yaml", default_args={{"retries": 60, "retry_delay": timedelta(seconds=1)}})
'''
LIKE = ("snapshot_published", "predictions_published", "candidate_registered", "promoted")
"""Records of which there must be as many, saying the same, as without a fault."""


class KillableStack(LocalStack):
    """A stack whose processes can be killed and started again, one at a time."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._commands: dict[str, list[str]] = {}
        self.killed = Counter[str]()
        self._busy = threading.RLock()

    def _start(self) -> None:
        super()._start()
        self._commit_for_good()

    def _launch(self, name: str, command: list[str]) -> Child:
        self._commands[name] = command
        return super()._launch(name, command)

    def _commit_for_good(self) -> None:
        """Make PostgreSQL write each commit before it acknowledges it, as it does by default."""
        postgres = self._running_postgres()
        postgres.execute("postgres", "ALTER SYSTEM SET synchronous_commit = on")
        postgres.execute("postgres", "SELECT pg_reload_conf()")

    def kill(self, name: str, chance: random.Random) -> bool:
        """Kill a process of a kind, and start it again unless Airflow does; return False if there is none."""
        with self._busy:
            if name == "worker":
                return self._kill_worker(chance)
            if name == "postgres":
                self._kill_postgres()
            else:
                self._kill_session(name)
            self.killed[name] += 1
        return True

    def supervise(self) -> None:
        """Start again what has ended by itself, as where it was started while PostgreSQL was down."""
        with self._busy:
            for name in SERVICES:
                if self._child(name).process.poll() is not None:
                    self._kill_session(name)

    def _child(self, name: str) -> Child:
        return next(child for child in reversed(self._children) if child.name == name)

    def _kill_worker(self, chance: random.Random) -> bool:
        """Kill one process that the scheduler has forked: a worker of the executor, or a task."""
        with suppress(psutil.NoSuchProcess):
            workers = psutil.Process(self._child("scheduler").pid).children(recursive=True)
            if workers:
                chance.choice(workers).kill()
                self.killed["worker"] += 1
                return True
        return False

    def _kill_session(self, name: str) -> None:
        child = self._child(name)
        for process in session_members([child.pid]):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        child.process.wait(30)
        self._children.remove(child)
        self._launch(name, self._commands[name])

    def restart_scheduler(self) -> None:
        """Start the scheduler again, which counts as no kill."""
        with self._busy:
            self._kill_session("scheduler")

    def _kill_postgres(self) -> None:
        pid = int((self.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        server = psutil.Process(pid)
        processes = [server, *server.children()]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        postgres = self._running_postgres()
        psutil.wait_procs(processes, timeout=30)
        postgres._server.ensure_postgres_running()
        postgres._connections.clear()
        postgres.start()
        self._commit_for_good()

    def wait_until_all_answer(self) -> None:
        """Return once every process answers again.

        Raises
        ------
        TimeoutError
            If one of them does not in time.
        """
        until = time.monotonic() + PATIENCE
        parts = ("metadatabase", "dag_processor", "scheduler")
        while not (self._mlflow_answers() and all(self._answers(part)() for part in parts)):
            if time.monotonic() > until:
                raise TimeoutError(f"not every process answers within {PATIENCE:g} s: {self.client.health()}")
            self.supervise()
            time.sleep(1.0)


@dataclass
class Killer(threading.Thread):
    """Kills one process after another in the background, until it is asked to end or has killed enough."""

    stack: KillableStack
    chance: random.Random
    report: Callable[[str], None]
    allowed: int = 0
    enough: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        """Kill until somebody says that it is enough."""
        names, weights = zip(*WEIGHTS.items(), strict=True)
        try:
            while not self.enough.is_set():
                self.enough.wait(self.chance.uniform(*PAUSE))
                if self.stack.killed.total() >= self.allowed:
                    continue
                (name,) = self.chance.choices(names, weights)
                if self.stack.kill(name, self.chance) and self.stack.killed.total() % 10 == 0:
                    self.report(f"killed {dict(self.stack.killed)}")
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.enough.set()


def insist(action: Callable[[], Any]) -> Any:
    """Return the answer to a request, tried until Airflow is there to give one."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return action()
        except (httpx.HTTPError, AirflowApiError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(1.0)


def is_settled(stack: KillableStack) -> bool:
    """Return whether no work is left, as Airflow's database says; False while it does not answer."""
    import psycopg

    try:
        with psycopg.connect(stack.database_uri("airflow").replace("+psycopg", "")) as connection:
            from airflow_mlops.testing.stack import _UNSETTLED

            row = connection.execute(_UNSETTLED.format(prefix="")).fetchone()
            return row is not None and row[0] == 0
    except psycopg.Error:
        return False


def left_over(stack: KillableStack) -> list[tuple[str, str, str]]:
    """Return the tasks that are not done: their Dag, their name and their state."""
    tasks = stack.client.task_instances(state=["running", "queued", "up_for_retry", "failed"])
    return [(task["dag_id"], task["task_id"], task["state"]) for task in tasks]


def drive(stack: KillableStack, project: Project, key: str, killer: Killer, report: Callable[[str], None]) -> None:
    """Deliver a partition, run the night after it, and wait until its share is killed and nothing is left to do."""
    for dag in (project.dag("ingest"), project.dag("nightly")):
        insist(partial(stack.client.trigger, dag, key))
        quiet, until, alive = 0, time.monotonic() + PATIENCE, time.monotonic() + LIVENESS
        while quiet < 3:  # events turn into runs between two looks
            if time.monotonic() > until:
                report(f"left: {insist(partial(left_over, stack))}")
                raise TimeoutError(f"{dag} of {key} has work left after {PATIENCE:g} s")
            if time.monotonic() > alive and stack.killed.total() >= killer.allowed:
                report("nothing has ended for a while: the scheduler is started again")
                stack.restart_scheduler()
                alive = time.monotonic() + LIVENESS
            stack.supervise()
            time.sleep(0.7)
            quiet = quiet + 1 if is_settled(stack) else 0
    while stack.killed.total() < killer.allowed and killer.error is None:
        time.sleep(0.5)


def without_a_fault(folder: Path, fields: dict[str, Any], project: Project, keys: list[str]) -> Counter[str]:
    """Return the records of the same loop that lives through the same partitions by the core alone."""
    stores = Stores.embedded(folder / "mlops")
    workspace = open_workspace(Loop(**fields), stores, root=project.root, actor="drill")
    for key in keys:
        live_through(workspace, key)
    return records_of(workspace)


def records_of(workspace: Workspace) -> Counter[str]:
    """Return the records of a loop, of the kinds that matter here, by what they say."""
    return Counter(essence(record) for record in workspace.ledger.records() if record.kind in LIKE)


@contextmanager
def running(folder: Path, project: Project, report: Callable[[str], None]) -> Any:
    """Yield a real Airflow with the Dags of a project."""
    with KillableStack(
        folder / "airflow",
        dags_folder=project.dags,
        project_root=project.root,
        plugins_folder=HOUSE / "plugins",
        extra_environment={
            **QUICK,
            "PYTHONPATH": os.pathsep.join([str(project.root), str(HOUSE / "plugins"), str(HOUSE)]),
        },
        report=report,
    ) as stack:
        dags = [project.dag(name) for name in ("ingest", "score", "watch", "nightly", "train", "rollout")]
        stack.client.wait_for_dags(*dags)
        stack.client.unpause(*reversed(dags))
        yield stack


def main(argv: Sequence[str] | None = None) -> int:
    """Kill processes of a running loop; return 1 if it does not end as one that nobody disturbs."""
    parser = argparse.ArgumentParser(prog="python -m tests.drill.kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--seed", type=int, default=19)
    arguments = parser.parse_args(argv)
    began = time.monotonic()

    def report(words: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {words}", flush=True)

    with tempfile.TemporaryDirectory(prefix="airflow-mlops-kills-") as folder:
        result = kill_processes(arguments, Path(folder), report)
    add_numbers({"kills": result["kills"], "killing": result})
    report(json.dumps(result))
    return 1 if result["violations"] else 0


def kill_processes(arguments: argparse.Namespace, folder: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Run a loop whose processes are killed, and return the numbers and the violations."""
    project = make_project(folder / "project")
    keys = KEYS[: arguments.partitions]
    (project.dags / "loop_dags.py").write_text(DAG_FILE.format(model=project.model))
    for number, key in enumerate(keys):
        project.put(key, level=6.0 if number >= len(keys) // 2 else 0.0)
    expected = without_a_fault(folder / "undisturbed", project.fields, project, keys)
    report(f"without a fault {expected.total()} records of {', '.join(LIKE)}")
    violations = []
    with running(folder, project, report) as stack:
        killer = Killer(stack, random.Random(arguments.seed), report)
        killer.start()
        for number, key in enumerate(keys, start=1):
            killer.allowed = arguments.kills * number // len(keys)
            drive(stack, project, key, killer, report)
            report(f"partition {key} is done, killed {stack.killed.total()}")
        killer.enough.set()
        killer.join()
        if killer.error is not None:
            raise killer.error
        stack.wait_until_all_answer()
        lake = Lake.on_disk(stack.home / "mlops" / "lake")
        stores = Stores(lake, stack.database_uri(), stack.mlflow_url, scratch=stack.home / "mlops" / "scratch")
        workspace = open_workspace(Loop(**project.fields), stores, root=project.root, actor="drill")
        try:
            reconcile(workspace)
            assert_invariants(workspace)
        except (AssertionError, MlopsError) as error:
            violations.append(f"{type(error).__name__}: {error}")
        records = records_of(workspace)
        violations += [f"missing: {record}" for record in (expected - records).elements()]
        violations += [f"in addition: {record}" for record in (records - expected).elements()]
        promoted = [record.details.version for record in workspace.ledger.records() if record.kind == "promoted"]
    return {
        "kills": stack.killed.total(),
        "killed": dict(sorted(stack.killed.items())),
        "seed": arguments.seed,
        "partitions": len(keys),
        "promoted": promoted,
        "violations": violations,
    }


if __name__ == "__main__":
    sys.exit(main())
