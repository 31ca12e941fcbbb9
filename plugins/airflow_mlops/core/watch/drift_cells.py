"""Cells: the bins of a column, joined until a test may count on each of them.

Neighbouring bins of values are joined to about ten cells that expect enough rows of the window. "The rest"
(unseen categories, infinities) and "null" are cells of their own where they are common enough, and are told apart
where they are too rare for a test that lives on many rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

TEST_CELLS = 10
MIN_EXPECTED = 5.0
ODD = 2
"""The last two bins of every column: the rest or infinities, and nulls."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """Which bins make a cell.

    Parameters
    ----------
    group : ndarray of int, shape (n_bins,)
        The cell of each bin; -1 for an odd one that is too rare to be a cell.
    size : int
        How many cells there are.
    """

    group: npt.NDArray[np.int64]
    size: int

    def count(self, counts: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the rows in each cell, shape (..., n_cells), of counts of shape (..., n_bins)."""
        found: npt.NDArray[np.int64] = counts @ (self.group[:, None] == np.arange(self.size)).astype(np.int64)
        return found

    @property
    def rare(self) -> list[int]:
        """Places, from the end, of the odd bins that are too rare to be cells."""
        return [place - ODD for place in range(ODD) if self.group[place - ODD] < 0]


def cells_of(total: Counts, window: Counts, *, ordered: bool = True) -> Cells:
    """Return the cells on which a window is compared with its reference.

    Parameters
    ----------
    total, window : ndarray of int, shape (n_bins,)
        Rows in each bin, of the whole reference and of the window; the last two bins are the odd ones. The cells
        of values depend on the reference and the number of rows alone.
    ordered : bool
        Whether neighbouring bins are alike, as those of numbers are; others are joined in order of their frequency,
        so that the frequent ones stay by themselves.
    """
    order = np.arange(len(total) - ODD) if ordered else np.argsort(-total[:-ODD], kind="stable")
    of_values = np.zeros(len(order), np.int64)
    of_values[order] = joined_bins(total[:-ODD][order], window[:-ODD].sum())
    size = int(of_values.max(initial=-1)) + 1
    rows, reference = int(window.sum()), int(total.sum())
    least = MIN_EXPECTED * (rows + reference) / max(min(rows, reference), 1)
    group = np.append(of_values, [-1] * ODD)
    for place in range(-ODD, 0):
        if total[place] + window[place] >= least:
            group[place], size = size, size + 1
    return Cells(group, size)


def joined_bins(total: Counts, rows: float) -> npt.NDArray[np.int64]:
    """Return the group of each bin: about ten equal ones, none expecting fewer than five rows of the window.

    The order of bins is kept, so neighbouring quantiles join each other.
    """
    whole = total.sum()
    if whole == 0:
        return np.zeros(len(total), np.int64)
    least = whole * min(1.0, MIN_EXPECTED / max(rows, 1.0))
    wanted = max(whole / TEST_CELLS, least)
    left = whole - np.cumsum(total)
    group, current, filled = np.zeros(len(total), np.int64), 0, 0
    for place, count in enumerate(total.tolist()):
        group[place] = current
        filled += count
        if filled >= wanted and left[place] >= max(wanted / 2, least):
            current, filled = current + 1, 0
    return group
