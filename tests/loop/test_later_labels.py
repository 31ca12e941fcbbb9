"""Labels that come a week after their rows, through the real scheduler and the real stores."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from airflow_mlops.core.data.labels.take_labels import take_labels
from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ledger.watch_details import PerformanceJudged
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from tests.loop.by_core import roll_out
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, states, week

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

WATCHING = '''"""The watch of a loop whose labels come later, as operators of an ordinary Dag."""
from airflow.sdk import DAG

from airflow_mlops.operators.labels import TakeLabelsOperator
from airflow_mlops.operators.watch import MeasurePerformanceOperator, WatchOverdueOperator

LOOP = {{"loop": "include/loops/{model}.yaml", "root": {root!r}}}
STEP = {{**LOOP, "partition": "{{{{ dag_run.conf['now'] }}}}", "retries": 0}}

with DAG("{model}_watching", schedule=None):
    labels = TakeLabelsOperator(task_id="labels", **STEP)
    performance = MeasurePerformanceOperator(task_id="performance", trigger_rule="all_done", **STEP)
    labels >> performance >> WatchOverdueOperator(task_id="overdue", trigger_rule="all_done", **STEP)
'''
ALERTS = """
from pathlib import Path


def tell(context):
    with Path(__file__).with_name("told.txt").open("a") as file:
        file.write(f"{context['exception']}\\n")
"""


def deliver(project: Project, tick: str, of: str, *, plus: float = 0.0) -> None:
    """Put the labels of a week where they are delivered with another one's tick."""
    folder = project.root / "include" / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    labels = week(of).select(["id", "y"]).to_pandas()
    labels["y"] += plus
    labels.to_parquet(folder / f"{partition_slug(tick)}.parquet")


def make_again(project: Project) -> Project:
    """Write the declaration of a project whose fields a test has changed, and its own Dag."""
    declared = project.root / "include" / "loops" / f"{project.model}.yaml"
    declared.write_text(json.dumps(project.fields, indent=1))
    (project.dags / "loop_dags.py").write_text(WATCHING.format(model=project.model, root=str(project.root)))
    return project


def test_windows_are_judged_when_their_labels_come_and_what_is_missing_is_told(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    package = f"late_{os.getpid()}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "pager.py").write_text(ALERTS)
    source = {"kind": "parquet", "uri": "include/labels/{partition}.parquet"}
    project = make_project(tmp_path, notify=[f"{package}.pager:tell"])
    project.fields["data"]["labels"] = {"source": source, "delay": 1}
    project.fields["watch"]["overdue"] = 24
    project = make_again(project)
    for number in range(5):
        project.put(KEYS[number], week(KEYS[number]).drop_columns("y"))
        if 0 < number < 4:
            deliver(project, KEYS[number], KEYS[number - 1])
            take_labels(project.workspace, KEYS[number])
        project.publish(KEYS[number])
    decide_and_record(project.workspace, KEYS[2], trigger="nightly")
    project.register(KEYS[2])
    roll_out(project.workspace, KEYS[2])
    for number in (3, 4):
        score_partition(project.workspace, KEYS[number])

    scheduler = start_scheduler(project.dags)

    def watching(now: str) -> dict[str, str | None]:
        scheduler.trigger(f"{project.model}_watching", conf={"now": now})
        scheduler.run_until_idle()
        return states(scheduler, f"{project.model}_watching")

    def performance(key: str) -> PerformanceJudged:
        return project.workspace.state().performance[key]

    assert watching(KEYS[3]) == {"labels": "success", "performance": "success", "overdue": "success"}
    assert (performance(KEYS[3]).verdict, performance(KEYS[3]).rows) == ("insufficient data", 0)
    assert watching(KEYS[4])["labels"] == "skipped", "nothing has come yet, and that fails nothing"
    assert performance(KEYS[4]).rows == 0
    scheduler.trigger(f"{project.model}_watching", conf={"now": f"{KEYS[4][:8]}05T02:00:00"})
    scheduler.run_until_idle()
    messages = (tmp_path / package / "told.txt").read_text().splitlines()
    assert messages == [f"labels are overdue: partition {KEYS[3]} is without any, 1 ticks after their own"]

    deliver(project, KEYS[4], KEYS[3], plus=9.0)
    assert watching(KEYS[4])["labels"] == "success"
    judged = performance(KEYS[3])
    assert (judged.verdict, judged.rows, judged.as_of) == ("alarm", 120, KEYS[4])
    assert scheduler.failures() == []
    deliver(project, KEYS[2], KEYS[1], plus=50.0)
    take_labels(project.workspace, KEYS[2])
    assert reproduce_version(project.workspace, "1").verdict == "identical"
    assert pq.read_table(project.file(KEYS[0])).column_names == ["id", "at", "x1", "x2", "place"]


def test_the_dags_of_a_loop_take_its_labels_and_retrain_on_what_they_say(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    source = {"kind": "parquet", "uri": "include/labels/{partition}.parquet"}
    project.fields["data"]["labels"] = {"source": source, "delay": 1}
    project.fields["watch"]["overdue"] = 24
    declared = project.root / "include" / "loops" / f"{project.model}.yaml"
    declared.write_text(json.dumps(project.fields, indent=1))
    scheduler = start_scheduler(project.dags)
    for number in range(6):
        project.put(KEYS[number], week(KEYS[number]).drop_columns("y"))
        if number:
            deliver(project, KEYS[number], KEYS[number - 1], plus=9.0 if number == 5 else 0.0)
        project.ingest(scheduler, KEYS[number])
        if number < 3:
            project.at_night(scheduler, KEYS[number])
        # The new model is refused: it has learnt from older weeks.
        assert [task.task_id for task, _ in scheduler.failures()][:1] == (["gate"] if number == 5 else [])
    state = project.workspace.state()
    assert state.performance[KEYS[4]].verdict == "alarm"
    assert [(record.partition, record.details.cause) for record in state.retrains.values()] == [
        (KEYS[2], "first model"),
        (KEYS[5], "alarm: performance"),
    ]
    assert_invariants(project.workspace)
