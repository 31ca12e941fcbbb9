"""Boundaries of the interim analyses of a rollout, a group-sequential trial: together they err with ``alpha``.

Ten analyses of a good challenger with an ordinary test at 5 % stop it every fifth time. Here the 5 % are spent over the
planned analyses (looks), little at first and most at the end: the spending function of Lan and DeMets [1]_ in the shape
of O'Brien and Fleming [2]_. Each analysis then has a boundary of its own for its z value.

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
"""Points of the grid that carries the distribution of the statistic from analysis to analysis."""
SMALLEST = 1e-30
"""Smallest chance that an analysis spends: its boundary is eleven standard deviations."""
REACH = 8.0
"""Standard deviations that the grid spans on the side that does not stop."""


def spent_alpha(information: float, alpha: float) -> float:
    """Return the part of ``alpha``, one-sided, that is spent once a share of the information is in.

    >>> round(spent_alpha(1.0, 0.025), 6), spent_alpha(0.2, 0.025) < 1e-5
    (0.025, True)
    """
    return float(2 * norm.sf(norm.isf(alpha / 2) / sqrt(information)))


def boundaries(
    information: Sequence[float], alpha: float, *, spend_by: Sequence[float] | None = None
) -> tuple[float, ...]:
    """Return the boundary z value of each look, one-sided, so that all looks together err with ``alpha``.

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
    """The undecided paths: the density of their summed statistic on a grid, which is empty before the first look."""

    grid: Floats
    density: Floats
    information: float

    def beyond(self, z: float, share: float) -> float:
        """Return the chance to reach the look at ``share`` and exceed ``z`` there."""
        limit, step = z * sqrt(share), self._step(share)
        if self.grid.size == 0:
            return float(norm.sf(limit / step))
        return float(np.trapezoid(self.density * norm.sf((limit - self.grid) / step), self.grid))

    def after(self, z: float, share: float) -> _Undecided:
        """Return the undecided paths after the look at ``share`` with the boundary ``z``."""
        step = self._step(share)
        points = np.linspace(-REACH * sqrt(share), z * sqrt(share), POINTS)
        if self.grid.size == 0:
            return _Undecided(points, norm.pdf(points / step) / step, share)
        kernel = norm.pdf((points[:, None] - self.grid[None, :]) / step) / step
        return _Undecided(points, np.trapezoid(kernel * self.density[None, :], self.grid, axis=1), share)

    def _step(self, share: float) -> float:
        """Return the standard deviation of the increment until ``share``, at least one step of the grid."""
        grid_step = float(self.grid[1] - self.grid[0]) if self.grid.size else 0.0
        return max(sqrt(share - self.information), grid_step)


@lru_cache(maxsize=256)
def _boundaries(information: tuple[float, ...], spends: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """Return the boundary of each look, at which it spends its increment of the spending function."""
    z_values: list[float] = []
    undecided = _Undecided(np.zeros(0), np.zeros(0), 0.0)
    for share, (before, until) in zip(information, pairwise((0.0, *spends)), strict=True):
        spend = max(spent_alpha(until, alpha) - (spent_alpha(before, alpha) if before else 0.0), SMALLEST)
        z = float(brentq(partial(_overspend, undecided, share, spend), 0.0, 12.0, xtol=1e-10))
        z_values.append(z)
        undecided = undecided.after(z, share)
    return tuple(z_values)


def _overspend(undecided: _Undecided, share: float, spend: float, z: float) -> float:
    return undecided.beyond(z, share) - spend
