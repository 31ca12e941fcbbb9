"""A user's functions, and first the one that gives the candidates: plain scikit-learn, named by ``module:function``.

It gets a seed and returns one estimator, or several by name; none of them fitted. In the place of an estimator may
stand a pair of it and a search space, in scikit-learn's form: lists and distributions by the names of parameters.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mlops.core.declaration.validation_errors import nearest
from airflow_mlops.core.errors import TrainingError

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"
"""Of a candidate: it becomes part of paths and of the names of jobs."""


@dataclass(frozen=True)
class Candidate:
    """An estimator that is not fitted, and the space its parameters are searched in; None to take it as it is."""

    estimator: Any
    space: Mapping[str, Any] | None = None


def load_function(reference: str, root: Path) -> Any:
    """Return the function of ``module:name``, looking below the project folder too.

    Raises
    ------
    TrainingError
        If it cannot be imported.
    """
    module_name, _, name = reference.partition(":")
    if str(root) not in sys.path:
        sys.path.append(str(root))
    try:
        return getattr(importlib.import_module(module_name), name)
    except Exception as error:  # a user's module may raise anything
        raise TrainingError(f"{reference} cannot be imported: {type(error).__name__}: {error}") from error


def candidates_of(reference: str, root: Path, seed: int) -> dict[str, Candidate]:
    """Return the candidates of the user's function by name.

    Raises
    ------
    TrainingError
        If it raises, or returns something that is no estimator; the message names the function.
    """
    function = load_function(reference, root)
    try:
        returned = function(seed)
    except Exception as error:  # a user's function may raise anything
        raise TrainingError(f"{reference} raised {type(error).__name__}: {error}") from error
    found = dict(returned) if isinstance(returned, Mapping) else {"model": returned}
    if not found:
        raise TrainingError(f"{reference} returned no model: an empty mapping")
    return {str(name): as_candidate(reference, str(name), one) for name, one in found.items()}


def list_candidates(reference: str, root: Path, seed: int) -> dict[str, Any]:
    """Return the ``names`` of the candidates of the user's function, and whether parameters of any are ``searched``.

    Raises
    ------
    TrainingError
        As :func:`candidates_of` does.
    """
    found = candidates_of(reference, root, seed)
    return {"names": sorted(found), "searched": any(one.space is not None for one in found.values())}


def as_candidate(reference: str, name: str, given: Any) -> Candidate:
    """Return what the user gave under a name: an estimator, or a pair of one and its search space.

    Raises
    ------
    TrainingError
        If it is neither, its name is no name, or the space names a parameter that the estimator does not have.
    """
    if not re.fullmatch(NAME, name):
        raise TrainingError(
            f"{reference} calls a candidate {name!r}; a name has letters, digits, '_', '.' and '-' only"
        )
    paired = isinstance(given, tuple) and len(given) == 2
    estimator, space = given if paired else (given, None)
    if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
        raise TrainingError(f"{reference} returned no model: {name!r} is a {type(estimator).__name__}")
    if not paired:
        return Candidate(estimator)
    where = f"{reference}: the search space of {name!r}"
    if not isinstance(space, Mapping) or not space:
        raise TrainingError(f"{where} is {'empty' if space == {} else f'a {type(space).__name__}'}; give a dict")
    known = [str(key) for key in estimator.get_params()]
    for key, values in space.items():
        if key not in known:
            raise TrainingError(f"{where} has no parameter {key!r} to search; {nearest(str(key), known)}")
        if not hasattr(values, "rvs") and (
            isinstance(values, str) or not hasattr(values, "__len__") or not len(values)
        ):
            raise TrainingError(f"{where} gives {values!r} for {key!r}; give a list of values, or a distribution")
    return Candidate(estimator, dict(space))


def source_digest(reference: str, root: Path) -> str:
    """Return the SHA-256 of the file that defines the user's function: the code a version was made by."""
    function = load_function(reference, root)
    file = inspect.getsourcefile(inspect.unwrap(function))
    if file is None:
        raise TrainingError(f"{reference} has no source file; a version could not be made again")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
