"""Predict rows with a fitted model: a value, the probability of class 1, or that of each of three classes or more.

A model without probabilities gives its decision, as the probability 0 or 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.declaration.quantiles import quantiles_of
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.training.model_input import model_input
from airflow_mlops.core.training.row_losses import Floats


def predict(model: Any, features: pd.DataFrame, *, classifies: bool) -> Floats:
    """Return one prediction for each row, shape (n_rows,); with three classes or more, shape (n_rows, n_classes).

    A model of several quantiles gives each of them, shape (n_rows, n_quantiles), in rising order: its models are fitted
    one by one, so what they predict for a row may cross.

    The model gets the features that it was fitted on, by name and in its order; others are left out.

    Raises
    ------
    TrainingError
        If a feature is missing that the model was fitted on, or the model raises, gives another number of
        values, or gives NaN or infinity.
    """
    features = model_input(model, as_fitted(model, features))
    several = quantiles_of(model) is not None
    try:
        with np.errstate(all="ignore"):  # the result is checked for NaN and infinity below
            if classifies:
                predictions = class_probabilities(model, features)
            elif several:
                predictions = quantile_predictions(model, features)
            else:
                predictions = np.asarray(model.predict(features), np.float64)
    except Exception as error:  # a model may raise anything
        if type(error).__name__ == "NotFittedError":
            raise TrainingError(f"the model is not fitted: {error}") from error
        raise TrainingError(f"the model raised {type(error).__name__} in predict: {error}") from error
    if predictions.shape[:1] != (len(features),) or predictions.ndim > 1 + int(classifies or several):
        raise TrainingError(f"the model gave predictions of shape {predictions.shape} for {len(features):,} rows")
    bad = int(np.count_nonzero(~np.isfinite(predictions)))
    if bad:
        raise TrainingError(f"the model gave {bad:,} NaN or infinite predictions for {len(features):,} rows")
    return predictions


def quantile_predictions(model: Any, features: Any) -> Floats:
    """Return the prediction of each quantile in rising order, shape (n_rows, n_quantiles)."""
    return np.sort(np.asarray(model.transform(features), np.float64), axis=1)


def gives_decisions(model: Any) -> bool:
    """Return whether a classifier gives decisions and no probabilities."""
    return not hasattr(model, "predict_proba")


def class_probabilities(model: Any, features: Any) -> Floats:
    """Return the probability of class 1, or with three classes or more of each class in the order of the codes.

    It is 0 or 1 of a model that gives no probabilities: its decision.
    """
    given = np.asarray(model.predict(features) if gives_decisions(model) else model.predict_proba(features))
    classes = np.asarray(model.classes_)
    probabilities = given[:, None] == classes[None, :] if gives_decisions(model) else given
    chosen: Floats = probabilities[:, probability_columns(model)].astype(np.float64)
    return chosen


def probability_columns(model: Any) -> int | list[int]:
    """Return the column of class 1 in a classifier's probabilities, or of three classes or more that of each code."""
    codes = np.asarray(model.classes_).tolist()
    return codes.index(1) if len(codes) < 3 else [codes.index(code) for code in range(len(codes))]


def as_fitted(model: Any, features: pd.DataFrame) -> pd.DataFrame:
    """Return the feature columns that a model was fitted on, in its order.

    Without the order, a model on arrays would silently take one column for another. A model without feature names
    gets all columns.

    Raises
    ------
    TrainingError
        If features are missing; names them.
    """
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        names = getattr(model, "feature_names_", None)  # as CatBoost calls them
    if names is None or list(names) == list(features.columns):
        return features
    missing = [str(name) for name in names if name not in features.columns]
    if missing:
        listed = ", ".join(map(repr, missing[:5]))
        raise TrainingError(
            f"the model was fitted on {len(names)} features, and {listed} "
            f"{'is' if len(missing) == 1 else 'are'} missing; there are {', '.join(map(str, features.columns))}"
        )
    return features[list(names)]
