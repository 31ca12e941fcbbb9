"""The port to a model registry: versions that are registered once, aliases, and the files of a version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from airflow_mlops.core.errors import RegistryError

if TYPE_CHECKING:
    import pandas as pd

InterfaceType = Literal["boolean", "long", "double", "string", "datetime"]
"""Types of the columns of an interface, by MLflow's names."""

MODEL_FILE = "model.skops"
OPERATION = "airflow_mlops.operation"
"""Tag of the operation that made a version."""
GHOST_OF = "airflow_mlops.ghost_of"
"""Tag of a version that a repeated request left behind; its value is the number of the valid version."""


@dataclass(frozen=True)
class ModelInterface:
    """The columns that a model takes, for tools that read a version from the registry.

    Parameters
    ----------
    inputs : mapping of str to str
        Types of the columns by name, in the order of the model.
    output : str
        Type of a prediction.
    example : DataFrame, optional
        Rows that the model predicts; None where rows must not leave the lake.
    """

    inputs: Mapping[str, InterfaceType]
    output: InterfaceType
    example: pd.DataFrame | None = None


@dataclass(frozen=True)
class Registration:
    """A fitted model to register as a version.

    ``operation`` is unique: registering it again returns the same version. ``files`` are stored beside the model file,
    and ``seal`` is called with the complete folder before it is uploaded. ``interface`` is for the tools of a registry
    that know one. ``own_types`` are the names of the user's types that the model may hold. ``folder`` is that of a
    version as another environment signed it: it is kept as it is, and nothing is added. ``taken`` are the numbers that
    the ledger knows as versions of other operations: a registry that has lost its versions counts from 1 again, and
    passes over them.
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
    interface: ModelInterface | None = None
    own_types: tuple[str, ...] = ()
    folder: Path | None = None
    taken: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the registry: its number, the address of its files, and its tags."""

    number: str
    source: str
    tags: Mapping[str, str]


class VersionGoneError(RegistryError):
    """A version that the ledger knows is not in the registry."""


class RegistryUnavailableError(RegistryError):
    """The registry is down, has failed or answers by an old state; a later attempt may succeed."""

    retryable = True


class ModelRegistry(Protocol):
    """Versions of one model."""

    def register(self, registration: Registration) -> str:
        """Return the number of the version of ``registration.operation``, registered now or before.

        Of several versions of one operation the oldest is valid; the others are tagged as its ghosts.
        """

    def all_versions(self) -> list[RegisteredVersion]:
        """Return every version, the oldest first."""

    def mark_ghosts(self) -> dict[str, str]:
        """Tag the untagged ghosts; return the valid version of each of them."""

    def fetch(self, version: str, into: Path) -> Path:
        """Return the path of a version's model file, with everything of its folder copied into ``into``.

        Only addresses that are allowed for artefacts of this model are read.

        Raises
        ------
        VersionGoneError
            If there is no such version.
        RegistryError
            If its model file is missing, or its address is not allowed.
        """

    def aliases(self) -> dict[str, str]:
        """Return the number of the version that each alias points to."""

    def set_alias(self, alias: str, version: str | None) -> None:
        """Point ``alias`` to ``version``, or remove it.

        Raises
        ------
        VersionGoneError
            If there is no such version.
        """

    def describe(self) -> dict[str, Any]:
        """Return the address of the model's page: ``{"url": …}``."""


def ghosts_of(versions: list[RegisteredVersion]) -> dict[str, str]:
    """Return each ghost among versions with the number of the oldest version of its operation."""
    first: dict[str, str] = {}
    ghosts: dict[str, str] = {}
    for version in sorted(versions, key=lambda version: int(version.number)):
        operation = version.tags.get(OPERATION)
        if operation is None:
            continue
        if operation in first:
            ghosts[version.number] = first[operation]
        else:
            first[operation] = version.number
    return ghosts
