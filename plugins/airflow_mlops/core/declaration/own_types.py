"""The user's own classes and functions that a model file may hold, and the digest of the code that defines them."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from importlib.util import resolve_name
from pathlib import Path

from airflow_mlops.core.declaration.evaluate import OwnMetric
from airflow_mlops.core.declaration.user_function import module_file, parse_module
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DeclarationError, TrainingError


def type_name(reference: str) -> str:
    """Return the name by which a model file holds the class or function ``module:name``.

    >>> type_name("shop.steps:Clip")
    'shop.steps.Clip'
    """
    return reference.replace(":", ".")


def require_own_type(reference: str, root: Path, *, key: str) -> None:
    """Raise DeclarationError unless a module of the project defines the class or function ``module:name``.

    The module is parsed, not imported. A name that it imports does not count: by it a file could reach any library.

    Raises
    ------
    DeclarationError
        Naming the file that is missing, or the nearest definition in it.
    """
    module, _, name = reference.partition(":")
    file = module_file(module, root)
    if file is None:
        raise DeclarationError(
            f"module {module!r} is not in the project folder; own types are defined below it, so that their code "
            "can be recorded with a version",
            key=key,
        )
    body = parse_module(file, key=key)
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if name not in names:
        raise DeclarationError(f"{file.name} defines no {name!r} at its top; {suggest_name(name, names)}", key=key)


def own_code(references: Sequence[str], root: Path) -> dict[str, str] | None:
    """Return the SHA-256 of the modules that define own types, by module; None where no types are declared.

    The modules of the project that they import count too, directly or through others, and the packages around them.

    Raises
    ------
    TrainingError
        If a module is no Python.
    """
    digests: dict[str, str] = {}
    waiting = [reference.partition(":")[0] for reference in references]
    while waiting:
        module = waiting.pop()
        file = module_file(module, root)
        if file is None or module in digests:
            continue
        source = file.read_bytes()
        digests[module] = hashlib.sha256(source).hexdigest()
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        try:
            waiting += imported_modules(ast.parse(source), package)
        except SyntaxError as error:
            raise TrainingError(f"{file.name} is no Python: line {error.lineno}: {error.msg}") from None
        waiting.append(module.rpartition(".")[0])
    return dict(sorted(digests.items())) or None


def metric_code(metric: str, root: Path) -> dict[str, str] | None:
    """Return the SHA-256 of a user's function that compares models, and of the modules of the project that it needs.

    None where the metric is a built-in one. A function of an installed package has the digest ``installed``.
    """
    if not isinstance(metric, OwnMetric):
        return None
    digests = own_code([metric.function], root) or {}
    return {metric.function: digests.get(metric.function.partition(":")[0], "installed"), **digests}


def imported_modules(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the names that a module of a package imports, of which some are no modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package) if node.level else str(node.module)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)
