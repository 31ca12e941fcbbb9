"""Operator of the stage registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.workspace import Workspace


class RegisterCandidateOperator(StageOperator):
    """Make a candidate a version of the model, once; returns its number.

    :param evaluated: what :class:`EvaluateCandidatesOperator` returned
    """

    template_fields: Sequence[str] = ("partition", "evaluated")

    def __init__(self, *, evaluated: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluated = evaluated

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.registry.register_candidate import register_candidate
        from airflow_mlops.core.training.assemble import stored_request

        return register_candidate(workspace, stored_request(workspace, self.evaluated["request"]), self.evaluated)
