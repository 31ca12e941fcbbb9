"""Model files: written and read with skops, never unpickled, verified before every load.

The list of types that a file may hold is the project's own. An attacker could edit a list in the file, or in the
registry beside it.

The same model is the same file, byte for byte: skops names objects by their address in memory and notes
the time, so a fit that is run again after a crash would not be the version it had become before.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    # When imported, skops reads every attribute of every module, deprecated ones of others too.
    warnings.simplefilter("ignore")
    import skops.io

from airflow_mlops.core.declaration.user_function import extra_hint
from airflow_mlops.core.errors import RegistryError, TrainingError
from airflow_mlops.core.lake import replace_file
from airflow_mlops.core.registry.archive_limits import check_archive
from airflow_mlops.core.registry.trusted_types import TRUSTED_TYPES

DECLARE_OWN = "declare classes and functions of your project in train.own_types"
CATBOOST_TREES = b"CBM1"
"""The first bytes of the trees of CatBoost."""


class UnreadableModelError(RegistryError):
    """The file of a model is the right one, and no model can be made of it."""


def save_model(model: Any, path: Path, own_types: Sequence[str] = ()) -> str:
    """Write a fitted estimator and return the SHA-256 of the file.

    Parameters
    ----------
    own_types : sequence of str
        Names of the user's own classes and functions that are trusted too.

    Raises
    ------
    TrainingError
        If the model cannot be written, or could not be loaded again: it holds a type that is not trusted, or is too
        large.
    """
    with replace_file(path) as part:
        try:
            skops.io.dump(model, part)
        except Exception as error:  # what a user's estimator holds may fail in any way
            raise TrainingError(f"the model cannot be kept as a file: {type(error).__name__}: {error}") from error
        untrusted = untrusted_types(file=part, own_types=own_types)
        if untrusted:
            raise TrainingError(
                f"the model holds types that are not trusted for loading: {', '.join(untrusted)}; {DECLARE_OWN}"
            )
        make_repeatable(part)
        try:
            check_archive(part)
        except RegistryError as error:
            raise TrainingError(f"the model could not be loaded again: {error}") from error
    return file_digest(path)


def untrusted_types(*, file: Path | None = None, data: bytes | None = None, own_types: Sequence[str] = ()) -> list[str]:
    """Return the names of a model file, or of its bytes, that are not trusted; creates no object of it."""
    return sorted(set(skops.io.get_untrusted_types(file=file, data=data)) - {*TRUSTED_TYPES, *own_types})


def untrusted_types_of(value: Any) -> list[str]:
    """Return the names that a model file with an object would hold and that are not trusted."""
    return untrusted_types(data=skops.io.dumps(value))


def make_repeatable(path: Path) -> None:
    """Rewrite a model file with its objects and arrays numbered in the order they stand in, and without times."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: without_run(archive.read(name)) for name in archive.namelist()}
    schema = json.loads(contents.pop("schema.json"))
    numbers: dict[Any, int] = {}
    renumber(schema, numbers)
    named = {new_file_name(name, numbers): content for name, content in contents.items()}
    named["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(named):
            archive.writestr(zipfile.ZipInfo(name), named[name])


def without_run(content: bytes) -> bytes:
    """Return a file of the archive; of trees of CatBoost, without the identifier and the time of their fit."""
    if not content.startswith(CATBOOST_TREES):
        return content
    import catboost

    trees = catboost.CatBoost().load_model(blob=content)
    metadata = trees.get_metadata()
    metadata["model_guid"] = metadata["train_finish_time"] = ""
    return bytes(trees.__getstate__()["__model"])


def renumber(node: Any, numbers: dict[Any, int]) -> None:
    """Replace the addresses below a node of the schema, and the file names made of them, filling ``numbers``."""
    if isinstance(node, dict):
        if isinstance(node.get("__id__"), int):
            node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
        if isinstance(node.get("file"), str):
            numbers.setdefault(node["file"], len(numbers) + 1)
            node["file"] = new_file_name(node["file"], numbers)
        for item in node.values():
            renumber(item, numbers)
    elif isinstance(node, list):
        for item in node:
            renumber(item, numbers)


def new_file_name(name: str, numbers: dict[Any, int]) -> str:
    """Return the new name of a file in the archive; one that the schema does not mention keeps its own."""
    return f"{numbers[name]}{Path(name).suffix}" if name in numbers else name


def load_model(path: Path, digest: str, own_types: Sequence[str] = ()) -> Any:
    """Return the estimator in a file, after verifying the file against ``digest``.

    Parameters
    ----------
    own_types : sequence of str
        Names of the user's own classes and functions that are trusted too; the caller has verified their code.

    Raises
    ------
    RegistryError
        If the file is missing, was changed, would unpack to too much, holds a type the project does not trust, or one
        of a package that is not installed.
    UnreadableModelError
        If a class of it raises while its state is read.
    """
    check_model_file(path, digest, own_types)
    try:
        return skops.io.load(path, trusted=[*TRUSTED_TYPES, *own_types])
    except ModuleNotFoundError as error:
        message = f"{path.name} needs the package {error.name!r}, which is not installed here{extra_hint(error)}"
        raise RegistryError(message) from error
    except (OSError, MemoryError):  # the machine's, so another try may succeed
        raise
    except Exception as error:  # a class of the user may raise anything while its state is read
        raise UnreadableModelError(f"{path.name} cannot be loaded: {type(error).__name__}: {error}") from error


def check_model_file(path: Path, digest: str, own_types: Sequence[str] = ()) -> None:
    """Raise RegistryError unless :func:`load_model` would load a model file; creates no object of it.

    Raises
    ------
    RegistryError
        See :func:`load_model`.
    """
    if not path.exists():
        raise RegistryError(f"{path} is not there; the ledger knows it by its digest {digest[:12]}…")
    actual = file_digest(path)
    if actual != digest:
        raise RegistryError(f"{path.name} was changed: its digest is {actual[:12]}…, the ledger says {digest[:12]}…")
    check_archive(path)
    untrusted = untrusted_types(file=path, own_types=own_types)
    if untrusted:
        raise RegistryError(f"{path.name} holds types that are not trusted: {', '.join(untrusted)}; {DECLARE_OWN}")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
