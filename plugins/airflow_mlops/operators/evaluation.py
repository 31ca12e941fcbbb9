"""Operators of the stage evaluation: judge the candidates, require the gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.workspace import Workspace


class EvaluateCandidatesOperator(StageOperator):
    """Judge the candidates and the champion on the same holdout; returns the best one's report.

    :param fits: what the mapped :class:`FitCandidateOperator` tasks returned
    """

    template_fields: Sequence[str] = ("partition", "fits")

    def __init__(self, *, fits: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fits = fits

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
        from airflow_mlops.core.training.assemble import stored_request

        fits = [self.fits[index] for index in range(len(self.fits))]
        evaluated = evaluate_candidates(workspace, stored_request(workspace, fits[0]["request"]), fits)
        for gate in evaluated["gates"]:
            self.log.info("gate %s: %s", gate["verdict"], gate["reason"])
        return evaluated


class RequireGatesOperator(StageOperator):
    """Let a candidate go on whose gates all passed; fail with the numbers otherwise.

    :param evaluated: what :class:`EvaluateCandidatesOperator` returned
    """

    template_fields: Sequence[str] = ("partition", "evaluated")

    def __init__(self, *, evaluated: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluated = evaluated

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> None:
        """See the class."""
        from airflow_mlops.core.evaluation.evaluate_candidates import require_gates
        from airflow_mlops.core.training.assemble import stored_request

        require_gates(workspace, stored_request(workspace, self.evaluated["request"]), self.evaluated)
