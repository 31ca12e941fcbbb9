"""Whether a declared function is there, found out without importing anything heavy."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

from airflow_mlops.core.declaration.validation_errors import nearest
from airflow_mlops.core.errors import DeclarationError


def check_function_exists(reference: str, root: Path, *, key: str = "train.function") -> None:
    """Make sure that the function of ``module:name`` stands where the declaration says, under ``key``.

    A module of the project is read, not imported. One that is installed elsewhere is only looked up.

    Raises
    ------
    DeclarationError
        Naming the file that was looked for, or the nearest function in it.
    """
    module, _, name = reference.partition(":")
    base = root.joinpath(*module.split("."))
    file = next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)
    if file is None:
        top = module.partition(".")[0]
        if (root / top).exists() or find_spec(top) is None:
            looked = base.relative_to(root).with_suffix(".py")
            raise DeclarationError(f"module {module!r} is not there; looked for {looked}", key=key)
        return
    try:
        body = ast.parse(file.read_bytes()).body
    except SyntaxError as error:
        fault = f"{file.name} is no Python: line {error.lineno}: {error.msg}"
        raise DeclarationError(fault, key=key) from None
    names = [name for node in body for name in names_bound_by(node)]
    if name not in names:
        raise DeclarationError(f"{file.name} has no function {name!r}; {nearest(name, names)}", key=key)


def names_bound_by(node: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines, imports or assigns."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []
