"""Stop boosting early: fit on the older rows of the window while the newest rows still improve.

The newest rows are held out from the fit and given to the library as its evaluation set, so the number of iterations is
chosen as the model is used: on rows that are newer than those it was fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.training.inspect_candidates import last_step
from airflow_mlops.core.training.search_parameters import split_in_time

Part = tuple[Any, Any]
"""Features and label of a part of the rows."""


def fit_with_early_stopping(estimator: Any, settings: Mapping[str, Any], rows: FitRows) -> int:
    """Fit an estimator whose last step is a booster in place; return the number of iterations of the model.

    Parameters
    ----------
    settings : mapping
        ``rounds`` without an improvement that end the fit, and ``validation``, the percent of rows held out.

    Raises
    ------
    TrainingError
        If the rows cannot be split in time, a class has no older row, or the booster chose no number.
    """
    older, newer = split_in_time(rows.moment, settings["validation"])
    late = sorted(set(rows.label[newer].tolist()) - set(rows.label[older].tolist()))
    if late and np.issubdtype(rows.label.dtype, np.integer):
        raise TrainingError(
            f"the class with the code {late[0]} is only in the newest {settings['validation']} % of the rows, which "
            "early stopping holds out from the fit; lower train.early_stopping.validation, or widen train.window"
        )
    parts = [(rows.features.iloc[place], rows.label[place]) for place in (older, newer)]
    iterations = _fit_steps(estimator, parts[0], parts[1], settings["rounds"])
    if not iterations:
        raise TrainingError(
            f"{type(last_step(estimator)).__name__} chose no number of iterations, as with boosting_type='dart'; "
            "choose another boosting_type, or leave out train.early_stopping"
        )
    return iterations


def _fit_steps(model: Any, fitted: Part, held_out: Part, rounds: int) -> int:
    """Fit the steps of a pipeline on the fitted part, and its last step with the other part as evaluation set."""
    steps = getattr(model, "steps", None)
    if not steps:
        fit = {"lightgbm": _lightgbm, "xgboost": _xgboost, "catboost": _catboost}
        return fit[type(model).__module__.partition(".")[0]](model, fitted, held_out, rounds)
    if len(steps) > 1:
        before = model[:-1]
        fitted = before.fit_transform(*fitted), fitted[1]
        held_out = before.transform(held_out[0]), held_out[1]
        model.steps = [*before.steps, steps[-1]]
    return _fit_steps(steps[-1][1], fitted, held_out, rounds)


def _lightgbm(model: Any, fitted: Part, held_out: Part, rounds: int) -> int:
    from lightgbm import early_stopping

    stop = early_stopping(rounds, verbose=False)
    model.fit(*fitted, eval_X=held_out[0], eval_y=held_out[1], callbacks=[stop])
    return int(model.best_iteration_ or 0)


def _xgboost(model: Any, fitted: Part, held_out: Part, rounds: int) -> int:
    model.set_params(early_stopping_rounds=rounds).fit(*fitted, eval_set=[held_out], verbose=False)
    return int(model.best_iteration) + 1


def _catboost(model: Any, fitted: Part, held_out: Part, rounds: int) -> int:
    model.fit(*fitted, eval_set=held_out, early_stopping_rounds=rounds)
    model._set_test_evals([])  # the predictions of the held out rows are no part of a model
    return int(model.tree_count_)
