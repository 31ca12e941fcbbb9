"""The settings of a small, quick Airflow on one machine, as environment variables."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from airflow_mlops.testing.free_ports import free_port

_WORKERS_PER_SLOT = 3


@dataclass(frozen=True)
class StackSettings:
    """The settings of a stack: folders, ports and secrets."""

    home: Path
    dags_folder: Path
    project_root: Path
    plugins_folder: Path
    api_port: int
    mlflow_port: int
    user: str
    password: str
    secret: str
    parallelism: int = 4

    @property
    def api_url(self) -> str:
        """The address of Airflow's pages and REST API."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def mlflow_url(self) -> str:
        """The address of the MLflow server."""
        return f"http://127.0.0.1:{self.mlflow_port}"


def new_settings(
    home: Path, *, dags_folder: Path, project_root: Path, plugins_folder: Path | None, parallelism: int
) -> StackSettings:
    """Return settings with free ports and fresh secrets; the folders become absolute."""
    root = project_root.resolve()
    return StackSettings(
        home=home,
        dags_folder=dags_folder.resolve(),
        project_root=root,
        plugins_folder=(plugins_folder or root / "plugins").resolve(),
        api_port=free_port(),
        mlflow_port=free_port(),
        user="admin",
        password=secrets.token_urlsafe(12),
        secret=secrets.token_hex(48),
        parallelism=parallelism,
    )


def postgres_uri(socket_folder: str, database: str, driver: str) -> str:
    """Return the SQLAlchemy address of a database behind a Unix socket, for one driver."""
    return f"postgresql+{driver}://postgres:@/{database}?{urlencode({'host': socket_folder})}"


def write_password_file(settings: StackSettings) -> Path:
    """Write the password file of the simple auth manager, readable by its owner only."""
    file = settings.home / "passwords.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({settings.user: settings.password}), encoding="utf-8")
    return file


def stack_environment(settings: StackSettings, socket_folder: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of every process of the stack; ``extra`` wins."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)
    python_path = [str(settings.project_root), str(settings.project_root / "plugins")]
    if before := os.environ.get("PYTHONPATH"):
        python_path.append(before)
    return {
        **inherited,
        **_airflow_folders(settings),
        **_airflow_addresses(settings, socket_folder),
        **_airflow_pace(settings),
        **_loop_connections(settings, socket_folder),
        "PYTHONPATH": os.pathsep.join(python_path),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "DO_NOT_TRACK": "true",
        "OMP_WAIT_POLICY": "passive",  # idle OpenMP threads would spin on the cores that other tasks need
        **extra,
    }


def _airflow_folders(settings: StackSettings) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(settings.home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.dags_folder),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(settings.plugins_folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.home / "logs" / "tasks"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(settings.home / "logs" / "dags"),
    }


def _airflow_addresses(settings: StackSettings, socket_folder: str) -> dict[str, str]:
    return {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres_uri(socket_folder, "airflow", "psycopg2"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": postgres_uri(socket_folder, "airflow", "asyncpg"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(settings.api_port),
        "AIRFLOW__API__BASE_URL": settings.api_url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.api_url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{settings.user}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(settings.home / "passwords.json"),
        "AIRFLOW__API_AUTH__JWT_SECRET": settings.secret,
        "AIRFLOW__API__SECRET_KEY": settings.secret[::-1],
    }


def _loop_connections(settings: StackSettings, socket_folder: str) -> dict[str, str]:
    """Return the connections of the loops to their ledger and their registry."""
    ledger = {"conn_type": "postgres", "login": "postgres", "schema": "mlops", "extra": {"host": socket_folder}}
    registry = {"conn_type": "http", "host": "http://127.0.0.1", "port": settings.mlflow_port}
    return {"AIRFLOW_CONN_MLOPS_LEDGER": json.dumps(ledger), "AIRFLOW_CONN_MLOPS_REGISTRY": json.dumps(registry)}


def _airflow_pace(settings: StackSettings) -> dict[str, str]:
    """Return the settings of intervals and parallelism.

    The supervisor of a finished task keeps its worker for up to one heartbeat interval (it sleeps when the
    task closes its sockets a moment before it exits). So there are several workers per task at a time, and
    the pool, whose slots are free as soon as the task has succeeded, limits how many tasks run.
    """
    return {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(_WORKERS_PER_SLOT * settings.parallelism),
        "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT": str(settings.parallelism),
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "AIRFLOW__SCHEDULER__ENABLE_TRACEMALLOC": "False",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",  # a changed file is parsed at once anyway
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__METRICS__STATSD_ON": "False",
    }
