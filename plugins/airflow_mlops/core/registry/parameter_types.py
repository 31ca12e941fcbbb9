"""The types that an unfitted estimator holds, so that one that cannot be kept is refused before its fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.registry.model_file import untrusted_types_of


def untrusted_parameters(value: Any) -> set[str]:
    """Return the names of types and functions that a model file with this estimator may not hold.

    The estimators inside it and the values of their parameters count, whatever steps, lists and mappings they lie in.

    Raises
    ------
    TrainingError
        If an object cannot be written to a file at all, naming its type.
    """
    if isinstance(value, dict):
        return _union(value.values())
    if isinstance(value, list | tuple | set):
        return _union(value)
    if not isinstance(value, type) and hasattr(value, "get_params"):
        return _untrusted(_blank(value), value) | _union(value.get_params(deep=False).values())
    return _untrusted(value, value)


def _blank(estimator: Any) -> Any:
    """Return an instance without attributes, which stands for the type; the estimator where the type needs some."""
    blank = object.__new__(type(estimator))
    try:
        blank.__getstate__()
    except AttributeError:
        return estimator
    return blank


def _union(values: Iterable[Any]) -> set[str]:
    return set().union(*map(untrusted_parameters, values))


def _untrusted(value: Any, owner: Any) -> set[str]:
    try:
        return set(untrusted_types_of(value))
    except Exception as error:  # an object of a user's may fail in any way
        raise TrainingError(
            f"a {type(owner).__name__} cannot be kept as a file: {type(error).__name__}: {error}"
        ) from error
