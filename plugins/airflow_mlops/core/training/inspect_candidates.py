"""Look at candidates before they are fitted: which can be judged by the declared metrics, and kept as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from airflow_mlops.core.declaration.own_types import type_name
from airflow_mlops.core.declaration.quantiles import quantiles_of
from airflow_mlops.core.declaration.user_function import Candidate, build_candidates
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.training.export_graph import kept_parts, missing_packages
from airflow_mlops.core.training.optuna_extra import MISSING_OPTUNA, SPACES, optuna_is_installed
from airflow_mlops.core.training.user_runs import no_user_runs
from airflow_mlops.core.training.weighted_fit import weight_parameter

KINDS = {True: "classifier", False: "regressor"}
EARLY_STOPPERS = (
    "lightgbm.sklearn.LGBMRegressor",
    "lightgbm.sklearn.LGBMClassifier",
    "xgboost.sklearn.XGBRegressor",
    "xgboost.sklearn.XGBClassifier",
    "catboost.core.CatBoostRegressor",
    "catboost.core.CatBoostClassifier",
)
"""Classes whose fit can be stopped early, by their full names."""
NAMES_OF_KINDS = {"outlier_detector": "an outlier detector", "density_estimator": "a density estimator"}


def inspect_candidates(
    function: str,
    root: Path,
    seed: int,
    *,
    classifies: bool,
    probability_metrics: Sequence[str],
    stops_early: bool = False,
    own_types: Sequence[str] = (),
    weighted: bool = False,
    quantiles: Sequence[float] = (),
    spaces: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the ``names`` of the usable candidates, ``searched``, and ``refused``: the reasons by name.

    Parameters
    ----------
    function : str
        ``module:name`` of the user's function, below ``root``.
    seed : int
        Its argument.
    classifies : bool
        Whether the declared metrics are of classes.
    probability_metrics : sequence of str
        Those of them that need probabilities.
    stops_early : bool
        Whether the declaration stops boosting early.
    own_types : sequence of str
        The declared classes and functions of the project, as ``module:name``.
    weighted : bool
        Whether rows have weights.
    quantiles : sequence of float
        The quantiles that a model predicts.
    spaces : mapping of str to sequence of str
        The parameters that Optuna searches, by the names of candidates.

    Raises
    ------
    TrainingError
        As :func:`build_candidates` does, and if there is no candidate of a name in ``spaces``.
    """
    with no_user_runs():
        candidates = build_candidates(function, root, seed, quantiles)
    unknown = sorted(set(spaces) - set(candidates))
    if unknown:
        hint = suggest_name(unknown[0], list(candidates), kind="candidates")
        raise TrainingError(f"{SPACES}: {function} gives no candidate {unknown[0]!r}; {hint}")
    reasons = {
        name: (refusal_of_early_stopping(candidate) if stops_early else None)
        or (refusal_of_space(candidate, spaces[name]) if name in spaces else None)
        or refusal_of(
            candidate.estimator,
            classifies=classifies,
            probability_metrics=probability_metrics,
            own_types=own_types,
            weighted=weighted,
        )
        for name, candidate in sorted(candidates.items())
    }
    names = [name for name, reason in reasons.items() if reason is None]
    return {
        "names": names,
        "searched": any(candidates[name].space is not None or name in spaces for name in names),
        "refused": {name: reason for name, reason in reasons.items() if reason is not None},
    }


def refusal_of(
    estimator: Any,
    *,
    classifies: bool,
    probability_metrics: Sequence[str],
    own_types: Sequence[str] = (),
    weighted: bool = False,
) -> str | None:
    """Return the reason why an unfitted estimator is no usable candidate; None if nothing is known against it."""
    return (
        refusal_of_kind(estimator, classifies=classifies)
        or (refusal_of_decisions(estimator, probability_metrics) if classifies else None)
        or (refusal_of_weights(estimator) if weighted else None)
        or refusal_of_types(estimator, own_types)
    )


def refusal_of_early_stopping(candidate: Candidate) -> str | None:
    """Return the reason why the fit of a candidate cannot be stopped early; None if it can."""
    final = type(last_step(candidate.estimator))
    if f"{final.__module__}.{final.__name__}" not in EARLY_STOPPERS:
        names = " or ".join(name.rpartition(".")[2] for name in EARLY_STOPPERS)
        return (
            f"{final.__name__} cannot stop early, and train.early_stopping is declared; end with {names}, or leave out "
            "train.early_stopping"
        )
    if candidate.space is not None:
        return "it has a search space, which train.early_stopping excludes; leave out one of them"
    return None


