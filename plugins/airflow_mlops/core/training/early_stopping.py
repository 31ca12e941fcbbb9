"""Stop boosting early: fit on the older rows of the window while the newest rows still improve.

The newest rows are held out from the fit and given to the library as its evaluation set, so the number of iterations is
chosen as the model is used: on rows that are newer than those it was fitted on. Where rows have weights, they count in
the fit and in the score that stops it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.training.inspect_candidates import last_step
from airflow_mlops.core.training.search_parameters import split_in_time


class Part(NamedTuple):
    """Features, label and weight of a part of the rows."""

    features: Any
    label: Any
    weight: npt.NDArray[np.float64] | None


def fit_with_early_stopping(estimator: Any, settings: Mapping[str, Any], rows: FitRows) -> int:
    """Fit an estimator whose last step is a booster in place; return the number of iterations of the model.

    Parameters
    ----------
    settings : mapping
        ``rounds`` without an improvement that end the fit, and ``validation``, the percent of rows held out.

    Raises
    ------
    TrainingError
        If the rows cannot be split in time, a class has no older row, a part has no weight, or the booster chose no
        number.
    """
    older, newer = split_in_time(rows.moment, settings["validation"])
    late = sorted(set(rows.label[newer].tolist()) - set(rows.label[older].tolist()))
    if late and np.issubdtype(rows.label.dtype, np.integer):
        raise TrainingError(
            f"the class with the code {late[0]} is only in the newest {settings['validation']} % of the rows, which "
            "early stopping holds out from the fit; lower train.early_stopping.validation, or widen train.window"
        )
    require_weight(rows.weight, older, newer, settings["validation"])
    iterations = _fit_steps(estimator, part_of(rows, older), part_of(rows, newer), settings["rounds"])
    if not iterations:
        raise TrainingError(
            f"{type(last_step(estimator)).__name__} chose no number of iterations, as with boosting_type='dart'; "
            "choose another boosting_type, or leave out train.early_stopping"
        )
    return iterations


def part_of(rows: FitRows, places: npt.NDArray[np.intp]) -> Part:
    """Return the rows at some places."""
    weight = None if rows.weight is None else rows.weight[places]
    return Part(rows.features.iloc[places], rows.label[places], weight)


def require_weight(
    weight: npt.NDArray[np.float64] | None, older: npt.NDArray[np.intp], newer: npt.NDArray[np.intp], validation: int
) -> None:
    """Raise TrainingError if no row of one of the two parts has any weight."""
    for name, places in (("oldest", older), ("newest", newer)):
        if weight is not None and not weight[places].any():
            share = validation if name == "newest" else 100 - validation
            raise TrainingError(
                f"the weight of the {name} {share} % of the rows is 0, and early stopping fits the older rows and "
                "judges by the newest; change train.early_stopping.validation, or widen train.window"
            )


def _fit_steps(model: Any, fitted: Part, held_out: Part, rounds: int) -> int:
    """Fit the steps of a pipeline on the fitted part, and its last step with the other part as evaluation set."""
    steps = getattr(model, "steps", None)
    if not steps:
        fit = {"lightgbm": _lightgbm, "xgboost": _xgboost, "catboost": _catboost}
        return fit[type(model).__module__.partition(".")[0]](model, fitted, held_out, rounds)
    if len(steps) > 1:
        before = model[:-1]
        fitted = fitted._replace(features=before.fit_transform(fitted.features, fitted.label))
        held_out = held_out._replace(features=before.transform(held_out.features))
        model.steps = [*before.steps, steps[-1]]
    return _fit_steps(steps[-1][1], fitted, held_out, rounds)


def _lightgbm(model: Any, fitted: Part, held_out: Part, rounds: int) -> int:
    from lightgbm import early_stopping

    weights = None if held_out.weight is None else [held_out.weight]
    model.fit(
        fitted.features,
        fitted.label,
        sample_weight=fitted.weight,
        eval_X=held_out.features,
        eval_y=held_out.label,
        eval_sample_weight=weights,
        callbacks=[early_stopping(rounds, verbose=False)],
    )
    return int(model.best_iteration_ or 0)


def _xgboost(model: Any, fitted: Part, held_out: Part, rounds: int) -> int:
    model.set_params(early_stopping_rounds=rounds).fit(
        fitted.features,
        fitted.label,
        sample_weight=fitted.weight,
        eval_set=[(held_out.features, held_out.label)],
        sample_weight_eval_set=None if held_out.weight is None else [held_out.weight],
        verbose=False,
    )
    return int(model.best_iteration) + 1


def _catboost(model: Any, fitted: Part, held_out: Part, rounds: int) -> int:
    from catboost import Pool

    kinds = {name: model.get_param(name) for name in ("cat_features", "text_features", "embedding_features")}
    held_out_pool = Pool(held_out.features, held_out.label, weight=held_out.weight, **kinds)
    model.fit(
        fitted.features,
        fitted.label,
        sample_weight=fitted.weight,
        eval_set=held_out_pool,
        early_stopping_rounds=rounds,
    )
    model._set_test_evals([])  # the predictions of the held out rows are no part of a model
    return int(model.tree_count_)
