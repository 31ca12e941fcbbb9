"""The drift test of one column: have the shares of its cells moved more than they used to?

The statistic is that of Cressie and Read between the window and the whole reference, which keeps to its chi-square
distribution down to five expected rows and far into the tail, where the test of one of many columns is decided.
Where the reference's own windows are restless it is divided by what they would have, by an F test that knows how
well they tell it (:mod:`reference_spread`). Nulls, infinities and unseen categories that are too rare to be a cell
are tested exactly, for a fiftieth of the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

from airflow_mlops.core.training.column_cells import Counts, cells_of
from airflow_mlops.core.watch.drift.reference_spread import Spread, spread_of

RARE_SHARE = 0.02
"""Part of a column's rate that goes to cells too rare for the large test."""
POWER = 2 / 3


@dataclass(frozen=True)
class ColumnShift:
    """What separates a column of the window from the reference, before anything is called drift.

    Parameters
    ----------
    column : str
        Its name.
    rows : float
        Rows of the comparison: n m / (n + m).
    statistic, freedom : float, int
        Of the cells, and its degrees of freedom.
    distance : float
        Total variation distance: the share of rows that would have to move to another cell.
    rare : tuple of float
        How often chance would give as many rows to each cell that is too rare for the statistic.
    spread : Spread
        How the reference's own windows differ.
    """

    column: str
    rows: float
    statistic: float
    freedom: int
    distance: float
    rare: tuple[float, ...]
    spread: Spread

    def combine_p_values(self, cells: float) -> float:
        """Return the p-value of the column, combined from that of its cells and those of its rare cells."""
        if not self.rare:
            return cells
        return min(1.0, cells / (1 - RARE_SHARE), *(rare * len(self.rare) / RARE_SHARE for rare in self.rare))


def measure_column(
    column: str, reference: Sequence[Counts] | npt.NDArray[np.int64], window: Counts, *, ordered: bool = True
) -> ColumnShift:
    """Return what separates a column of the window from its reference.

    Parameters
    ----------
    reference : array_like of int, shape (n_windows, n_bins)
        Rows in each bin, for each window of the reference; the last two bins are the rest and null.
    window : ndarray of int, shape (n_bins,)
        Rows in each bin of the window to judge, at least one.
    ordered : bool
        Whether neighbouring bins are alike; False for categories.
    """
    past = np.asarray(reference, np.int64)
    total = past.sum(axis=0)
    cells = cells_of(past, window, ordered=ordered)
    parts = cells.count(past)
    whole, now = parts.sum(axis=0), cells.count(window)
    here, there = int(window.sum()), int(total.sum())
    odd = cells.rare
    apart = np.append(now / here - whole / there, [window[place] / here - total[place] / there for place in odd])
    kept = whole + now > 0
    statistic = cressie_read(whole[kept], now[kept])
    return ColumnShift(
        column, here * there / (here + there), statistic, max(int(kept.sum()) - 1, 0),
        float(np.abs(apart).sum() / 2), tuple(rare_above(past[:, place], past.sum(axis=1), int(window[place]), here)
        for place in odd), spread_of(parts),
    )  # fmt: skip


def cressie_read(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Return the statistic of homogeneity of two rows of counts [1]_; no cell may be empty in both.

    References
    ----------
    .. [1] N. Cressie, T. R. C. Read, J. R. Stat. Soc. B 46 (1984) 440-464, with their power 2/3.
    """
    table = np.asarray([first, second], np.float64)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    ratio = np.divide(table, expected, out=np.zeros_like(table), where=expected > 0)
    return float(2 / (POWER * (POWER + 1)) * (table * (ratio**POWER - 1)).sum())


def rare_above(past: Counts, rows: Counts, found: int, here: int) -> float:
    """Return how often a window of ``here`` rows would hold ``found`` of a rare kind, or more.

    The rows of that kind, in window and reference together, fall to one of both by chance; a window of the
    reference that had as large a share makes it nothing new.
    """
    if found == 0 or found / here <= float(np.max(past / np.maximum(rows, 1), initial=0.0)):
        return 1.0
    there = int(rows.sum())
    return float(bdtrc(found - 1, found + int(past.sum()), here / (here + there)))
