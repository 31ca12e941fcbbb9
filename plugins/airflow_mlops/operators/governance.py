"""Operators of the stage governance: reconcile, and the proof of a new version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.notified import call_notifiers
from airflow_mlops.operators.stage import StageOperator
from airflow_mlops.operators.stage_lineage import StageRun, rollout_datasets

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.workspace import Workspace


class ReconcileOperator(StageOperator):
    """Reconcile target and registry with the ledger, and watch over the rollout; returns the repairs.

    A challenger that has failed, is grossly broken, or has been undecided for longer than ``max_wait`` is rolled back,
    even if the run that led its rollout is gone.

    The asset in ``emits`` gets an event while a candidate or an open rollout waits for its next analysis.
    """

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> list[str]:
        """See the class."""
        from airflow_mlops.core.rollout.watch_rollout import watch_rollout

        before = workspace.state().machine.last_rollback
        repairs = watch_rollout(workspace, partition)
        if workspace.state().machine.last_rollback > before:
            # The run that led the rollout may be gone, and with it the task whose failure would have notified.
            taken_back = RuntimeWarning(repairs[0])
            call_notifiers(workspace.loop.callbacks, self.root, {**context, "exception": taken_back})
        for repair in repairs:
            self.log.warning("repaired: %s", repair)
        state = workspace.state()
        waiting = state.rollout.version if state.rollout else state.candidate
        if waiting is not None and partition > waiting.chosen_as_of:
            self.emit(context, version=waiting.number)
        return repairs

    def lineage(self, run: StageRun) -> Datasets:
        """Return the version that was rolled back and the endpoint, if there is one."""
        return rollout_datasets(run, run.version)


class ProveVersionOperator(StageOperator):
    """Certify a new version: write its model card and, if the policy requires it, reproduce it.

    :param registered: what :class:`RegisterCandidateOperator` returned

    Returns the requirements of the policy that it does not meet yet, a sentence each; until then it is not promoted.
    """

    template_fields: Sequence[str] = ("partition", "registered")

    def __init__(self, *, registered: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.registered = registered

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> list[str]:
        """See the class."""
        from airflow_mlops.core.governance.certify_version import certify_version

        missing = certify_version(workspace, str(self.registered["version"]))
        for reason in missing:
            self.log.warning("the policy still misses: %s", reason)
        return missing

    def lineage(self, run: StageRun) -> Datasets:
        """Return the version that was certified."""
        from airflow_mlops.core.lineage.model_lineage import version_lineage

        return version_lineage(run.workspace, str(self.registered["version"]))
