"""A newcomer, who follows a page in this process: its files are written, its commands run, its outputs compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from airflow_mlops.testing.scheduler import InProcessScheduler
from tests.loop.tutorial_page import run_command

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "from-an-empty-folder.md"

MORE_PARCELS = '''
"""Two more weeks of parcels, each half as long again on its way."""

from datetime import datetime, timedelta

import numpy as np
from make_parcels import CITIES

random = np.random.default_rng(2)
with open("parcels.csv", "a", encoding="utf-8") as file:
    for number in range(12 * 40, 14 * 40):
        sent = datetime(2025, 8, 31) + timedelta(weeks=number // 40, hours=4 * (number % 40))
        city, weight, express = number % 3, random.uniform(0.2, 20), int(random.random() < 0.3)
        hours = 1.5 * (20 + 15 * city + weight - 12 * express) + random.normal(scale=3)
        file.write(f"{number + 1};{sent:%d.%m.%Y %H:%M};{CITIES[city]};{weight:.1f};{express};{hours:.1f}\\n")
'''


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
