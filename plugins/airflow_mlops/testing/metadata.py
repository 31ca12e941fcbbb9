"""The metadata database of an Airflow in this process: its tables, its runs and tasks as plain records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class TaskRecord:
    """One task instance as the metadata database holds it."""

    dag_id: str
    task_id: str
    map_index: int
    state: str | None
    partition_key: str | None
    run_id: str
    try_number: int


@dataclass(frozen=True)
class RunRecord:
    """One Dag run as the metadata database holds it."""

    dag_id: str
    run_id: str
    state: str
    partition_key: str | None
    run_type: str


def create_metadata() -> None:
    """Create the tables of the configured metadata database, if there are none."""
    from airflow.utils.db import initdb

    initdb()


def forget_everything() -> None:
    """Delete Dags, runs, events, variables and connections from the metadata database; keep its tables."""
    from airflow.models.base import Base

    kept_tables = {"log_template", "slot_pool", "alembic_version"}
    with session_scope() as session:
        present = set(_table_names(session))
        for table in reversed(Base.metadata.sorted_tables):
            if table.name in present - kept_tables:
                session.execute(table.delete())


def session_scope() -> Any:
    """Return a context manager whose session commits at its end."""
    from airflow.utils.session import create_session

    return create_session()


def read_tasks() -> list[TaskRecord]:
    """Return all task instances, those of the oldest run first."""
    from airflow.models import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    query = (
        select(TaskInstance, DagRun.partition_key)
        .join(DagRun, (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id))
        .order_by(DagRun.id, TaskInstance.start_date, TaskInstance.task_id, TaskInstance.map_index)
    )
    with session_scope() as session:
        return [
            TaskRecord(ti.dag_id, ti.task_id, ti.map_index, _text(ti.state), key, ti.run_id, ti.try_number)
            for ti, key in session.execute(query)
        ]


def read_runs() -> list[RunRecord]:
    """Return all Dag runs in the order in which they were created."""
    from airflow.models import DagRun
    from sqlalchemy import select

    with session_scope() as session:
        return [
            RunRecord(run.dag_id, run.run_id, str(_text(run.state)), run.partition_key, str(_text(run.run_type)))
            for run in session.scalars(select(DagRun).order_by(DagRun.id))
        ]


def read_xcom(dag_id: str, run_id: str, task_id: str) -> Any:
    """Return the return value of a task, of a mapped task the first; None without one."""
    from airflow.models.xcom import XComModel

    query = XComModel.get_many(key="return_value", run_id=run_id, dag_ids=dag_id, task_ids=task_id)
    with session_scope() as session:
        row = session.execute(query).scalars().first()
        return None if row is None else XComModel.deserialize_value(row)


def progress(session: Session) -> object:
    """Return a value that changes whenever a run or a task has moved."""
    from airflow.models import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import func, select

    runs = session.execute(select(DagRun.state, func.count()).group_by(DagRun.state)).all()
    tasks = session.execute(
        select(TaskInstance.state, func.count(), func.sum(TaskInstance.try_number)).group_by(TaskInstance.state)
    ).all()
    return sorted(map(str, runs)), sorted(map(str, tasks))


def _table_names(session: Session) -> Sequence[str]:
    from sqlalchemy import inspect

    return inspect(session.connection()).get_table_names()


def _text(state: object) -> str | None:
    return None if state is None else str(getattr(state, "value", state))
