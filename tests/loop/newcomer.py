"""A newcomer, who follows a page in this process: its files are written, its commands run, its outputs compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from airflow_mlops.testing.scheduler import InProcessScheduler
from tests.loop.tutorial_page import run_command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "from-an-empty-folder.md"


class Newcomer:
    """A person who types the commands of the page, with a scheduler in this process for ``airflow standalone``."""

    def __init__(self, start_scheduler: Callable[[Path], InProcessScheduler]) -> None:
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
