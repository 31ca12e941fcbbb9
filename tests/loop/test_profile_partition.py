"""Profiles of partitions in anybody's Dag: of a snapshot's features, and of a table that its database counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import sqlalchemy as sa

from airflow_mlops.core.data.profiles.partition_profile import PartitionProfile
from tests.loop.project import KEYS, make_project, states, week, why

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

DAG_FILE = '''"""An ordinary Dag that profiles."""
from airflow.sdk import DAG

from airflow_mlops.operators.watch import ProfilePartitionOperator

STEP = {{"loop": "include/loops/{model}.yaml", "root": {root!r}, "retries": 0}}

with DAG("profiles", schedule=None):
    ProfilePartitionOperator(task_id="rows", partition="{key}", **STEP)
    ProfilePartitionOperator(
        task_id="table", partition="{key}", conn_id="warehouse", table="rows", time="at", **STEP
    )
    ProfilePartitionOperator(task_id="half", partition="{key}", conn_id="warehouse", **STEP)
'''


def test_a_partition_and_the_table_it_came_from_have_the_same_profile(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    database = tmp_path / "warehouse.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(database)}))
    engine = sa.create_engine(f"sqlite:///{database}")
    frame = week(KEYS[1]).to_pandas()
    # The row at the tick itself belongs to the next partition.
    later = frame.iloc[:1].assign(at=pd.Timestamp(KEYS[1]))
    for rows in (frame, week(KEYS[0]).to_pandas(), later):
        rows.drop(columns=["id", "y"]).to_sql("rows", engine, index=False, if_exists="append")
    engine.dispose()
    dag = DAG_FILE.format(model=project.model, root=str(project.root), key=KEYS[1])
    (project.dags / "loop_dags.py").write_text(dag)
    scheduler = start_scheduler(project.dags)
    scheduler.trigger("profiles")
    scheduler.run_until_idle()
    assert states(scheduler, "profiles") == {"rows": "success", "table": "success", "half": "failed"}
    assert "conn_id and table go together" in why(scheduler, "half")
    results = {task: scheduler.xcom("profiles", task) for task in ("rows", "table")}
    kept = {task: project.workspace.evidence.get(of["profile"]) for task, of in results.items()}
    assert (results["rows"]["rows"], results["rows"]["champion"]) == (120, "1")
    assert (results["table"]["missing"], results["table"]["new"], results["table"]["retyped"]) == ([], [], [])
    counted, by_database = (PartitionProfile.from_dict(kept[task]["profile"]) for task in ("rows", "table"))
    assert counted.rows == by_database.rows == 120
    assert sorted(counted.columns) == ["place", "x1", "x2"]
    for name, column in counted.columns.items():
        assert column.bin_counts.tolist() == by_database.columns[name].bin_counts.tolist()
    assert counted.merge(by_database).rows == 240
