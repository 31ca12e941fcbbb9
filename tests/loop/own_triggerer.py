"""Airflow's own triggerer in a fork of the tests, run until what waits for it has ended."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

import psutil

from airflow_mlops.testing.metadata import session_scope

ENDED = ("success", "failed")
ALIVE_SECONDS = 3
"""Seconds without a heartbeat after which another triggerer takes over what a triggerer had."""


def callback_answers() -> list[tuple[str, str]]:
    """Return the state of each callback of a deadline, and what it has answered."""
    from airflow.models.callback import Callback
    from sqlalchemy import select

    with session_scope() as session:
        return [(str(callback.state), str(callback.output)) for callback in session.scalars(select(Callback))]


def run_triggerer(*, timeout_seconds: float = 60.0) -> list[tuple[str, str]]:
    """Run the triggerer until no callback waits for it, and return the state and the answer of each callback.

    Raises
    ------
    TimeoutError
        If a callback still waits after ``timeout_seconds``.
    """
    with own_triggerer() as triggerer:
        wait_for_triggerer(
            triggerer, lambda: all(state in ENDED for state, _ in callback_answers()), timeout_seconds=timeout_seconds
        )
    return callback_answers()


@contextmanager
def own_triggerer() -> Iterator[BaseProcess]:
    """Run a triggerer until the block ends; one that was killed before is left as it is."""
    process = multiprocessing.get_context("fork").Process(target=trigger)
    process.start()
    try:
        yield process
    finally:
        process.terminate()
        process.join(timeout=60)
        process.kill()


def wait_for_triggerer(triggerer: BaseProcess, done: Callable[[], bool], *, timeout_seconds: float = 60.0) -> None:
    """Wait until a triggerer has done something.

    Raises
    ------
    TimeoutError
        If it has not after ``timeout_seconds``, or has ended.
    """
    deadline = time.monotonic() + timeout_seconds
    while not done():
        if time.monotonic() > deadline or not triggerer.is_alive():
            raise TimeoutError(f"not done after {timeout_seconds:g} s; callbacks: {callback_answers()}")
        time.sleep(0.1)


def kill_triggerer(triggerer: BaseProcess) -> None:
    """Kill a triggerer with the processes that it has started, as a machine that loses its power."""
    assert triggerer.pid is not None
    for process in [*psutil.Process(triggerer.pid).children(recursive=True), psutil.Process(triggerer.pid)]:
        process.kill()
    triggerer.join(timeout=60)


def trigger() -> None:
    """Run the triggerer until it is terminated."""
    from airflow import settings
    from airflow.jobs.job import Job, run_job
    from airflow.jobs.triggerer_job_runner import TriggererJobRunner, TriggerRunnerSupervisor

    settings.reconfigure_orm()  # a connection of the parent is not for two processes
    TriggerRunnerSupervisor.health_check_threshold = ALIVE_SECONDS
    runner = TriggererJobRunner(Job(), capacity=10)
    run_job(runner.job, execute_callable=runner._execute)
