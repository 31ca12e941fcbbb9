"""Airflow's own scheduler, run until idle inside the calling process.

`InProcessScheduler` is for tests of Dags that start each other: it loads a folder of Dags into the metadata
database, lets the real `SchedulerJobRunner` create runs and queue tasks, and executes every task in this
process, one after another. ``dag.test()`` cannot do this, because it starts no consumer of an asset event.
Because nothing is forked, libraries that do not survive a fork (delta-rs) may be used before and in a task.

    with InProcessScheduler(dags_folder) as scheduler:
        scheduler.trigger("flights_ingest", partition_key="2013-03-10T00:00:00")
        scheduler.run_until_idle()
        assert not scheduler.failures()

Schedules are silent: only `trigger` and asset events start runs, never the clock. Triggers are run by `run_triggers`
alone, so a task that defers, or waits for a person, stays where it is and the scheduler counts as idle.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_mlops.testing.metadata import (
    RunRecord,
    TaskRecord,
    progress,
    read_runs,
    read_tasks,
    read_xcom,
    session_scope,
)
from airflow_mlops.testing.settling import unsettled_work

if TYPE_CHECKING:
    from airflow_mlops.testing.own_executor import OwnProcessExecutor

_IDLE_LOOPS = 2
_IDLE_SLEEP_SECONDS = 0.005
_BUNDLE = "dags-folder"


class NotSettledError(RuntimeError):
    """The scheduler still had work when its time was up."""


class InProcessScheduler:
    """A scheduler with an executor of its own for the Dags below one folder.

    The metadata database is the one that Airflow was configured with; `create_metadata` creates its tables.
    """

    def __init__(self, dags_folder: Path, *, unpause: bool = True) -> None:
        """Load the Dags of ``dags_folder`` and, unless told otherwise, unpause all of them.

        Raises
        ------
        ImportError
            If a file of the folder cannot be imported; the message holds the traceback.
        """
        self._dags_folder = dags_folder
        self._executor: OwnProcessExecutor | None = None
        self._dags: dict[str, Any] = {}
        self.sync()
        if unpause:
            self.unpause(*self._dags)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def dag_ids(self) -> list[str]:
        """The ids of the Dags that were loaded, sorted."""
        return sorted(self._dags)

    @property
    def task_seconds(self) -> float:
        """The CPU seconds of all tasks so far; what else this process has taken is the scheduler's."""
        return self._executor.task_seconds if self._executor else 0.0

    def sync(self) -> None:
        """Parse the folder (again) and write its Dags to the metadata database.

        Raises
        ------
        ImportError
            If a file cannot be imported; the message names it and holds the traceback.
        """
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

        os.environ["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = _bundle_configuration(self._dags_folder)
        DagBundlesManager().sync_bundles_to_db()
        bag = BundleDagBag(dag_folder=str(self._dags_folder), bundle_path=self._dags_folder, bundle_name=_BUNDLE)
        if bag.import_errors:
            problems = "\n".join(f"{file}:\n{error}" for file, error in sorted(bag.import_errors.items()))
            raise ImportError(f"{len(bag.import_errors)} Dag files cannot be imported.\n{problems}")
        sync_bag_to_db(bag, _BUNDLE, None)
        self._dags = dict(bag.dags)

    def unpause(self, *dag_ids: str) -> None:
        """Unpause the Dags; they receive asset events from now on."""
        self._set_paused(dag_ids, False)

    def pause(self, *dag_ids: str) -> None:
        """Pause the Dags; events that arrive meanwhile are lost to them, as in any Airflow."""
        self._set_paused(dag_ids, True)

    def trigger(
        self,
        dag_id: str,
        *,
        partition_key: str | None = None,
        conf: dict[str, Any] | None = None,
        user: str | None = None,
    ) -> str:
        """Queue one run, of one partition where a key is given, in the name of ``user``; return the id of the run."""
        from airflow.api.common.trigger_dag import trigger_dag
        from airflow.utils.types import DagRunTriggeredByType

        run = trigger_dag(
            dag_id,
            triggered_by=DagRunTriggeredByType.TEST,
            partition_key=partition_key,
            conf=conf or {},
            triggering_user_name=user,
        )
        if run is None:
            raise LookupError(f"Airflow created no run of {dag_id!r}; the loaded Dags are {self.dag_ids}.")
        return str(run.run_id)

    def emit(self, uri: str, *, partition_key: str | None = None, **extra: Any) -> None:
        """Emit an asset event, as an external monitor would; the next scheduler run starts the consumers."""
        from airflow.assets.manager import asset_manager
        from airflow.models.asset import AssetModel
        from sqlalchemy import select

        with session_scope() as session:
            asset = session.scalar(select(AssetModel).where(AssetModel.uri == uri))
            if asset is None:
                raise LookupError(f"no loaded Dag knows an asset {uri!r}")
            asset_manager.register_asset_change(asset=asset, extra=extra, partition_key=partition_key, session=session)

    def run_until_idle(self, *, timeout_seconds: float = 120.0) -> None:
        """Run until no Dag run and no partition that could start one is left waiting.

        Raises
        ------
        NotSettledError
            If work is still moving, or waiting for a retry, after ``timeout_seconds``. Runs that cannot
            move by themselves (a paused Dag, a deferred task) are left and not an error.
        """
        deadline = time.monotonic() + timeout_seconds
        before: object = None
        while True:
            self._run_scheduler()
            with session_scope() as session:
                waiting = unsettled_work(session)
                now = progress(session)
            if not waiting.moving or (now == before and not waiting.retries):
                return
            if time.monotonic() > deadline:
                raise NotSettledError(
                    f"After {timeout_seconds:g} s there is still work: {waiting.describe()}. Raise "
                    "timeout_seconds, or look at failures() and task_instances() for what repeats."
                )
            before = now

    def run_triggers(self, *, timeout_seconds: float = 30.0) -> int:
        """Run the triggers of deferred tasks until each has fired once, and resume the tasks; return the number fired.

        A trigger that has not fired when its time is up is left, and its task waits on.
        """
        from airflow_mlops.testing.fired_triggers import fire_triggers

        return fire_triggers(timeout_seconds)

    def respond(self, dag_id: str, task_id: str, chosen: str, *, user: str, **params: Any) -> None:
        """Respond, as ``user``, to the human-in-the-loop task of the newest run; the next scheduler run continues.

        Raises
        ------
        fastapi.HTTPException
            As Airflow's own route does: no response is pending, or it was given before.
        """
        from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
        from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail

        answer = UpdateHITLDetailPayload(chosen_options=[chosen], params_input=params)
        run = self.dag_runs(dag_id)[-1]
        with session_scope() as session:
            update_hitl_detail(dag_id, run.run_id, task_id, answer, _Person(user), session)  # type: ignore[arg-type]

    def task_instances(self, dag_id: str | None = None, partition_key: str | None = None) -> list[TaskRecord]:
        """Return the task instances, oldest run first, of one Dag and one partition where these are given."""
        return [
            record
            for record in read_tasks()
            if dag_id in (None, record.dag_id) and partition_key in (None, record.partition_key)
        ]

    def dag_runs(self, dag_id: str | None = None) -> list[RunRecord]:
        """Return the Dag runs in the order in which they were created."""
        return [run for run in read_runs() if dag_id in (None, run.dag_id)]

    def failures(self) -> list[tuple[TaskRecord, str]]:
        """Return the task instances that failed, each with the traceback of its last attempt."""
        failed_states = {"failed", "upstream_failed"}
        errors = self._executor.errors if self._executor else {}
        return [
            (record, _explain(errors.get((record.dag_id, record.run_id, record.task_id, record.map_index))))
            for record in self.task_instances()
            if record.state in failed_states
        ]

    def xcom(self, dag_id: str, task_id: str, *, partition_key: str | None = None) -> Any:
        """Return the return value of a task in the newest run of its Dag (and partition), or None."""
        runs = [run for run in self.dag_runs(dag_id) if partition_key in (None, run.partition_key)]
        return read_xcom(dag_id, runs[-1].run_id, task_id) if runs else None

    def close(self) -> None:
        """Remove the environment variable that names the folder of the Dags."""
        os.environ.pop("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", None)

    def _run_scheduler(self) -> None:
        from airflow.jobs.job import Job, run_job

        from airflow_mlops.testing.own_executor import OwnProcessExecutor, PromptSchedulerJobRunner

        self._silence_schedules()
        if self._executor is None:
            self._executor = OwnProcessExecutor(self._dags)
        self._executor.dags = self._dags
        runner = PromptSchedulerJobRunner(
            Job(),
            num_runs=_IDLE_LOOPS,
            only_idle=True,
            scheduler_idle_sleep_time=_IDLE_SLEEP_SECONDS,
            executors=[self._executor],
        )
        run_job(job=runner.job, execute_callable=runner._execute)

    def _silence_schedules(self) -> None:
        from airflow.models.dag import DagModel
        from sqlalchemy import update

        with session_scope() as session:
            session.execute(update(DagModel).values(next_dagrun_create_after=None))

    def _set_paused(self, dag_ids: Iterable[str], paused: bool) -> None:
        from airflow.models.dag import DagModel
        from sqlalchemy import update

        unknown = sorted(set(dag_ids) - set(self._dags))
        if unknown:
            raise LookupError(f"There is no Dag {unknown[0]!r}; the loaded Dags are {self.dag_ids}.")
        with session_scope() as session:
            session.execute(update(DagModel).where(DagModel.dag_id.in_(list(dag_ids))).values(is_paused=paused))


@dataclass(frozen=True)
class _Person:
    """The part of a user that the route needs."""

    name: str

    def get_id(self) -> str:
        return self.name

    def get_name(self) -> str:
        return self.name


def _bundle_configuration(folder: Path) -> str:
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return json.dumps([{"name": _BUNDLE, "classpath": local, "kwargs": {"path": str(folder)}}])


def _explain(error: BaseException | None) -> str:
    if error is None:
        return "no exception was kept: a task before it failed, or the scheduler itself failed it"
    return "".join(traceback.format_exception(error))
