"""An ingest run takes in the partition that its key names, or fails and names the key that was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.cli import main
from tests.loop.project import KEYS, make_project

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "has no partition key"),
        ("2013-01-23T00:00:00", "2013-01-27T00:00:00, and the partition before it is 2013-01-20T00:00:00"),
        ("2013-01-20T00:30:00", "2013-01-27T00:00:00, and the partition before it is 2013-01-20T00:00:00"),
    ],
)
def test_an_ingest_run_without_a_key_of_the_loop_fails_without_retry_and_takes_nothing(
    key: str | None, message: str, tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    dag_file = project.dags / "loop_dags.py"
    dag_file.write_text(dag_file.read_text().replace('"retries": 0', '"retries": 2'))
    project.put(KEYS[2])
    project.publish(KEYS[2])
    before = project.records
    scheduler = start_scheduler(project.dags)
    scheduler.trigger(project.dag("ingest"), partition_key=key)
    scheduler.run_until_idle()
    failures = {record.task_id: (record.state, text) for record, text in scheduler.failures()}
    state, text = failures["snapshot"]
    assert state == "failed"
    assert message in text
    assert project.records == before
    assert [run.state for run in scheduler.dag_runs()] == ["failed"]


def test_a_command_about_a_time_between_two_ticks_names_both(
    tmp_path: Path, airflow_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    loop = tmp_path / "include" / "loops" / f"{project.model}.yaml"
    loop.write_text(json.dumps(project.fields))
    for command in (["quarantine", "show"], ["quarantine", "release"], ["report"], ["skew"]):
        assert main([*command, str(loop), "--root", str(tmp_path), "--partition", "2013-01-23"]) != 0
        printed = capsys.readouterr()
        assert "that time lies in partition 2013-01-27T00:00:00" in printed.err + printed.out
