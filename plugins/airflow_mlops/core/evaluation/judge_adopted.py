"""Judge a version of another environment on the newest labelled partition of here, by the gates of a candidate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from airflow_mlops.core.declaration.own_types import metric_code
from airflow_mlops.core.evaluation.evaluate_candidates import report_document
from airflow_mlops.core.evaluation.evaluation_context import JudgedModel, build_context
from airflow_mlops.core.evaluation.judge_candidate import judge_candidate
from airflow_mlops.core.ledger.training_details import CandidateRegistered, PinnedPartition, TrainingWindow
from airflow_mlops.core.registry.own_code import load_own_model
from airflow_mlops.core.training.assemble import TrainingRequest
from airflow_mlops.core.training.window import pin_published, read_labels, trainable_partitions
from airflow_mlops.core.workspace import Workspace

SEARCHED = 30
"""Newest partitions among which labelled ones are looked for."""


def labelled_window(workspace: Workspace, as_of: str) -> TrainingWindow | None:
    """Return the newest labelled partition as the holdout, and the one before it, on which the baselines are fitted.

    None if fewer than two of the newest partitions have a label.
    """
    state = workspace.state(as_of=as_of)
    own_labels = workspace.loop.data.labels is not None
    labelled: list[PinnedPartition] = []
    for key in reversed(trainable_partitions(state, as_of, own_labels=own_labels, newest=SEARCHED)):
        pin = pin_published(state, key, as_of)
        if np.isfinite(read_labels(workspace, pin)["label"]).any():
            labelled.append(pin)
        if len(labelled) == 2:
            return TrainingWindow((labelled[1],), (labelled[0],))
    return None


def judge_adopted(
    workspace: Workspace,
    request: TrainingRequest,
    details: CandidateRegistered,
    model_file: Path,
    window: TrainingWindow,
    *,
    as_of: str,
) -> dict[str, Any]:
    """Return the entry of a version in the report of its evaluation here, and the digest of that as ``report``.

    Parameters
    ----------
    request : TrainingRequest
        The request that the version was made from.
    details : CandidateRegistered
        Its record in the other environment.
    model_file : Path
        Its verified model file.
    window : TrainingWindow
        The window of :func:`labelled_window`.

    Raises
    ------
    TrainingError, GateError, DataError
        If it cannot be judged.
    """
    here = replace(
        request,
        partition=as_of,
        decision=0,
        window=window,
        windows=None,
        metric_code=metric_code(workspace.loop.metric, workspace.root),
    )
    with threadpool_limits(1):
        context = build_context(workspace, here)
        subject = f"candidate {details.candidate!r}"
        model = load_own_model(workspace, model_file, details.artefact, details.own_code, subject)
        candidate = JudgedModel.of(
            model, context.holdout, size=model_file.stat().st_size, classifies=workspace.loop.classifies
        )
        fit = {
            "candidate": details.candidate,
            "digest": details.artefact,
            "fit_seconds": details.fit_seconds,
            "rows": details.rows,
        }
        entry = {**fit, **judge_candidate(context, candidate)}
    report = workspace.evidence.put(report_document(workspace, context, [entry], details.candidate))
    return {**entry, "report": report, "champion": context.champion_number}
