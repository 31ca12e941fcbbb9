"""Baselines for a candidate: a constant model and a linear model.

Both are fitted on the newest ``FITTED_ROWS`` rows of the candidate's training window, and judged on the same holdout.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.evaluation.known_metrics import weighted_quantile
from airflow_mlops.core.training.model_input import model_input
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.weighted_fit import fit_arguments
from airflow_mlops.core.training.window import ModelRows

FITTED_ROWS = 10_000
CATEGORIES = 50
BASELINES = ("dummy", "linear")


@dataclass(frozen=True)
class Baselines:
    """Predictions of the baselines on the holdout, the number of fitted rows, and the reasons of missing baselines."""

    predictions: Mapping[str, Floats]
    rows: int
    window_rows: int | None
    reasons: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report of the baselines as JSON values."""
        window = "" if self.window_rows is None else f" of the {self.window_rows:,} of the training window"
        return {
            "fitted_rows": self.rows,
            "fitted_on": f"the newest {self.rows:,} rows{window}, at most {FITTED_ROWS:,}",
            "missing": dict(self.reasons),
        }


def fit_baselines(
    training: ModelRows,
    label: str,
    holdout: pd.DataFrame,
    *,
    classifies: bool,
    window_rows: int | None = None,
    classes: tuple[str, ...] | None = None,
    weight: Floats | None = None,
    quantiles: Sequence[float] = (),
) -> Baselines:
    """Fit a dummy and a linear model, and return their predictions for the features of a holdout.

    Parameters
    ----------
    training : ModelRows
        At most ``FITTED_ROWS`` rows with labels.
    label : str
        Column of the labels.
    holdout : DataFrame
        Features of the holdout, shape (n_rows, n_features).
    classifies : bool
        Whether the label is a class.
    window_rows : int, optional
        Number of rows of the training window, for the report.
    classes : tuple of str, optional
        The declared classes; baselines need a row of each.
    weight : ndarray of float, shape (n_rows,), optional
        The weights of the rows of ``training``.
    quantiles : sequence of float
        Quantiles to predict; each is the prediction and that quantile of the residuals of ``training``.
    """
    labels = training.rows[label].to_numpy(float)
    missing = [name for code, name in enumerate(classes or ()) if not (labels == code).any()]
    if missing:
        reason = f"no row that baselines are fitted on is of the class {missing[0]!r}"
        return Baselines({}, len(labels), window_rows, dict.fromkeys(BASELINES, reason))
    features = training.features[list(holdout.columns)] if set(holdout) <= set(training.features) else training.features
    predictions, reasons = {}, {}
    for name, model in baseline_models(features, classifies=classifies).items():
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")  # a baseline need not converge
                codes = labels.astype(int) if classifies else labels
                fitted = model.fit(model_input(model, features), codes, **fit_arguments(model, weight))
                predictions[name] = predict(fitted, holdout, classifies=classifies)
                if quantiles:
                    residuals = labels - predict(fitted, features, classifies=False)
                    counts = (np.ones(labels.size) if weight is None else weight)[None, :]
                    shifts = [weighted_quantile(residuals, quantile, counts)[0] for quantile in quantiles]
                    predictions[name] = predictions[name][:, None] + np.array(shifts)
        except (TrainingError, ValueError, TypeError) as error:
            reasons[name] = f"the {name} baseline cannot be had: {type(error).__name__}: {error}"[:400]
    return Baselines(predictions, len(labels), window_rows, reasons)


def baseline_models(features: pd.DataFrame, *, classifies: bool) -> dict[str, Any]:
    """Return the unfitted baselines: ``dummy`` predicts the mean or the shares of the classes, ``linear`` is linear.

    Numbers are imputed with the median and standardised, categories are one-hot encoded with the rare ones as one;
    other columns, such as times, are left out.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers, categories = numbers_and_categories(features)
    # A column without any value has no median to impute.
    numbers = [name for name in numbers if features[name].notna().any()]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=CATEGORIES), categories),
    )
    linear = LogisticRegression(max_iter=200, tol=1e-3) if classifies else Ridge()
    dummy = DummyClassifier(strategy="prior") if classifies else DummyRegressor()
    return {"dummy": dummy, "linear": make_pipeline(columns, linear)}


def numbers_and_categories(features: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the names of the columns of numbers, and of those of categories (booleans, text, categoricals)."""
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
