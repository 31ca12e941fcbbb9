"""Log a training among the experiments: its candidates with their metrics, parameters, pictures and trials."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_mlops.core.declaration.windowed_candidate import window_of
from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.evaluation.evaluation_context import EvaluationContext, JudgedModel
from airflow_mlops.core.evaluation.evaluation_pictures import evaluation_pictures
from airflow_mlops.core.ports.experiments import CANDIDATE, LEFT_OUT, LoggedDataset, LoggedRun
from airflow_mlops.core.training.assemble import TrainingRequest
from airflow_mlops.core.workspace import Workspace

log = logging.getLogger(__name__)


def track_training(
    workspace: Workspace, context: EvaluationContext, report: Mapping[str, Any], models: Mapping[str, JudgedModel]
) -> str | None:
    """Log a judged training, and return the path of its page; a store that does not answer costs a warning alone.

    Parameters
    ----------
    report : mapping
        The :class:`EvaluationReport`.
    models : mapping of str to JudgedModel
        The candidates that could be judged, by name.
    """
    request = context.request
    best = next(entry for entry in report["candidates"] if entry["candidate"] == report["best"])
    training = LoggedRun(
        request.operation,
        f"training {request.partition}",
        metrics=metrics_of(best),
        params={"function": request.function, "seed": str(request.seed), "best": str(report["best"])},
        tags={"partition": request.partition, "decision": str(request.decision), "passed": str(best["passed"])},
        children=tuple(
            run_of_candidate(context, entry, models.get(entry["candidate"])) for entry in report["candidates"]
        ),
    )
    try:
        return workspace.experiments.log_training(training, tuple(datasets_of(request)))
    except RegistryError as error:
        log.warning("the training of %s is not shown among the experiments: %s", request.partition, error)
        return None


def run_of_candidate(context: EvaluationContext, entry: Mapping[str, Any], model: JudgedModel | None) -> LoggedRun:
    """Return the run of one candidate; one that could not be judged has failed, and its reason as a tag."""
    name = str(entry["candidate"])
    operation = f"{context.request.operation}-{name}"
    if model is None:
        return LoggedRun(operation, name, tags={CANDIDATE: name, LEFT_OUT: str(entry["error"])}, failed=True)
    best = entry.get("best_params") or {}
    return LoggedRun(
        operation,
        name,
        metrics=metrics_of(entry),
        params={**parameters_of(model.model), **run_parameters(context.request, name, best)},
        tags={CANDIDATE: name, "passed": str(entry["passed"])},
        pictures=evaluation_pictures(context, model, entry["importance"]["permutation"]),
        children=tuple(trial_runs(operation, entry.get("search") or {})),
    )


def run_parameters(request: TrainingRequest, candidate: str, best_params: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a candidate's run that its version is registered with."""
    return {
        "candidate": candidate,
        "seed": str(request.seed),
        "function": request.function,
        **({} if request.windows is None else {"window": str(window_of(candidate))}),
        **{name: str(value) for name, value in best_params.items()},
    }


def parameters_of(model: Any) -> dict[str, str]:
    """Return the plain parameters of an estimator and of its parts, by scikit-learn's names."""
    parameters = model.get_params(deep=True) if hasattr(model, "get_params") else {}
    return {
        name: str(value)
        for name, value in sorted(parameters.items())
        if value is None or isinstance(value, bool | int | float | str)
    }


def metrics_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a candidate with the ends of their intervals, and those of the champion."""
    values: dict[str, float | None] = {"fit_seconds": entry["fit_seconds"]}
    for name, metric in entry["metric_reports"].items():
        values |= {f"holdout_{name}": metric["value"]}
        values |= {f"holdout_{name}_{end}": metric[end] for end in ("low", "high")}
    champion = entry["champion_metrics"] or {}
    values |= {f"champion_holdout_{name}": value for name, value in champion.items()}
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def trial_runs(operation: str, search: Mapping[str, Any]) -> Iterator[LoggedRun]:
    """Yield the runs of the trials that a search has listed."""
    for number, trial in enumerate(search.get("trials", ()), start=1):
        score = trial["score"]
        yield LoggedRun(
            f"{operation}-trial-{number}",
            f"trial {number}",
            metrics={} if score is None else {f"validation_{search['metric']}": score},
            params={name: str(value) for name, value in trial["params"].items()},
            tags={"round": str(trial["round"]), "rows": str(trial["rows"])},
        )


def datasets_of(request: TrainingRequest) -> Iterator[LoggedDataset]:
    """Yield the partitions that a training was fitted on, and those of its holdout."""
    for context, pins in (("training", request.window.fitted), ("evaluation", request.window.holdout)):
        for pin in pins:
            yield LoggedDataset(pin.partition, pin.digest, pin.version, context)
