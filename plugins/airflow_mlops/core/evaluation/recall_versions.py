"""Judge earlier champions as candidates of a training: all of them by their loss, and the best one by the gates.

They predict the holdout in the input schema that each was fitted with. Whatever keeps one from it is a reason to leave
that one out, and never one to fail the training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_mlops.core.errors import DataError, GateError, RegistryError, TrainingError
from airflow_mlops.core.evaluation.evaluation_context import EvaluationContext, JudgedModel, judged_version
from airflow_mlops.core.evaluation.judge_candidate import judge_candidate
from airflow_mlops.core.evaluation.recallable_versions import MIN_ROWS, best_below, recallable_versions
from airflow_mlops.core.ledger.state_machine import Version, name_of_recalled
from airflow_mlops.core.training.row_losses import weighted_loss
from airflow_mlops.core.workspace import Workspace

UNUSABLE = (RegistryError, TrainingError, DataError, GateError)
"""Errors for which a version is left out: it does not verify, cannot be loaded, or cannot predict these rows."""


@dataclass(frozen=True)
class EarlierChampions:
    """The earlier champions that were tried on a holdout.

    ``losses`` are their mean losses by version, ``left_out`` the reasons of those that could not predict it, by their
    names as candidates. ``entry`` is the :class:`CandidateEntry` of the best one and ``model`` that model, where it was
    better than every fit.
    """

    losses: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    entry: dict[str, Any] | None = None
    model: JudgedModel | None = None

    @property
    def chosen(self) -> bool:
        """Whether the best one passes its gates, and so takes the place of the fits."""
        return self.entry is not None and bool(self.entry["passed"])


def try_earlier_champions(workspace: Workspace, context: EvaluationContext, *, below: float) -> EarlierChampions:
    """Try the earlier champions on the holdout of a training.

    Parameters
    ----------
    below : float
        The least loss of a fitted candidate that passes; infinite where none does.
    """
    if context.label.size < MIN_ROWS:
        return EarlierChampions()
    request = context.request
    state = workspace.state(as_of=request.partition)
    holdout = [pin.partition for pin in request.window.holdout]
    losses: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for version in recallable_versions(state, holdout, limit=workspace.loop.retrain.recallable, now=workspace.state()):
        try:
            model = judged_version(workspace, request, version, context.holdout)
            loss = weighted_loss(workspace.loop.metric, context.label, model.predictions, context.weight)
        except UNUSABLE as error:
            left_out[name_of_recalled(version.number)] = str(error)
            continue
        if loss < min(losses.values(), default=float("inf")):
            best_version, best_model = version, model  # one model in memory at a time
        losses[version.number] = loss
    if best_below(losses, below) is None:
        return EarlierChampions(losses, left_out)
    try:
        entry = entry_of(context, best_version, best_model)
    except UNUSABLE as error:
        left_out[name_of_recalled(best_version.number)] = str(error)
        return EarlierChampions(losses, left_out)
    return EarlierChampions(losses, left_out, entry, best_model)


def entry_of(context: EvaluationContext, version: Version, model: JudgedModel) -> dict[str, Any]:
    """Return the :class:`CandidateEntry` of the best of the earlier champions, whose fit took no time here.

    The confidence of its gates counts as many as may be tried, so the bar is the same however many there are yet.
    """
    return {
        "candidate": name_of_recalled(version.number),
        "digest": version.details.artefact,
        "fit_seconds": 0.0,
        "rows": version.details.rows,
        "recalled": version.number,
        **judge_candidate(context, model, recalled=True),
    }
