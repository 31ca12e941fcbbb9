"""A declared callback hears of a failed task, with the partition and the reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.rollout.roll_out import enter_stage, start_rollout
from tests.loop.project import KEYS, make_project
from tests.unit.core.ledger.histories import draft_of

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

ALERTS = """
from pathlib import Path


def tell(context):
    line = f"{context['ti'].task_id} {context['dag_run'].partition_key} {context['exception']}"
    Path(__file__).with_name("told.txt").write_text(line)
"""


def test_a_declared_callback_is_called_with_the_failed_task_and_its_reason(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    package = f"alerts_{os.getpid()}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "pager.py").write_text(ALERTS)
    project = make_project(tmp_path, notify=[f"{package}.pager:tell"])
    scheduler = start_scheduler(project.dags)
    project.put(KEYS[0], rows=0)
    project.ingest(scheduler, KEYS[0])
    message = (tmp_path / package / "told.txt").read_text()
    assert message.startswith(f"snapshot {KEYS[0]} ")
    assert "the partition is empty: 0 rows arrived" in message


def test_a_callback_is_not_called_while_nothing_fails(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    package = f"quiet_{os.getpid()}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "pager.py").write_text(ALERTS)
    project = make_project(tmp_path, notify=[f"{package}.pager:tell"])
    scheduler = start_scheduler(project.dags)
    project.put(KEYS[0])
    project.ingest(scheduler, KEYS[0])
    assert scheduler.failures() == []
    assert not (tmp_path / package / "told.txt").exists()


def test_a_rollback_that_the_watch_made_is_told_though_no_task_failed(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    package = f"watched_{os.getpid()}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "pager.py").write_text(ALERTS)
    stages = [{"shadow": 100, "bake": 5, "max_wait": 6}, {"live": 100}]
    project = make_project(tmp_path, notify=[f"{package}.pager:tell"], rollout={"stages": stages, "min_rows": 20})
    project.seed(KEYS[:2])
    project.put(KEYS[2])
    project.publish(KEYS[2])
    project.register(KEYS[2], by_hand=True)
    workspace = project.workspace
    version = start_rollout(workspace, KEYS[2])
    enter_stage(workspace, version, 0, KEYS[2])
    rollout = workspace.state().rollout
    assert rollout is not None
    failed: dict[str, Any] = {
        "version": version,
        "rollout": rollout.record,
        "stage": 0,
        "name": "shadow_100",
        "verdict": "fail",
        "reason": "as written",
        "rows": 120,
    }
    # The run that looked was killed before it took the version back.
    workspace.record_fact(draft_of(workspace, "stage_analysed", "look:as-written", KEYS[2], **failed))
    scheduler = start_scheduler(project.dags)
    project.put(KEYS[3])
    project.ingest(scheduler, KEYS[3])
    assert dict(project.workspace.state().quarantined.items()) == {version: "shadow_100: as written"}
    message = (tmp_path / package / "told.txt").read_text()
    assert message.startswith(f"reconcile {KEYS[3]} ")
    assert "version 2 was rolled back at shadow_100: as written" in message
    assert scheduler.failures() == []
