"""Operator for labels that come from a source of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.workspace import Workspace


class TakeLabelsOperator(StageOperator):
    """Take the delivery of labels that belongs to a tick, and earlier ones that had not come; returns what came.

    Skips where nothing has come, or ``data.labels`` is not declared; fails, and records why, where a delivery cannot
    be used. Ingestion does not depend on labels: run it with ``trigger_rule="all_done"``.
    """

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> list[dict[str, Any]]:
        """See the class."""
        from airflow_mlops.core.data.labels.take_labels import take_due_labels

        taken = take_due_labels(workspace, partition)
        for labels in taken.values():
            self.log.info("%s", labels.message)
        return [
            {"partition": tick, "rows": labels.rows, "unknown": labels.unknown, "touches": labels.touches}
            for tick, labels in taken.items()
        ]
