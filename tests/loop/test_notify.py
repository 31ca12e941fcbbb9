"""A declared callback hears of a failed task, with the partition and the reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.loop.project import KEYS, make_project

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
    told = (tmp_path / package / "told.txt").read_text()
    assert told.startswith(f"snapshot {KEYS[0]} ")
    assert "the partition is empty: 0 rows arrived" in told


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
