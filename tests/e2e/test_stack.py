"""A real Airflow comes up, runs a chain of partitions, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from airflow_mlops.testing.child_processes import session_members
from airflow_mlops.testing.stack import LocalStack

pytestmark = pytest.mark.e2e

CHAIN = '''
"""Dags: ingest -> score, and the score fits a model, writes a Delta table and talks to MLflow."""
from datetime import datetime, timezone

from airflow.sdk import DAG, Asset, CronPartitionTimetable, PartitionedAssetTimetable, task

year = {
    "start_date": datetime(2013, 1, 1, tzinfo=timezone.utc),
    "end_date": datetime(2013, 12, 31, tzinfo=timezone.utc),
    "catchup": False,
}
snapshot = Asset("x://smoke/snapshot")

with DAG("smoke_ingest", schedule=CronPartitionTimetable("0 0 * * 0", timezone="UTC"), **year):

    @task(outlets=[snapshot])
    def ingest(dag_run):
        return dag_run.partition_key

    ingest()

with DAG("smoke_score", schedule=PartitionedAssetTimetable(assets=snapshot), **year):

    @task
    def score(dag_run):
        import tempfile

        import mlflow
        import numpy as np
        import pyarrow as pa
        from deltalake import DeltaTable, write_deltalake
        from sklearn.ensemble import HistGradientBoostingRegressor

        x = np.arange(2000.0).reshape(-1, 1)
        model = HistGradientBoostingRegressor(max_iter=5).fit(x, x[:, 0])
        with tempfile.TemporaryDirectory() as lake:
            write_deltalake(lake, pa.table({"p": model.predict(x)}))
            rows = DeltaTable(lake).to_pyarrow_table().num_rows
        mlflow.set_experiment("smoke")
        with mlflow.start_run(run_name=dag_run.partition_key) as run:
            mlflow.log_metric("rows", rows)
        return run.info.run_id

    score()
'''

KEPT = """
import sys, time
from pathlib import Path
from airflow_mlops.testing.stack import LocalStack

home = Path(sys.argv[1])
(home / "dags").mkdir(parents=True)
with LocalStack(home / "airflow", dags_folder=home / "dags", project_root=home):
    print("the stack is up", flush=True)
    time.sleep(600)
"""


def test_a_chain_of_partitions_runs_and_nothing_is_left_behind(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "smoke.py").write_text(CHAIN + "\n# airflow dag\n", encoding="utf-8")
    lines: list[str] = []
    keys = [f"2013-03-{day:02}T00:00:00" for day in (3, 10, 17)]
    with LocalStack(tmp_path / "airflow", dags_folder=dags, project_root=tmp_path, report=lines.append) as stack:
        stack.client.wait_for_dags("smoke_ingest", "smoke_score")
        stack.client.unpause("smoke_score", "smoke_ingest")
        for key in keys:
            stack.client.trigger("smoke_ingest", key)
        assert stack.unsettled() > 0
        stack.wait_until_settled(timeout_seconds=120)
        assert stack.client.unsettled() == 0
        runs = stack.client.dag_runs("smoke_score")
        assert sorted(run["partition_key"] for run in runs) == keys
        assert {task["state"] for task in stack.client.task_instances()} == {"success"}
        assert httpx.get(f"{stack.mlflow_url}/health", trust_env=False).text == "OK"
        sessions = [pid for pid, _ in json.loads((tmp_path / "airflow" / "stack.json").read_text())["sessions"]]
        postgres = _postgres_pid(tmp_path / "airflow")
    assert session_members(sessions) == []
    assert not _runs(postgres)
    assert any("scheduler answers" in line for line in lines)


def test_a_terminated_owner_takes_its_stack_with_it(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(KEPT, encoding="utf-8")
    owner = subprocess.Popen([sys.executable, str(script), str(tmp_path / "stack")], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    home = tmp_path / "stack" / "airflow"
    for line in owner.stdout:
        if "Airflow's metadata tables exist" in line:
            break
    time.sleep(1.0)  # the processes of Airflow are being started now
    sessions = [pid for pid, _ in json.loads((home / "stack.json").read_text())["sessions"]]
    postgres = _postgres_pid(home)
    os.kill(owner.pid, signal.SIGTERM)
    owner.wait(60)
    owner.stdout.close()
    assert session_members(sessions) == []
    assert not _runs(postgres)


def _postgres_pid(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
