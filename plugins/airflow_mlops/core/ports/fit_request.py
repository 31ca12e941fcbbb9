"""The request and the result of a fit: small JSON, the same wherever it runs."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PACKAGES = ("scikit-learn", "numpy", "pandas", "scipy", "skops")
"""Packages that a fitted model depends on; their versions are part of every result."""
PATHS = ("rows", "file", "root", "checkpoints")
"""Fields of a request that differ from one place to another."""


@dataclass(frozen=True)
class FitRequest:
    """One candidate, to be fitted on one window.

    Parameters
    ----------
    model, operation, candidate : str
        Name of the model, digest of the training request, and name of the candidate.
    attempt : str
        The decision, or a reproduction: fits of the same request in different attempts do not adopt each other.
    function : str
        ``module:name`` of the user's function, below ``root``.
    seed : int
        Argument of the function, and seed of everything without a seed of its own.
    classifies : bool
        Whether the label is a class, 0 or 1.
    label : str
        Name of the label, which is not a feature.
    window : tuple of dict
        The pinned partitions of the rows: ``partition``, ``version`` and ``digest``.
    search : dict, optional
        ``candidates``, ``factor``, ``validation``, ``metric`` and ``optuna`` of a search; None where no candidate has
        a search space.
    weights : dict, optional
        ``column`` and ``half_life_days`` of the weights of rows; None where none are declared.
    quantiles : list of float, optional
        The quantiles that a model predicts; None where it predicts one number.
    rows, file, root : str
        Path of the rows if they come as a file, path of the model file to write, and the project folder.
    early_stopping : dict, optional
        ``rounds`` and ``validation``, where boosting is stopped early.
    own_types : tuple of str
        Classes and functions of the project, as ``module:name``, that the model may hold.
    own_code : dict, optional
        Digests of the modules that define them.
    threshold : dict, optional
        ``value`` of the threshold of two classes, or ``costs`` and ``validation``, where it is chosen.
    sample : dict, optional
        ``rows`` of the window that the fit takes, and the column ``by`` whose values keep their shares.
    checkpoints : str
        Path of a folder that outlasts the process, where what is finished is kept; empty where nothing is.
    threads : dict of str to int, optional
        Most threads of the pools ``openmp`` and ``blas``, where a fit is made again; None takes what there is.
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
    early_stopping: dict[str, Any] | None = None
    own_types: tuple[str, ...] = ()
    own_code: dict[str, str] | None = None
    weights: dict[str, Any] | None = None
    quantiles: list[float] | None = None
    threshold: dict[str, Any] | None = None
    threads: dict[str, int] | None = None
    sample: dict[str, Any] | None = None
    checkpoints: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON values."""
        return {**asdict(self), "window": [dict(pin) for pin in self.window]}

    def identity(self) -> dict[str, Any]:
        """Return the request without the paths of the place where it runs, as JSON values: these identify the fit."""
        return {name: value for name, value in self.to_dict().items() if name not in PATHS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FitRequest:
        """Return the request that ``to_dict`` wrote."""
        return cls(**{**values, "window": tuple(values["window"]), "own_types": tuple(values.get("own_types", ()))})


@dataclass(frozen=True)
class FitResult:
    """A fitted candidate: the digest of its file, and the facts that its reproduction needs.

    ``search`` has the trials and ``best_params`` the best of them; ``environment`` has the version of every package
    that the model depends on, of Python, the platform, and the arithmetic of the fit:
    threads, and the processor whose kernels it took.
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
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    return versions | {package: importlib.metadata.version(package) for package in PACKAGES}
