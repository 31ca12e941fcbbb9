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


def cells_of(past: npt.NDArray[np.int64], window: Counts, *, ordered: bool = True) -> Cells:
    """Return the cells on which a window is compared with its reference.

    They depend on how many rows window and reference together have in each bin, not on how these are shared among
    the two, so they favour neither a shift nor its absence.

    Parameters
    ----------
    past : ndarray of int, shape (n_windows, n_bins)
        Rows in each bin, for each window of the reference; the last two bins are the odd ones.
    window : ndarray of int, shape (n_bins,)
        The same of the window.
    ordered : bool
        Whether neighbouring bins are alike, as those of numbers are; others are joined in order of their frequency,
        so that the frequent ones stay by themselves.
    """
    whole, rows = past.sum(axis=0) + window, min(int(past.sum()), int(window.sum()))
    least = whole.sum() * min(1.0, MIN_EXPECTED / max(rows, 1))  # so many of both are enough in the smaller of them
    order = np.arange(len(whole) - ODD) if ordered else np.argsort(-whole[:-ODD], kind="stable")
    of_values = np.zeros(len(order), np.int64)
    of_values[order] = joined_bins(whole[:-ODD][order], least)
    size = int(of_values.max(initial=-1)) + 1
    group = np.append(of_values, [-1] * ODD)
    for place in range(-ODD, 0):
        if whole[place] >= least:
            group[place], size = size, size + 1
    return Cells(group, size)


def joined_bins(counts: Counts, least: float) -> npt.NDArray[np.int64]:
    """Return the group of each bin: about ten equal ones, none with fewer than ``least`` rows.

    The order of bins is kept, so neighbouring quantiles join each other. A bin that has a tenth of the rows by itself
    stays by itself, where enough rows are left on its sides: many a column is zero nearly always.
    """
    whole = int(counts.sum())
    wanted = max(whole / TEST_CELLS, least)
    group, current, filled, left, before = np.zeros(len(counts), np.int64), 0, 0, whole, False
    for place, count in enumerate(counts.tolist()):
        heavy = count >= wanted
        apart = heavy or before
        if 0 < filled >= (least if apart else wanted) and left >= (least if apart else max(wanted / 2, least)):
            current, filled, before = current + 1, 0, False
        group[place] = current
        filled, left, before = filled + count, left - count, before or heavy
    return group
