"""Fixtures of the tests that run whole Dags: one Airflow home per session, one scheduler per test."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_mlops.testing.airflow_home import isolate_airflow

SchedulerFactory = Callable[[Path], "InProcessScheduler"]

if "airflow.configuration" not in sys.modules:
    _HOME = tempfile.mkdtemp(prefix="airflow-home-")
    atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
    isolate_airflow(Path(_HOME))

from airflow_mlops.testing.metadata import create_metadata, forget_everything  # noqa: E402
from airflow_mlops.testing.scheduler import InProcessScheduler  # noqa: E402


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The home of the Airflow of this session; its metadata database has its tables."""
    create_metadata()
    return Path(os.environ["AIRFLOW_HOME"])


@pytest.fixture
def start_scheduler(airflow_home: Path) -> Iterator[SchedulerFactory]:
    """A function that loads a folder of Dags into a scheduler; nothing is left in the database afterwards."""
    started: list[InProcessScheduler] = []

    def start(dags_folder: Path) -> InProcessScheduler:
        scheduler = InProcessScheduler(dags_folder)
        started.append(scheduler)
        return scheduler

    forget_everything()
    yield start
    for scheduler in started:
        scheduler.close()
    forget_everything()
