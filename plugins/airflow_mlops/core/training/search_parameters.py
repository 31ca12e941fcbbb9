"""Search parameters by scikit-learn's successive halving, validated on the newest part of the window.

Time is never shuffled: parameters are fitted on the older rows of the window and compared on the newer ones. The
holdout is not in the window, so the search cannot see it. Each round fits fewer parameters on more rows; the winner
is fitted once more on all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.declaration.evaluate import OwnMetric, is_of_numbers
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats, metric_value, more_is_better, row_losses
from airflow_mlops.core.training.weighted_fit import fit_arguments

if TYPE_CHECKING:  # a fit in another interpreter has no declaration
    from airflow_mlops.core.declaration.loop import Loop

KEPT_TRIALS = 50
"""Most trials that a result lists, the best first; it counts the others."""


def search_parameters(
    estimator: Any, space: Mapping[str, Any], request: FitRequest, rows: FitRows
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return the estimator fitted with the best parameters, those parameters, and the summary of the search.

    Raises
    ------
    TrainingError
        If the rows cannot be split in time, or no parameters gave a score.
    """
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - lets the next line be imported
    from sklearn.model_selection import HalvingGridSearchCV, HalvingRandomSearchCV

    settings = request.search or {}
    metric = metric_of(settings)
    older, newer = split_in_time(rows.moment, settings["validation"])
    options = {
        "factor": settings["factor"],
        "min_resources": "exhaust",
        "cv": [(older, newer)],
        "scoring": scorer_of(metric, rows, classifies=request.classifies),
        "random_state": request.seed,
    }
    size = grid_size(space)
    if size is not None and size <= settings["candidates"]:
        search = HalvingGridSearchCV(estimator, dict(space), **options)
    else:
        search = HalvingRandomSearchCV(estimator, dict(space), n_candidates=settings["candidates"], **options)
    search.fit(rows.features, rows.label, **fit_arguments(estimator, rows.weight))
    best = float(search.best_score_)
    if not math.isfinite(best):
        raise TrainingError(
            f"no parameters that were tried gave a {metric}; the first were {search.cv_results_['params'][0]}"
        )
    summary = {
        "method": type(search).__name__,
        "metric": metric,
        "tried": int(search.n_candidates_[0]),
        "rounds": [
            {"candidates": int(tried), "rows": int(used)}
            for tried, used in zip(search.n_candidates_, search.n_resources_, strict=True)
        ],
        "validated_on": len(newer),
        "best_score": readable_score(metric, best),
        "trials": trials(search.cv_results_, metric),
    }
    return search.best_estimator_, plain(search.best_params_), summary


def search_settings(loop: Loop) -> dict[str, Any]:
    """Return the settings of a search as JSON values, with the metric by which it compares."""
    metric = loop.metric
    own = {"own_metric": [metric.function, metric.better]} if isinstance(metric, OwnMetric) else {}
    return loop.train.search.settings(metric) | own


def metric_of(settings: Mapping[str, Any]) -> str:
    """Return the metric by which a search compares, from its settings."""
    name, own = str(settings["metric"]), settings.get("own_metric")
    return name if own is None else OwnMetric(name, *own)


