"""What the loop needs from a model registry: versions made once, aliases, and the files of a version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from airflow_mlops.core.errors import RegistryError

MODEL_FILE = "model.skops"
OPERATION = "airflow_mlops.operation"
"""Tag of the operation that made a version."""
GHOST_OF = "airflow_mlops.ghost_of"
"""Tag of a version that a repeated request left behind: the number of the one that counts."""


@dataclass(frozen=True)
class Registration:
    """A fitted model that shall become a version.

    ``operation`` is unique: registering it again adopts the version it made. ``files`` go beside the model
    file, and ``seal`` is called with the complete folder before anything of it leaves this machine.
    """

    operation: str
    model_file: Path
    digest: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    requirements: tuple[str, ...]
    datasets: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    seal: Callable[[Path], object] | None = None


@dataclass(frozen=True)
class RegisteredVersion:
    """What the registry says of a version: its number, where its files lie, and its tags."""

    number: str
    source: str
    tags: Mapping[str, str]


class VersionGoneError(RegistryError):
    """A version that the ledger knows is not in the registry."""


class ModelRegistry(Protocol):
    """Versions of one model."""

    def register(self, registration: Registration) -> str:
        """Return the number of the version that ``registration.operation`` made, now or before.

        Of several versions of one operation the oldest counts; the others are tagged as its ghosts.
        """

    def all_versions(self) -> list[RegisteredVersion]:
        """Return every version, the oldest first."""

    def mark_ghosts(self) -> dict[str, str]:
        """Tag the ghosts that are not tagged yet; return which version each of them is a ghost of."""

    def fetch(self, version: str, into: Path) -> Path:
        """Return the path of a version's model file, with everything of its folder copied into ``into``.

        Nothing is read that does not lie where artefacts of this model are allowed to.

        Raises
        ------
        VersionGoneError
            If there is no such version.
        RegistryError
            If its model file is not there, or lies where nothing is read from.
        """

    def aliases(self) -> dict[str, str]:
        """Return which version each alias points to."""

    def set_alias(self, alias: str, version: str | None) -> None:
        """Point ``alias`` to ``version``, or remove it.

        Raises
        ------
        VersionGoneError
            If there is no such version.
        """

    def describe(self) -> dict[str, Any]:
        """Return where a person finds the model: ``{"url": …}``."""


def ghosts_of(versions: list[RegisteredVersion]) -> dict[str, str]:
    """Return the ghosts among versions, each with the number of the oldest version of its operation."""
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for version in sorted(versions, key=lambda each: int(each.number)):
        operation = version.tags.get(OPERATION)
        if operation is None:
            continue
        if operation in first:
            found[version.number] = first[operation]
        else:
            first[operation] = version.number
    return found
