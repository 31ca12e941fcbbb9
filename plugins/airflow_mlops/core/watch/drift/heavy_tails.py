"""The statistics of further windows, were the weeks' effects drawn from a distribution with heavy tails.

The effect of a week is a normal one whose variance is drawn too, which makes it Student's t. Chance among the rows is
added to it. So a week that is far away from all others is no wonder, and what a window would have to do to be new is
more than normal weeks would say.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, erfc, gammaincinv

from airflow_mlops.core.watch.drift.reference_spread import FARTHEST, Spread, chi_square_draws

Floats = npt.NDArray[np.float64]
Tails = tuple[tuple[float, float], ...]
"""Pairs of degrees of freedom of Student's t, infinite for a normal effect, and their weight; these add up to 1."""

EVERY, HALVINGS, ROUGHLY = 2, 9, 16
STREAMS, VARIANCES = 10, 10_000
"""First numbers of the streams of draws: those of directions, and those of variances."""
EDGES = np.concatenate([np.linspace(0.0, 0.9, 7), 1 - 10.0 ** -np.arange(1.5, 5.6, 0.5), [1.0]])
"""Probabilities between which the variance of the new week is drawn, the finer the farther it is out."""


class HeavyWindows:
    """Further windows by the spread of the reference's own, with tails of Student's t.

    The statistic of the reference's ``k`` windows is ``S = u + sum_j (1 + e w_j) g_j``: ``u`` is chance alone, ``g_j``
    chi-square in the directions of the excess, ``w_j`` the inverse of a chi-square by its degrees of freedom. With
    ``u``, ``g`` and ``w`` drawn, ``S`` says what ``e`` is, and ``e`` what a further window does [1]_.

    Parameters
    ----------
    spreads : sequence of Spread
        One for each column, each of two windows or more.
    rows : sequence of float
        Rows of each column's comparison with its whole reference.
    freedom : sequence of int
        Degrees of freedom of each column's statistic.
    tails : Tails
        Degrees of freedom of the effects, and how far each is believed.

    References
    ----------
    .. [1] S. Weerahandi, J. Am. Stat. Assoc. 86 (1991) 151-153: generalised p-values of variance components.
    """

    def __init__(self, spreads: Sequence[Spread], rows: Sequence[float], freedom: Sequence[int], tails: Tails) -> None:
        self._models = [
            (weight, *self._excess(spreads, rows, degrees), variances(degrees)) for degrees, weight in tails
        ]
        self._rest = np.array(
            [
                chi_square_draws(max(cells - spread.directions, 0.0), 2)[::EVERY]
                for spread, cells in zip(spreads, freedom, strict=True)
            ]
        )
        self._directions = np.array(
            [[[min(spread.directions, cells)]] for spread, cells in zip(spreads, freedom, strict=True)]
        )

    @staticmethod
    def _excess(spreads: Sequence[Spread], rows: Sequence[float], degrees: float) -> tuple[Floats, Floats]:
        """Return the excess of a window by its own variance and by that of the reference, each (n_columns, n_draws)."""
        own, reference = [], []
        for spread, count in zip(spreads, rows, strict=True):
            per = spread.windows - 1
            cells = spread.freedom // per
            left = spread.statistic - chi_square_draws((cells - spread.directions) * per, 0)[::EVERY]
            moved, weighted, mean = reference_draws(spread.directions, per, degrees)
            excess = np.maximum(left - moved, 0.0) / weighted
            scale = count / spread.per_window * excess
            own.append(scale)
            reference.append(scale * mean * spread.imbalance)
        return np.array(own), np.array(reference)

    def p_values(self, statistics: npt.ArrayLike, *, every: int = 1) -> Floats:
        """Return the chance of a statistic as large, shape (n_columns,), from one draw of ``every``."""
        left = np.maximum(np.asarray(statistics, np.float64)[:, None] - self._rest[:, ::every], 0.0)[:, :, None]
        p_values = np.zeros(len(self._rest))
        for weight, own, reference, (variance, chance) in self._models:
            excess = 1 + own[:, ::every, None] * variance + reference[:, ::every, None]
            p_values += weight * (chi_square_tail(self._directions, left / excess) @ chance).mean(axis=1)
        return p_values

    def limits(self, rate: float) -> Floats:
        """Return the statistic that a window exceeds at the rate, roughly, shape (n_columns,)."""
        low, high = np.zeros(len(self._rest)), np.full(len(self._rest), FARTHEST)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            above = self.p_values(np.exp(middle), every=ROUGHLY) > rate
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        limits: Floats = np.exp(high)
        return limits


def chi_square_tail(freedom: Floats, statistics: Floats) -> Floats:
    """Return the chance that a chi-square variable exceeds a statistic; quickly where the degrees of freedom are 1.

    Parameters
    ----------
    freedom : array of float, shape (n_columns, 1, 1)
    statistics : array of float, shape (n_columns, n_draws, n_values)
    """
    single = freedom[:, 0, 0] == 1
    chances = np.empty_like(statistics)
    chances[single] = erfc(np.sqrt(statistics[single] / 2))
    chances[~single] = chdtrc(freedom[~single], statistics[~single])
    return chances


@lru_cache(maxsize=512)
def reference_draws(directions: float, count: int, degrees: float) -> tuple[Floats, Floats, Floats]:
    """Return draws of the sums of ``g_j`` and of ``w_j g_j``, and of the mean ``w_j``, each of shape (n_draws,)."""
    moved = np.array([chi_square_draws(directions, STREAMS + place)[::EVERY] for place in range(count)])
    if np.isinf(degrees):
        return moved.sum(axis=0), moved.sum(axis=0), np.ones(moved.shape[1])
    variance = np.array([degrees / chi_square_draws(degrees, VARIANCES + place)[::EVERY] for place in range(count)])
    return moved.sum(axis=0), (moved * variance).sum(axis=0), variance.mean(axis=0)


@lru_cache(maxsize=64)
def variances(degrees: float) -> tuple[Floats, Floats]:
    """Return values of the variance of a week's effect and the chance of each, every one of shape (n_values,)."""
    if np.isinf(degrees):
        return np.ones(1), np.ones(1)
    chance = np.diff(EDGES)
    middle = np.array([(low + high) / 2 for low, high in pairwise(1 - EDGES)])
    return degrees / (2 * gammaincinv(degrees / 2, middle)), chance
