"""Predictions of a fitted model as one number a row: a value, or the probability of class 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.evaluation.metrics import Floats


def predict(model: Any, features: pd.DataFrame, *, classifies: bool) -> Floats:
    """Return one prediction for each row, shape (n_rows,).

    Raises
    ------
    TrainingError
        If the model raises, gives another number of values, or gives NaN or infinity.
    """
    try:
        if classifies:
            found = np.asarray(model.predict_proba(features), np.float64)[:, list(model.classes_).index(1)]
        else:
            found = np.asarray(model.predict(features), np.float64)
    except Exception as error:  # a model may raise anything
        raise TrainingError(f"the model raised {type(error).__name__} in predict: {error}") from error
    if found.shape != (len(features),):
        raise TrainingError(f"the model gave predictions of shape {found.shape} for {len(features):,} rows")
    bad = int(np.count_nonzero(~np.isfinite(found)))
    if bad:
        raise TrainingError(f"the model gave {bad:,} NaN or infinite predictions for {len(features):,} rows")
    return found
