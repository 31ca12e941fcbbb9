"""Reports in anybody's Dag and on the command line: drawn when something alarmed, or when a person asks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.models.xcom import XComModel
from sqlalchemy import select

from airflow_mlops.cli import main, report_command
from airflow_mlops.core.errors import DeclarationError, NotReadyError
from airflow_mlops.core.report import kept_reports
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.operators.report import ReportLink
from airflow_mlops.testing.metadata import session_scope
from tests.headless_chromium import Document
from tests.loop.project import KEYS, Project, make_project, states

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

DAG_FILE = '''"""An ordinary Dag that draws reports."""
from airflow.sdk import DAG

from airflow_mlops.operators.report import RenderReportOperator

STEP = {{"loop": "include/loops/{model}.yaml", "root": {root!r}, "retries": 0}}

with DAG("reports", schedule=None):
    RenderReportOperator(task_id="moved", partition="{moved}", **STEP)
    RenderReportOperator(task_id="calm", partition="{calm}", **STEP)
    RenderReportOperator(task_id="calm_too", partition="{calm}", always=True, evidently=False, **STEP)
    RenderReportOperator(task_id="unknown", partition="2013-12-29", always=True, **STEP)
'''


def judged_project(tmp_path: Path) -> Project:
    """Return a loop whose champion has scored a calm week and one that has moved, both judged."""
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    for key, shift in ((KEYS[2], 0.0), (KEYS[3], 4.0)):
        project.put(key, shift=shift)
        project.publish(key)
        score_partition(project.workspace, key)
        detect_drift(project.workspace, key)
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Such a loop."""
    return judged_project(tmp_path)


def report(project: Project, *more: str) -> None:
    """Run the command as a person would."""
    commands = argparse.ArgumentParser()
    report_command.add_commands(commands.add_subparsers(required=True))
    loop = str(project.root / "include" / "loops" / f"{project.model}.yaml")
    arguments = commands.parse_args(["report", loop, "--root", str(project.root), *more])
    arguments.run(arguments)


def link_of(task_id: str) -> str | None:
    """Return the link of a task's button as Airflow has stored it."""
    query = select(XComModel).where(XComModel.key == ReportLink().xcom_key, XComModel.task_id == task_id)
    with session_scope() as session:
        row = session.scalars(query).first()
        return None if row is None else XComModel.deserialize_value(row)


def test_an_alarm_has_its_pages_a_calm_week_has_none_unless_it_is_always_drawn(
    project: Project, start_scheduler: SchedulerFactory
) -> None:
    dag = DAG_FILE.format(model=project.model, root=str(project.root), moved=KEYS[3], calm=KEYS[2])
    (project.dags / "loop_dags.py").write_text(dag)
    scheduler = start_scheduler(project.dags)
    scheduler.trigger("reports")
    scheduler.run_until_idle()
    assert states(scheduler, "reports") == {
        "moved": "success",
        "calm": "skipped",
        "calm_too": "success",
        "unknown": "skipped",
    }
    drawn, evidence = scheduler.xcom("reports", "moved"), project.workspace.evidence
    assert drawn["page"] == f"/airflow-mlops/reports/{project.model}/{KEYS[3]}"
    assert link_of("moved") == drawn["page"]
    assert link_of("calm") in ("", None)
    assert "moved by" in Document(kept_reports.load_page(evidence, drawn["own"])).text
    assert "Evidently" in kept_reports.load_page(evidence, drawn["evidently"])
    assert set(scheduler.xcom("reports", "calm_too")) == {"partition", "page", "own"}
    whys = {
        (record.partition, record.details.engine): record.details.why for record in project.of_kind("report_rendered")
    }
    assert whys == {
        (KEYS[3], "own"): "alarm: drift",
        (KEYS[3], "evidently"): "alarm: drift",
        (KEYS[2], "own"): "drawn on every partition",
    }


def test_a_person_gets_the_newest_scored_partition_as_a_file(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "page.html"
    report(project, "--into", str(file))
    assert Document(file.read_text(encoding="utf-8")).title == f"{project.model}, partition {KEYS[3]}"
    (record,) = project.of_kind("report_rendered")
    assert f"{record.details.report}.json" in capsys.readouterr().out
    assert record.actor.startswith("person:")


def test_a_person_may_ask_for_evidentlys_page_and_for_another_partition(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    report(project, "--partition", KEYS[2][:10], "--engine", "evidently", "--into", str(file))
    assert f"partition {KEYS[2]}: inputs by Evidently" in file.read_text(encoding="utf-8")
    report(project, "--partition", KEYS[2][:10], "--engine", "evidently")
    assert len(project.of_kind("report_rendered")) == 1


def test_without_evidently_its_page_is_refused_with_the_name_of_the_extra_and_ours_is_drawn(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_mlops.core.watch.drift.evidently_extra.find_spec", lambda name: None)
    with pytest.raises(DeclarationError, match=r"airflow-mlops\[evidently\]"):
        report(project, "--engine", "evidently")
    report(project)
    assert [record.details.engine for record in project.of_kind("report_rendered")] == ["own"]


def test_a_partition_that_nobody_knows_or_a_file_that_cannot_be_written_is_told(
    project: Project, tmp_path: Path
) -> None:
    with pytest.raises(NotReadyError, match="neither published nor scored"):
        report(project, "--partition", "2013-12-29")
    with pytest.raises(DeclarationError, match="cannot be written"):
        report(project, "--into", str(tmp_path / "no folder" / "page.html"))


def test_before_anything_is_scored_there_is_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="no partition is scored yet"):
        report(make_project(tmp_path))


def test_the_watch_of_a_loop_draws_the_page_of_a_week_that_alarms_and_of_no_other(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    scheduler = start_scheduler(project.dags)
    project.first_champion(scheduler, KEYS[:2])
    for key, shift in ((KEYS[2], 0.0), (KEYS[3], 1.5)):
        project.put(key, shift=shift)
        project.ingest(scheduler, key)
    watch = project.dag("watch")
    assert states(scheduler, watch, KEYS[2])["report"] == "skipped"
    assert states(scheduler, watch, KEYS[3])["report"] == "success"
    assert {record.partition for record in project.of_kind("report_rendered")} == {KEYS[3]}


def test_the_command_line_knows_the_report(project: Project, tmp_path: Path) -> None:
    loop = str(project.root / "include" / "loops" / f"{project.model}.yaml")
    assert main(["report", loop, "--root", str(project.root), "--into", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").exists()
