"""Find unsettled work of an Airflow in its metadata database.

A chain of Dags joined by assets is idle when no run is queued or running **and** no partition waits for its run. Runs
alone are not enough: between the event of a finished producer and the run of its consumer lies one pass of the
scheduler, in which there is neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class UnsettledWork:
    """Unfinished runs and partitions of unpaused Dags, and tasks that await a retry."""

    runs: tuple[tuple[str, str | None, str], ...]
    partitions: tuple[tuple[str, str], ...]
    retries: int

    @property
    def moving(self) -> int:
        """The number of runs and partitions that are not settled."""
        return len(self.runs) + len(self.partitions)

    def describe(self) -> str:
        """Return one line that names up to five of each."""
        runs = ", ".join(f"{dag} [{key}] {state}" for dag, key, state in self.runs[:5])
        partitions = ", ".join(f"{dag} [{key}]" for dag, key in self.partitions[:5])
        return (
            f"{len(self.runs)} runs ({runs or 'none'}), {len(self.partitions)} partitions without a run "
            f"({partitions or 'none'}), {self.retries} tasks awaiting a retry"
        )


def unsettled_work(session: Session) -> UnsettledWork:
    """Return the runs and partitions of unpaused Dags that are not finished yet."""
    from airflow.models import DagRun
    from airflow.models.asset import AssetPartitionDagRun
    from airflow.models.dag import DagModel
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import func, select

    unpaused = DagModel.is_paused.is_(False)
    runs = session.execute(
        select(DagRun.dag_id, DagRun.partition_key, DagRun.state)
        .join(DagModel, DagModel.dag_id == DagRun.dag_id)
        .where(DagRun.state.in_(["queued", "running"]), unpaused)
        .order_by(DagRun.id)
    ).all()
    partitions = session.execute(
        select(AssetPartitionDagRun.target_dag_id, AssetPartitionDagRun.partition_key)
        .join(DagModel, DagModel.dag_id == AssetPartitionDagRun.target_dag_id)
        .where(AssetPartitionDagRun.created_dag_run_id.is_(None), unpaused, DagModel.is_stale.is_(False))
        .order_by(AssetPartitionDagRun.id)
    ).all()
    retries = session.scalar(select(func.count()).select_from(TaskInstance).where(TaskInstance.state == "up_for_retry"))
    return UnsettledWork(
        tuple((dag_id, key, str(state)) for dag_id, key, state in runs),
        tuple((dag_id, key) for dag_id, key in partitions),
        int(retries or 0),
    )
