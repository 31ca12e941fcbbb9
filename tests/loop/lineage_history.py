"""Loops in a process of its own, run by ``python -m tests.loop.lineage_history HISTORY FOLDER``.

Airflow loads the plugins of its providers once in a process, so lineage must be configured before it starts: by the
environment of this process. Its answer on standard output is JSON: the tasks as Airflow has them, and the ledger.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.testing.airflow_home import isolate_airflow

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.project import Project

SUITE = """
expectations:
  - type: expect_column_values_to_not_be_null
    kwargs: {column: x1}
    severity: critical
  - type: expect_column_mean_to_be_between
    kwargs: {column: x2, min_value: 5}
    severity: warning
"""
CONTRACT = """
contract: shop
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time, zone: UTC}
  x1: {type: float}
  x2: {type: float}
  place: {type: text}
  y: {type: float}
"""
BROKEN = """
from airflow.sdk import DAG

from airflow_mlops.operators.data import TakeSnapshotOperator
from airflow_mlops.operators.registry import VerifyVersionsOperator


class BrokenSnapshotOperator(TakeSnapshotOperator):
    def lineage(self, run):
        raise RuntimeError("this lineage is broken")


with DAG("broken", schedule=None):
    step = {"loop": "include/loops/MODEL.yaml", "root": "ROOT", "partition": "2013-01-06T00:00:00"}
    BrokenSnapshotOperator(task_id="snapshot", **step) >> VerifyVersionsOperator(task_id="verify", **step)
"""
ALONE = """
from airflow.sdk import DAG

from airflow_mlops import ValidateSnapshotOperator, ValidateTableOperator
from airflow_mlops.operators.watch import ProfilePartitionOperator

FILLED = [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "x1"}}]
DEAR = [{"type": "expect_column_values_to_be_between", "kwargs": {"column": "x1", "min_value": 99}}]


with DAG("alone", schedule=None):
    here = {"root": "ROOT", "expectations": FILLED}
    ValidateSnapshotOperator(task_id="file", rows="FILE", **here)
    ValidateSnapshotOperator(task_id="refused", rows="FILE", root="ROOT", expectations=DEAR)
    ValidateSnapshotOperator(task_id="frame", python_callable=lambda: [{"x1": 1.0}], **here)
    ValidateTableOperator(task_id="table", conn_id="shop_db", table="prices", **here)
    both = "SELECT x1 FROM prices JOIN shops USING (id)"
    ValidateTableOperator(task_id="query", conn_id="shop_db", query=both, **here)
    ValidateTableOperator(task_id="missing", conn_id="shop_db", table="nowhere", **here)
    ProfilePartitionOperator(task_id="profile", loop="include/loops/MODEL.yaml", root="ROOT", partition="KEY")
"""
WATCH = {"drift": {"alarm_rate": 0.001}, "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}
ROLLOUT = {"stages": [{"shadow": 100, "bake": 1}, {"live": 100}], "min_rows": 20}


def there_and_back(folder: Path) -> tuple[Project, InProcessScheduler]:
    """Run a loop to its first champion, through a change that retrains it, and back when the change has gone."""
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.project import KEYS

    project = _project(folder, {"expectations": "include/suite.yaml"}, watch=WATCH, rollout=ROLLOUT)
    (folder / "include" / "suite.yaml").write_text(SUITE)
    scheduler = InProcessScheduler(project.dags)
    for key in KEYS[:2]:
        project.put(key)
        project.ingest(scheduler, key)
    project.at_night(scheduler, KEYS[1])
    for key in KEYS[2:4]:
        project.put(key, level=6.0, shift=-3.0)
        project.ingest(scheduler, key)
    project.put(KEYS[4])
    project.ingest(scheduler, KEYS[4])
    return project, scheduler


def from_a_service(folder: Path) -> tuple[Project, InProcessScheduler]:
    """Ingest three partitions of connection ``shop``, whose path holds a key."""
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.project import KEYS

    source = {"kind": "http", "conn_id": "shop", "path": "rows?day={partition}&api_key=key-in-a-path", "attempts": 1}
    project = _project(folder, {"source": source, "contract": "include/contract.yaml"})
    (folder / "include" / "contract.yaml").write_text(CONTRACT)
    scheduler = InProcessScheduler(project.dags)
    for key in KEYS[:3]:
        project.ingest(scheduler, key)
    return project, scheduler


def broken_lineage(folder: Path) -> tuple[Project, InProcessScheduler]:
    """Run a Dag of two tasks, of which the first cannot say where its rows came from."""
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.project import KEYS

    project = _project(folder, {})
    project.put(KEYS[0])
    (project.dags / "broken.py").write_text(BROKEN.replace("MODEL", project.model).replace("ROOT", str(folder)))
    scheduler = InProcessScheduler(project.dags)
    scheduler.trigger("broken")
    scheduler.run_until_idle()
    return project, scheduler


def alone(folder: Path) -> tuple[Project, InProcessScheduler]:
    """Run a Dag of operators outside of a loop: on a file, a frame, tables of a database, and a partition."""
    import sqlite3

    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.project import KEYS

    project = _project(folder, {})
    project.seed(KEYS[:2])
    database = folder / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.executescript(
            "CREATE TABLE prices (id TEXT, x1 REAL); CREATE TABLE shops (id TEXT);"
            "INSERT INTO prices VALUES ('a', 1), ('b', 2); INSERT INTO shops VALUES ('a')"
        )
    os.environ["AIRFLOW_CONN_SHOP_DB"] = json.dumps({"conn_type": "sqlite", "host": str(database)})
    values = {"MODEL": project.model, "ROOT": str(folder), "KEY": KEYS[1], "FILE": str(project.file(KEYS[0]))}
    text = ALONE
    for name, value in values.items():
        text = text.replace(name, value)
    (project.dags / "alone.py").write_text(text)
    scheduler = InProcessScheduler(project.dags)
    scheduler.trigger("alone")
    scheduler.run_until_idle()
    return project, scheduler


def _project(folder: Path, data: dict[str, Any], **changes: Any) -> Project:
    from tests.loop.project import make_project

    project = make_project(folder, **changes)
    project.fields["data"] |= data
    (folder / "include" / "loops" / f"{project.model}.yaml").write_text(json.dumps(project.fields))
    return project


HISTORIES: dict[str, Callable[[Path], tuple[Project, InProcessScheduler]]] = {
    "there_and_back": there_and_back,
    "from_a_service": from_a_service,
    "broken_lineage": broken_lineage,
    "alone": alone,
}


def describe(project: Project, scheduler: InProcessScheduler) -> dict[str, Any]:
    """Return the tasks and the ledger as JSON values."""
    tasks = [
        {
            "job": f"{task.dag_id}.{task.task_id}",
            "run": task.run_id,
            "tries": task.try_number,
            "state": str(task.state),
        }
        for task in scheduler.task_instances()
    ]
    runs = [{"job": run.dag_id, "run": run.run_id, "state": str(run.state)} for run in scheduler.dag_runs()]
    return {
        "model": project.model,
        "root": str(project.root),
        "tasks": tasks,
        "runs": runs,
        "records": [record.to_json() for record in project.records],
        "errors": [text for _, text in scheduler.failures()],
    }


def main() -> None:
    """Run the history of a name below a folder."""
    history, folder = HISTORIES[sys.argv[1]], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tasks print is no answer
    isolate_airflow(folder / "airflow")
    from airflow_mlops.testing.metadata import create_metadata

    create_metadata()
    answers.write(json.dumps(describe(*history(folder / "project"))))
    answers.close()


if __name__ == "__main__":
    main()
