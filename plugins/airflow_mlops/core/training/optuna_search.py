"""Search the declared parameters of a candidate with Optuna, validated on the newest part of the window.

A trial is fitted on the older rows of the window and judged on the newer ones, as in the last round of successive
halving; the best is fitted once more on all of them. Each trial has a sampler of its own, seeded by ``train.seed`` and
the number of the trial, so what it tries follows from the scores before it alone.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_mlops.core.declaration.windowed_candidate import estimator_of
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.training.global_seeds import seed_generators
from airflow_mlops.core.training.optuna_extra import MISSING_OPTUNA, optuna_is_installed
from airflow_mlops.core.training.search_parameters import (
    KEPT_TRIALS,
    metric_of,
    plain,
    readable_score,
    scorer_of,
    split_in_time,
)
from airflow_mlops.core.training.trial_file import Outcome, trial_file
from airflow_mlops.core.training.weighted_fit import fit_arguments

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

OPTUNA = "optuna"
"""Name of the package, and first word of the method in the summary of a search."""


@dataclass(frozen=True)
class Trial:
    """Parameters that were tried, and their score, of which more is better; None where their fit raised ``error``."""

    params: dict[str, Any]
    score: float | None
    error: str | None = None


def declared_space(request: FitRequest) -> Mapping[str, Any] | None:
    """Return the parameters that Optuna searches for the requested candidate; None if none are declared."""
    spaces: Mapping[str, Mapping[str, Any]] = ((request.search or {}).get(OPTUNA) or {}).get("spaces", {})
    return spaces.get(estimator_of(request.candidate))


def optuna_version(search: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the version of Optuna by its name, if it made the search; or nothing."""
    is_of_optuna = search is not None and str(search["method"]).startswith(OPTUNA)
    return {OPTUNA: importlib.metadata.version(OPTUNA)} if is_of_optuna else {}


def search_with_optuna(
    estimator: Any, request: FitRequest, rows: FitRows
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return the estimator fitted with the best parameters, those parameters, and the summary of the search.

    Raises
    ------
    TrainingError
        If Optuna is not installed, the rows cannot be split in time, or no parameters gave a score.
    """
    if not optuna_is_installed():
        raise TrainingError(MISSING_OPTUNA)
    settings = request.search or {}
    metric = metric_of(settings)
    older, newer = split_in_time(rows.moment, settings["validation"])
    score = scorer_of(metric, rows, classifies=request.classifies)

    def measure(params: dict[str, Any]) -> Outcome:
        try:
            model = fit_copy(estimator, params, request.seed, rows, older)
            value = float(score(model, rows.features.iloc[newer], rows.label[newer]))
        except MemoryError:  # what another process uses must not decide which parameters win
            raise
        except Exception as error:  # a user's estimator may raise anything, and other parameters may do
            return {"score": None, "error": f"{type(error).__name__}: {error}"}
        return (
            {"score": value, "error": None}
            if math.isfinite(value)
            else {"score": None, "error": f"its score is {value}"}
        )

    with trial_file(request, **{OPTUNA: importlib.metadata.version(OPTUNA)}) as outcomes:
        trials = run_trials(request, lambda params: outcomes.outcome(params, lambda: measure(params)))
        ranked = sorted(trials, key=lambda trial: math.inf if trial.score is None else -trial.score)
        best = ranked[0]
        if best.score is None:
            tried = f"the first were {best.params}: {best.error}"
            raise TrainingError(f"no parameters that were tried gave a {metric}; {tried}")
        model = fit_copy(estimator, best.params, request.seed, rows)
    summary = {
        "method": f"{OPTUNA} {settings[OPTUNA]['sampler']}",
        "metric": metric,
        "tried": len(trials),
        "rounds": [{"candidates": len(trials), "rows": len(older)}],
        "validated_on": len(newer),
        "best_score": readable_score(metric, best.score),
        "trials": [describe(trial, metric, len(older)) for trial in ranked[:KEPT_TRIALS]],
    }
    return model, plain(best.params), summary


def run_trials(request: FitRequest, outcome: Callable[[dict[str, Any]], Outcome]) -> list[Trial]:
    """Return the trials in their order, each of parameters that a sampler chooses by the outcomes before it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings, space = (request.search or {})[OPTUNA], declared_space(request) or {}
    distributions = {name: distribution(values) for name, values in sorted(space.items())}
    study = optuna.create_study(direction="maximize")
    trials = []
    for number in range(settings["trials"]):
        study.sampler = sampler(settings["sampler"], request.seed, number)
        trial = study.ask(distributions)
        result = outcome(trial.params)
        failed = result["score"] is None
        study.tell(trial, result["score"], state=optuna.trial.TrialState.FAIL if failed else None)
        trials.append(Trial(trial.params, result["score"], result["error"]))
    return trials


def sampler(name: str, seed: int, number: int) -> BaseSampler:
    """Return the sampler of one trial; its choice depends on the seed, its number and the trials before it."""
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([seed % 2**32, number]).generate_state(1)[0])
    return TPESampler(seed=seed) if name == "tpe" else RandomSampler(seed=seed)


def distribution(values: Mapping[str, Any]) -> BaseDistribution:
    """Return Optuna's distribution of a declared parameter."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if values["kind"] == "categorical":
        return CategoricalDistribution(tuple(values["values"]))
    if values["kind"] == "int":
        return IntDistribution(int(values["low"]), int(values["high"]), log=values["log"])
    return FloatDistribution(values["low"], values["high"], log=values["log"])


def fit_copy(estimator: Any, params: Mapping[str, Any], seed: int, rows: FitRows, chosen: Any = slice(None)) -> Any:
    """Return a copy of the estimator with other parameters, fitted on the ``chosen`` rows; by default on all.

    Each fit seeds the generators of the process anew, so that it depends on no trial before it.
    """
    from sklearn.base import clone

    model = clone(estimator).set_params(**params)
    arguments = fit_arguments(model, None if rows.weight is None else rows.weight[chosen])
    with seed_generators(seed):
        return model.fit(rows.features.iloc[chosen], rows.label[chosen], **arguments)


def describe(trial: Trial, metric: str, rows: int) -> dict[str, Any]:
    """Return a trial as JSON values, in the form that trials of successive halving have."""
    score = None if trial.score is None else readable_score(metric, trial.score)
    failure = {} if trial.error is None else {"error": trial.error}
    return {"params": plain(trial.params), "score": score, "round": 0, "rows": rows, **failure}
