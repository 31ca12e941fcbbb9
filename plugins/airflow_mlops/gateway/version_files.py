"""The files of versions: copied from the lake to the gateway's own folder, and verified before every load.

The gateway loads its own copies: after a restart it needs neither the lake nor the registry. The folder of a version is
named by the digest of its signature; its model file has the digest ``artefact``. Only files signed with a trusted key
are loaded, with the project's own list of types. Unlike batch scoring, the gateway refuses unsigned versions.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import RegistryError, RolloutError
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.lake import Lake, LakeFiles
from airflow_mlops.core.ledger.training_details import Signature
from airflow_mlops.core.ports.registry import MODEL_FILE
from airflow_mlops.core.ports.signing_keys import SigningKeys
from airflow_mlops.core.registry.model_file import load_model
from airflow_mlops.core.registry.own_code import read_own_code, verified_own_types
from airflow_mlops.core.registry.recorded_classes import CLASSES_FILE
from airflow_mlops.core.registry.replace_folder import fetch_folder, replace_folder
from airflow_mlops.core.registry.sign_folder import OtherKeyError, verify_folder

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


@dataclass(frozen=True)
class ServedVersion:
    """The identity of a version: its number and the digests of its files.

    Parameters
    ----------
    number : str
        Number of the version in the registry.
    artefact : str
        SHA-256 of the model file.
    signature : mapping of str to str
        ``digest`` of the signature file and fingerprint of its ``key``, as in the ledger.
    columns : mapping of str to str, optional
        Columns and types that the version was fitted on; needed for a loop without a contract.
    hidden : tuple of str, optional
        Columns that the contract hid from the fit; those that it hides now, if that was not recorded.
    levels : mapping of str to tuple of str, optional
        Levels of the version's categories by column.
    """

    number: str
    artefact: str
    signature: Mapping[str, str]
    columns: Mapping[str, str] | None = None
    hidden: tuple[str, ...] | None = None
    levels: Mapping[str, tuple[str, ...]] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ServedVersion:
        """Return the version in the JSON values of a request or the state file.

        Raises
        ------
        RolloutError
            If a value is missing, or is not a digest or a number.
        """
        number, artefact, signature = values.get("number"), values.get("artefact"), values.get("signature")
        if not isinstance(number, str) or not _NUMBER.fullmatch(number):
            raise RolloutError(f"{str(number)[:60]!r} is not the number of a version")
        if not isinstance(signature, Mapping):
            raise RolloutError(f"version {number} is not signed, and the gateway serves signed versions only")
        for name, digest in (("artefact", artefact), *((key, signature.get(key)) for key in ("digest", "key"))):
            if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
                raise RolloutError(f"version {number}: {name} is {str(digest)[:80]!r}, which is not a SHA-256")
        columns = values.get("columns")
        if columns is not None and not (
            isinstance(columns, Mapping) and all(isinstance(text, str) for pair in columns.items() for text in pair)
        ):
            raise RolloutError(f"version {number}: columns must be a mapping of names to types")
        trusted_signature = {"digest": str(signature["digest"]), "key": str(signature["key"])}
        columns = None if columns is None else dict(columns)
        hidden = None if values.get("hidden") is None else parse_texts(values["hidden"], f"version {number}: hidden")
        return cls(
            number, str(artefact), trusted_signature, columns, hidden, parse_levels(values.get("levels"), number)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the version as JSON values."""
        return asdict(self)


def parse_levels(levels: Any, number: str) -> dict[str, tuple[str, ...]] | None:
    """Return the levels of categories by column, or raise RolloutError if they are no lists of texts."""
    if levels is None:
        return None
    if not isinstance(levels, Mapping) or not all(isinstance(name, str) for name in levels):
        raise RolloutError(f"version {number}: levels must be a mapping of columns to lists of texts")
    return {name: parse_texts(values, f"version {number}: levels of {name!r}") for name, values in levels.items()}


def parse_texts(values: Any, name: str) -> tuple[str, ...]:
    """Return a list of texts as a tuple, or raise RolloutError if it is none."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise RolloutError(f"{name} is {str(values)[:80]!r}; it must be a list of texts")
    return tuple(values)


class VersionFiles:
    """The folder of versions that a gateway serves from.

    Parameters
    ----------
    kept : Path
        The gateway's own folder.
    lake : Lake
        The lake's folder of the model, from which versions are copied.
    keys : SigningKeys
        Trusted keys.
    """

    def __init__(self, kept: Path, lake: Lake, keys: SigningKeys) -> None:
        self.kept, self._lake, self._keys = kept, lake, keys

    def load(self, version: ServedVersion, own_types: Sequence[str], root: Path) -> Any:
        """Return the estimator of a version, after verifying its files and its own code in the project folder.

        Raises
        ------
        RegistryError
            If there is no copy, or none that matches its signature; the error lists the problem of each.
        OwnCodeError
            If it was fitted with other code of the user's than the project has.
        """
        folder = self.folder_of(version)
        problems = []
        for provide in (self._has_copy, self._copy_from_lake):
            try:
                if not provide(version, folder):
                    continue
                verify_folder(folder, Signature(**version.signature), self._keys)
                subject = f"version {version.number}"
                trusted = verified_own_types(own_types, read_own_code(folder), root, subject)
                return load_model(folder / MODEL_FILE, version.artefact, trusted)
            except OtherKeyError as error:
                raise RegistryError(f"version {version.number} is refused: {error}") from error
            except (RegistryError, OSError) as error:
                problems.append(str(error))
        if problems:
            raise RegistryError(f"version {version.number} is refused: {'; '.join(problems)}")
        raise RegistryError(
            f"version {version.number} is not in the lake at {self._lake.uri}/{self._lake_path(version)}"
        )

    def classes(self, version: ServedVersion) -> tuple[str, ...] | None:
        """Return the classes of a loaded version in the order of their codes; None without a file of them."""
        file = self.folder_of(version) / CLASSES_FILE
        return tuple(json.loads(file.read_bytes())) if file.is_file() else None

    def folder_of(self, version: ServedVersion) -> Path:
        """Return the folder of the gateway's copy of a version."""
        return self.kept / version.signature["digest"]

    def keep_only(self, versions: Iterable[ServedVersion]) -> None:
        """Delete the copies of all other versions."""
        needed = {self.folder_of(version) for version in versions}
        for folder in self.kept.iterdir() if self.kept.is_dir() else ():
            if folder not in needed:
                with external_write("gateway.delete_copy"):
                    shutil.rmtree(folder, ignore_errors=True)

    def _has_copy(self, _version: ServedVersion, folder: Path) -> bool:
        return (folder / MODEL_FILE).is_file()

    def _lake_path(self, version: ServedVersion) -> str:
        return f"{'' if self._lake.is_local else 'shared/'}models/{version.signature['digest']}"

    def _copy_from_lake(self, version: ServedVersion, folder: Path) -> bool:
        path = self._lake_path(version)
        if self._lake.is_local:
            source = self._lake.path / path
            if not (source / MODEL_FILE).is_file():
                return False
            with replace_folder(folder) as part:
                shutil.copytree(source, part, dirs_exist_ok=True, symlinks=True)
            return True
        return fetch_folder(folder, LakeFiles(self._lake), path)