def refusal_of_space(candidate: Candidate, parameters: Sequence[str]) -> str | None:
    """Return the reason why Optuna cannot search these parameters of a candidate; None if it can."""
    if not optuna_is_installed():
        return MISSING_OPTUNA
    if candidate.space is not None:
        return f"the function gives a search space of it, and {SPACES} declares another; leave out one of them"
    known = [str(name) for name in candidate.estimator.get_params()]
    unknown = [name for name in parameters if name not in known]
    if unknown:
        hint = suggest_name(unknown[0], known, kind="parameters")
        return f"{SPACES} names its parameter {unknown[0]!r}, which it has not; {hint}"
    return None


def refusal_of_weights(estimator: Any) -> str | None:
    """Return the reason why an estimator cannot learn from rows with weights; None if its fit takes them."""
    if weight_parameter(estimator) is not None:
        return None
    return (
        f"the fit of {type(last_step(estimator)).__name__} takes no weights of rows, which train.weight and "
        "train.half_life_days give; give an estimator whose fit takes sample_weight, or declare neither"
    )


def refusal_of_kind(estimator: Any, *, classifies: bool) -> str | None:
    """Return the reason why the metrics cannot judge the predictions of an estimator; None if they can.

    An estimator that does not state its kind, as classes may that are not of scikit-learn, is left to its fit.
    """
    from sklearn.utils import get_tags

    if quantiles_of(estimator) is not None:
        parts = (refusal_of_kind(part, classifies=classifies) for _, part in estimator.estimators)
        return next((reason for reason in parts if reason is not None), None)
    try:
        tags = get_tags(estimator)
    except Exception:  # a class of the user's need not have tags
        return None
    wanted, subject = KINDS[classifies], type(last_step(estimator)).__name__
    if tags.estimator_type not in (wanted, None):
        kind = NAMES_OF_KINDS.get(str(tags.estimator_type), f"a {tags.estimator_type}")
        judged = "classes, 0 and 1" if classifies else "numbers"
        return f"{subject} is {kind}, and the declared metrics judge {judged}; give a {wanted}"
    if not tags.target_tags.single_output:
        return f"{subject} predicts several labels at once, and a loop has one; give a {wanted} of one label"
    return None


def refusal_of_decisions(estimator: Any, probability_metrics: Sequence[str]) -> str | None:
    """Return the reason why a classifier needs probabilities that it does not give; None if it need not, or gives them.

    A stack decides by a logistic regression where it names no final estimator, and shows that only once it is fitted.
    """
    final = last_step(estimator)
    if not probability_metrics or hasattr(estimator, "predict_proba") or is_default_stack(final):
        return None
    return (
        f"{type(final).__name__} gives decisions and no probabilities, which {' and '.join(probability_metrics)} "
        f"need{'s' if len(probability_metrics) == 1 else ''}; wrap it in CalibratedClassifierCV, or declare gates on "
        "accuracy and other metrics of decisions only (precision, recall, f1)"
    )


def is_default_stack(estimator: Any) -> bool:
    """Return whether an estimator is a stack of classifiers without a final estimator of its own."""
    from sklearn.ensemble import StackingClassifier

    return isinstance(estimator, StackingClassifier) and estimator.final_estimator is None


def refusal_of_types(estimator: Any, own_types: Sequence[str] = ()) -> str | None:
    """Return the reason why a fitted model of an estimator could not be kept; None if nothing is known against it."""
    from airflow_mlops.core.registry.model_file import DECLARE_OWN
    from airflow_mlops.core.registry.parameter_types import untrusted_parameters

    missing = missing_packages(estimator)
    if missing is not None:
        return missing
    try:
        names = {name for part in kept_parts(estimator) for name in untrusted_parameters(part)}
        names -= set(map(type_name, own_types))
    except TrainingError as error:
        return str(error)
    if not names:
        return None
    return (
        f"it holds types that are not trusted for loading: {', '.join(sorted(names))}; use classes of scikit-learn and "
        f"functions of numpy, compute the columns in data.features, or {DECLARE_OWN}"
    )


def last_step(estimator: Any) -> Any:
    """Return the last step of a pipeline, or the estimator itself."""
    while getattr(estimator, "steps", None):
        estimator = estimator.steps[-1][1]
    return estimator


def describe_refusals(function: str, refused: Mapping[str, str]) -> str:
    """Return the reasons of refused candidates as one text.

    >>> describe_refusals("shop:candidates", {"a": "KMeans is a clusterer"})
    "shop:candidates: candidate 'a' cannot be used: KMeans is a clusterer"
    """
    return f"{function}: {'; '.join(describe_left_out(refused))}"


def describe_left_out(refused: Mapping[str, str]) -> list[str]:
    """Return a sentence for each candidate that is left out, with its name unless the reason has it."""
    return [
        reason if f"candidate {name!r}" in reason else f"candidate {name!r} cannot be used: {reason}"
        for name, reason in sorted(refused.items())
    ]
