"""SHAP: what each feature adds to single predictions. Only where it is declared; the library alone costs seconds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.training.predict import as_fitted
from airflow_mlops.core.training.row_losses import Floats

EXPLAINED_ROWS = 200
BACKGROUND_ROWS = 10
PERMUTED_ROWS = 30
SHOWN_FEATURES = 50


def mean_absolute_shap(
    model: Any, predict: Callable[[pd.DataFrame], Floats], features: pd.DataFrame, *, seed: int
) -> dict[str, Any]:
    """Return the mean absolute SHAP value of each feature, the largest first, and by which explainer.

    A tree or a linear model at the end of a Pipeline is explained in terms of the columns that reach it, anything
    else in terms of the features, by permutations. Where a model cannot be explained, ``values`` is empty and
    ``reason`` says why.
    """
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(features))[:EXPLAINED_ROWS])
    rows = as_fitted(model, features.iloc[chosen].reset_index(drop=True))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a library about its own future
            explainer, of, values, names = _explained(model, predict, rows, seed)
    except Exception as error:
        return {"explainer": None, "of": None, "values": {}, "rows": len(rows), "reason": f"{error}"[:300]}
    mean = np.abs(values).mean(axis=0)
    order = np.argsort(-mean, kind="stable")[:SHOWN_FEATURES]
    return {
        "explainer": explainer,
        "of": of,
        "rows": len(values),
        "reason": None,
        "values": {str(names[number]): float(mean[number]) for number in order},
    }


def _explained(
    model: Any, predict: Callable[[pd.DataFrame], Floats], rows: pd.DataFrame, seed: int
) -> tuple[str, str, Floats, list[str]]:
    import shap

    last = model.steps[-1][1] if hasattr(model, "steps") else model
    kind = type(last).__name__
    reaching: Any = model[:-1].transform(rows) if hasattr(model, "steps") and len(model.steps) > 1 else rows
    if kind.startswith(_TREES) or kind in ("Ridge", "LinearRegression", "Lasso", "ElasticNet", "LogisticRegression"):
        names = _names(model, rows, reaching)
        dense = np.asarray(reaching.todense() if hasattr(reaching, "todense") else reaching, np.float64)
        if kind.startswith(_TREES):
            explainer, word = shap.TreeExplainer(last), "tree"
        else:
            explainer, word = shap.LinearExplainer(last, dense), "linear"
        return word, "columns that reach the last step", _two_dimensional(explainer.shap_values(dense)), names
    return "permutation", "features", _by_permutation(shap, predict, rows, seed), [str(name) for name in rows]


_TREES = ("HistGradientBoosting", "GradientBoosting", "RandomForest", "ExtraTrees", "DecisionTree", "ExtraTree")


def _names(model: Any, rows: pd.DataFrame, reaching: Any) -> list[str]:
    if hasattr(model, "steps") and len(model.steps) > 1:
        try:
            return [str(name).rpartition("__")[2] or str(name) for name in model[:-1].get_feature_names_out()]
        except (AttributeError, ValueError):
            return [f"column {number}" for number in range(reaching.shape[1])]
    return [str(name) for name in rows]


def _by_permutation(shap: Any, predict: Callable[[pd.DataFrame], Floats], rows: pd.DataFrame, seed: int) -> Floats:
    """Return SHAP values of features of any type: the explainer sees row numbers of each, the model the values."""
    numbers = np.column_stack([np.arange(len(rows), dtype=np.float64)] * rows.shape[1])

    def called(places: Floats) -> Floats:
        at = places.astype(int)
        taken = {name: rows[name].take(at[:, column]).to_numpy() for column, name in enumerate(rows)}
        return predict(pd.DataFrame(taken).astype(rows.dtypes.to_dict()))

    background = shap.maskers.Independent(numbers, max_samples=BACKGROUND_ROWS)
    explainer = shap.PermutationExplainer(called, background, seed=seed)
    explained = explainer(numbers[:PERMUTED_ROWS], max_evals=2 * rows.shape[1] + 1, silent=True)
    return np.asarray(explained.values, np.float64)


def _two_dimensional(values: Any) -> Floats:
    """Return SHAP values as (n_rows, n_columns): of the last class, where there is one table for each."""
    array = np.asarray(values[-1] if isinstance(values, list) else values, np.float64)
    return array[:, :, -1] if array.ndim == 3 else array
