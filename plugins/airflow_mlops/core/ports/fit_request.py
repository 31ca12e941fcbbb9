"""What a fit is asked, and what it answers: small JSON, the same for every place where it runs."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PACKAGES = ("scikit-learn", "numpy", "pandas", "scipy", "skops")
"""What a fitted model depends on; their versions are part of every result."""


@dataclass(frozen=True)
class FitRequest:
    """One candidate, to be fitted on one window.

    Parameters
    ----------
    model, operation, candidate : str
        Whose candidate it is, the digest of the training request, and the candidate's name.
    attempt : str
        Tells fits of the same request apart that must not adopt each other: the decision, or a reproduction.
    function : str
        ``module:name`` of the user's function, below ``root``.
    seed : int
        What the function is called with, and what everything is seeded by that has no seed of its own.
    classifies : bool
        Whether the label is a class, 0 or 1.
    label : str
        Name of the label, which no model is given.
    window : tuple of dict
        The pinned partitions of the rows: ``partition``, ``version`` and ``digest``.
    search : dict, optional
        ``candidates``, ``factor``, ``validation`` and ``metric`` of a search; None where no candidate has a search
        space.
    rows, file, root : str
        Where the rows are if they come as a file, where the model file goes, and the project folder.
    """

    model: str
    operation: str
    candidate: str
    attempt: str
    function: str
    seed: int
    classifies: bool
    label: str
    window: tuple[dict[str, Any], ...]
    search: dict[str, Any] | None
    file: str
    root: str
    rows: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON values."""
        return {**asdict(self), "window": [dict(pin) for pin in self.window]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FitRequest:
        """Return the request that ``to_dict`` wrote."""
        return cls(**{**values, "window": tuple(values["window"])})


@dataclass(frozen=True)
class FitResult:
    """A fitted candidate: its file by digest, and what somebody needs who wants to make it again.

    ``search`` is what was tried, ``best_params`` what won; ``environment`` has the version of every package
    that the model depends on, of Python, and the platform.
    """

    candidate: str
    digest: str
    fit_seconds: float
    rows: int
    seed: int
    environment: dict[str, str]
    best_params: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FitResult:
        """Return the result that ``to_dict`` wrote."""
        return cls(**values)


def environment() -> dict[str, str]:
    """Return the versions of Python and of the packages that a model depends on, and the platform."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    return found | {package: importlib.metadata.version(package) for package in PACKAGES}
