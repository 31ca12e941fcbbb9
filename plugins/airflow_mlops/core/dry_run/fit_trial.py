"""Fit the candidates of a loop on the older rows of one partition, and judge them on the newer ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.dry_run.trial_labels import take_all_labels
from airflow_mlops.core.errors import GateError, MlopsError, TrainingError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.registry.own_code import load_own_model
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.training.assemble import TrainingRequest, assemble_training
from airflow_mlops.core.training.fit_candidate import candidate_file, fit_candidate
from airflow_mlops.core.workspace import Workspace

HELD_OUT = 0.25
"""Share of the rows, the newest ones, on which candidates are judged."""


@dataclass(frozen=True)
class CandidateTrial:
    """The outcome of one candidate.

    Parameters
    ----------
    kept : bool
        Whether the fitted model could be saved and loaded again.
    error : str or None
        The reason why it could not be fitted, saved, loaded or judged.
    metrics : dict of str to float
        Its metrics on the rows that were held out.
    gates : tuple of str
        The verdict and reason of each gate.
    """

    kept: bool
    error: str | None
    metrics: dict[str, float]
    gates: tuple[str, ...] = ()


def try_fit(workspace: Workspace, partition: str, progress: Callable[[str], None]) -> dict[str, CandidateTrial]:
    """Fit, save, load and judge every candidate on the rows of a published partition; return their trials by name.

    Parameters
    ----------
    workspace : Workspace
        Scratch stores in which the partition is published; they are written to.
    partition : str
        Key of the partition.
    progress : callable
        Called with the name of each step.

    Raises
    ------
    MlopsError
        If no candidate can be fitted at all: too few rows, no labels, a function that fails.
    """
    if workspace.loop.data.labels is not None:
        progress("take the labels")
        workspace = take_all_labels(workspace, partition)
    split_in_two(workspace, partition)
    # The first half of a pair is fitted, the second is held out.
    train = workspace.loop.train.model_copy(update={"window": 1, "at_least": 1, "holdout": 1})
    workspace = replace(workspace, loop=workspace.loop.model_copy(update={"train": train}))
    decide_and_record(workspace, partition, trigger="person")
    request = assemble_training(workspace, partition)
    trials = {name: _fit(workspace, request, name, progress) for name in request.candidates}
    trials |= {name: (None, reason) for name, reason in (request.refused or {}).items()}
    fits = [fit for fit, _ in trials.values() if fit is not None]
    entries = _judge(workspace, request, fits, progress) if fits else {}
    return {
        name: CandidateTrial(False, error, {}) if fit is None else _trial(entries[name])
        for name, (fit, error) in trials.items()
    }


def split_in_two(workspace: Workspace, partition: str) -> None:
    """Publish the older rows of a partition under the tick before it, and leave it the newer ones.

    Raises
    ------
    TrainingError
        If it has too few rows.
    """
    published = workspace.state().published[partition]
    rows = workspace.snapshots.read(partition, version=published.version)
    rows = rows.take(
        pc.sort_indices(rows, [(workspace.loop.data.time, "ascending"), (workspace.loop.data.key, "ascending")])
    )
    older = round(rows.num_rows * (1 - HELD_OUT))
    if not 0 < older < rows.num_rows:
        raise TrainingError(
            f"partition {partition} has {rows.num_rows} rows: too few to fit on some and judge on others"
        )
    _publish(workspace, workspace.loop.data.schedule.previous(partition), rows.slice(0, older), published)
    _publish(workspace, partition, rows.slice(older), published)


def _publish(workspace: Workspace, partition: str, rows: pa.Table, like: SnapshotPublished) -> None:
    version, digest = workspace.snapshots.write(partition, rows), content_digest(rows)
    details = replace(
        like,
        version=version,
        digest=digest,
        rows=rows.num_rows,
        arrived_version=version,
        arrived_digest=digest,
        snapshot_digest=digest,
        snapshot_rows=rows.num_rows,
        publication=None,
    )
    workspace.record_fact(workspace.draft(details, f"snapshot:{partition}:{digest[:16]}", partition))


def _fit(
    workspace: Workspace, request: TrainingRequest, name: str, progress: Callable[[str], None]
) -> tuple[dict[str, Any] | None, str | None]:
    """Fit a candidate, save it and load it again; return the fit, or None and the reason."""
    progress(f"fit {name}")
    try:
        fit = fit_candidate(workspace, request, name)
        if "error" in fit:
            return None, str(fit["error"])
        file = candidate_file(workspace, request.operation, name)
        load_own_model(workspace, file, fit["digest"], request.own_code, f"candidate {name!r}")
    except MlopsError as error:
        return None, str(error)
    return fit, None


def _judge(
    workspace: Workspace, request: TrainingRequest, fits: list[dict[str, Any]], progress: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Return the entry of each fitted candidate in the evaluation; all have the same error if nothing can be judged."""
    progress("judge")
    try:
        report = workspace.evidence.get(str(evaluate_candidates(workspace, request, fits)["report"]))
    except (GateError, TrainingError) as error:
        return {str(fit["candidate"]): {"error": str(error)} for fit in fits}
    return {str(entry["candidate"]): entry for entry in report["candidates"]}


def _trial(entry: dict[str, Any]) -> CandidateTrial:
    gates = tuple(f"{gate['verdict']}: {gate['reason']}" for gate in entry.get("gates", ()))
    return CandidateTrial(True, entry.get("error"), dict(entry.get("metrics", {})), gates)
