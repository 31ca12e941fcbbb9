"""The tutorial *From an empty folder*: its commands are run in order, by the real scheduler where Airflow runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.loop.new_project import work_in
from tests.loop.newcomer import MORE_PARCELS, PAGE, Newcomer
from tests.loop.tutorial_page import blocks, follow_page

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

HOUSE = Path(__file__).resolve().parents[2]
MOST_COMMANDS = 6


# Airflow 3.3 reads the rules of .airflowignore by a name that pathspec 1.0 has replaced.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_the_commands_of_the_page_lead_from_an_empty_folder_to_a_champion_and_slower_parcels_to_the_next(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    newcomer = Newcomer(start_scheduler)
    with work_in(tmp_path):
        assert follow_page(PAGE, newcomer.type, tmp_path) == 5
        (tmp_path / "more_parcels.py").write_text(MORE_PARCELS, encoding="utf-8")
        newcomer.type("python more_parcels.py")
        assert newcomer.airflow is not None
        for key in ("2025-11-30T00:00:00", "2025-12-07T00:00:00"):
            newcomer.airflow.trigger("parcels_ingest", partition_key=key)
            newcomer.airflow.run_until_idle()
        status, history = (newcomer.type(f"airflow-mlops {name} parcels") for name in ("status", "history"))
    assert newcomer.airflow.failures() == []
    assert "champion          version 2" in status
    assert "retrains          2, promotions 2, rollbacks 0" in status
    assert "decided to retrain (alarm: performance)" in history


def test_a_newcomer_types_at_most_six_commands_until_the_loop_runs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    until_it_runs = page[page.index("## 2.") : page.index("## 5.")]
    commands = [line for _, language, text in blocks(until_it_runs) if language == "bash" for line in text.splitlines()]
    assert commands[-1].startswith("airflow-mlops enable")
    assert len(commands) <= MOST_COMMANDS, commands


def test_the_tests_of_a_new_project_pass(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HOUSE / "plugins")}
    environment.pop("AIRFLOW_HOME", None)
    for arguments in (["-m", "airflow_mlops.cli", "init", "--model", "bakery"], ["-m", "pytest", "-q", "tests"]):
        ended = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 passed" in ended.stdout
