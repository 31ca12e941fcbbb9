"""What a candidate must be worth its trouble against: a model that looks at nothing, and a straight line.

Both are fitted on the newest rows of the candidate's own training window, at most so many of them, and judged on the
same holdout.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.window import ModelRows

FITTED_ROWS = 10_000
CATEGORIES = 50


@dataclass(frozen=True)
class Baselines:
    """Predictions of the baselines on the holdout, on how many rows they were fitted, and why one is missing."""

    predictions: Mapping[str, Floats]
    rows: int
    window_rows: int | None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return what a report says of them."""
        of = "" if self.window_rows is None else f" of the {self.window_rows:,} of the training window"
        return {
            "fitted_rows": self.rows,
            "fitted_on": f"the newest {self.rows:,} rows{of}, at most {FITTED_ROWS:,}",
            "missing": dict(self.reasons),
        }


def fit_baselines(
    training: ModelRows, label: str, holdout: pd.DataFrame, *, classifies: bool, window_rows: int | None = None
) -> Baselines:
    """Return the predictions of a dummy and of a linear model for the features of a holdout.

    Parameters
    ----------
    training : ModelRows
        Rows with labels, at most ``FITTED_ROWS`` of them, in the column ``label``.
    """
    known = training.rows[label].to_numpy(float)
    features = training.features[list(holdout.columns)] if set(holdout) <= set(training.features) else training.features
    predictions, reasons = {}, {}
    for name, model in baseline_models(features, classifies=classifies).items():
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")  # that a baseline did not converge is no news to anybody
                fitted = model.fit(features, known.astype(int) if classifies else known)
                predictions[name] = predict(fitted, holdout, classifies=classifies)
        except (TrainingError, ValueError, TypeError) as error:
            reasons[name] = f"the {name} baseline cannot be had: {type(error).__name__}: {error}"[:400]
    return Baselines(predictions, len(known), window_rows, reasons)


def baseline_models(features: pd.DataFrame, *, classifies: bool) -> dict[str, Any]:
    """Return the unfitted baselines: ``dummy`` says the mean or the share of class 1, ``linear`` is a straight line.

    Numbers are standardised, with the median where they are missing, categories are one-hot, the rare ones as one;
    other columns, such as times, are left out.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers, categories = numbers_and_categories(features)
    numbers = [name for name in numbers if features[name].notna().any()]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=CATEGORIES), categories),
    )
    line = LogisticRegression(max_iter=200, tol=1e-3) if classifies else Ridge()
    dummy = DummyClassifier(strategy="prior") if classifies else DummyRegressor()
    return {"dummy": dummy, "linear": make_pipeline(columns, line)}


def numbers_and_categories(features: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the names of the columns that hold numbers and of those that hold categories."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    numbers = [str(name) for name in features if is_numeric_dtype(features[name]) and not is_bool_dtype(features[name])]
    categories = [
        str(name)
        for name in features
        if name not in numbers and (is_bool_dtype(features[name]) or _is_text(features[name]))
    ]
    return numbers, categories


def _is_text(column: pd.Series[Any]) -> bool:
    from pandas.api.types import is_object_dtype, is_string_dtype

    return isinstance(column.dtype, pd.CategoricalDtype) or is_string_dtype(column) or is_object_dtype(column)
