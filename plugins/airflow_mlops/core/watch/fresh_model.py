"""The fresh model that regret is measured against: the best one that a training as of a partition would choose.

Every candidate is fitted on every declared window of then, and judged on the holdout of that training; the one with
the lowest loss is the fresh model. Where a training of that partition was judged, its report has the losses, and the
file of its best candidate is taken while it verifies. A single candidate on a single window needs no choice, and no
holdout.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Any

from airflow_mlops.core.data.input_schema import InputSchema
from airflow_mlops.core.data.row_weights import row_weights
from airflow_mlops.core.data.user_features import features_digest
from airflow_mlops.core.declaration.windowed_candidate import window_of
from airflow_mlops.core.errors import DataError, LedgerError, NotReadyError, RegistryError, TrainingError
from airflow_mlops.core.evaluation.evaluation_report import fits_of
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import (
    CandidateRefused,
    CandidateRegistered,
    TrainingWindow,
    VersionRecalled,
)
from airflow_mlops.core.registry.model_file import UnreadableModelError
from airflow_mlops.core.registry.own_code import load_own_model
from airflow_mlops.core.training.assemble import TrainingRequest, check_window, describe_candidates, fit_settings
from airflow_mlops.core.training.fit_candidate import candidate_file, fit_request_of, run_fit
from airflow_mlops.core.training.inspect_candidates import describe_left_out, describe_refusals
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import DomainError, weighted_loss
from airflow_mlops.core.training.several_windows import candidates_on_windows
from airflow_mlops.core.training.window import fit_schema, read_window
from airflow_mlops.core.workspace import Workspace

SAME = (
    "function",
    "source",
    "seed",
    "window",
    "search",
    "early_stopping",
    "own_code",
    "weights",
    "quantiles",
    "metric_code",
    "threshold",
)
"""Fields in which two trainings have to agree, so that their candidates are the same models."""


@dataclass(frozen=True)
class FreshModel:
    """A fresh model and its input schema; ``candidate`` is its name where it was chosen among several."""

    model: Any
    schema: InputSchema
    candidate: str | None = None


def fresh_model(workspace: Workspace, champion: Version, window: TrainingWindow, as_of: str) -> FreshModel | None:
    """Return the best model that a training as of a partition would choose; None if it would be the champion itself.

    Parameters
    ----------
    window : TrainingWindow
        The window of a training as of ``as_of``; of several windows the longest.

    Raises
    ------
    TrainingError, DataError, NotReadyError
        If there is no usable model, no label to choose by, or the rows are not those that were pinned.
    """
    train = workspace.loop.train
    lengths = train.window_lengths(len(window.fitted)) if train.has_several_windows else {}
    own = lengths.get(window_of(champion.details.candidate) or "", len(window.fitted))
    # Nothing fresher than the champion could have been made from the same window.
    if champion.details.window == window.newest(own):
        return None
    request = _request(workspace, window, lengths, as_of)
    if len(request.candidates) == 1:
        return _fit(workspace, request, request.candidates[0])
    return _of_judged_training(workspace, request) or _best_fit(workspace, request)


def _request(workspace: Workspace, window: TrainingWindow, lengths: Mapping[str, int], as_of: str) -> TrainingRequest:
    """Return the request of the fits; it is not the training's own, which has a profile and a decision."""
    loop = workspace.loop
    listed = describe_candidates(loop, workspace.root)
    names = list(listed["names"])
    if not names:
        raise TrainingError(describe_refusals(loop.train.function, listed["refused"]))
    candidates = tuple(candidates_on_windows(names, lengths)) if lengths else tuple(names)
    settings = fit_settings(workspace, searched=listed["searched"])
    if len(candidates) == 1:
        settings["threshold"] = None  # regret is one of probabilities, and nothing is chosen by decisions
    source = features_digest(workspace, loop.train.function)
    identity = {"model": loop.model, "window": window.to_dict(), "seed": loop.train.seed, "source": source}
    return TrainingRequest(
        partition=as_of,
        decision=0,
        function=loop.train.function,
        source=source,
        seed=loop.train.seed,
        window=window,
        candidates=candidates,
        profile="",
        operation=hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:32],
        windows={name: {"partitions": length, "profile": "", "levels": None} for name, length in lengths.items()}
        or None,
        **settings,
    )


def _fit(workspace: Workspace, request: TrainingRequest, candidate: str) -> FreshModel:
    """Fit a candidate on its window, where the declaration runs fits."""
    schema = fit_schema(workspace, request.of_candidate(candidate).window.fitted)
    file = workspace.scratch / "fresh" / f"{request.operation}-{uuid.uuid4().hex[:8]}.skops"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        digest = run_fit(workspace, fit_request_of(workspace, request, candidate, file), schema=schema).digest
        model = load_own_model(workspace, file, digest, request.own_code, f"candidate {candidate!r}")
    finally:
        file.unlink(missing_ok=True)
    return FreshModel(model, schema, candidate if len(request.candidates) > 1 else None)


