"""A user's functions, named ``module:name``: find them without an import, load them, and read their candidates.

The training function gets a seed and returns one unfitted scikit-learn estimator, or several by name. Instead of an
estimator it may give a pair of an estimator and its search space, in scikit-learn's form: lists and distributions
by the names of parameters.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airflow_mlops.core.declaration.quantiles import join_models
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError, TrainingError

CANDIDATE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}"
"""Pattern of a candidate's name, which becomes part of paths and of the names of jobs."""

BOOSTERS = ("catboost", "lightgbm", "xgboost")
"""Packages of boosted trees; each is an extra of the same name."""


@dataclass(frozen=True)
class Candidate:
    """An unfitted estimator, and the space in which its parameters are searched; None to fit it as it is."""

    estimator: Any
    space: Mapping[str, Any] | None = None


def require_function(reference: str, root: Path, *, key: str = "train.function") -> None:
    """Raise DeclarationError unless the function of ``module:name`` exists.

    A module of the project is parsed, not imported: a Dag file must not run the user's code. The name is not looked
    up in a module that is installed elsewhere, for that would need an import.

    Parameters
    ----------
    reference : str
        The function, as ``module:name``.
    root : Path
        Project folder, where the module is looked for first.
    key : str
        Dotted key of the declaration that holds the reference; the error names it.

    Raises
    ------
    DeclarationError
        If there is no such module or no such function; names the expected file, or the nearest function in it.
    """
    module, _, name = reference.partition(":")
    file = module_file(module, root)
    if file is None:
        package = module.partition(".")[0]
        if (root / package).exists() or find_spec(package) is None:
            expected = Path(*module.split(".")).with_suffix(".py")
            raise DeclarationError(f"module {module!r} does not exist; looked for {expected}", key=key)
        return
    names = [name for node in parse_module(file, key=key) for name in bound_names(node)]
    if name not in names:
        raise DeclarationError(f"{file.name} has no function {name!r}; {suggest_name(name, names)}", key=key)


def module_file(module: str, root: Path) -> Path | None:
    """Return the source file of a module of the project; None if it has none."""
    base = root.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def parse_module(file: Path, *, key: str) -> list[ast.stmt]:
    """Return the top-level statements of a source file.

    Raises
    ------
    DeclarationError
        If it is no Python.
    """
    try:
        return ast.parse(file.read_bytes()).body
    except SyntaxError as error:
        message = f"{file.name} is no Python: line {error.lineno}: {error.msg}"
        raise DeclarationError(message, key=key) from None


