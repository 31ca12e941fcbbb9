"""Operator of the stage governance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.workspace import Workspace


class ReconcileOperator(StageOperator):
    """Make the registry say what the ledger says, and wake a rollout that holds; returns the repairs.

    The asset in ``emits`` gets an event while a candidate or an open rollout waits for its next look.
    """

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> list[str]:
        """See the class."""
        from airflow_mlops.core.governance.reconcile import reconcile

        repairs = reconcile(workspace)
        for repair in repairs:
            self.log.warning("repaired: %s", repair)
        state = workspace.state()
        waiting = state.rollout.version if state.rollout else state.candidate
        if waiting is not None and partition > waiting.partition:
            self.emit(context, version=waiting.number)
        return repairs
