"""Join the bins of a column into cells that expect enough rows for a test.

Neighbouring bins of values are joined to about ten cells that expect enough rows of the window. "The rest"
(unseen categories, infinities) and "null" are cells of their own where they are frequent enough, and are judged
separately where they are too rare for a test that needs many rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

TEST_CELLS = 10
MIN_EXPECTED = 5.0
ODD = 2
"""Number of odd bins, the last two of every column: the rest or infinities, and nulls."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """The assignment of bins to cells.

    Parameters
    ----------
    group : ndarray of int, shape (n_bins,)
        The cell of each bin; -1 for an odd one that is too rare to be a cell.
    size : int
        Number of cells.
    """

    group: npt.NDArray[np.int64]
    size: int

    def count(self, counts: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the rows in each cell, shape (..., n_cells), of counts of shape (..., n_bins)."""
        rows: npt.NDArray[np.int64] = counts @ (self.group[:, None] == np.arange(self.size)).astype(np.int64)
        return rows

    @property
    def rare(self) -> list[int]:
        """Negative indices of the odd bins that are too rare to be cells."""
        return [place - ODD for place in range(ODD) if self.group[place - ODD] < 0]


def cells_of(past: npt.NDArray[np.int64], window: Counts, *, ordered: bool = True) -> Cells:
    """Return the cells for comparing a window with its reference.

    They depend on how many rows window and reference together have in each bin, not on how these are shared among
    the two, so they favour neither a shift nor its absence.

    Parameters
    ----------
    past : ndarray of int, shape (n_windows, n_bins)
        Rows in each bin, for each window of the reference; the last two bins are the odd ones.
    window : ndarray of int, shape (n_bins,)
        Rows of the window in each bin.
    ordered : bool
        Whether neighbouring bins are alike, as those of numbers are; others are joined in order of their frequency,
        so that the frequent ones stay by themselves.
    """
    total, rows = past.sum(axis=0) + window, min(int(past.sum()), int(window.sum()))
    min_rows = total.sum() * min(1.0, MIN_EXPECTED / max(rows, 1))  # then the smaller of the two expects MIN_EXPECTED
    order = np.arange(len(total) - ODD) if ordered else np.argsort(-total[:-ODD], kind="stable")
    groups = np.zeros(len(order), np.int64)
    groups[order] = join_bins(total[:-ODD][order], min_rows)
    size = int(groups.max(initial=-1)) + 1
    group = np.append(groups, [-1] * ODD)
    for place in range(-ODD, 0):
        if total[place] >= min_rows:
            group[place], size = size, size + 1
    return Cells(group, size)


def join_bins(counts: Counts, min_rows: float) -> npt.NDArray[np.int64]:
    """Return the group of each bin: about ten of equal size, none with fewer than ``min_rows`` rows.

    The order of bins is kept, so neighbouring quantiles are joined. A bin with a tenth of the rows stays a group of
    its own if enough rows are left on its sides: many columns are nearly always zero.
    """
    total = int(counts.sum())
    target = max(total / TEST_CELLS, min_rows)
    group, current, filled, remaining, after_heavy = np.zeros(len(counts), np.int64), 0, 0, total, False
    for place, count in enumerate(counts.tolist()):
        is_heavy = count >= target
        separate = is_heavy or after_heavy
        if 0 < filled >= (min_rows if separate else target) and remaining >= (
            min_rows if separate else max(target / 2, min_rows)
        ):
            current, filled, after_heavy = current + 1, 0, False
        group[place] = current
        filled, remaining, after_heavy = filled + count, remaining - count, after_heavy or is_heavy
    return group
