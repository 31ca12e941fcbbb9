"""Airflow's own triggerer in a fork of the tests, run until the scheduler's callbacks have ended."""

from __future__ import annotations

import multiprocessing
import time

from airflow_mlops.testing.metadata import session_scope

ENDED = ("success", "failed")


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
    triggerer = multiprocessing.get_context("fork").Process(target=trigger)
    triggerer.start()
    deadline = time.monotonic() + timeout_seconds
    try:
        while not all(state in ENDED for state, _ in callback_answers()):
            if time.monotonic() > deadline or not triggerer.is_alive():
                raise TimeoutError(f"callbacks wait after {timeout_seconds:g} s: {callback_answers()}")
            time.sleep(0.1)
    finally:
        triggerer.terminate()
        triggerer.join(timeout=timeout_seconds)
        triggerer.kill()
    return callback_answers()


def trigger() -> None:
    """Run the triggerer until it is terminated."""
    from airflow import settings
    from airflow.jobs.job import Job, run_job
    from airflow.jobs.triggerer_job_runner import TriggererJobRunner

    settings.reconfigure_orm()  # a connection of the parent is not for two processes
    runner = TriggererJobRunner(Job(), capacity=10)
    run_job(runner.job, execute_callable=runner._execute)
