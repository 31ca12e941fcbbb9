"""Predictions of a fitted model as one number a row: a value, or the probability of class 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.training.row_losses import Floats


def predict(model: Any, features: pd.DataFrame, *, classifies: bool) -> Floats:
    """Return one prediction for each row, shape (n_rows,).

    The model gets the features that it was fitted on, by name and in its order; others are left out.

    Raises
    ------
    TrainingError
        If a feature is missing that the model was fitted on, or the model raises, gives another number of
        values, or gives NaN or infinity.
    """
    features = as_fitted(model, features)
    try:
        with np.errstate(all="ignore"):  # NaN and infinity are looked for in what comes back
            if classifies:
                found = np.asarray(model.predict_proba(features), np.float64)[:, list(model.classes_).index(1)]
            else:
                found = np.asarray(model.predict(features), np.float64)
    except Exception as error:  # a model may raise anything
        if type(error).__name__ == "NotFittedError":
            raise TrainingError(f"the model is not fitted: {error}") from error
        raise TrainingError(f"the model raised {type(error).__name__} in predict: {error}") from error
    if found.shape != (len(features),):
        raise TrainingError(f"the model gave predictions of shape {found.shape} for {len(features):,} rows")
    bad = int(np.count_nonzero(~np.isfinite(found)))
    if bad:
        raise TrainingError(f"the model gave {bad:,} NaN or infinite predictions for {len(features):,} rows")
    return found


def as_fitted(model: Any, features: pd.DataFrame) -> pd.DataFrame:
    """Return those of the features that a model was fitted on, in its order.

    Without the order, a model on arrays would take one column for another and say nothing. A model that does
    not know the names of its features gets all of them.

    Raises
    ------
    TrainingError
        Naming the features that are missing.
    """
    names = getattr(model, "feature_names_in_", None)
    if names is None or list(names) == list(features.columns):
        return features
    missing = [str(name) for name in names if name not in features.columns]
    if missing:
        shown = ", ".join(map(repr, missing[:5]))
        raise TrainingError(
            f"the model was fitted on {len(names)} features, and {shown} "
            f"{'is' if len(missing) == 1 else 'are'} missing; there are {', '.join(map(str, features.columns))}"
        )
    return features[list(names)]
