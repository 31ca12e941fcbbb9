"""Fit one candidate from a request and its rows; the same code wherever it runs."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from airflow_mlops.core.declaration.quantiles import quantiles_of
from airflow_mlops.core.declaration.user_function import BOOSTERS, Candidate, build_candidates
from airflow_mlops.core.declaration.windowed_candidate import estimator_of
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_request import FitRequest, FitResult, environment
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.registry.model_file import save_model
from airflow_mlops.core.registry.own_code import verified_own_types
from airflow_mlops.core.training.arithmetic import arithmetic_in_use
from airflow_mlops.core.training.checkpoint import keep_fit, resume_fit
from airflow_mlops.core.training.decision_threshold import fit_threshold, threshold_of
from airflow_mlops.core.training.early_stopping import fit_with_early_stopping
from airflow_mlops.core.training.export_graph import as_kept
from airflow_mlops.core.training.global_seeds import seed_generators
from airflow_mlops.core.training.inspect_candidates import last_step
from airflow_mlops.core.training.model_input import model_input
from airflow_mlops.core.training.optuna_search import declared_space, optuna_version, search_with_optuna
from airflow_mlops.core.training.search_parameters import search_parameters
from airflow_mlops.core.training.usable_model import TRIAL_ROWS, check_usable, label_hint
from airflow_mlops.core.training.user_runs import OFFLINE, go_offline
from airflow_mlops.core.training.weighted_fit import fit_arguments, fit_quantiles


def fit_request(request: FitRequest, rows: FitRows) -> FitResult:
    """Fit the requested candidate, check that it is a usable model, and write its file.

    Raises
    ------
    TrainingError
        If there is no such candidate, its fit raises, it is no usable model, or cannot be kept as a file.
    """
    subject = f"candidate {request.candidate!r}"
    own_types = verified_own_types(request.own_types, request.own_code, Path(request.root), subject)
    with seed_generators(request.seed):
        candidate = candidate_of(request)
        started = time.monotonic()
        with threadpool_limits(request.threads):
            model, best, search = fit_or_search(candidate, request, rows)
            check_usable(model, request, rows)
            versions = environment() | booster_version(model) | arithmetic_in_use()
        if request.threshold is not None:
            model = with_threshold(model, request, rows)
            best = {**best, "threshold": threshold_of(model)}
        seconds = time.monotonic() - started
        model = keep_graph(model, request, rows)
    return FitResult(
        request.candidate,
        save_model(model, Path(request.file), own_types),
        round(seconds, 3),
        len(rows.label),
        request.seed,
        versions | optuna_version(search),
        best,
        search,
    )


def with_threshold(model: Any, request: FitRequest, rows: FitRows) -> Any:
    """Return a model with its threshold; see :func:`~airflow_mlops.core.training.decision_threshold.fit_threshold`.

    Raises
    ------
    TrainingError
        With the name of the candidate.
    """
    assert request.threshold is not None
    try:
        return fit_threshold(model, request.threshold, rows)
    except Exception as error:  # a user's estimator may raise anything
        raise TrainingError(f"{request.function}: candidate {request.candidate!r}: {error}") from error


def keep_graph(model: Any, request: FitRequest, rows: FitRows) -> Any:
    """Return a model as its version holds it; see :func:`~airflow_mlops.core.training.export_graph.as_kept`.

    Raises
    ------
    TrainingError
        With the name of the candidate.
    """
    try:
        return as_kept(model, rows.features.tail(TRIAL_ROWS), classifies=request.classifies)
    except TrainingError as error:
        raise TrainingError(f"{request.function}: candidate {request.candidate!r}: {error}") from error


def booster_version(model: Any) -> dict[str, str]:
    """Return the version of the package of boosted trees that a model's last step is of, by its name; or nothing."""
    package = type(last_step(model)).__module__.partition(".")[0]
    return {package: str(sys.modules[package].__version__)} if package in BOOSTERS else {}


def fit_file(request: FitRequest) -> FitResult:
    """Fit the candidate on the rows of the file that the request names; see :func:`fit_request`.

    A fit that is finished in the folder of checkpoints is not made again.
    """
    kept = resume_fit(request)
    if kept is not None:
        return kept
    result = fit_request(request, FitRows.read(Path(request.rows)))
    keep_fit(request, result)
    return result


def candidate_of(request: FitRequest) -> Candidate:
    """Return the requested candidate, not fitted.

    Raises
    ------
    TrainingError
        If the user's function gives none of that name.
    """
    arguments = (request.function, Path(request.root), request.seed, request.quantiles or ())
    try:
        candidates = build_candidates(*arguments)
    except TrainingError as error:
        if not go_offline(error, Path(request.file).with_name(OFFLINE)):
            raise
        candidates = build_candidates(*arguments)
    name = estimator_of(request.candidate)
    if name not in candidates:
        raise TrainingError(f"{request.function} gives no candidate {name!r}; it gives {', '.join(candidates)}")
    return candidates[name]


def fit_or_search(
    candidate: Candidate, request: FitRequest, rows: FitRows
) -> tuple[Any, dict[str, Any], dict[str, Any] | None]:
    """Return the fitted model, what a search or early stopping chose, and the summary of the search.

    Raises
    ------
    TrainingError
        If the user's estimator raises; the message names it.
    """
    try:
        rows = replace(rows, features=model_input(candidate.estimator, rows.features))
        if request.early_stopping is not None:
            iterations = fit_with_early_stopping(candidate.estimator, request.early_stopping, rows)
            return candidate.estimator, {"iterations": iterations}, None
        if quantiles_of(candidate.estimator) is not None:
            return fit_quantiles(candidate.estimator, rows.features, rows.label, rows.weight), {}, None
        if declared_space(request) is not None:
            return search_with_optuna(candidate.estimator, request, rows)
        if candidate.space is None:
            arguments = fit_arguments(candidate.estimator, rows.weight)
            return candidate.estimator.fit(rows.features, rows.label, **arguments), {}, None
        return search_parameters(candidate.estimator, candidate.space, request, rows)
    except TrainingError as error:
        raise TrainingError(f"{request.function}: candidate {request.candidate!r}: {error}") from error
    except Exception as error:  # a user's estimator may raise anything
        raise TrainingError(
            f"{request.function}: candidate {request.candidate!r} raised {type(error).__name__} in fit: {error}"
            f"{label_hint(error, request.label)}"
        ) from error
