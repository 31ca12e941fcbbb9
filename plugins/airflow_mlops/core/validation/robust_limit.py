"""Robust limits of a value, from the median and the spread of its history."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

DEVIATIONS = 6.0
"""Standard deviations of history that a value may lie from its median."""
NORMAL = 1.4826
"""Standard deviation of normal values in units of their median absolute deviation: 1 / Phi^-1(3/4)."""
NOISE = 4.0
"""Standard errors by which a share or a mean of the partition's rows may be off by chance."""


def usual_range(past: Sequence[float], floor: float) -> tuple[float, float]:
    """Return the median of the history and the largest distance from it that is usual, at least ``floor``."""
    median = float(np.median(past))
    spread = float(np.median(np.abs(np.asarray(past) - median)))
    return median, max(DEVIATIONS * NORMAL * spread, floor)


def highest_usual_share(past: Sequence[float], floor: float, rows: int) -> float:
    """Return the largest share of ``rows`` rows that is usual after this history of shares."""
    median = float(np.median(past))
    noise = NOISE * math.sqrt(median * (1 - median) / max(rows, 1))
    return median + usual_range(past, max(floor, noise))[1]
