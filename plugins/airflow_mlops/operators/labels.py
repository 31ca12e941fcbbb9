"""Operator for labels that come from a source of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.workspace import Workspace
    from airflow_mlops.operators.stage_lineage import StageRun


class TakeLabelsOperator(StageOperator):
    """Ingest the delivery of labels of a tick, and earlier ones that were missing; returns the new deliveries.

    Skips if nothing has arrived, or ``data.labels`` is not declared; fails, and records why, if a delivery cannot be
    used, or the run has no key. Between two ticks it takes the delivery of the one before. Ingestion does not depend on
    labels: run it with ``trigger_rule="all_done"``.
    """

    def partition_of(self, workspace: Workspace, context: Context) -> str:
        """Return the key of the run; without one, fail as :meth:`StageOperator.require_partition` does."""
        has_key = self.partition or context["dag_run"].partition_key
        return super().partition_of(workspace, context) if has_key else self.require_partition(workspace, context)

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> list[dict[str, Any]]:
        """See the class."""
        from airflow_mlops.core.data.labels.take_labels import take_due_labels

        deliveries = take_due_labels(workspace, partition)
        for delivery in deliveries.values():
            self.log.info("%s", delivery.message)
        return [
            {"partition": tick, "rows": delivery.rows, "unknown": delivery.unknown, "touches": delivery.touches}
            for tick, delivery in deliveries.items()
        ]

    def lineage(self, run: StageRun) -> Datasets:
        """Return the source of the labels and their deliveries."""
        from airflow_mlops.core.lineage.data_lineage import label_lineage

        return label_lineage(run.workspace, run.names, run.result or [])
