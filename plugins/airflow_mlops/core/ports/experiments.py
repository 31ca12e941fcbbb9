"""The port to a store of experiments: what each training tried, for people to compare.

Nothing in the loop is decided by it: the evidence of a decision is in the ledger, and a store that is down loses only
what it would have shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

REQUEST = "airflow_mlops.request"
"""Tag of everything that belongs to a training: the operation of its request."""
CANDIDATE = "airflow_mlops.candidate"
"""Tag of a run that the user's own code has logged: the name of the candidate that was fitted."""
LEFT_OUT = "airflow_mlops.left_out"
"""Tag of a candidate that could not be judged: the reason."""


@dataclass(frozen=True)
class LoggedRun:
    """One run: its name, its operation, which is unique, and what is logged in it.

    Parameters
    ----------
    operation, name : str
        Logging an operation again changes nothing that is there.
    metrics : mapping of str to float
        Finite values by name.
    params, tags : mapping of str to str
        Parameters and tags by name.
    pictures : mapping of str to bytes
        Files of pictures by name.
    children : tuple of LoggedRun
        The runs that are shown below this one.
    failed : bool
        Whether the run is shown as failed.
    """

    operation: str
    name: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    children: tuple[LoggedRun, ...] = ()
    failed: bool = False


@dataclass(frozen=True)
class LoggedDataset:
    """A pinned partition that a training read, and whether it was fitted or held out.

    ``context`` is ``training`` or ``evaluation``, the two words of MLflow.
    """

    partition: str
    digest: str
    version: int
    context: str


class Experiments(Protocol):
    """A store of experiments."""

    def log_training(self, training: LoggedRun, datasets: tuple[LoggedDataset, ...]) -> str | None:
        """Log the run of a training with its children; once for each operation, however often it is called.

        Runs that the user's code has logged under :data:`REQUEST` and :data:`CANDIDATE` go below their candidate's.
        Returns the path of the run's page among the store's pages, None where it has no pages.

        Raises
        ------
        RegistryError
            If the store does not answer, or refuses.
        """
        ...

    def variables(self, tags: Mapping[str, str], offline: Path) -> dict[str, str]:
        """Return the environment variables by which the user's code logs to this store, into a run with ``tags``.

        Where the store does not answer they lead to files below ``offline``: the user's code shall not fail.
        """
        ...


def offline_variables(folder: Path) -> dict[str, str]:
    """Return the environment variables by which MLflow logs to files below a folder, without a server."""
    return {"MLFLOW_TRACKING_URI": folder.absolute().as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}


class NoExperiments:
    """Keeps no training, and leads what the user's code logs to files."""

    def log_training(self, training: LoggedRun, datasets: tuple[LoggedDataset, ...]) -> None:
        """Do nothing."""

    def variables(self, tags: Mapping[str, str], offline: Path) -> dict[str, str]:  # noqa: ARG002
        """Return the variables of the folder."""
        return offline_variables(offline)
