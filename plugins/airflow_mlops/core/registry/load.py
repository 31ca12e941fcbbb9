"""Load a registered version: from the copy in the lake, or from the registry, verified either way.

Before every load the folder of the version is held against its signature, and the model file against the
digest in the ledger. What is then read is the model file alone, under this project's list of types. Scoring
goes on while the registry is down, or a version was deleted there.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ports.registry import MODEL_FILE
from airflow_mlops.core.registry.model_file import file_digest, load_model
from airflow_mlops.core.registry.replace_folder import fetch_folder
from airflow_mlops.core.registry.sign_folder import OtherKeyError, SignatureError, verify_folder
from airflow_mlops.core.workspace import Workspace

log = logging.getLogger(__name__)


def load_version(workspace: Workspace, version: Version) -> Any:
    """Return the estimator of a version, its signature verified; its digest is the one in the ledger.

    A version from before there were signatures is loaded by its digest alone, with a warning.

    Raises
    ------
    RegistryError
        If the version is gone or was changed, and no good copy of it is kept.
    """
    if not version.details.signature:
        log.warning(
            "version %s of %s was registered before versions were signed; it is loaded by its digest alone",
            version.number, workspace.loop.model,
        )  # fmt: skip
    return load_model(verified_folder(workspace, version) / MODEL_FILE, str(version.details.artefact))


def verified_folder(workspace: Workspace, version: Version) -> Path:
    """Return a folder on this machine with the files of a version, verified just now.

    The copy that is kept below the loop's scratch folder is taken if it is good, then the one that other workers
    left in a lake they share, then the registry's.

    Raises
    ------
    RegistryError
        Naming what is wrong with the version, and with its copy.
    """
    folder = copy_of(workspace, version)
    spoiled = ""
    for bring in (_kept, _shared):
        try:
            if bring(workspace, folder):
                require_good(workspace, version, folder)
                return folder
        except OtherKeyError:
            raise
        except RegistryError as error:
            spoiled = f"; the copy in the lake is no help: {error}"
            log.warning("%s; another copy is fetched", error)
    try:
        workspace.registry.fetch(version.number, folder)
        require_good(workspace, version, folder)
    except RegistryError as error:
        if not spoiled:
            raise
        raise type(error)(f"{error}{spoiled}") from error
    keep_for_others(workspace, folder)
    return folder


def fetched_anew(workspace: Workspace, version: Version) -> None:
    """Let a version through whose files in the registry are what was registered, whatever copies say.

    Raises
    ------
    RegistryError
        Naming what is wrong.
    """
    with tempfile.TemporaryDirectory() as scratch:
        workspace.registry.fetch(version.number, Path(scratch) / "version")
        require_good(workspace, version, Path(scratch) / "version")


def copy_of(workspace: Workspace, version: Version) -> Path:
    """Return where the copy of a version is kept: below the digest of its signature, or of its model file."""
    signature = version.details.signature
    return workspace.scratch / "models" / (signature.digest if signature else version.details.artefact)


def require_good(workspace: Workspace, version: Version, folder: Path) -> None:
    """Let a folder through that holds what was registered.

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
    elif signed_before(workspace, version):
        raise SignatureError(f"{name} is refused: it has no signature in the ledger, and versions before it have one")
    file, digest = folder / MODEL_FILE, str(version.details.artefact)
    found = file_digest(file) if file.is_file() else "none"
    if found != digest:
        raise RegistryError(
            f"{name} is refused: {MODEL_FILE} was changed: its digest is {found[:12]}…, the ledger says {digest[:12]}…"
        )


def signed_before(workspace: Workspace, version: Version) -> bool:
    """Whether a version that was registered before this one is signed: then this one had to be, too."""
    versions = (earlier for _, earlier in workspace.state().versions.items())
    return any(
        earlier.details.signature is not None and int(earlier.number) < int(version.number) for earlier in versions
    )


def keep_for_others(workspace: Workspace, folder: Path) -> None:
    """Leave the files of a verified version in the lake, where that is not a folder of this machine."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            workspace.share(path)


def _kept(_workspace: Workspace, folder: Path) -> bool:
    return (folder / MODEL_FILE).is_file()


def _shared(workspace: Workspace, folder: Path) -> bool:
    files = workspace.ports.shared()
    if files is None:
        return False
    return fetch_folder(folder, files, folder.relative_to(workspace.scratch).as_posix())
