"""SHAP values: the contribution of each feature to predictions. Optional: the import of the library takes seconds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.training.model_input import model_input
from airflow_mlops.core.training.predict import as_fitted
from airflow_mlops.core.training.row_losses import Floats

EXPLAINED_ROWS = 200
BACKGROUND_ROWS = 10
PERMUTED_ROWS = 30
REPORTED_FEATURES = 50


def mean_absolute_shap(
    model: Any,
    predict: Callable[[pd.DataFrame], Floats],
    features: pd.DataFrame,
    *,
    seed: int,
    classes: tuple[str, ...] | None = None,
) -> dict[str, Any]:
    """Return the mean absolute SHAP value of each feature, the largest first, with the explainer.

    Of three ``classes`` or more it is the mean over them, and ``by_class`` has those of each.

    A tree or a linear model at the end of a Pipeline is explained by the columns that reach it, any other model by its
    features, with permutations. If a model cannot be explained, ``values`` is empty and ``reason`` says why.
    """
    random = np.random.default_rng(seed)
    sample = np.sort(random.permutation(len(features))[:EXPLAINED_ROWS])
    rows = as_fitted(model, features.iloc[sample].reset_index(drop=True))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations within the library
            explainer, subject, values, names = _explain(model, predict, rows, seed)
    except Exception as error:  # the library raises many kinds for models that it does not know
        return {"explainer": None, "of": None, "values": {}, "rows": len(rows), "reason": f"{error}"[:300]}
    if values.ndim == 3 and classes is None:
        values = values[:, :, -1]
    by_feature = np.abs(values).mean(axis=0)
    mean = by_feature if classes is None else by_feature.mean(axis=1)
    order = np.argsort(-mean, kind="stable")[:REPORTED_FEATURES]
    return {
        "explainer": explainer,
        "of": subject,
        "rows": len(values),
        "reason": None,
        "values": {str(names[number]): float(mean[number]) for number in order},
        **({} if classes is None else {"by_class": _by_class(by_feature, names, order, classes)}),
    }


def _by_class(
    by_feature: Floats, names: list[str], order: npt.NDArray[np.int64], classes: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Return the values of each class by feature, in the order of the features."""
    return {
        name: {str(names[number]): float(by_feature[number, code]) for number in order}
        for code, name in enumerate(classes)
    }


def _explain(
    model: Any, predict: Callable[[pd.DataFrame], Floats], rows: pd.DataFrame, seed: int
) -> tuple[str, str, Floats, list[str]]:
    import shap

    last = model.steps[-1][1] if hasattr(model, "steps") else model
    kind = type(last).__name__
    plain_rows = model_input(model, rows)
    has_steps = hasattr(model, "steps") and len(model.steps) > 1
    transformed: Any = model[:-1].transform(plain_rows) if has_steps else plain_rows
    several = kind == "GradientBoostingClassifier" and last.n_classes_ > 2  # shap reads two classes of it alone
    if (kind.startswith(_TREES) and not several) or kind in (
        "Ridge",
        "LinearRegression",
        "Lasso",
        "ElasticNet",
        "LogisticRegression",
    ):
        names = _column_names(model, rows, transformed)
        dense = np.asarray(transformed.todense() if hasattr(transformed, "todense") else transformed, np.float64)
        if kind.startswith(_TREES):
            explainer, name = shap.TreeExplainer(last), "tree"
        else:
            explainer, name = shap.LinearExplainer(last, dense), "linear"
        return name, "columns that reach the last step", _values_of(explainer.shap_values(dense)), names
    return "permutation", "features", _explain_by_permutation(shap, predict, rows, seed), [str(name) for name in rows]


_TREES = ("HistGradientBoosting", "GradientBoosting", "RandomForest", "ExtraTrees", "DecisionTree", "ExtraTree")


def _column_names(model: Any, rows: pd.DataFrame, transformed: Any) -> list[str]:
    if hasattr(model, "steps") and len(model.steps) > 1:
        try:
            return [str(name).rpartition("__")[2] or str(name) for name in model[:-1].get_feature_names_out()]
        except (AttributeError, ValueError):
            return [f"column {number}" for number in range(transformed.shape[1])]
    return [str(name) for name in rows]


def _explain_by_permutation(
    shap: Any, predict: Callable[[pd.DataFrame], Floats], rows: pd.DataFrame, seed: int
) -> Floats:
    """Return SHAP values of features of any type: the explainer permutes row numbers, the model gets their values."""
    numbers = np.column_stack([np.arange(len(rows), dtype=np.float64)] * rows.shape[1])

    def predict_row_numbers(row_numbers: Floats) -> Floats:
        at = row_numbers.astype(int)
        columns = {name: rows[name].take(at[:, column]).to_numpy() for column, name in enumerate(rows)}
        return predict(pd.DataFrame(columns).astype(rows.dtypes.to_dict()))

    background = shap.maskers.Independent(numbers, max_samples=BACKGROUND_ROWS)
    explainer = shap.PermutationExplainer(predict_row_numbers, background, seed=seed)
    explanation = explainer(numbers[:PERMUTED_ROWS], max_evals=2 * rows.shape[1] + 1, silent=True)
    return np.asarray(explanation.values, np.float64)


def _values_of(values: Any) -> Floats:
    """Return SHAP values of shape (n_rows, n_columns), or (n_rows, n_columns, n_classes) of tables for each class."""
    return np.asarray(np.stack(values, axis=-1) if isinstance(values, list) else values, np.float64)
