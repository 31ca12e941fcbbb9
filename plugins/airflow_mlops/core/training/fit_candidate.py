"""Fit one candidate on the pinned window, where the declaration says, and store it as a model file."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.data.input_schema import InputSchema
from airflow_mlops.core.data.row_weights import fit_weights
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.train import FitLimits, InInterpreter, OnSageMaker
from airflow_mlops.core.errors import DataError, DeclarationError, TrainingError
from airflow_mlops.core.ledger.training_details import PinnedPartition, TrainingFailed
from airflow_mlops.core.ports.experiments import CANDIDATE, REQUEST, offline_variables
from airflow_mlops.core.ports.fit_request import FitRequest, FitResult, environment
from airflow_mlops.core.ports.fit_rows import FitRows, RowsToFit, UnreadRows, moments
from airflow_mlops.core.ports.spans import span
from airflow_mlops.core.ports.step_runner import StepRunner
from airflow_mlops.core.registry.model_file import file_digest
from airflow_mlops.core.training.assemble import TrainingRequest, check_classes, close_decision
from airflow_mlops.core.training.inspect_candidates import describe_left_out
from airflow_mlops.core.training.sample_rows import sample_mask
from airflow_mlops.core.training.user_runs import OFFLINE, user_runs
from airflow_mlops.core.training.window import ModelRows, read_window
from airflow_mlops.core.workspace import Workspace


def candidate_file(workspace: Workspace, operation: str, candidate: str) -> Path:
    """Return the path of a candidate's model file."""
    return workspace.scratch / "candidates" / operation / candidate / "model.skops"


def fit_candidate(
    workspace: Workspace, request: TrainingRequest, candidate: str, runner: StepRunner | None = None
) -> dict[str, Any]:
    """Fit one of the user's candidates; return the fit result as JSON values.

    Where there are several, one that cannot be fitted or kept closes nothing: the others go on, and the result has its
    ``candidate`` and the ``error``. Rows that cannot be read are no fault of a candidate, and always raise.

    Parameters
    ----------
    runner : StepRunner, optional
        The port that fits; by default the one of the declaration.

    Raises
    ------
    TrainingError
        If the fit of the only candidate raises, meets a limit, or gives no model that can be kept; the ledger says so.
    """
    path = candidate_file(workspace, request.operation, candidate)
    try:
        fit = fit_request_of(workspace, request, candidate, path)
        result = run_fit(workspace, fit, runner, schema=request.of_candidate(candidate).schema(workspace))
    except (TrainingError, DataError) as error:
        if len(request.candidates) > 1 and isinstance(error, TrainingError):
            path.unlink(missing_ok=True)
            return {"candidate": candidate, "error": str(error)}
        reason = "; ".join([str(error), *describe_left_out(request.refused or {})])
        close_decision(workspace, TrainingFailed(decision=request.decision, reason=reason), request.partition)
        raise
    workspace.share(path)
    return result.to_dict()


def fit_request_of(workspace: Workspace, request: TrainingRequest, candidate: str, file: Path) -> FitRequest:
    """Return the request of a fit into ``file``.

    A fit into another file than the candidate's own is another attempt, which adopts nothing of the first.
    """
    loop = workspace.loop
    is_own_file = file == candidate_file(workspace, request.operation, candidate)
    return FitRequest(
        model=loop.model,
        operation=request.operation,
        candidate=candidate,
        attempt=str(request.decision) if is_own_file else uuid.uuid4().hex,
        function=request.function,
        seed=request.seed,
        classifies=loop.classifies,
        label=loop.data.label,
        window=tuple(pin.to_dict() for pin in request.of_candidate(candidate).window.fitted),
        search=request.search,
        file=str(file.absolute()),
        root=str(workspace.root.absolute()),
        early_stopping=request.early_stopping,
        own_types=loop.train.own_types,
        own_code=request.own_code,
        weights=request.weights,
        quantiles=request.quantiles,
        threshold=request.threshold,
        sample=request.sample,
    )


def run_fit(
    workspace: Workspace, request: FitRequest, runner: StepRunner | None = None, *, schema: InputSchema | None = None
) -> FitResult:
    """Fit on the rows of the pinned window in an input schema, and check the model file against the result.

    Raises
    ------
    TrainingError, DataError
        If there is no usable model, or the rows are not those that were pinned.
    DeclarationError
        If the declaration names a place that only Airflow reaches, and there is neither a ``runner`` nor a port.
    """
    runner = runner or (workspace.ports.runner or runner_of)(workspace)
    rows = UnreadRows(lambda: rows_of(workspace, request, schema))
    return fit_by(runner, request, rows, user_variables(workspace, request))


