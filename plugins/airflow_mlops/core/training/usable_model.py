"""Check that the result of a fit is a fitted model with one finite prediction per row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.training.predict import predict

TRIAL_ROWS = 100


def check_usable(model: Any, request: FitRequest, rows: FitRows) -> None:
    """Raise TrainingError unless a model is fitted and gives one finite prediction per row.

    It predicts the last :data:`TRIAL_ROWS` rows of the window.

    Raises
    ------
    TrainingError
        If it does not; names the function, the candidate and the fault.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    subject = f"{request.function}: candidate {request.candidate!r}"
    if not hasattr(model, "predict"):
        raise TrainingError(f"{subject} gave a {type(model).__name__} from fit; it must give the fitted model")
    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError) as error:
        raise TrainingError(f"{subject} is not fitted after fit: {error}") from error
    try:
        predict(model, rows.features.tail(TRIAL_ROWS), classifies=request.classifies)
    except TrainingError as error:
        raise TrainingError(f"{subject} gives no usable predictions: {error}") from error


def label_hint(error: BaseException, label: str) -> str:
    """Return a hint for errors that come from reading the label column; an empty text for others.

    >>> label_hint(KeyError("y"), "y")
    "; the label 'y' is not given to models or features, in training as little as in scoring"
    >>> label_hint(KeyError("x"), "y"), label_hint(ValueError("Found unknown categories ['y'] in column 0"), "y")
    ('', '')
    """
    if not any(_misses_column(cause, label) for cause in error_chain(error)):
        return ""
    return f"; the label {label!r} is not given to models or features, in training as little as in scoring"


def _misses_column(error: BaseException, label: str) -> bool:
    """Return whether pandas or scikit-learn raised the error because a column of this name is missing."""
    message = str(error)
    missing = isinstance(error, KeyError | AttributeError) or "of the dataframe" in message
    return missing and (label in error.args or f"'{label}'" in message)


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its chain of causes and contexts."""
    visited: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in visited:
        visited.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
