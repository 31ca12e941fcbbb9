"""The classes that a version was fitted on, against those of the declaration."""

from __future__ import annotations

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.workspace import Workspace


class ClassesChangedError(TrainingError):
    """A version was fitted on other classes than the declaration has now."""


def require_same_classes(workspace: Workspace, version: Version) -> None:
    """Raise ClassesChangedError if a version was fitted on other classes than the declaration has.

    Raises
    ------
    ClassesChangedError
        Naming both lists; the codes and the probabilities of the version mean something else.
    """
    fitted, declared = version.details.classes, workspace.loop.class_names
    if fitted == declared:
        return
    before, now = (", ".join(names) if names else "none" for names in (fitted, declared))
    raise ClassesChangedError(
        f"version {version.number} of {workspace.loop.model} was fitted on the classes {before}, and data.classes "
        f"declares {now}; declare the classes of the version, in their order, or start a model of another name"
    )
