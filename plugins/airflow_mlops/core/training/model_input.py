"""Hand features to an estimator in types that it can take.

scikit-learn turns ``Int64`` and ``boolean`` into floats wherever it checks its input, refuses ``pandas.NA`` where it
stacks columns, and lets an encoder of categories merge integers that differ beyond 2**53. So an estimator gets plain
types: exact objects if it encodes categories, 64-bit floats otherwise. Which of the two depends on the types of the
columns and on the estimator, never on the rows.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from airflow_mlops.core.data.frame_types import as_floats, as_objects, nullable_columns


def model_input(model: Any, features: pd.DataFrame) -> pd.DataFrame:
    """Return features in the types that an estimator can take, the same for a fit as for a prediction.

    Parameters
    ----------
    model : estimator
        The estimator, fitted or not.
    features : DataFrame, shape (n_rows, n_features)
        Features in the types of :func:`~airflow_mlops.core.data.frame_types.frame_of`; anything else is returned as
        it is.
    """
    if not hasattr(features, "dtypes"):
        return features
    if type(model).__module__ == "catboost.core":
        features = text_of_categories(features)
    if not nullable_columns(features):
        return features
    return as_objects(features) if encodes_categories(model) else as_floats(features)


def text_of_categories(features: pd.DataFrame) -> pd.DataFrame:
    """Return features with categories as text, the empty text for null: CatBoost refuses a category without a value."""
    categories = features.select_dtypes("category")
    return features.assign(
        **{str(name): column.astype(object).where(column.notna(), "") for name, column in categories.items()}
    )


def encodes_categories(model: Any) -> bool:
    """Return whether an estimator, or one inside it, is an encoder of categories of scikit-learn.

    An estimator that selects its columns by a function, such as ``make_column_selector``, does not count: a selection
    by type has to see numbers as numbers.
    """
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

    encoders = (OneHotEncoder, OrdinalEncoder, TargetEncoder)
    parameters = model.get_params(deep=True) if hasattr(model, "get_params") else {}
    encodes = any(isinstance(part, encoders) for part in (model, *parameters.values()))
    return encodes and not any(_selects_columns(value) for value in parameters.values())


def _selects_columns(value: Any) -> bool:
    """Return whether a parameter is the list of a ColumnTransformer with a function in the place of column names."""
    steps = value if isinstance(value, list) else []
    return any(isinstance(step, tuple) and len(step) == 3 and callable(step[2]) for step in steps)
