"""An in-memory implementation of the model registry."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_mlops.core.fault_point import external_write
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
    """A version of the registry in memory: its operation, and the bytes of its model file and other files."""

    operation: str
    content: bytes
    registration: Registration
    beside: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    source: str = "memory:/versions/files"


@dataclass
class InMemoryRegistry:
    """Versions and aliases of one model. The number of a version is its place in ``versions``, from 1.

    ``deleted`` holds the numbers of deleted versions.
    """

    versions: list[KeptVersion] = field(default_factory=list)
    pointers: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    def register(self, registration: Registration) -> str:
        """Register a version, its model file verified, and return its number; idempotent by operation."""
        made = [version for version in self.all_versions() if version.tags[OPERATION] == registration.operation]
        self.deleted.update(version.number for version in made if version.number in registration.taken)
        numbers = [version.number for version in made if version.number not in registration.taken]
        if not numbers:
            check_model_file(registration.model_file, registration.digest, registration.own_types)
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                if registration.folder is not None:
                    shutil.copytree(registration.folder, folder, dirs_exist_ok=True)
                (folder / MODEL_FILE).write_bytes(registration.model_file.read_bytes())
                for name, content in registration.files.items():
                    (folder / name).write_bytes(content)
                if registration.seal is not None:
                    registration.seal(folder)
                files = {path.name: path.read_bytes() for path in folder.iterdir()}
            content = files.pop(MODEL_FILE)
            while not numbers or numbers[0] in registration.taken:
                self.deleted.update(numbers)
                tags = dict(registration.tags)
                with external_write("registry.register"):
                    self.versions.append(KeptVersion(registration.operation, content, registration, files, tags))
                numbers = [str(len(self.versions))]
        self.mark_ghosts()
        return numbers[0]

    def all_versions(self) -> list[RegisteredVersion]:
        """Return every version, the oldest first."""
        return [
            RegisteredVersion(str(number), version.source, {OPERATION: version.operation, **version.tags})
            for number, version in enumerate(self.versions, start=1)
            if str(number) not in self.deleted
        ]

    def mark_ghosts(self) -> dict[str, str]:
        """Tag untagged duplicates of an operation, and return the first version of each by its number."""
        versions = self.all_versions()
        tagged = {version.number: version.tags.get(GHOST_OF) for version in versions}
        untagged = {ghost: first for ghost, first in ghosts_of(versions).items() if tagged[ghost] != first}
        for ghost, first in untagged.items():
            self._version(ghost).tags[GHOST_OF] = first
        return untagged

    def fetch(self, version: str, into: Path) -> Path:
        """Write the folder of a version to ``into``, and return the path of its model file."""
        stored = self._version(version)
        require_allowed(stored.source, ["memory:/versions"])
        with replace_folder(into) as part:
            for name, content in {MODEL_FILE: stored.content, **stored.beside}.items():
                (part / name).write_bytes(content)
        return into / MODEL_FILE

    def aliases(self) -> dict[str, str]:
        """Return the versions by alias."""
        return dict(self.pointers)

    def set_alias(self, alias: str, version: str | None) -> None:
        """Point ``alias`` to ``version``, or remove it."""
        with external_write(f"registry.set_alias.{alias}"):
            if version is None:
                self.pointers.pop(alias, None)
            else:
                self._version(version)
                self.pointers[alias] = version

    def describe(self) -> dict[str, Any]:
        """Return a description without a URL: there is no page."""
        return {"url": None}

    def _version(self, version: str) -> KeptVersion:
        number = int(require_version_number(version))
        if number > len(self.versions) or version in self.deleted:
            raise VersionGoneError(f"the registry in memory has no version {version}; it has {len(self.versions)}")
        return self.versions[number - 1]
