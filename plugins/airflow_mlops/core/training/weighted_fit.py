"""Hand the weights of rows to an estimator: to the fit of its last step, under the name that this step has."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.quantiles import quantiles_of


def weight_parameter(estimator: Any) -> str | None:
    """Return the parameter of an estimator's fit that takes the weights of rows; None if there is none.

    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> from sklearn.pipeline import make_pipeline
    >>> weight_parameter(make_pipeline(Ridge())), weight_parameter(KNeighborsRegressor())
    ('ridge__sample_weight', None)
    """
    from sklearn.utils.validation import has_fit_parameter

    if hasattr(estimator, "fit") and has_fit_parameter(estimator, "sample_weight"):
        return "sample_weight"
    if quantiles_of(estimator) is not None:
        return "sample_weight" if all(weight_parameter(part) for _, part in estimator.estimators) else None
    steps, parts = getattr(estimator, "steps", None), getattr(estimator, "estimators", None)
    if steps:  # a pipeline
        name, last = steps[-1]
        inner = weight_parameter(last)
        return None if inner is None else f"{name}__{inner}"
    if parts:  # a vote or a stack hands them to all of its estimators
        return (
            "sample_weight"
            if {weight_parameter(part) for _, part in parts if part != "drop"} == {"sample_weight"}
            else None
        )
    wrapped = getattr(estimator, "regressor", None)  # a target transformed hands them to its regressor
    return None if wrapped is None else weight_parameter(wrapped)


def fit_quantiles(model: Any, features: Any, label: npt.NDArray[Any], weight: npt.NDArray[Any] | None) -> Any:
    """Fit the model of each quantile and return their estimator.

    Its own fit would hand the weights to every model as ``sample_weight``, which a pipeline does not take.
    """
    from sklearn.base import clone
    from sklearn.utils import Bunch

    parts = {name: clone(part) for name, part in model.estimators}
    model.estimators_ = [part.fit(features, label, **fit_arguments(part, weight)) for part in parts.values()]
    model.named_estimators_ = Bunch(**dict(zip(parts, model.estimators_, strict=True)))
    model.feature_names_in_ = np.asarray(features.columns, object)
    return model


def fit_arguments(estimator: Any, weight: npt.NDArray[Any] | None) -> dict[str, Any]:
    """Return the arguments of a fit with the weights of rows, shape (n_rows,); none without weights."""
    name = weight_parameter(estimator)
    return {} if weight is None or name is None else {name: weight}
