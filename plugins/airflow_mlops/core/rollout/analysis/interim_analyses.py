"""Looking several times at a rollout without being fooled more often than stated.

Whoever looks ten times at a good challenger with an ordinary test at 5 % stops it every fifth time. Here the 5 % are
spent over the planned looks, little at first and most at the end: the spending function of Lan and DeMets [1]_
in the shape of O'Brien and Fleming [2]_. Each look then has a boundary of its own for its z value.

References
----------
.. [1] K. K. G. Lan and D. L. DeMets, Biometrika 70 (1983) 659-663.
.. [2] P. C. O'Brien and T. R. Fleming, Biometrics 35 (1979) 549-556.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from math import inf, sqrt

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm

Floats = npt.NDArray[np.float64]
POINTS = 1_201
"""Points of the grid on which the distribution of the statistic is carried from look to look."""
SMALLEST = 1e-30
"""Chance that a look spends at least: a boundary beyond eleven standard deviations says no more."""
REACH = 8.0
"""Standard deviations that the grid spans on the side that does not stop."""


def spent_by(information: float, alpha: float) -> float:
    """Return how much of ``alpha``, one-sided, may be spent by the time a share of the information is in.

    >>> round(spent_by(1.0, 0.025), 6), spent_by(0.2, 0.025) < 1e-5
    (0.025, True)
    """
    return float(2 * norm.sf(norm.isf(alpha / 2) / sqrt(information)))


def boundaries(
    information: Sequence[float], alpha: float, *, spend_by: Sequence[float] | None = None
) -> tuple[float, ...]:
    """Return the z value that stops at each look, one-sided, so that all looks together err with ``alpha``.

    Parameters
    ----------
    information : sequence of float
        Share of the planned information at each look, rising; the looks need not be evenly spaced.
    alpha : float
        Chance that a challenger which is exactly at the limit is stopped at any look.
    spend_by : sequence of float, optional
        Share by which each look spends, at most 1 and never falling: the information if not given. It is another
        where the last look comes with less information than was planned, or with more: then it is 1.

    Raises
    ------
    ValueError
        If the information does not rise from above 0, what is spent by is not within (0, 1] or falls, or alpha is
        not within (0, 0.5).
    """
    shares = tuple(float(share) for share in information)
    spends = shares if spend_by is None else tuple(float(share) for share in spend_by)
    if not shares or not shares[0] > 0 or not all(a < b < inf for a, b in pairwise((0.0, *shares))):
        raise ValueError(f"information {shares} must rise from above 0")
    if len(spends) != len(shares) or not all(0 < b <= 1 and a <= b for a, b in pairwise((0.0, *spends))):
        raise ValueError(f"what is spent by, {spends}, must be within (0, 1] and never fall, one for each look")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}; it must be within (0, 0.5)")
    return _boundaries(shares, spends, alpha)


@dataclass(frozen=True)
class _Undecided:
    """What has not stopped yet: the density of the sum of what was seen, on a grid; a single point before any look."""

    grid: Floats
    density: Floats
    information: float

    def beyond(self, z: float, share: float) -> float:
        """Return the chance of getting to the look at ``share`` and exceeding ``z`` there."""
        limit, step = z * sqrt(share), self._step(share)
        if self.grid.size == 0:
            return float(norm.sf(limit / step))
        return float(np.trapezoid(self.density * norm.sf((limit - self.grid) / step), self.grid))

    def after(self, z: float, share: float) -> _Undecided:
        """Return what has not stopped after the look at ``share`` with the boundary ``z``."""
        step = self._step(share)
        onto = np.linspace(-REACH * sqrt(share), z * sqrt(share), POINTS)
        if self.grid.size == 0:
            return _Undecided(onto, norm.pdf(onto / step) / step, share)
        kernel = norm.pdf((onto[:, None] - self.grid[None, :]) / step) / step
        return _Undecided(onto, np.trapezoid(kernel * self.density[None, :], self.grid, axis=1), share)

    def _step(self, share: float) -> float:
        """Return the standard deviation of what comes until ``share``.

        Two looks that are nearly one are kept apart by what the grid can tell: that asks for a little more.
        """
        told_apart = float(self.grid[1] - self.grid[0]) if self.grid.size else 0.0
        return max(sqrt(share - self.information), told_apart)


@lru_cache(maxsize=256)
def _boundaries(information: tuple[float, ...], spends: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """Walk from look to look, spending at each what the shape allows by then."""
    found: list[float] = []
    undecided = _Undecided(np.zeros(0), np.zeros(0), 0.0)
    for share, (before, by) in zip(information, pairwise((0.0, *spends)), strict=True):
        now = max(spent_by(by, alpha) - (spent_by(before, alpha) if before else 0.0), SMALLEST)
        z = float(brentq(partial(_too_much, undecided, share, now), 0.0, 12.0, xtol=1e-10))
        found.append(z)
        undecided = undecided.after(z, share)
    return tuple(found)


def _too_much(undecided: _Undecided, share: float, spend: float, z: float) -> float:
    return undecided.beyond(z, share) - spend
