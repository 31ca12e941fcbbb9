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
    be used. The rows of the partition are none of its business: let them be taken whatever becomes of their labels.
    """

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> list[dict[str, Any]]:
        """See the class."""
        from airflow_mlops.core.data.labels.take_labels import take_due_labels

        taken = take_due_labels(workspace, partition)
        for delivery in taken:
            self.log.info("%s", delivery["said"])
        return [{name: delivery[name] for name in ("partition", "rows", "unknown", "touches")} for delivery in taken]
