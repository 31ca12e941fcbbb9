"""The operator that acts on a loop: what a person asks for on a form or a page, or a Dag of theirs by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.links import ModelPageLink
from airflow_mlops.operators.stage import StageOperator
from airflow_mlops.operators.stage_lineage import StageRun, rollout_datasets

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.workspace import Workspace

CONTROL_ACTIONS = ("pause", "resume", "skip", "abort", "rollback", "unquarantine", "release")
"""The actions of :func:`~airflow_mlops.core.rollout.control_loop.control_loop`, which a Dag file must not import."""


class ControlLoopOperator(StageOperator):
    """Carry out an action on a loop: on its rollout, its champion, a version, or rows in quarantine.

    :param action: ``pause``, ``resume``, ``skip`` or ``abort`` of the rollout under way, ``rollback``,
        ``unquarantine`` of a version, or ``release`` of the rows of a partition
    :param reason: why, for the ledger
    :param version: version that is meant, and no other; any if empty
    :param to: for ``rollback`` the version that shall serve; the champion before this one if empty
    :param released: for ``release`` the key of the partition
    """

    operator_extra_links = (ModelPageLink(),)
    template_fields: Sequence[str] = ("partition", "action", "reason", "version", "to", "released")

    def __init__(
        self,
        *,
        action: str,
        reason: str,
        version: str = "",
        to: str = "",
        released: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.action = action
        self.reason = reason
        self.version = version
        self.to = to
        self.released = released

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> str:
        """See the class."""
        from airflow_mlops.core.declaration.partition_key import partition_key
        from airflow_mlops.core.rollout.control_loop import control_loop
        from airflow_mlops.core.validation.gx_validator import GxValidator

        task = context["ti"]
        message = control_loop(
            workspace,
            self.action,
            GxValidator(),
            reason=self.reason,
            version=self.version or None,
            to=self.to or None,
            partition=partition_key(self.released) if self.released else None,
            attempt=f"{task.dag_id}/{task.task_id}/{task.run_id}",
        )
        self.log.info("%s", message)
        return message

    def lineage(self, run: StageRun) -> Datasets:
        """Return the version that was acted on and the endpoint, if there is a version."""
        return rollout_datasets(run, run.version)
