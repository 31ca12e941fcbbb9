"""A history of a loop in a process of its own, run by ``python -m tests.loop.lineage_history FOLDER``.

Airflow loads the plugins of its providers once in a process, so lineage must be configured before it starts: by the
environment of this process. Its answer on standard output is JSON: the tasks as Airflow has them, and the ledger.
"""

from __future__ import annotations

import json
import os
import sys
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
WATCH = {
    "drift": {"alarm_rate": 0.001},
    "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20},
}
ROLLOUT = {"stages": [{"shadow": 100, "bake": 1}, {"live": 100}], "min_rows": 20}


def run_history(folder: Path) -> tuple[Project, InProcessScheduler]:
    """Run a loop to its first champion, through a change that retrains it, and back when the change has gone."""
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.project import KEYS, declaration, make_project

    data = {**declaration("any", "any")["data"], "expectations": "include/suite.yaml"}
    project = make_project(folder, watch=WATCH, rollout=ROLLOUT)
    data["source"] = project.fields["data"]["source"]
    project.fields["data"] = data
    (folder / "include" / "suite.yaml").write_text(SUITE)
    (folder / "include" / "loops" / f"{project.model}.yaml").write_text(json.dumps(project.fields))
    scheduler = InProcessScheduler(project.dags)
    for key in KEYS[:2]:
        project.put(key)
        project.ingest(scheduler, key)
    project.at_night(scheduler, KEYS[1])
    for key in KEYS[2:4]:
        project.put(key, level=6.0, shift=3.0)
        project.ingest(scheduler, key)
    project.put(KEYS[4])
    project.ingest(scheduler, KEYS[4])
    return project, scheduler


def describe(project: Project, scheduler: InProcessScheduler) -> dict[str, Any]:
    """Return the tasks and the ledger as JSON values."""
    tasks = [
        {"job": f"{task.dag_id}.{task.task_id}", "run": task.run_id, "map": task.map_index, "state": str(task.state)}
        for task in scheduler.task_instances()
    ]
    return {
        "model": project.model,
        "tasks": tasks,
        "records": [record.to_json() for record in project.records],
        "errors": [text for _, text in scheduler.failures()],
    }


def main() -> None:
    """Run the history below the folder that is the one argument."""
    folder = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tasks print is no answer
    isolate_airflow(folder / "airflow")
    from airflow_mlops.testing.metadata import create_metadata

    create_metadata()
    answers.write(json.dumps(describe(*run_history(folder / "project"))))
    answers.close()


if __name__ == "__main__":
    main()