def fit_by(runner: StepRunner, request: FitRequest, rows: RowsToFit, variables: Mapping[str, str]) -> FitResult:
    """Fit rows by a step runner, and check the model file against the result.

    Parameters
    ----------
    variables : mapping of str to str
        The environment variables by which user code logs.

    Raises
    ------
    TrainingError
        If there is no usable model, or its file cannot be trusted here.
    """
    file = Path(request.file)
    with span("fit", candidate=request.candidate), user_runs(variables):
        result = runner.fit(request, rows)
    digest = file_digest(file) if file.exists() else "absent"
    if digest != result.digest:
        raise TrainingError(
            f"candidate {request.candidate!r}: the model file is {digest[:12]}, and the fit said {result.digest[:12]}"
        )
    installed, used = environment()["scikit-learn"], result.environment["scikit-learn"]
    if installed.split(".")[:2] != used.split(".")[:2]:
        file.unlink()
        raise TrainingError(
            f"candidate {request.candidate!r} was fitted by scikit-learn {used}, and the workers have {installed}: a "
            "model of one cannot be trusted in the other; install the same minor version in both"
        )
    return result


def user_variables(workspace: Workspace, request: FitRequest) -> dict[str, str]:
    """Return the environment variables by which user code logs: among the experiments in a training, else to files."""
    file = Path(request.file)
    if file != candidate_file(workspace, request.operation, request.candidate).absolute():
        return offline_variables(file.with_name(OFFLINE))
    tags = {REQUEST: request.operation, CANDIDATE: request.candidate}
    return workspace.experiments.variables(tags, file.with_name(OFFLINE))


def rows_of(workspace: Workspace, request: FitRequest, schema: InputSchema | None = None) -> FitRows:
    """Return the labelled rows of the pinned window; see :func:`fit_rows`."""
    pins = [PinnedPartition(**pin) for pin in request.window]
    return fit_rows(read_window(workspace, pins, schema=schema), request, workspace.loop)


def fit_rows(window: ModelRows, request: FitRequest, loop: Loop) -> FitRows:
    """Return the labelled rows of a window with weights, and with times if the fit splits them in time.

    Where the request has a sample, these are its rows.

    Raises
    ------
    TrainingError
        If a label is no number, a declared class has no row, or the rows have no column that the sample names.
    WeightError
        If a row has no weight that can be used.
    """
    data = loop.data
    splits = any((request.search, request.early_stopping, request.threshold))
    moment = moments(window.rows[data.time]) if splits else None
    if loop.class_names is not None:
        check_classes(window.rows[data.label], loop.class_names)
    label = encode_label(window.rows[data.label], classifies=request.classifies)
    weight = fit_weights(window.rows, request.weights, data.time)
    strata = data.label if request.classifies else None
    taken = sample_mask(window.rows, request.sample, key=data.key, label=strata, seed=request.seed)
    if taken.all():
        return FitRows(window.features, label, moment, weight)
    return FitRows(
        window.features[taken].reset_index(drop=True),
        label[taken],
        None if moment is None else moment[taken],
        None if weight is None else weight[taken],
    )


def encode_label(label: pd.Series[Any], *, classifies: bool) -> npt.NDArray[Any]:
    """Return the labels that an estimator is fitted on, shape (n_rows,): integers if they are classes, else floats.

    The encoding does not depend on how the label is stored, nor on whether another row lacks one.

    Raises
    ------
    TrainingError
        If a label is no number.
    """
    try:
        values = label.to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise TrainingError(
            f"label {label.name!r} must be a number or a truth value: {error}; turn it into one in the source"
        ) from error
    return values.astype(np.int64) if classifies else values


def runner_of(workspace: Workspace) -> StepRunner:
    """Return the step runner that the declaration names, if it needs no Airflow connection.

    Raises
    ------
    DeclarationError
        If it needs one.
    """
    train = workspace.loop.train
    if isinstance(train.runs_on, OnSageMaker):
        raise DeclarationError("SageMaker is reached through a connection of Airflow", key="train.runs_on.kind")
    python = workspace.root / train.runs_on.python if isinstance(train.runs_on, InInterpreter) else None
    return local_runner(python, train.limits)


def local_runner(python: Path | None, limits: FitLimits) -> StepRunner:
    """Return the step runner of this machine: in this process, or in one of its own for an interpreter or limits."""
    if python is None and limits.minutes is None and limits.memory_mb is None:
        from airflow_mlops.core.training.in_process_step import InProcessStep

        return InProcessStep()
    from airflow_mlops.core.training.child_step import ChildStep

    return ChildStep(python=python, limits=limits)
