"""A temporary real Airflow on this machine, for the demo and the end-to-end tests.

`LocalStack` starts an embedded PostgreSQL (Airflow's metadata and a second database for the ledger), an
MLflow server on SQLite, and Airflow's scheduler (LocalExecutor), Dag processor and API server, all on free
ports of 127.0.0.1. It returns when all of them answer; each writes to ``<home>/logs/<name>.log``.

    with LocalStack(home, dags_folder=Path("dags"), project_root=Path(".")) as stack:
        stack.client.wait_for_dags("flights_ingest")
        stack.client.unpause("flights_ingest")
        stack.client.trigger("flights_ingest", "2013-03-10T00:00:00")
        stack.wait_until_settled()
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import httpx
import psutil

from airflow_mlops.testing.airflow_client import AirflowClient
from airflow_mlops.testing.child_processes import (
    Child,
    finish_child,
    start_child,
    stop_sessions,
    wait_until_ready,
)
from airflow_mlops.testing.embedded_postgres import EmbeddedPostgres, stop_postgres
from airflow_mlops.testing.stack_settings import new_settings, stack_environment, write_password_file

_UNSETTLED = """
    SELECT (SELECT count(*) FROM dag_run r JOIN dag d ON d.dag_id = r.dag_id
             WHERE r.state IN ('queued', 'running') AND NOT d.is_paused AND starts_with(d.dag_id, '{prefix}'))
         + (SELECT count(*) FROM asset_partition_dag_run p JOIN dag d ON d.dag_id = p.target_dag_id
             WHERE p.created_dag_run_id IS NULL AND NOT d.is_paused AND NOT d.is_stale
               AND starts_with(d.dag_id, '{prefix}'))
