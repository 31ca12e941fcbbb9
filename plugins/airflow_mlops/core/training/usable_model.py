"""Whether what came out of a fit is a model: fitted, and one finite prediction for each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ports.fit_request import FitRequest
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.training.predict import predict

TRIAL_ROWS = 100


def check_usable(model: Any, request: FitRequest, rows: FitRows) -> None:
    """Let a model go on that is fitted and predicts one finite number for each of the last rows of the window.

    Raises
    ------
    TrainingError
        Naming the function, the candidate, and what is wrong with it.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    who = f"{request.function}: candidate {request.candidate!r}"
    if not hasattr(model, "predict"):
        raise TrainingError(f"{who} gave a {type(model).__name__} from fit; it must give the fitted model")
    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError) as error:
        raise TrainingError(f"{who} is not fitted after fit: {error}") from error
    try:
        predict(model, rows.features.tail(TRIAL_ROWS), classifies=request.classifies)
    except TrainingError as error:
        raise TrainingError(f"{who} gives no usable predictions: {error}") from error


def label_hint(error: BaseException, label: str) -> str:
    """Return what to add to the reason of an error that comes from asking for the label; else nothing.

    >>> label_hint(KeyError("y"), "y")
    "; the label 'y' is not given to models or features, in training as little as in scoring"
    >>> label_hint(KeyError("x"), "y"), label_hint(ValueError("Found unknown categories ['y'] in column 0"), "y")
    ('', '')
    """
    if not any(_asks_for(one, label) for one in chain_of(error)):
        return ""
    return f"; the label {label!r} is not given to models or features, in training as little as in scoring"


def _asks_for(error: BaseException, label: str) -> bool:
    """Return whether an error says that a column of this name is not there, as pandas and scikit-learn say it."""
    said = str(error)
    missing = isinstance(error, KeyError | AttributeError) or "of the dataframe" in said
    return missing and (label in error.args or f"'{label}'" in said)


def chain_of(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and what was being handled then."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
