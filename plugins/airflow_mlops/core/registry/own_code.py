"""Hold the user's own classes and functions of a version against the code that it was fitted with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops.core.declaration.own_types import own_code, type_name
from airflow_mlops.core.declaration.user_function import module_file, put_on_path
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.registry.model_file import file_digest, load_model, untrusted_types

if TYPE_CHECKING:  # a fit in another interpreter has no ledger and no stores
    from airflow_mlops.core.workspace import Workspace

OWN_CODE_FILE = "own_code.json"
"""The file of a version's folder with the digests of its own code by module; missing where it has none."""

_VERIFIED: dict[str, str] = {}
"""The digest of each module when this process first verified it: what it has imported does not change with the file."""


class OwnCodeError(TrainingError):
    """A version was fitted with other code of the user's than the project holds now."""


def verified_own_types(
    references: Sequence[str], recorded: Mapping[str, str] | None, root: Path, subject: str
) -> tuple[str, ...]:
    """Return the names of the own types that a model may hold, after verifying the code that defines them.

    Parameters
    ----------
    references : sequence of str
        The declared types, as ``module:name``.
    recorded : mapping of str to str, optional
        The digests of the code by module that the model was fitted with. A type of another module is not trusted.
    root : Path
        The project folder, whose modules become importable.
    subject : str
        What is fitted or loaded; begins each error message.

    Raises
    ------
    OwnCodeError
        Naming the module that is gone, has another digest, or hides behind an installed one.
    """
    if not recorded:
        return ()
    for module, digest in recorded.items():
        require_same_module(module, digest, root, subject)
    put_on_path(root)
    trusted = [reference for reference in references if reference.partition(":")[0] in recorded]
    for module in {reference.partition(":")[0] for reference in trusted}:
        require_own_place(module, root, subject)
    return tuple(map(type_name, trusted))


def require_same_module(module: str, digest: str, root: Path, subject: str) -> None:
    """Raise OwnCodeError unless a module of the project, and of this process, has a digest."""
    file = module_file(module, root)
    now = "none" if file is None else file_digest(file)
    if now != digest:
        raise OwnCodeError(
            f"{subject} was fitted with the module {module!r} of the digest {digest[:12]}…, and the project has "
            f"{now[:12]}{'…' if file else ''}; put that code back, or give the new code a module of another name, "
            "declare it in train.own_types and train again"
        )
    if _VERIFIED.setdefault(module, digest) != digest:
        raise OwnCodeError(
            f"{subject} was fitted with the module {module!r} of the digest {digest[:12]}…, and this process has "
            f"imported that of {_VERIFIED[module][:12]}…; start it again"
        )


def require_own_place(module: str, root: Path, subject: str) -> None:
    """Raise OwnCodeError if Python finds a module elsewhere than in the project."""
    spec, file = find_spec(module), module_file(module, root)
    if spec is None or spec.origin is None or file is None or Path(spec.origin).resolve() != file.resolve():
        place = spec.origin if spec else "nowhere"
        raise OwnCodeError(
            f"{subject} needs the module {module!r} of the project, and Python finds {place}; give the module "
            "another name"
        )


def load_own_model(
    workspace: Workspace, path: Path, digest: str, recorded: Mapping[str, str] | None, subject: str
) -> Any:
    """Return the estimator in a file of a loop, after verifying the file and the own code that it was fitted with.

    Raises
    ------
    RegistryError
        See :func:`~airflow_mlops.core.registry.model_file.load_model`.
    OwnCodeError
        See :func:`verified_own_types`.
    """
    own_types = verified_own_types(workspace.loop.train.own_types, recorded, workspace.root, subject)
    return load_model(path, digest, own_types)


def held_own_types(references: Sequence[str], file: Path) -> tuple[str, ...]:
    """Return those of the declared types that a model file holds."""
    names = untrusted_types(file=file)
    return tuple(reference for reference in references if type_name(reference) in names)


def held_own_code(held: Sequence[str], requested: Mapping[str, str] | None, root: Path) -> dict[str, str] | None:
    """Return the digests of the code that a model needs, out of those that the training was requested with.

    Parameters
    ----------
    held : sequence of str
        The own types that the model holds.
    requested : mapping of str to str, optional
        The digests of the code of all declared types, by module.
    """
    needed = own_code(held, root) or {}
    return {module: digest for module, digest in (requested or {}).items() if module in needed} or None


def read_own_code(folder: Path) -> dict[str, str] | None:
    """Return the digests of the own code of a version from its folder, which the caller has verified."""
    file = folder / OWN_CODE_FILE
    return dict(json.loads(file.read_bytes())) if file.is_file() else None
