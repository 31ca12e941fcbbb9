"""A loop in a process of its own, run by ``python -m tests.loop.traced_history FOLDER``.

Airflow sets up its tracing once in a process, from the environment. Each task runs in a process that Airflow's own
supervisor forks, as under any executor, with a span of the task and a log of its own. The answer on standard output is
JSON: the states of the tasks, and the lines of their logs.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from airflow_mlops.testing.airflow_home import isolate_airflow

WATCH = {"drift": {"alarm_rate": 0.001}, "performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}
ROLLOUT = {"stages": [{"shadow": 100}, {"live": 100}], "margin": 0.25, "min_rows": 20}
SETTINGS = {
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
    # How long the supervisor may take to see that a task has ended, in seconds.
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
}


def run_loop(folder: Path) -> dict[str, Any]:
    """Run a loop to its first champion, one more partition through scoring and the watch, and version 2 to live."""
    from tests.loop.forked_tasks import ForkingScheduler
    from tests.loop.project import KEYS, make_project

    project = make_project(folder, watch=WATCH, rollout=ROLLOUT)
    with ForkingScheduler(project.dags) as scheduler:
        for key in KEYS[:2]:
            project.put(key)
            project.ingest(scheduler, key)
        project.at_night(scheduler, KEYS[1])
        project.put(KEYS[2])
        project.ingest(scheduler, KEYS[2])
        scheduler.trigger(project.dag("train"), partition_key=KEYS[2])
        scheduler.run_until_idle()
        tasks: dict[str, list[str]] = {}
        for task in scheduler.task_instances():
            tasks.setdefault(f"{task.dag_id}.{task.task_id}", []).append(str(task.state))
    return {"model": project.model, "tasks": tasks, "logs": log_lines()}


def log_lines() -> dict[str, list[dict[str, Any]]]:
    """Return the lines of the logs of all tasks, by Dag and task."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(Path(os.environ["AIRFLOW_HOME"], "logs").rglob("attempt=*.log")):
        parts = dict(part.split("=", 1) for part in file.parts if "=" in part)
        name = f"{parts['dag_id']}.{parts['task_id']}"
        lines.setdefault(name, []).extend(json.loads(line) for line in file.read_text().splitlines())
    return lines


def main() -> None:
    """Run the loop below a folder."""
    folder = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the tasks print is no answer
    isolate_airflow(folder / "airflow")
    os.environ.update(SETTINGS)
    from airflow_mlops.testing.metadata import create_metadata

    create_metadata()
    (folder / "project").mkdir()
    answers.write(json.dumps(run_loop(folder / "project")))
    answers.close()


if __name__ == "__main__":
    main()
