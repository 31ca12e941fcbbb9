"""A project whose ``include/`` lies inside the Dags folder, as where only that folder reaches the workers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.loop.conftest import SchedulerFactory
from tests.loop.project import KEYS, make_project


# Airflow's own reader of .airflowignore.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_a_loop_whose_files_all_lie_in_the_dags_folder_trains_and_promotes(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path / "project")
    for name in ("include", f"train_{project.model}"):
        shutil.move(project.root / name, project.dags / name)
    (project.dags / ".airflowignore").write_text(f"include/\ntrain_{project.model}/\n")
    project.root = project.dags
    scheduler = start_scheduler(project.root)
    project.first_champion(scheduler, KEYS[:2])
    assert {run.state for run in scheduler.dag_runs(project.dag("train"))} == {"success"}
