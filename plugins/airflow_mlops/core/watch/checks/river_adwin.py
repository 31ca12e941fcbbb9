"""Find changes of the mean of a stream of numbers with ADWIN from river.

The window of ADWIN grows while the mean of its newer part agrees with that of the older one, and drops the older part
when it does not. ``delta`` is its confidence parameter.

References
----------
A. Bifet, R. Gavaldà, SIAM International Conference on Data Mining (2007) 443-448.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass

import numpy as np

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.training.row_losses import Floats

NOT_INSTALLED = "the check concept needs river, which is not installed: pip install 'airflow-mlops[river]'"


@dataclass(frozen=True)
class Change:
    """A change of the mean: detected at the point ``detected``, and begun at the point ``began``."""

    detected: int
    began: int


def require_river() -> None:
    """Raise :class:`DeclarationError`, which names the extra to install, unless river is installed."""
    if importlib.util.find_spec("river") is None:
        raise DeclarationError(NOT_INSTALLED, key="watch.checks")


def find_changes(points: Floats, *, delta: float) -> list[Change]:
    """Return the changes of the mean of a stream, oldest first.

    After each change a new window begins at its most likely position.

    Parameters
    ----------
    points : array of float, shape (n,)
        Within 0 and 1, oldest first.
    delta : float
        Chance of a change being detected where nothing has changed.

    Raises
    ------
    DeclarationError
        If river is not installed.
    """
    require_river()
    adwin = importlib.import_module("river.drift").ADWIN
    stream, changes = points.tolist(), list[Change]()
    detector, start, place, newest = adwin(delta=delta), 0, 0, 0
    while place < len(stream):
        detector.update(stream[place])
        place, newest = place + 1, max(newest, place)
        if detector.drift_detected:
            start += likeliest_split(points[start:place])
            changes.append(Change(newest, start))
            detector, place = adwin(delta=delta), start
    return changes


def likeliest_split(points: Floats) -> int:
    """Return the position that splits a stream into the two parts with the most different means; 1 to n - 1.

    The difference is weighed by the sizes of the parts.

    >>> likeliest_split(np.array([0.1, 0.1, 0.1, 0.9, 0.9]))
    3
    """
    before = np.arange(1, points.size)
    sums = np.cumsum(points)[:-1]
    differences = np.abs(sums / before - (points.sum() - sums) / (points.size - before))
    return int(np.argmax(differences * np.sqrt(before * (points.size - before)))) + 1
