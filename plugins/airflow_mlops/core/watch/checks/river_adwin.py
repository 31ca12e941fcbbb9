"""ADWIN from river: where the mean of a stream of numbers changed.

The window of ADWIN grows while the mean of its newer part agrees with that of the older one, and drops the older part
when it does not. How sure it has to be is ``delta``.

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

NEEDED = "the check concept needs river, which is not installed: pip install 'airflow-mlops[river]'"


@dataclass(frozen=True)
class Change:
    """A change of the mean: at the point ``found`` it showed, from ``began`` on the mean was another."""

    found: int
    began: int


def require_river() -> None:
    """Let a declaration through that river is there for.

    Raises
    ------
    DeclarationError
        Naming the extra that installs it.
    """
    if importlib.util.find_spec("river") is None:
        raise DeclarationError(NEEDED, key="watch.checks")


def changes_of(points: Floats, *, delta: float) -> list[Change]:
    """Return where the mean of a stream changed, oldest first.

    After each finding a new window is begun where the change most likely was.

    Parameters
    ----------
    points : array of float, shape (n,)
        Within 0 and 1, oldest first.
    delta : float
        Chance of a finding where nothing has changed.

    Raises
    ------
    DeclarationError
        If river is not installed.
    """
    require_river()
    adwin = importlib.import_module("river.drift").ADWIN
    stream, changes = points.tolist(), list[Change]()
    detector, start, place, seen = adwin(delta=delta), 0, 0, 0
    while place < len(stream):
        detector.update(stream[place])
        place, seen = place + 1, max(seen, place)
        if detector.drift_detected:
            start += likeliest_split(points[start:place])
            changes.append(Change(seen, start))
            detector, place = adwin(delta=delta), start
    return changes


def likeliest_split(points: Floats) -> int:
    """Return where two parts of a stream differ most in their means, weighed by their sizes; 1 to n - 1.

    >>> likeliest_split(np.array([0.1, 0.1, 0.1, 0.9, 0.9]))
    3
    """
    before = np.arange(1, points.size)
    sums = np.cumsum(points)[:-1]
    apart = np.abs(sums / before - (points.sum() - sums) / (points.size - before))
    return int(np.argmax(apart * np.sqrt(before * (points.size - before)))) + 1
