"""Operators of the stage training: assemble the request, fit each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops.operators.stage import StageOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops.core.workspace import Workspace


class AssembleTrainingOperator(StageOperator):
    """Pick up the open decision to retrain, pin the window and list the candidates.

    Returns one assignment for each candidate, to map over: its name and the digest of the request,
    which is kept as evidence. Skips where nothing is open.

    :param by_hand: whether the run itself asks for a retrain where none is open, by the same policy; by
        default it does if a person started it
    """

    def __init__(self, *, by_hand: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.by_hand = by_hand

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> list[dict[str, Any]]:
        """See the class."""
        from airflow_mlops.core.training.assemble import assemble_training

        by_hand = context["dag_run"].run_type == "manual" if self.by_hand is None else self.by_hand
        request = assemble_training(workspace, partition, by_hand=by_hand)
        digest = workspace.evidence.put(request.to_dict())
        return [{"request": digest, "candidate": name} for name in request.candidates]


class FitCandidateOperator(StageOperator):
    """Fit one candidate on the pinned window; returns the digest of its model file.

    :param assignment: one of those that :class:`AssembleTrainingOperator` returned
    """

    template_fields: Sequence[str] = ("partition", "assignment")

    def __init__(self, *, assignment: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.assignment = assignment

    def run_stage(self, workspace: Workspace, partition: str, context: Context) -> dict[str, Any]:
        """See the class."""
        from airflow_mlops.core.training.assemble import stored_request
        from airflow_mlops.core.training.fit_candidate import fit_candidate

        digest = self.assignment["request"]
        fitted = fit_candidate(workspace, stored_request(workspace, digest), self.assignment["candidate"])
        return {"request": digest, **fitted}
