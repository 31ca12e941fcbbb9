"""Operators of the stage registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.links import MlflowVersionLink, ModelPageLink
from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.lineage.task_lineage import Datasets
    from airflow_mlops.core.workspace import Workspace
    from airflow_mlops.operators.stage_lineage import StageRun


class RegisterCandidateOperator(StageOperator):
    """Register a candidate as a version of the model, once; returns its number.

    Where the best candidate is an earlier champion, its recall is recorded in place of a new version.

    :param evaluated: what :class:`EvaluateCandidatesOperator` returned
    """

    operator_extra_links = (ModelPageLink(), MlflowVersionLink())
    template_fields: Sequence[str] = ("partition", "evaluated")

    def __init__(self, *, evaluated: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluated = evaluated

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.evaluation.register_candidate import register_candidate
        from airflow_mlops.core.training.assemble import stored_request

        request = stored_request(workspace, self.evaluated["request"])
        registered = register_candidate(workspace, request, self.evaluated)
        path = f"models/{workspace.loop.model}/versions/{registered['version']}"
        self.note_mlflow_page(MlflowVersionLink.name, path)
        return registered

    def lineage(self, run: StageRun) -> Datasets:
        """Return the window, the candidate and the version."""
        from airflow_mlops.core.lineage.model_lineage import registration_lineage
        from airflow_mlops.core.training.assemble import stored_request

        request = stored_request(run.workspace, self.evaluated["request"]).of_candidate(self.evaluated["candidate"])
        return registration_lineage(run.workspace, request.window, self.evaluated, run.result)


class VerifyVersionsOperator(StageOperator):
    """Compare the registry with the ledger; fails if a version that serves, or is about to, is gone or was changed.

    Returns harmless notices, a sentence each: ghosts of repeated requests, versions that are not in the ledger.
    """

    def execute_stage(self, workspace: Workspace, partition: str, context: Context) -> list[str]:
        """See the class."""
        from airflow_mlops.core.errors import RegistryError
        from airflow_mlops.core.rollout.inspect_versions import inspect_versions

        inspection = inspect_versions(workspace)
        for notice in inspection.notices:
            self.log.warning("%s", notice)
        if inspection.problems:
            raise RegistryError("; ".join(inspection.problems))
        return inspection.notices