def split_in_time(
    moment: npt.NDArray[np.int64] | None, validation: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the indices of the older rows and of the newer ones, about ``validation`` percent of them.

    Rows of one moment stay together, so the newer part may be larger than asked for, and each older row is older
    than each newer one.

    >>> older, newer = split_in_time(np.array([3, 0, 1, 2, 3]), 20)
    >>> older.tolist(), newer.tolist()
    ([1, 2, 3], [0, 4])

    Raises
    ------
    TrainingError
        If all rows are of one moment: no part of them is newer.
    """
    if moment is None or len(np.unique(moment)) < 2:
        raise TrainingError(
            "the rows of the window are all of one moment, and cannot be split into older ones and newer ones"
        )
    share = max(1, round(len(moment) * validation / 100))
    cut = max(int(np.sort(moment)[-share]), int(moment.min()) + 1)
    return np.flatnonzero(moment < cut), np.flatnonzero(moment >= cut)


def grid_size(space: Mapping[str, Any]) -> int | None:
    """Return the number of combinations of a space of lists; None if part of it is a distribution.

    >>> grid_size({"a": [1, 2], "b": [1, 2, 3]})
    6
    """
    if any(hasattr(values, "rvs") for values in space.values()):
        return None
    return math.prod(len(values) for values in space.values())


def scorer_of(metric: str, rows: FitRows, *, classifies: bool) -> Callable[[Any, Any, Any], float]:
    """Return the scorer of a metric on rows with or without weights, of numbers or classes; higher is always better.

    Raises
    ------
    TrainingError
        If there is no scorer of that metric.
    """
    classes = int(np.max(rows.label)) + 1 if classifies else 0
    if rows.weight is not None or (isinstance(metric, OwnMetric) and classes < 3):
        return row_scorer(metric, rows.weight, classifies=classifies)
    return scorer(metric) if classes < 3 else class_scorer(metric, classes)


def scorer(metric: str) -> Any:
    """Return scikit-learn's scorer of a metric; a higher score is always better.

    Raises
    ------
    TrainingError
        If there is no scorer of that metric.
    """
    from sklearn.metrics import get_scorer, log_loss, make_scorer

    if metric == "log_loss":  # also where the newer rows are of one class
        return make_scorer(log_loss, greater_is_better=False, response_method="predict_proba", labels=[0, 1])
    names = {
        "mae": "neg_mean_absolute_error",
        "rmse": "neg_root_mean_squared_error",
        "brier": "neg_brier_score",
        "accuracy": "accuracy",
    }
    if metric in names:
        return get_scorer(names[metric])
    if not is_of_numbers(metric):
        raise TrainingError(f"a search cannot compare by {metric!r}; it can by the metrics of single rows")
    return make_scorer(
        lambda label, predicted: metric_value(metric, row_losses(metric, label, predicted)), greater_is_better=False
    )


def class_scorer(metric: str, classes: int) -> Callable[[Any, Any, Any], float]:
    """Return a scorer of three classes or more; a class without rows in a part of the window has the probability 0."""

    def score(estimator: Any, features: Any, label: Any) -> float:
        chances = np.zeros((len(label), classes))
        chances[:, np.asarray(estimator.classes_, np.int64)] = estimator.predict_proba(features)
        value = metric_value(metric, row_losses(metric, label, chances))
        return value if more_is_better(metric) else -value

    return score


def row_scorer(metric: str, weight: Floats | None, *, classifies: bool) -> Callable[[Any, pd.DataFrame, Any], float]:
    """Return a scorer of single rows; it finds their weights, if they have any, by the index of the features."""

    def score(estimator: Any, features: pd.DataFrame, label: Any) -> float:
        losses = row_losses(metric, label, predict(estimator, features, classifies=classifies))
        value = metric_value(metric, losses, None if weight is None else weight[features.index])
        return value if more_is_better(metric) else -value

    return score


def readable_score(metric: str, score: float) -> float | None:
    """Return the metric's value of a score: scikit-learn negates metrics where less is better."""
    if not math.isfinite(score):
        return None
    return score if more_is_better(metric) else -score


def trials(results: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """Return the trials as JSON values: latest round first, and best score first within a round."""
    scores = np.nan_to_num(np.asarray(results["mean_test_score"]), nan=-np.inf)
    order = np.lexsort((-scores, -np.asarray(results["iter"])))[:KEPT_TRIALS]
    return [
        {
            "params": plain(results["params"][index]),
            "score": readable_score(metric, float(scores[index])),
            "round": int(results["iter"][index]),
            "rows": int(results["n_resources"][index]),
        }
        for index in order
    ]


def plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON values; any other value as its ``repr``.

    >>> plain({"alpha": np.float64(0.5), "loss": "log", "shape": (1, 2)})
    {'alpha': 0.5, 'loss': 'log', 'shape': '(1, 2)'}
    """
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in sorted(params.items())}
    return {
        name: value if value is None or isinstance(value, str | bool | int) or _finite(value) else repr(value)
        for name, value in values.items()
    }


def _finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
