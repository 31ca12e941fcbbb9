"""The files of versions: copied from the lake to the gateway's own folder, and verified before every load.

The copy is what the gateway serves from: after a restart it needs neither the lake nor the registry. A version is its
signature's digest; the model file is the one of ``artefact``. Only what was signed with a trusted key is loaded, by
the project's own list of types. A version that nobody signed is refused here, other than in batch scoring.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_mlops.core.errors import RegistryError, RolloutError
from airflow_mlops.core.lake import Lake, LakeFiles
from airflow_mlops.core.ledger.training_details import Signature
from airflow_mlops.core.ports.registry import MODEL_FILE
from airflow_mlops.core.ports.signing_keys import SigningKeys
from airflow_mlops.core.registry.copied_folder import fetched_into, put_in_place
from airflow_mlops.core.registry.model_file import load_model
from airflow_mlops.core.registry.sign_folder import OtherKeyError, verify_folder

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


@dataclass(frozen=True)
class ServedVersion:
    """What the gateway has to know of a version.

    Parameters
    ----------
    number : str
        Of the version in the registry.
    artefact : str
        SHA-256 of the model file.
    signature : mapping of str to str
        ``digest`` of the signature's file and fingerprint of its ``key``, as the ledger has them.
    columns : mapping of str to str, optional
        Columns that the version was fitted on and their types; needed for a loop without a contract.
    """

    number: str
    artefact: str
    signature: Mapping[str, str]
    columns: Mapping[str, str] | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ServedVersion:
        """Return the version that JSON values name.

        Raises
        ------
        RolloutError
            If something is missing, or is no digest or number.
        """
        number, artefact, signature = given.get("number"), given.get("artefact"), given.get("signature")
        if not isinstance(number, str) or not _NUMBER.fullmatch(number):
            raise RolloutError(f"{str(number)[:60]!r} is no number of a version")
        if not isinstance(signature, Mapping):
            raise RolloutError(f"version {number} is not signed, and the gateway serves signed versions only")
        for name, digest in (("artefact", artefact), *((key, signature.get(key)) for key in ("digest", "key"))):
            if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
                raise RolloutError(f"version {number}: {name} is {str(digest)[:80]!r}, which is no SHA-256")
        columns = given.get("columns")
        if columns is not None and not (
            isinstance(columns, Mapping) and all(isinstance(one, str) for pair in columns.items() for one in pair)
        ):
            raise RolloutError(f"version {number}: columns must be names and their types")
        kept = {"digest": str(signature["digest"]), "key": str(signature["key"])}
        return cls(number, str(artefact), kept, None if columns is None else dict(columns))

    def to_dict(self) -> dict[str, Any]:
        """Return the version as JSON values."""
        return asdict(self)


class VersionFiles:
    """The folder of versions that a gateway serves from.

    Parameters
    ----------
    kept : Path
        The gateway's own folder.
    lake : Lake
        Where copies come from: the lake's folder of the model.
    keys : SigningKeys
        Whose signatures count.
    """

    def __init__(self, kept: Path, lake: Lake, keys: SigningKeys) -> None:
        self.kept, self._lake, self._keys = kept, lake, keys

    def load(self, version: ServedVersion) -> Any:
        """Return the estimator of a version, verified just now.

        Raises
        ------
        RegistryError
            If there is no copy of it, or none that is what was signed; says of each what is wrong.
        """
        folder = self.folder_of(version)
        wrong = []
        for bring in (self._own, self._from_lake):
            try:
                if not bring(version, folder):
                    continue
                verify_folder(folder, Signature(**version.signature), self._keys)
                return load_model(folder / MODEL_FILE, version.artefact)
            except OtherKeyError as error:
                raise RegistryError(f"version {version.number} is refused: {error}") from error
            except (RegistryError, OSError) as error:
                wrong.append(str(error))
        if wrong:
            raise RegistryError(f"version {version.number} is refused: {'; '.join(wrong)}")
        raise RegistryError(f"version {version.number} is not in the lake at {self._lake.uri}/{self._place(version)}")

    def folder_of(self, version: ServedVersion) -> Path:
        """Return where the gateway's copy of a version is."""
        return self.kept / version.signature["digest"]

    def keep_only(self, versions: Iterable[ServedVersion]) -> None:
        """Delete the copies of all other versions."""
        wanted = {self.folder_of(one) for one in versions}
        for folder in self.kept.iterdir() if self.kept.is_dir() else ():
            if folder not in wanted:
                shutil.rmtree(folder, ignore_errors=True)

    def _own(self, _version: ServedVersion, folder: Path) -> bool:
        return (folder / MODEL_FILE).is_file()

    def _place(self, version: ServedVersion) -> str:
        return f"{'' if self._lake.is_local else 'shared/'}models/{version.signature['digest']}"

    def _from_lake(self, version: ServedVersion, folder: Path) -> bool:
        place = self._place(version)
        if self._lake.is_local:
            source = self._lake.path / place
            if not (source / MODEL_FILE).is_file():
                return False
            with put_in_place(folder) as part:
                shutil.copytree(source, part, dirs_exist_ok=True, symlinks=True)
            return True
        return fetched_into(folder, LakeFiles(self._lake), place)
