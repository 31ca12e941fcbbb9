"""Report whether a version is signed, by which key, and whether its files still match the signature."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.registry.load import verified_folder, verify_in_registry
from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class VersionReport:
    """The result of the verification of a version.

    ``signed`` is whether the ledger has a signature, ``key`` the fingerprint of its key, ``verified`` whether the files
    match it, and ``reason`` all of it in words.
    """

    version: str
    signed: bool
    verified: bool
    key: str | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def verify_version(workspace: Workspace, version: Version, *, in_registry: bool = False) -> VersionReport:
    """Return the report on a version after verifying its files.

    Parameters
    ----------
    in_registry : bool
        Whether to verify the files in the registry, and not the copy that would be loaded.

    Raises
    ------
    RegistryError
        If the registry is needed and does not answer; problems of the files are reported, not raised.
    """
    signature = version.details.signature
    key = signature.key if signature else None
    try:
        if in_registry:
            verify_in_registry(workspace, version)
        else:
            verified_folder(workspace, version)
    except RegistryError as error:
        if error.retryable:
            raise
        return VersionReport(version.number, signature is not None, False, key, str(error))
    if key is None:
        reason = f"version {version.number} is not signed: it was registered before versions were; register a new one"
        return VersionReport(version.number, False, False, None, reason)
    reason = f"version {version.number} is what was signed with the key {key[:12]}…"
    return VersionReport(version.number, True, True, key, reason)