def _best_fit(workspace: Workspace, request: TrainingRequest) -> FreshModel:
    """Fit all candidates and return the one with the lowest loss on the holdout; ones that cannot be used are left out.

    Raises
    ------
    TrainingError
        If no candidate can be used.
    """
    best: tuple[float, str, FreshModel] | None = None
    left_out: dict[str, str] = {}
    unusable = _unusable_windows(workspace, request)
    for candidate in request.candidates:
        try:
            if window_of(candidate) in unusable:
                raise TrainingError(unusable[str(window_of(candidate))])
            fresh = _fit(workspace, request, candidate)
            loss = _holdout_loss(workspace, request, fresh)
        except (TrainingError, DomainError, UnreadableModelError) as error:
            left_out[candidate] = str(error)
            continue
        if isfinite(loss) and (best is None or (loss, candidate) < best[:2]):
            best = loss, candidate, fresh
    if best is None:
        raise TrainingError("; ".join(describe_left_out(left_out)) or "no candidate has a loss on the holdout")
    return best[2]


def _unusable_windows(workspace: Workspace, request: TrainingRequest) -> dict[str, str]:
    """Return the reasons why a model cannot learn from some of the windows, as a training leaves them out.

    Raises
    ------
    TrainingError, DataError
        If it can learn from none, since it cannot from the longest.
    """
    check_window(read_window(workspace, request.window.fitted).rows, workspace.loop)
    reasons = {}
    for name, window in (request.windows or {}).items():
        try:
            rows = read_window(workspace, request.window.newest(window["partitions"]).fitted).rows
            check_window(rows, workspace.loop)
        except (TrainingError, DataError) as error:
            reasons[name] = str(error)
    return reasons


def _holdout_loss(workspace: Workspace, request: TrainingRequest, fresh: FreshModel) -> float:
    loop = workspace.loop
    holdout = read_window(workspace, request.window.holdout, schema=fresh.schema)
    if holdout.rows.empty:
        raise NotReadyError(f"no row of the holdout as of {request.partition} has a label to choose a candidate by")
    predicted = predict(fresh.model, holdout.features, classifies=loop.classifies)
    label = holdout.rows[loop.data.label].to_numpy(float)
    return weighted_loss(loop.metric, label, predicted, row_weights(holdout.rows, loop.train.weight))


def _of_judged_training(workspace: Workspace, request: TrainingRequest) -> FreshModel | None:
    """Return the best candidate of a training of the same models that was judged as of the partition; None without."""
    for report in _reports_as_of(workspace, request.partition):
        trained = TrainingRequest.from_dict(report["request"])
        if not _is_same(trained, request):
            continue
        judged = [entry for entry in fits_of(report) if isfinite(entry.get("loss", float("nan")))]
        if not judged:
            continue
        best = min(judged, key=lambda entry: (entry["loss"], entry["candidate"]))
        return _kept_model(workspace, trained, best) or _fit(workspace, request, str(best["candidate"]))
    return None


def _reports_as_of(workspace: Workspace, partition: str) -> Iterator[dict[str, Any]]:
    """Yield the reports of the trainings of a partition whose evidence is there."""
    for record in workspace.ledger.records(CandidateRefused, CandidateRegistered, VersionRecalled, partition=partition):
        digest = None if getattr(record.details, "adopted", None) else record.details.report
        with suppress(LedgerError):  # removed from the store; audit verify reports it
            if digest is not None:
                yield workspace.evidence.get(digest)


def _is_same(trained: TrainingRequest, request: TrainingRequest) -> bool:
    """Return whether the candidates of a training are those of a request."""
    known = {*trained.candidates, *(trained.refused or {})}
    names = set(request.candidates)
    same_names = set(trained.candidates) <= names <= known
    return same_names and all(getattr(trained, name) == getattr(request, name) for name in SAME)


def _kept_model(workspace: Workspace, trained: TrainingRequest, entry: Mapping[str, Any]) -> FreshModel | None:
    """Return a candidate of a training from its file; None if that is gone, or does not verify."""
    name = str(entry["candidate"])
    try:
        file = workspace.shared(candidate_file(workspace, trained.operation, name))
        model = load_own_model(workspace, file, entry["digest"], trained.own_code, f"candidate {name!r}")
    except (RegistryError, OSError):
        return None
    return FreshModel(model, trained.of_candidate(name).schema(workspace), name)
