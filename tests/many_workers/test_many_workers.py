"""A loop on two workers that share no disk. One is killed in a fit, Redis is lost: the loop goes on where it was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.workspace import Workspace
from tests.loop.project import KEYS, Project, make_project, night, week
from tests.many_workers.celery_stack import BUCKET, MLFLOW_PASSWORD, MLFLOW_USER, ManyWorkers, wait_for

pytestmark = pytest.mark.timeout(2400)  # each of some sixty tasks is a process that imports its libraries anew
SLOW_FITS = """
import os
import time

from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline


def candidates(seed):
    if "SLOW_FITS" in os.environ:
        time.sleep(600)
    return {"linear": make_pipeline(make_column_transformer(("passthrough", ["x1", "x2"])), LinearRegression())}
"""
RESOURCES = {"default": {"queue": "small"}, "fit": {"queue": "big"}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose rows come from S3, and whose fits go to big workers."""
    made = make_project(tmp_path / "project", training=SLOW_FITS, resources=RESOURCES)
    made.fields["data"]["source"] = {
        "kind": "parquet",
        "uri": f"s3://{BUCKET}/in/{{partition}}.parquet",
        "conn_id": "store",
    }
    (made.root / "include" / "loops" / f"{made.model}.yaml").write_text(json.dumps(made.fields))
    dag_file = made.root / "dags" / "loop_dags.py"
    dag_file.write_text(dag_file.read_text().replace('{"retries": 0}', '{"retries": 2}'))
    return made


@pytest.fixture
def airflow(tmp_path: Path, project: Project) -> Iterator[ManyWorkers]:
    """An Airflow with a worker for small tasks, and one whose fits take ten minutes."""
    with ManyWorkers(tmp_path, project.root) as made:
        made.start_worker("small", "small")
        made.start_worker("slow", "big", SLOW_FITS="1")
        made.stack.client.wait_for_dags(project.dag("ingest"), timeout_seconds=120)
        stages = ("control", "rollout", "train", "watch", "score", "nightly", "ingest")
        made.stack.client.unpause(*(project.dag(stage) for stage in stages))
        yield made


def workspace_of(airflow: ManyWorkers, project: Project) -> Workspace:
    """Return the stores as a process sees them that has neither home nor scratch folder of a worker."""
    access = {"key": "key", "secret": "secret of S3", "region": "us-east-1", "endpoint": airflow.endpoint}
    lake, scratch = Lake(f"s3://{BUCKET}/lake", access), project.root.parent / "reader"
    stores = Stores(lake, airflow.stack.database_uri(), airflow.stack.mlflow_url, scratch=scratch)
    return open_workspace(Loop(**project.fields), stores, root=project.root, actor="test")


def champion_of(airflow: ManyWorkers, project: Project) -> str | None:
    champion = workspace_of(airflow, project).state().champion
    return None if champion is None else champion.number


def deliver(airflow: ManyWorkers, project: Project, key: str, **made: Any) -> None:
    """Put a week into S3, and ingest it until nothing is left to do."""
    pq.write_table(week(key, **made), f"{BUCKET}/in/{partition_slug(key)}.parquet", filesystem=airflow.files)
    airflow.stack.client.trigger(project.dag("ingest"), key)
    settle(airflow, project)


def settle(airflow: ManyWorkers, project: Project) -> None:
    airflow.stack.wait_until_settled(project.model, timeout_seconds=400)


def task_states(airflow: ManyWorkers, dag_id: str) -> list[tuple[str, str]]:
    return [(task["task_id"], task["state"]) for task in airflow.stack.client.task_instances(dag_id)]


def lose_redis_in_an_ingest(airflow: ManyWorkers, project: Project, key: str) -> None:
    """Put a week into S3, and lose Redis while a task of its ingest is in the queue or on a worker."""
    ingest = project.dag("ingest")
    pq.write_table(week(key, level=6.0), f"{BUCKET}/in/{partition_slug(key)}.parquet", filesystem=airflow.files)
    airflow.stack.client.trigger(ingest, key)
    wait_for(
        lambda: {state for _, state in task_states(airflow, ingest)} & {"queued", "running"} != set(),
        120,
        lambda: task_states(airflow, ingest),
    )
    airflow.lose_redis()
    settle(airflow, project)


def test_a_loop_goes_through_drift_retrain_rollout_and_rollback_and_survives_the_loss_of_a_worker_and_of_redis(
    airflow: ManyWorkers, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, train = airflow.stack.client, project.dag("train")
    for key in KEYS[:2]:
        deliver(airflow, project, key)
    client.trigger(project.dag("nightly"), night(KEYS[1]))
    wait_for(
        lambda: ("fit", "running") in task_states(airflow, train),
        240,
        lambda: client.task_instances(project.dag("train")),
    )
    airflow.kill_worker("slow")
    airflow.start_worker("big", "big")
    settle(airflow, project)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", MLFLOW_USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", MLFLOW_PASSWORD)
    assert champion_of(airflow, project) == "1", task_states(airflow, train)
    (fit,) = [task for task in client.task_instances(train) if task["task_id"] == "fit"]
    assert (fit["state"], fit["queue"]) == ("success", "big")
    assert fit["try_number"] > 1
    lose_redis_in_an_ingest(airflow, project, KEYS[2])
    for key in KEYS[3:8]:
        deliver(airflow, project, key, level=6.0)
        if champion_of(airflow, project) == "2":
            break
    ledger = workspace_of(airflow, project).ledger
    kinds = Counter(record.kind for record in ledger.records())
    assert champion_of(airflow, project) == "2", kinds
    assert kinds["candidate_registered"] == 2, "the fit that was killed left no version of its own"
    published = [record.partition for record in ledger.records() if record.kind == "snapshot_published"]
    assert published == sorted(set(published)), "each partition once, and that of the lost Redis too"
    assert KEYS[2] in published
    assert {record.partition for record in ledger.records() if record.kind == "predictions_published"} >= {KEYS[2]}
    assert verify_chain(ledger.records()) == kinds.total()
    client.trigger(project.dag("control"), conf={"action": "rollback", "reason": "a test"})
    settle(airflow, project)
    assert champion_of(airflow, project) == "1"
    assert mlflow.MlflowClient(airflow.stack.mlflow_url).get_registered_model(project.model).aliases["champion"] == "1"
    for worker in ("small", "slow", "big"):
        homes = {file.name for file in (airflow.home(worker) / "mlops").glob("*")}
        assert homes <= {"scratch"}, f"worker {worker} keeps {homes} on its own disk"
