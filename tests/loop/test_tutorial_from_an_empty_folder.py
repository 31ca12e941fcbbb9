"""The tutorial *From an empty folder*: its commands are run in order, by the real scheduler where Airflow runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.loop.new_project import work_in
from tests.loop.tutorial_page import assert_printed, blocks, run_command

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

HOUSE = Path(__file__).resolve().parents[2]
PAGE = HOUSE / "docs" / "tutorial" / "from-an-empty-folder.md"
MOST_COMMANDS = 6


class Newcomer:
    """A person who types the commands of the page, with a scheduler in this process for ``airflow standalone``."""

    def __init__(self, start_scheduler: SchedulerFactory) -> None:
        self.start_scheduler = start_scheduler
        self.airflow: InProcessScheduler | None = None

    def type(self, line: str) -> str:
        """Run a command and, where Airflow runs, all that follows from it; return what it prints."""
        if line == "airflow standalone":
            self.airflow = self.start_scheduler(Path("dags").resolve())
            self.airflow.pause(*self.airflow.dag_ids)  # as Airflow reads new Dags
            return ""
        if line.startswith("airflow dags trigger "):
            assert self.airflow is not None
            self.airflow.trigger(line.rsplit(maxsplit=1)[-1])
            printed = ""
        else:
            printed = run_command(line)
        if self.airflow is not None:
            self.airflow.run_until_idle()
        return printed


# Airflow 3.3 reads the rules of .airflowignore by a name that pathspec 1.0 has replaced.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_the_commands_of_the_page_lead_from_an_empty_folder_to_a_champion(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    newcomer, printed, compared = Newcomer(start_scheduler), "", 0
    with work_in(tmp_path):
        for paragraph, language, text in blocks(PAGE.read_text(encoding="utf-8")):
            if language == "python":
                (name,) = re.findall(r"`([a-z_/]+\.py)`", paragraph)
                Path(name).write_text(text, encoding="utf-8")
            elif language == "bash":
                printed = "".join(map(newcomer.type, text.splitlines()))
            else:
                assert_printed(text, printed)
                compared += 1
    assert compared == 5
    assert newcomer.airflow is not None
    assert newcomer.airflow.failures() == []


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
    assert "2 passed" in ended.stdout
