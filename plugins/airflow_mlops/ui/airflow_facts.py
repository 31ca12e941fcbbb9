"""The Dags of a loop as Airflow knows them: owner, next run, failed runs, and the answers that are awaited."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

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
    """A question that Airflow asks a person: its subject, and the run that waits for the answer."""

    dag_id: str
    run_id: str
    subject: str


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


def _approvals(session: Session, dags: list[str]) -> list[OpenApproval]:
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    query = (
        select(TaskInstance.dag_id, TaskInstance.run_id, HITLDetail.subject)
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .where(TaskInstance.dag_id.in_(dags), HITLDetail.responded_at.is_(None))
        .order_by(TaskInstance.dag_id, TaskInstance.run_id)
    )
    return [OpenApproval(*row) for row in session.execute(query)]
