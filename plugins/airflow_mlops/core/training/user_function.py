"""A user's functions, and first the one that gives the candidates: plain scikit-learn, named by ``module:function``.

It gets a seed and returns one estimator, or several by name; none of them fitted.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import TrainingError


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


def candidates_of(reference: str, root: Path, seed: int) -> dict[str, Any]:
    """Return the unfitted estimators of the user's function by name.

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
    for name, estimator in found.items():
        if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
            raise TrainingError(f"{reference} returned no model: {name!r} is a {type(estimator).__name__}")
    return found


def source_digest(reference: str, root: Path) -> str:
    """Return the SHA-256 of the file that defines the user's function: the code a version was made by."""
    function = load_function(reference, root)
    file = inspect.getsourcefile(inspect.unwrap(function))
    if file is None:
        raise TrainingError(f"{reference} has no source file; a version could not be made again")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
