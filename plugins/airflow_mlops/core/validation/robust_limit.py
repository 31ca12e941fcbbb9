"""How far from the middle of its own history a value may lie before it is told."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

DEVIATIONS = 6.0
"""Standard deviations of history that a value may lie from its median."""
NORMAL = 1.4826
"""Median absolute deviations of normal values in one standard deviation."""
NOISE = 4.0
"""Standard errors that a share or a mean of the partition's own rows may be off by chance."""


def usual(past: Sequence[float], floor: float) -> tuple[float, float]:
    """Return the median of history and how far from it a value may lie."""
    middle = float(np.median(past))
    spread = float(np.median(np.abs(np.asarray(past) - middle)))
    return middle, max(DEVIATIONS * NORMAL * spread, floor)


def highest_share(past: Sequence[float], floor: float, rows: int) -> float:
    """Return the largest share that history and so many rows let expect."""
    middle = float(np.median(past))
    noise = NOISE * math.sqrt(middle * (1 - middle) / max(rows, 1))
    return middle + usual(past, max(floor, noise))[1]
