"""Fit one candidate on the pinned window and keep it as a model file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.registry.model_file import save_model
from airflow_mlops.core.training.assemble import TrainingRequest, close_decision
from airflow_mlops.core.training.user_function import candidates_of
from airflow_mlops.core.training.window import read_window
from airflow_mlops.core.workspace import Workspace


def candidate_file(workspace: Workspace, operation: str, candidate: str) -> Path:
    """Return where the model file of a candidate is kept."""
    return workspace.scratch / "candidates" / operation / candidate / "model.skops"


def fit_candidate(workspace: Workspace, request: TrainingRequest, candidate: str) -> dict[str, Any]:
    """Fit one of the user's candidates; return its name, the digest of its file and the seconds of the fit.

    Raises
    ------
    TrainingError
        If the fit raises or the model cannot be kept; the ledger says so.
    """
    loop = workspace.loop
    try:
        estimator = candidates_of(request.function, workspace.root, request.seed)[candidate]
        window = read_window(workspace, request.window.fitted)
        started = time.monotonic()
        try:
            fitted = estimator.fit(window.features, window.rows[loop.data.label].to_numpy())
        except Exception as error:  # a user's estimator may raise anything
            raise TrainingError(
                f"{request.function}: candidate {candidate!r} raised {type(error).__name__} in fit: {error}"
            ) from error
        seconds = time.monotonic() - started
        path = candidate_file(workspace, request.operation, candidate)
        digest = save_model(fitted, path)
        workspace.share(path)
    except TrainingError as error:
        close_decision(workspace, "training_failed", request.decision, request.partition, str(error))
        raise
    return {"candidate": candidate, "digest": digest, "fit_seconds": round(seconds, 3), "rows": len(window.rows)}
