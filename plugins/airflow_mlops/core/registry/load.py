"""Load a registered version: from the copy in the lake, or from the registry, verified either way.

Before every load the folder of the version is verified against its signature, and the model file against the digest in
the ledger. Only the model file is then read, under this project's list of types. Scoring goes on while the registry is
down, or after a version was deleted there.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.registry import MODEL_FILE
from airflow_mlops.core.registry.model_file import file_digest
from airflow_mlops.core.registry.own_code import load_own_model
from airflow_mlops.core.registry.recorded_classes import require_same_classes, require_same_quantiles
from airflow_mlops.core.registry.replace_folder import fetch_folder
from airflow_mlops.core.registry.sign_folder import OtherKeyError, SignatureError, verify_folder
from airflow_mlops.core.workspace import Workspace

log = logging.getLogger(__name__)


def load_version(workspace: Workspace, version: Version) -> Any:
    """Return the estimator of a version, verified against its signature and its digest in the ledger.

    A version that was registered before versions were signed is verified by its digest alone, with a warning.

    Raises
    ------
    RegistryError
        If the version is gone or was changed, and there is no verified copy of it.
    ClassesChangedError
        If it was fitted on other classes, or predicts other quantiles, than the declaration has.
    OwnCodeError
        If it was fitted with other code of the user's than the project has.
    """
    require_same_classes(workspace.loop, version.number, version.details.classes)
    if not version.details.signature:
        log.warning(
            "version %s of %s was registered before versions were signed; it is loaded by its digest alone",
            version.number,
            workspace.loop.model,
        )
    file = verified_folder(workspace, version) / MODEL_FILE
    subject = f"version {version.number} of {workspace.loop.model}"
    model = load_own_model(workspace, file, str(version.details.artefact), version.details.own_code, subject)
    require_same_quantiles(workspace.loop, version.number, model)
    return model


def verified_folder(workspace: Workspace, version: Version) -> Path:
    """Return a folder on this machine with the files of a version, verified just now.

    The copy below the loop's scratch folder is used if it verifies, then that of other workers in a shared lake, then
    that of the registry.

    Raises
    ------
    RegistryError
        If no copy verifies; the message names the problem of the version, and of its copy.
    """
    folder = copy_folder(workspace, version)
    copy_problem = ""
    for fetch in (_has_copy, _fetch_shared):
        try:
            if fetch(workspace, folder):
                require_unchanged(workspace, version, folder)
                return folder
        except OtherKeyError:
            raise
        except RegistryError as error:
            copy_problem = f"; the copy in the lake is no help: {error}"
            log.warning("%s; another copy is fetched", error)
    try:
        workspace.registry.fetch(version.number, folder)
        require_unchanged(workspace, version, folder)
    except RegistryError as error:
        if not copy_problem:
            raise
        raise type(error)(f"{error}{copy_problem}") from error
    keep_for_others(workspace, folder)
    return folder


def verify_in_registry(workspace: Workspace, version: Version) -> None:
    """Raise RegistryError unless the files of a version in the registry are unchanged; ignores copies.

    Raises
    ------
    RegistryError
        If a file is missing or was changed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        workspace.registry.fetch(version.number, Path(scratch) / "version")
        require_unchanged(workspace, version, Path(scratch) / "version")


def copy_folder(workspace: Workspace, version: Version) -> Path:
    """Return the folder of the copy of a version, named by the digest of its signature, or of its model file."""
    signature = version.details.signature
    return workspace.scratch / "models" / (signature.digest if signature else version.details.artefact)


def require_unchanged(workspace: Workspace, version: Version, folder: Path) -> None:
    """Raise RegistryError unless a folder holds the version as it was registered.

    Raises
    ------
    RegistryError
        Naming the version and the file that is missing or was changed.
    """
    name, signature = f"version {version.number} of {workspace.loop.model}", version.details.signature
    if signature:
        try:
            verify_folder(folder, signature, workspace.keys)
        except RegistryError as error:
            raise type(error)(f"{name} is refused: {error}") from error
    elif has_signed_predecessor(workspace, version):
        raise SignatureError(f"{name} is refused: it has no signature in the ledger, and versions before it have one")
    file, digest = folder / MODEL_FILE, str(version.details.artefact)
    actual = file_digest(file) if file.is_file() else "none"
    if actual != digest:
        raise RegistryError(
            f"{name} is refused: {MODEL_FILE} was changed: its digest is {actual[:12]}…, the ledger says {digest[:12]}…"
        )


def has_signed_predecessor(workspace: Workspace, version: Version) -> bool:
    """Return whether an earlier version is signed, so that this one has to be, too."""
    versions = (earlier for _, earlier in workspace.state().versions.items())
    return any(
        earlier.details.signature is not None and int(earlier.number) < int(version.number) for earlier in versions
    )


def keep_for_others(workspace: Workspace, folder: Path) -> None:
    """Copy the files of a verified version to the lake, unless that is a folder of this machine."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            workspace.share(path)


def _has_copy(_workspace: Workspace, folder: Path) -> bool:
    return (folder / MODEL_FILE).is_file()


def _fetch_shared(workspace: Workspace, folder: Path) -> bool:
    files = workspace.ports.shared()
    if files is None:
        return False
    return fetch_folder(folder, files, folder.relative_to(workspace.scratch).as_posix())
