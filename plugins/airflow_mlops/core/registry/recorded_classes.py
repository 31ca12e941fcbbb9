"""The classes or quantiles that a version was fitted on, against those of the declaration."""

from __future__ import annotations

from typing import Any

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.quantiles import quantiles_of
from airflow_mlops.core.errors import TrainingError

CLASSES_FILE = "classes.json"
"""The file of a version's folder with its classes, in the order of their codes; missing where none are declared."""


class ClassesChangedError(TrainingError):
    """A version predicts other classes, or other quantiles, than the declaration has now."""


def require_same_classes(loop: Loop, number: str, fitted: tuple[str, ...] | None) -> None:
    """Raise ClassesChangedError if a version was fitted on other classes than the declaration has.

    Parameters
    ----------
    number : str
        Number of the version.
    fitted : tuple of str or None
        Its classes in the order of their codes; None of a number, or of 0 and 1.

    Raises
    ------
    ClassesChangedError
        Naming both lists; the codes and the probabilities of the version mean something else.
    """
    declared = loop.class_names
    if fitted == declared:
        return
    before, now = (", ".join(names) if names else "none" for names in (fitted, declared))
    raise ClassesChangedError(
        f"version {number} of {loop.model} was fitted on the classes {before}, and data.classes declares {now}; "
        "declare the classes of the version, in their order, or start a model of another name"
    )


def require_same_quantiles(loop: Loop, number: str, model: Any) -> None:
    """Raise ClassesChangedError if a model predicts other quantiles than the declaration has.

    Raises
    ------
    ClassesChangedError
        Naming both lists.
    """
    fitted, declared = quantiles_of(model) or (), loop.train.quantiles
    if fitted == declared:
        return
    before, now = (", ".join(f"{quantile:g}" for quantile in names) or "none" for names in (fitted, declared))
    raise ClassesChangedError(
        f"version {number} of {loop.model} predicts the quantiles {before}, and train.quantiles declares {now}; "
        "declare those of the version, or start a model of another name"
    )
