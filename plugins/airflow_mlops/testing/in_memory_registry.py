"""The in-memory twin of the model registry."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlops.core.ports.registry import (
    GHOST_OF,
    MODEL_FILE,
    OPERATION,
    RegisteredVersion,
    Registration,
    VersionGoneError,
    ghosts_of,
)
from airflow_mlops.core.registry.model_file import check_model_file
from airflow_mlops.core.registry.registry_names import require_allowed, require_version_number
from airflow_mlops.core.registry.replace_folder import replace_folder


@dataclass
class KeptVersion:
    """A version of the registry in memory: its operation, the bytes of its model file and of those beside it."""

    operation: str
    content: bytes
    registration: Registration
    beside: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    source: str = "memory:/versions/files"


@dataclass
class InMemoryRegistry:
    """Versions and aliases of one model. The number of a version is its place in ``versions``, from 1.

    ``deleted`` holds the numbers of versions that somebody deleted.
    """

    versions: list[KeptVersion] = field(default_factory=list)
    pointers: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    def register(self, registration: Registration) -> str:
        """Return the number of the version of an operation, its model file verified when it is made."""
        known = [each.number for each in self.all_versions() if each.tags[OPERATION] == registration.operation]
        if not known:
            check_model_file(registration.model_file, registration.digest)
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                (folder / MODEL_FILE).write_bytes(registration.model_file.read_bytes())
                for name, content in registration.files.items():
                    (folder / name).write_bytes(content)
                if registration.seal is not None:
                    registration.seal(folder)
                files = {path.name: path.read_bytes() for path in folder.iterdir()}
            self.versions.append(
                KeptVersion(registration.operation, files.pop(MODEL_FILE), registration, files, dict(registration.tags))
            )
            known = [str(len(self.versions))]
        self.mark_ghosts()
        return known[0]

    def all_versions(self) -> list[RegisteredVersion]:
        """Return every version, the oldest first."""
        return [
            RegisteredVersion(str(number), each.source, {OPERATION: each.operation, **each.tags})
            for number, each in enumerate(self.versions, start=1)
            if str(number) not in self.deleted
        ]

    def mark_ghosts(self) -> dict[str, str]:
        """Tag the ghosts that are not tagged yet."""
        versions = self.all_versions()
        known = {version.number: version.tags.get(GHOST_OF) for version in versions}
        found = {ghost: first for ghost, first in ghosts_of(versions).items() if known[ghost] != first}
        for ghost, first in found.items():
            self._kept(ghost).tags[GHOST_OF] = first
        return found

    def fetch(self, version: str, into: Path) -> Path:
        """Return the path of a version's model file, its folder written to ``into``."""
        kept = self._kept(version)
        require_allowed(kept.source, ["memory:/versions"])
        with replace_folder(into) as part:
            for name, content in {MODEL_FILE: kept.content, **kept.beside}.items():
                (part / name).write_bytes(content)
        return into / MODEL_FILE

    def aliases(self) -> dict[str, str]:
        """Return which version each alias points to."""
        return dict(self.pointers)

    def set_alias(self, alias: str, version: str | None) -> None:
        """Point ``alias`` to ``version``, or remove it."""
        if version is None:
            self.pointers.pop(alias, None)
        else:
            self._kept(version)
            self.pointers[alias] = version

    def describe(self) -> dict[str, Any]:
        """Return that there is no page to look at."""
        return {"url": None}

    def _kept(self, version: str) -> KeptVersion:
        number = int(require_version_number(version))
        if number > len(self.versions) or version in self.deleted:
            raise VersionGoneError(f"the registry in memory has no version {version}; it has {len(self.versions)}")
        return self.versions[number - 1]