"""


class LocalStack:
    """The processes of one Airflow and one MLflow.

    :param home: folder for everything that is written, created if needed
    :param dags_folder: the Dag files
    :param project_root: importable, so that ``include.…`` is found
    :param plugins_folder: Airflow plugins, ``<project_root>/plugins`` if not given
    :param extra_environment: variables for every process, for example ``AIRFLOW_CONN_LEDGER``
    :param parallelism: tasks at a time
    :param preload: whether the scheduler imports the libraries of the stages before it forks its workers
    :param keep: leave everything running on `__exit__`; `stop_pids` stops it later
    :param report: called with one line per step
    """

    def __init__(
        self,
        home: Path,
        *,
        dags_folder: Path,
        project_root: Path,
        plugins_folder: Path | None = None,
        extra_environment: Mapping[str, str] | None = None,
        parallelism: int = 4,
        preload: bool = True,
        keep: bool = False,
        report: Callable[[str], None] = print,
    ) -> None:
        self.home = home.resolve()
        self.keep = keep
        self._preload = preload
        self._report = report
        self._extra = dict(extra_environment or {})
        self.settings = new_settings(
            self.home,
            dags_folder=dags_folder,
            project_root=project_root,
            plugins_folder=plugins_folder,
            parallelism=parallelism,
        )
        self.client = AirflowClient(self.settings.api_url, self.settings.user, self.settings.password)
        self.environment: dict[str, str] = {}
        self._postgres: EmbeddedPostgres | None = None
        self._children: list[Child] = []
        self._sigterm_before: Any = None

    @property
    def api_url(self) -> str:
        """URL of Airflow."""
        return self.settings.api_url

    @property
    def mlflow_url(self) -> str:
        """URL of MLflow: the tracking URI."""
        return self.settings.mlflow_url

    @property
    def login(self) -> tuple[str, str]:
        """The user and the password of Airflow's pages."""
        return self.settings.user, self.settings.password

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.keep:
            self.stop()
        else:
            self._restore_sigterm()
            self.client.close()

    def start(self) -> None:
        """Start everything and return when it answers; on any failure, stop what was started.

        Raises
        ------
        StartError
            If a process ends or does not answer in time; the message holds the tail of its log.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self._exit_on_sigterm()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def database_uri(self, database: str = "mlops", driver: str = "psycopg") -> str:
        """Return the SQLAlchemy address of a database of the embedded PostgreSQL."""
        return self._running_postgres().uri(database, driver)

    def unsettled(self, prefix: str = "") -> int:
        """Return the number of unfinished runs and of partitions without a run, in one query.

        :param prefix: count only Dags whose id starts with it; letters, digits, ``_`` and ``-``
        """
        if not re.fullmatch(r"[\w-]*", prefix):
            raise ValueError(f"{prefix!r} is no prefix of a Dag id: letters, digits, _ and - only")
        return int(self._running_postgres().scalar("airflow", _UNSETTLED.format(prefix=prefix)))

    def sessions(self) -> list[int]:
        """Return the leader of the session of each process, that of PostgreSQL too."""
        record = self.home / "postgres" / "postmaster.pid"
        return [*(child.pid for child in self._children), int(record.read_text(encoding="utf-8").splitlines()[0])]

    def settled(self) -> bool:
        """Return whether no work is left."""
        return self.unsettled() == 0

    def wait_until_settled(self, prefix: str = "", *, timeout_seconds: float = 300.0) -> float:
        """Wait until Dags with the prefix have no work left, and return the seconds it took.

        Raises
        ------
        AirflowApiError
            If work is left when the time is up.
        """
        return self.client.wait_until_settled(
            timeout_seconds=timeout_seconds, poll_seconds=0.1, count=lambda: self.unsettled(prefix)
        )

    def stop(self) -> None:
        """Stop every process, the newest first, and the database last; calling it again does nothing."""
        try:
            stop_sessions([child.pid for child in reversed(self._children)])
        finally:
            for child in self._children:
                child.process.poll()
            self._children.clear()
            if self._postgres is not None:
                self._postgres.stop()
                self._postgres = None
            self.client.close()
            (self.home / "stack.json").unlink(missing_ok=True)
            self._restore_sigterm()

    @staticmethod
    def stop_pids(home: Path) -> None:
        """Stop a stack that was left running in ``home``; a process id that was reused is left alone."""
        record = home.resolve() / "stack.json"
        if record.exists():
            saved = json.loads(record.read_text(encoding="utf-8"))
            stop_sessions([pid for pid, began in saved["sessions"] if _started_at(pid) in (began, None)])
            stop_postgres(home.resolve() / "postgres")
            record.unlink()

    def _start(self) -> None:
        started = time.monotonic()
        self._postgres = EmbeddedPostgres(self.home / "postgres", databases=("airflow", "mlops"))
        self._postgres.start()
        self._report(f"PostgreSQL is up ({time.monotonic() - started:.1f} s)")
        self.environment = stack_environment(self.settings, self._postgres.socket_folder, self._extra)
        write_password_file(self.settings)
        mlflow = self._launch("mlflow", self._mlflow_command())
        migrate = self._launch("migrate", _airflow("db", "migrate"))
        finish_child(migrate, timeout_seconds=180)
        self._report(f"Airflow's metadata tables exist ({time.monotonic() - started:.1f} s)")
        scheduler_command = ["-m", "airflow_mlops.warm_scheduler"] if self._preload else ["-m", "airflow", "scheduler"]
        api = self._launch(
            "api-server", _airflow("api-server", "--host", "127.0.0.1", "--port", str(self.settings.api_port))
        )
        scheduler_child = self._launch("scheduler", [sys.executable, *scheduler_command, "--skip-serve-logs"])
        dag_processor = self._launch("dag-processor", _airflow("dag-processor"))
        checks = (
            (mlflow, self._mlflow_answers),
            (api, self._answers("metadatabase")),
            (dag_processor, self._answers("dag_processor")),
            (scheduler_child, self._answers("scheduler")),
        )
        for child, ready in checks:
            wait_until_ready(child, ready, timeout_seconds=180)
            self._report(f"{child.name} answers ({time.monotonic() - started:.1f} s)")

    def _launch(self, name: str, command: list[str]) -> Child:
        child = start_child(name, command, self.environment, self.home / "logs" / f"{name}.log")
        self._children.append(child)
        sessions = [(started.pid, _started_at(started.pid)) for started in self._children]
        (self.home / "stack.json").write_text(json.dumps({"sessions": sessions}), encoding="utf-8")
        return child

    def _mlflow_command(self) -> list[str]:
        store, artefacts, port = self.home / "mlflow.db", self.home / "mlartifacts", self.settings.mlflow_port
        return [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{store}"),
            *("--artifacts-destination", str(artefacts)),
            *("--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"),
        ]

    def _mlflow_answers(self) -> bool:
        try:
            return httpx.get(f"{self.mlflow_url}/health", timeout=5.0, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _answers(self, part: str) -> Callable[[], bool]:
        return lambda: self.client.health().get(part) == "healthy"

    def _running_postgres(self) -> EmbeddedPostgres:
        if self._postgres is None:
            raise RuntimeError("The stack is not running, so it has no database: call start() first.")
        return self._postgres

    def _exit_on_sigterm(self) -> None:
        def leave(number: int, _frame: FrameType | None) -> None:
            raise SystemExit(128 + number)

        try:
            self._sigterm_before = signal.signal(signal.SIGTERM, leave)
        except ValueError:  # not in the main thread, where Python allows no handler: the caller's own applies
            self._sigterm_before = None

    def _restore_sigterm(self) -> None:
        if self._sigterm_before is not None:
            signal.signal(signal.SIGTERM, self._sigterm_before)
            self._sigterm_before = None


def _airflow(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *arguments]


def _started_at(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
