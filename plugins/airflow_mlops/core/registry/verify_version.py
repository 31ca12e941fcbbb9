"""Say of a version whether it is signed, by which key, and whether it still is what was signed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from airflow_mlops.core.errors import RegistryError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.registry.load import fetched_anew, verified_folder
from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class VersionReport:
    """What was found.

    ``signed`` says whether the ledger knows a signature, ``key`` the fingerprint of its key, ``verified`` whether
    a copy of the version that can be loaded here holds against it, and ``reason`` all of it in words.
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
    """Return the report on a version, its files verified now.

    Parameters
    ----------
    in_registry : bool
        Whether to look at the files in the registry, and not at the copy that would be loaded.

    Raises
    ------
    RegistryError
        If the registry has to be asked and does not answer; what is wrong with the files is reported.
    """
    signature = version.details.signature
    key = signature.key if signature else None
    try:
        if in_registry:
            fetched_anew(workspace, version)
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
