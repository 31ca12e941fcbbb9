"""The operators of the watch in anybody's Dag: the one that the page shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops.core.rollout.score_partition import score_partition
from tests.loop.project import KEYS, make_project, states

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "operators-in-your-own-dag.md"


def dag_of_the_page(dag_id: str, model: str) -> str:
    """Return the Dag of the page that has an id, for a loop of another name."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    (code,) = [code for code in blocks if f'DAG("{dag_id}"' in code]
    return str(code).replace("bakery", model)


def test_the_watch_of_the_page_judges_decides_and_wakes_the_training(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    watch = {"drift": {}, "performance": {"metric": "mae", "min_rows": 20}, "checks": ["predictions"]}
    project = make_project(tmp_path, watch=watch)
    project.seed(KEYS[:2])
    project.put(KEYS[2], level=6.0, shift=9.0)
    project.publish(KEYS[2])
    score_partition(project.workspace, KEYS[2])
    (project.dags / "watched.py").write_text(dag_of_the_page("bakery_watched", project.model))
    scheduler = start_scheduler(project.dags)
    scheduler.pause(project.dag("rollout"))
    scheduler.trigger(f"{project.model}_watched")
    scheduler.run_until_idle()
    ended = states(scheduler, f"{project.model}_watched")
    assert {task for task, state in ended.items() if state == "skipped"} == {"regret"}  # the policy asks for none
    assert {state for task, state in ended.items() if task != "regret"} == {"success"}
    judged = {task: scheduler.xcom(f"{project.model}_watched", task) for task in ("drift", "performance", "checks")}
    assert (judged["drift"]["verdict"], judged["drift"]["drifted"]) == ("alarm", ["x1"])
    assert judged["performance"]["verdict"] == judged["checks"]["predictions"]["verdict"] == "alarm"
    decided = project.of_kind("retrain_decided")[-1]
    assert (decided.partition, decided.details.retrain) == (KEYS[2], True)
    assert [run.partition_key for run in scheduler.dag_runs(project.dag("train"))] == [KEYS[2]]
    assert project.of_kind("training_started")[-1].details.decision == decided.sequence
