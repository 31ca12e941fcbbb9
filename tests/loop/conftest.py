"""Fixtures of the tests that run whole Dags: one Airflow home per session, one scheduler per test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_mlops.testing.metadata import create_metadata, forget_everything
from airflow_mlops.testing.scheduler import InProcessScheduler

SchedulerFactory = Callable[[Path], InProcessScheduler]


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
