"""A scheduler that does not wait, and an executor that runs each task in the process of the scheduler."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

from airflow.executors.base_executor import BaseExecutor
from airflow.executors.workloads import ExecuteTask
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models import DagRun
from airflow.sdk import timezone
from airflow.sdk.execution_time.supervisor import run_task_in_process
from sqlalchemy import update
from sqlalchemy.orm import Session

TaskKey = tuple[str, str, str, int]
"""Dag, run, task and map index (-1 where the task is not mapped)."""


class OwnProcessExecutor(BaseExecutor):
    """Executes what the scheduler queues, and keeps the exception of each task's last attempt.

    :param dags: the parsed Dags by id, whose task objects are executed
    """

    is_local = True

    def __init__(self, dags: Mapping[str, Any]) -> None:
        super().__init__(parallelism=64)
        self.dags = dags
        self.errors: dict[TaskKey, BaseException] = {}
        self.task_seconds = 0.0
        """CPU seconds of all tasks, their child processes included."""

    def _process_workloads(self, workload_items: Sequence[Any]) -> None:
        for workload in workload_items:
            if not isinstance(workload, ExecuteTask):
                raise TypeError(f"Only tasks can be run in this process, not a {type(workload).__name__}.")
            self.queued_tasks.pop(workload.ti.key, None)
            self.running.add(workload.ti.key)
            before = cpu_seconds()
            self._run(workload)
            self.task_seconds += cpu_seconds() - before

    def _run(self, workload: ExecuteTask) -> None:
        ti = workload.ti
        key: TaskKey = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        self.errors.pop(key, None)
        try:
            result = run_task_in_process(ti=cast("Any", ti), task=self.dags[ti.dag_id].get_task(ti.task_id))
        except Exception as error:  # whatever the task runner raises is a failed task, never a dead scheduler
            self.errors[key] = error
            self.fail(ti.key, error)
            return
        if result.error is not None:
            self.errors[key] = result.error
        self.success(ti.key)

    def end(self) -> None:
        """Do nothing: every task has ended before the scheduler continues."""

    def terminate(self) -> None:
        """Do nothing: there is no worker."""


def cpu_seconds() -> float:
    """Return the CPU seconds of this process until now, with those of its child processes that have ended."""
    return sum(os.times()[:4])


class PromptSchedulerJobRunner(SchedulerJobRunner):
    """The scheduler without the delay of a second that SQLite causes for each new run.

    A queued run starts when its ``run_after`` is not later than the database's now, and SQLite's now is
    the last whole second: a run that was created within this second would wait for the next one.
    """

    def _start_queued_dagruns(self, session: Session) -> None:
        now = timezone.utcnow()
        earlier = now.replace(microsecond=0) - timedelta(seconds=1)
        session.execute(
            update(DagRun)
            .where(DagRun.state == "queued", DagRun.run_after > earlier, DagRun.run_after <= now)
            .values(run_after=earlier)
        )
        super()._start_queued_dagruns(session)
