"""The Dags of a loop as Airflow knows them: owner, next run, failed runs, and the answers that are awaited."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

DAGS = ("control", "rollout", "train", "watch", "nightly", "score", "ingest")
"""The ends of the ids of a loop's Dags, consumers first: each hears only of Dags behind it."""
TAG = "airflow-mlops"


@dataclass(frozen=True)
class RunRef:
    """A Dag run."""

    dag_id: str
    run_id: str


@dataclass(frozen=True)
class OpenApproval:
    """A question that Airflow asks a person: its id, the task that waits for the answer, and its words.

    ``started_by`` is who started the run. Where people are ``assigned``, by their ids, nobody else may answer.
    """

    question: UUID
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    subject: str
    options: tuple[str, ...] = ()
    started_by: str | None = None
    assigned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class GivenAnswer:
    """The answer to a question: the options that were chosen, by whom, and the task that takes it in."""

    chosen: tuple[str, ...]
    by: str
    task_id: str
    state: str


@dataclass
class LoopFacts:
    """The facts of a loop's Dags; empty where Airflow has none of them.

    ``failed`` are the newest runs of Dags whose newest run failed.
    """

    owner: str | None = None
    tags: list[str] = field(default_factory=list)
    dags: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    next_run: datetime | None = None
    failed: list[RunRef] = field(default_factory=list)
    approvals: list[OpenApproval] = field(default_factory=list)

    def add_dag(self, row: Any) -> None:
        """Take in a Dag of the loop, a row of Airflow's table of Dags."""
        self.dags.append(row.dag_id)
        self.owner = self.owner or row.owners
        if row.is_paused:
            self.paused.append(row.dag_id)
        elif row.next_dagrun_create_after is not None:
            self.next_run = min(filter(None, (self.next_run, row.next_dagrun_create_after)))


def model_of(dag_id: str) -> str | None:
    """Return the model of a Dag of a loop by its id; None where no Dag of a loop is called so.

    >>> model_of("flight_delay_watch"), model_of("etl")
    ('flight_delay', None)
    """
    model, _, end = dag_id.rpartition("_")
    return model if model and end in DAGS else None


def loop_facts(session: Session, models: Collection[str] | None = None) -> dict[str, LoopFacts]:
    """Return the facts of loops by model: of the given ones, or of every model with a Dag of this package.

    Parameters
    ----------
    session : Session
        Of Airflow's metadata database.
    """
    facts: dict[str, LoopFacts] = {}
    for row in _dags(session, models):
        model = model_of(row.dag_id)
        if model is not None:
            facts.setdefault(model, LoopFacts()).add_dag(row)
    dags = [dag_id for of_model in facts.values() for dag_id in of_model.dags]
    for dag_id, tag in _tags(session, dags):
        model = str(model_of(dag_id))
        if tag not in (TAG, model, *facts[model].tags):
            facts[model].tags.append(tag)
    for run in _failed_runs(session, dags):
        facts[str(model_of(run.dag_id))].failed.append(run)
    for approval in _approvals(session, dags):
        facts[str(model_of(approval.dag_id))].approvals.append(approval)
    return facts


def run_state(session: Session, dag_id: str, run_id: str) -> tuple[str, str | None, dict[str, Any]] | None:
    """Return the state of a Dag run, who started it, and its input; None where there is no such run."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    return None if run is None else (str(run.state), run.triggering_user_name, dict(run.conf or {}))


def run_under_way(session: Session, dag_id: str, action: str) -> RunRef | None:
    """Return a run of a control Dag that carries out an action now, or waits to; None where there is none."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import select

    query = select(DagRun).where(DagRun.dag_id == dag_id, DagRun.state.in_(("queued", "running")))
    runs = (
        run for run in session.scalars(query.order_by(DagRun.run_after)) if (run.conf or {}).get("action") == action
    )
    return next((RunRef(run.dag_id, run.run_id) for run in runs), None)


def _dags(session: Session, models: Collection[str] | None) -> Any:
    from airflow.models.dag import DagModel, DagTag
    from sqlalchemy import select

    query = select(DagModel.dag_id, DagModel.owners, DagModel.is_paused, DagModel.next_dagrun_create_after).where(
        DagModel.is_stale.is_(False)
    )
    if models is None:
        query = query.join(DagTag, DagTag.dag_id == DagModel.dag_id).where(DagTag.name == TAG)
    else:
        query = query.where(DagModel.dag_id.in_([f"{model}_{end}" for model in models for end in DAGS]))
    return session.execute(query.order_by(DagModel.dag_id))


def _tags(session: Session, dags: list[str]) -> Any:
    from airflow.models.dag import DagTag
    from sqlalchemy import select

    return session.execute(select(DagTag.dag_id, DagTag.name).where(DagTag.dag_id.in_(dags)).order_by(DagTag.name))


def _failed_runs(session: Session, dags: list[str]) -> list[RunRef]:
    """Return the newest run of each Dag, where it failed."""
    from airflow.models.dagrun import DagRun
    from sqlalchemy import func, select

    newest = (
        select(DagRun.dag_id, func.max(DagRun.run_after).label("run_after"))
        .where(DagRun.dag_id.in_(dags))
        .group_by(DagRun.dag_id)
        .subquery()
    )
    same = (DagRun.dag_id == newest.c.dag_id) & (DagRun.run_after == newest.c.run_after)
    query = select(DagRun.dag_id, DagRun.run_id).join(newest, same).where(DagRun.state == "failed")
    return [RunRef(dag_id, run_id) for dag_id, run_id in session.execute(query.order_by(DagRun.dag_id))]


def given_answer(session: Session, model: str, question: UUID) -> GivenAnswer | None:
    """Return the answer to a question of a loop; None where it has none, or there is no such question."""
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    query = (
        select(HITLDetail, TaskInstance)
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .where(HITLDetail.ti_id == question, HITLDetail.responded_at.is_not(None))
    )
    row = session.execute(query).first()
    if row is None or model_of(row[1].dag_id) != model:
        return None
    detail, task = row
    person = (detail.responded_by or {}).get("name") or "nobody"
    return GivenAnswer(tuple(detail.chosen_options or ()), str(person), task.task_id, str(task.state))


def _approvals(session: Session, dags: list[str]) -> list[OpenApproval]:
    """Return the questions whose tasks wait; a task that ended without an answer asks nobody any more."""
    from airflow.models.dagrun import DagRun
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    query = (
        select(HITLDetail, TaskInstance, DagRun.triggering_user_name)
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .join(DagRun, (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id))
        .where(
            TaskInstance.dag_id.in_(dags),
            TaskInstance.state.in_(("running", "awaiting_input", "deferred")),
            HITLDetail.responded_at.is_(None),
        )
        .order_by(TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id)
    )
    return [
        OpenApproval(
            question=task.id,
            dag_id=task.dag_id,
            run_id=task.run_id,
            task_id=task.task_id,
            map_index=task.map_index,
            subject=detail.subject,
            options=tuple(detail.options),
            started_by=started_by,
            assigned=frozenset(str(user["id"]) for user in detail.assigned_users),
        )
        for detail, task, started_by in session.execute(query)
    ]