def bound_names(node: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines, imports or assigns."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def load_function(reference: str, root: Path | None = None) -> Any:
    """Import and return the function of ``module:name``; modules of the project folder ``root`` count too.

    Without ``root`` the folder has to be on the path.

    Raises
    ------
    TrainingError
        If it cannot be imported.
    """
    module_name, _, name = reference.partition(":")
    if root is not None:
        put_on_path(root)
    try:
        return getattr(importlib.import_module(module_name), name)
    except Exception as error:  # a user's module may raise anything
        problem = f"{type(error).__name__}: {error}{extra_hint(error)}"
        raise TrainingError(f"{reference} cannot be imported: {problem}") from error


def put_on_path(root: Path) -> None:
    """Make the modules of the project folder importable."""
    if str(root) not in sys.path:
        sys.path.append(str(root))  # last, so that no module of the project hides an installed package


def extra_hint(error: Exception) -> str:
    """Return how to install the boosted trees that an import lacks; an empty text for any other error.

    >>> extra_hint(ModuleNotFoundError("No module named 'xgboost'", name="xgboost"))
    "; install 'airflow-mlops[xgboost]'"
    >>> extra_hint(ModuleNotFoundError("No module named 'shop'", name="shop"))
    ''
    """
    package = str(getattr(error, "name", None)).partition(".")[0]
    return f"; install 'airflow-mlops[{package}]'" if package in BOOSTERS else ""


def build_candidates(reference: str, root: Path, seed: int, quantiles: Sequence[float] = ()) -> dict[str, Candidate]:
    """Return the candidates of the user's training function by name.

    With ``quantiles`` the function is called for each of them, and a candidate has one model of each.

    Raises
    ------
    TrainingError
        If the function raises, or returns something else than estimators; the message names the function.
    """
    function = load_function(reference, root)
    if not quantiles:
        return _call(reference, function, seed)
    calls = {quantile: _call(reference, function, seed, quantile) for quantile in quantiles}
    first = calls[quantiles[0]]
    if any(set(candidates) != set(first) for candidates in calls.values()):
        raise TrainingError(f"{reference} gives other names of candidates for one quantile than for another")
    searched = sorted(name for name, candidate in first.items() if candidate.space is not None)
    if searched:
        raise TrainingError(f"{reference}: {searched[0]!r} has a search space, which a model of quantiles cannot have")
    return {
        name: Candidate(join_models({quantile: calls[quantile][name].estimator for quantile in quantiles}))
        for name in first
    }


def _call(reference: str, function: Any, *arguments: float) -> dict[str, Candidate]:
    """Return the candidates of one call of the training function."""
    try:
        result = function(*arguments)
    except Exception as error:  # a user's function may raise anything
        raise TrainingError(f"{reference} raised {type(error).__name__}: {error}{extra_hint(error)}") from error
    values = dict(result) if isinstance(result, Mapping) else {"model": result}
    if not values:
        raise TrainingError(f"{reference} returned no model: an empty mapping")
    return {str(name): parse_candidate(reference, str(name), value) for name, value in values.items()}


def parse_candidate(reference: str, name: str, value: Any) -> Candidate:
    """Return the candidate that the user gave as ``name``: an estimator, or a pair of it and its search space.

    Raises
    ------
    TrainingError
        If ``value`` is neither, the name is not valid, or the space names a parameter that the estimator lacks.
    """
    if not re.fullmatch(CANDIDATE_NAME, name):
        raise TrainingError(
            f"{reference} calls a candidate {name!r}; a name has letters, digits, '_', '.' and '-' only"
        )
    is_pair = isinstance(value, tuple) and len(value) == 2
    estimator, space = value if is_pair else (value, None)
    if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
        raise TrainingError(f"{reference} returned no model: {name!r} is a {type(estimator).__name__}")
    if not is_pair:
        return Candidate(estimator)
    return Candidate(estimator, _parse_space(estimator, space, f"{reference}: the search space of {name!r}"))


def _parse_space(estimator: Any, space: Any, where: str) -> dict[str, Any]:
    """Return the search space, which maps parameters of the estimator to lists or distributions."""
    if not isinstance(space, Mapping) or not space:
        raise TrainingError(f"{where} is {'empty' if space == {} else f'a {type(space).__name__}'}; give a dict")
    parameters = [str(key) for key in estimator.get_params()]
    for key, values in space.items():
        if key not in parameters:
            raise TrainingError(f"{where} has no parameter {key!r} to search; {suggest_name(str(key), parameters)}")
        is_list = not isinstance(values, str) and hasattr(values, "__len__") and len(values) > 0
        if not hasattr(values, "rvs") and not is_list:
            raise TrainingError(f"{where} gives {values!r} for {key!r}; give a list of values, or a distribution")
    return dict(space)


def source_digest(reference: str, root: Path) -> str:
    """Return the SHA-256 of the source file of the user's function.

    Raises
    ------
    TrainingError
        If the function cannot be imported, or has no source file.
    """
    function = load_function(reference, root)
    # A decorated function is defined where the user wrote it, not where the decorator is.
    file = inspect.getsourcefile(inspect.unwrap(function))
    if file is None:
        raise TrainingError(f"{reference} has no source file, so a version could not be reproduced; put it into one")
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
