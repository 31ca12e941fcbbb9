"""The spread of a reference: how much its own windows differ beyond chance, and in how many directions.

Rows that are drawn independently give the windows shares that differ by chance alone. Weeks differ by more:
holidays, weather. Of that excess two things are estimated here, its size and the number of directions it goes to.
The second is what says how well the first is known: where one factor moves all cells at once, eight weeks are
eight draws of one number, however many cells they fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, gammaincinv

SEED, DRAWS = 7, 1_000
STEP, HALVINGS, FARTHEST = 4, 11, np.log(1e12)


@dataclass(frozen=True)
class Spread:
    """The spread between the windows of a reference over the cells of one column.

    Parameters
    ----------
    statistic, freedom : float, int
        Pearson's statistic of homogeneity of the windows, and its degrees of freedom; 0 where there is one window.
    windows : int
        Number of windows with a row in them.
    per_window : float
        Rows of a window, as far as its share of the excess goes.
    imbalance : float
        Sum of the squared shares that the windows have of all rows: 1 / n for n equal ones.
    excess : float
        By how much a window's statistic, over all cells, exceeds what chance gives it; negative by chance.
    directions : float
        In how many directions the excess goes, at least 1: few if it goes together.
    """

    statistic: float = 0.0
    freedom: int = 0
    windows: int = 1
    per_window: float = 1.0
    imbalance: float = 1.0
    excess: float = 0.0
    directions: float = 1.0

    @property
    def dispersion(self) -> float:
        """Statistic by degree of freedom: near 1 where rows are independent draws."""
        return self.statistic / self.freedom if self.freedom else 1.0

    @property
    def p_value(self) -> float:
        """The chance that windows of independent rows differ as much."""
        return float(chdtrc(self.freedom, self.statistic)) if self.freedom else 1.0


def spread_of(past: npt.NDArray[Any]) -> Spread:
    """Return the spread between the windows of a reference.

    Parameters
    ----------
    past : ndarray of int, shape (n_windows, n_cells)
        Rows of each window in each cell.
    """
    table = np.asarray(past, np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    windows, cells = table.shape
    if windows < 2 or cells < 2:
        return Spread()
    rows, total = table.sum(axis=1), table.sum()
    shares = table.sum(axis=0) / total
    moved = (table - np.outer(rows, shares)) / np.sqrt(np.outer(rows, shares))
    per, freedom = windows - 1, cells - 1
    statistic = float((moved**2).sum())
    imbalance = float((rows**2).sum() / total**2)
    excess = statistic / per - freedom
    squared = float(((moved.T @ moved / per) ** 2).sum())
    # Chance is left in the sum of squares: it makes the directions fewer, which is the careful side.
    directions = np.clip(excess**2 / squared, 1.0, freedom) if excess > 0 else 1.0
    directions = float(np.floor(directions * STEP) / STEP)
    return Spread(statistic, per * freedom, windows, total * (1 - imbalance) / per, imbalance, excess, directions)


def is_restless(spreads: list[Spread], *, columns: float, level: float = 0.1) -> bool:
    """Return whether windows differ by more than chance gives independent rows, in one column or in all of them.

    Parameters
    ----------
    spreads : list of Spread
        One for each column.
    columns : float
        Effective number of independent columns.
    level : float
        How often windows of independent rows may be called restless.
    """
    testable = [spread for spread in spreads if spread.freedom]
    if not testable:
        return False
    smallest = min(spread.p_value for spread in testable) * columns
    freedom = sum(spread.freedom for spread in testable)
    independent_share = min(1.0, columns / len(spreads))
    # A sum over columns that move together varies as if there were fewer of them.
    combined = float(
        chdtrc(freedom * independent_share, sum(spread.statistic for spread in testable) * independent_share)
    )
    return min(smallest, combined) <= (level / 2 if len(testable) > 1 else level)


class RestlessWindows:
    """The statistics that further windows would have, were they as restless as the reference's own.

    The windows of the reference have the statistic ``S = u + (1 + e) v``, with ``u`` the part of the cells in which
    chance alone is at work, ``v`` that of the directions to which the excess goes, ``e`` to each, and both chi-square.
    What ``e`` may be is told by drawing ``u`` and ``v`` [1]_; with it the statistic of another window is known.

    Parameters
    ----------
    spreads : sequence of Spread
        One for each column, each of two windows or more.
    rows : sequence of float
        Rows of each column's comparison with its whole reference: n m / (n + m).
    freedom : sequence of int
        Degrees of freedom of each column's statistic, at least 1.

    References
    ----------
    .. [1] S. Weerahandi, J. Am. Stat. Assoc. 86 (1991) 151-153: generalised p-values of variance components.
    """

    def __init__(self, spreads: Sequence[Spread], rows: Sequence[float], freedom: Sequence[int]) -> None:
        excess, rest = [], []
        for spread, count, cells in zip(spreads, rows, freedom, strict=True):
            per = spread.windows - 1
            own = spread.freedom // per
            chance, moved = (
                chi_square_draws((own - spread.directions) * per, 0),
                chi_square_draws(spread.directions * per, 1),
            )
            scale = count * (1 + spread.imbalance) / spread.per_window
            excess.append(1 + scale * np.maximum((spread.statistic - chance) / moved - 1, 0.0))
            rest.append(chi_square_draws(max(cells - spread.directions, 0.0), 2))
        self._excess, self._rest = np.array(excess), np.array(rest)
        self._directions = np.array(
            [[min(spread.directions, cells)] for spread, cells in zip(spreads, freedom, strict=True)]
        )

    def p_values(self, statistics: npt.ArrayLike, *, every: int = 1) -> npt.NDArray[np.float64]:
        """Return the chance of a statistic as large, shape (n_columns,), from one draw of ``every``."""
        rest, excess = self._rest[:, ::every], self._excess[:, ::every]
        excess_statistics = np.maximum(np.asarray(statistics, np.float64)[:, None] - rest, 0.0)
        p_values: npt.NDArray[np.float64] = chdtrc(self._directions, excess_statistics / excess).mean(axis=1)
        return p_values

    def limits(self, rate: float) -> npt.NDArray[np.float64]:
        """Return the statistic that a window exceeds at the rate, within a few hundredths, shape (n_columns,)."""
        low, high = np.zeros(len(self._rest)), np.full(len(self._rest), FARTHEST)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            above = self.p_values(np.exp(middle), every=4) > rate
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        limits: npt.NDArray[np.float64] = np.exp(high)
        return limits


@lru_cache(maxsize=512)
def chi_square_draws(freedom: float, stream: int) -> npt.NDArray[np.float64]:
    """Return draws of a chi-square variable, one from each of as many equally likely intervals, in random order."""
    if freedom <= 0:
        return np.zeros(DRAWS)
    order = np.random.default_rng([SEED, stream, int(freedom * STEP)]).permutation(DRAWS)
    draws: npt.NDArray[np.float64] = 2 * gammaincinv(freedom / 2, (order + 0.5) / DRAWS)
    return draws
