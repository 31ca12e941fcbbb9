"""What the loop needs from a model registry: versions made once, aliases, and verified loading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Registration:
    """A fitted model that shall become a version.

    ``operation`` is unique: registering it again adopts the version it made.
    """

    operation: str
    model_file: Path
    digest: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    requirements: tuple[str, ...]
    datasets: Mapping[str, str] = field(default_factory=dict)


class ModelRegistry(Protocol):
    """Versions of one model."""

    def register(self, registration: Registration) -> str:
        """Return the number of the version that ``registration.operation`` made, now or before."""

    def fetch(self, version: str, into: Path) -> Path:
        """Return the path of a version's model file, copied below ``into``.

        Raises
        ------
        RegistryError
            If the version or its model file is not there.
        """

    def aliases(self) -> dict[str, str]:
        """Return which version each alias points to."""

    def set_alias(self, alias: str, version: str | None) -> None:
        """Point ``alias`` to ``version``, or remove it."""

    def describe(self) -> dict[str, Any]:
        """Return where a person finds the model: ``{"url": …}``."""
