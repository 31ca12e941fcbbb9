"""Load a registered version: from the local copy, or from the registry, verified either way."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.governance.state import Version
from airflow_mlops.core.registry.model_file import file_digest, load_model
from airflow_mlops.core.workspace import Workspace


def load_version(workspace: Workspace, version: Version) -> Any:
    """Return the estimator of a version; its digest is the one in the ledger.

    A copy is kept below the loop's scratch folder, so scoring goes on while the registry is down.

    Raises
    ------
    RegistryError
        If the version is gone or was changed.
    """
    digest = str(version.details["artefact"])
    folder = workspace.scratch / "models" / digest
    copy = folder / "model.skops"
    if not copy.exists() or file_digest(copy) != digest:
        copy = workspace.registry.fetch(version.number, folder)
    return load_model(copy, digest)
