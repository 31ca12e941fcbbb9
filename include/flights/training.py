"""Candidate models of the three flight loops: scikit-learn and LightGBM, nothing of Airflow or MLflow.

Each function returns unfitted estimators by name. Whoever calls it fits them on a frame that has the feature
columns of ``include.flights.prepare`` and on the labels that are known, and keeps the best.

Two choices are deliberate. There is no month and no day of the year among the features: with the day both
loops lost more over the year, with the month the air-time loop did and the delay loop was no better.
And categories are numbered outside the booster, which measures the same as its own handling of them and
keeps its saved form free of wrapped functions: beyond the defaults of skops a loader has to trust
``TreePredictor`` alone, and for the linear model ``numpy.dtype``.
"""

from __future__ import annotations

from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = [
    "distance",
    "day_of_week",
    "hour",
    "minute",
    "scheduled_minutes",
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "precip",
    "pressure",
    "visib",
]


def air_time_candidates(seed: int) -> dict[str, BaseEstimator]:
    """Return unfitted regressors of the minutes in the air, by name; ``seed`` makes a fit repeatable."""
    boosting = HistGradientBoostingRegressor(max_iter=100, early_stopping=False, random_state=seed)
    return {
        "boosting": _boosted(boosting),
        "linear": _linear(Ridge(alpha=1.0)),
    }


def delay_candidates(seed: int) -> dict[str, BaseEstimator]:
    """Return unfitted classifiers of a late arrival, by name; ``seed`` makes a fit repeatable.

    There is no linear one: over the year a logistic regression of the same features had 3 % more log loss,
    and its week-by-week luck on a holdout would have made it champion now and then.
    """
    boosting = HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_iter=100,
        max_leaf_nodes=15,
        max_features=0.5,
        early_stopping=False,
        random_state=seed,
    )
    return {"boosting": _boosted(boosting)}


def arrival_candidates(seed: int) -> dict[str, BaseEstimator]:
    """Return unfitted classifiers of an early, timely or late arrival, by name; ``seed`` makes a fit repeatable.

    Both grow as many trees of as many leaves. LightGBM is imported here, since the other loops do without it.
    """
    from lightgbm import LGBMClassifier

    boosting = HistGradientBoostingClassifier(
        learning_rate=0.1, max_iter=60, max_leaf_nodes=15, max_features=0.5, early_stopping=False, random_state=seed
    )
    leaves = LGBMClassifier(
        learning_rate=0.1,
        n_estimators=60,
        num_leaves=15,
        colsample_bytree=0.5,
        n_jobs=1,
        deterministic=True,
        force_row_wise=True,
        random_state=seed,
        verbose=-1,
    )
    return {"boosting": _boosted(boosting), "leaves": _boosted(leaves)}


def _boosted(model: BaseEstimator) -> Pipeline:
    """Put numbered categories before ``model``; a category not seen in training is -1.

    Missing numbers pass through: the booster has a branch for them.
    """
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = [("categories", encoder, CATEGORIES), ("numbers", "passthrough", NUMBERS)]
    return make_pipeline(ColumnTransformer(columns), model)


def _linear(model: BaseEstimator) -> Pipeline:
    """Put one-hot categories and hours and standardised numbers before ``model``.

    A category not seen in training is all zeros; a missing number becomes the median of the window.
    """
    columns = [
        ("categories", OneHotEncoder(handle_unknown="ignore"), [*CATEGORIES, "hour"]),
        ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
    ]
    return make_pipeline(ColumnTransformer(columns), model)
