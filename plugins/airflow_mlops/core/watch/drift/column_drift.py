"""Test the drift of one column: compare the shares of its cells with the usual spread between windows.

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
    """Statistics of the difference between a column of the window and the reference.

    Parameters
    ----------
    column : str
        Its name.
    rows : float
        Rows of the comparison: n m / (n + m).
    statistic, freedom : float, int
        Cressie and Read's statistic of the cells, and its degrees of freedom.
    distance : float
        Total variation distance: the share of rows that would have to move to another cell.
    rare : tuple of float
        P-values of the cells that are too rare for the statistic.
    spread : Spread
        How the reference's own windows differ.
    effects : array of float, shape (n_windows, n_cells)
        Deviation of each reference window's shares from those of all, by the root of the latter; without empty windows.
    reference_distances : tuple of float
        Total variation distance of each reference window from the other ones; empty where there is one.
    step : float
        Total variation distance between the two halves of the reference's windows, by the windows between them.
    """

    column: str
    rows: float
    statistic: float
    freedom: int
    distance: float
    rare: tuple[float, ...]
    spread: Spread
    effects: npt.NDArray[np.float64]
    reference_distances: tuple[float, ...]
    step: float = 0.0

    def combine_p_values(self, cells: float) -> float:
        """Return the p-value of the column, combined from that of its cells and those of its rare cells."""
        if not self.rare:
            return cells
        return min(1.0, cells / (1 - RARE_SHARE), *(rare * len(self.rare) / RARE_SHARE for rare in self.rare))


def measure_column(
    column: str, reference: Sequence[Counts] | npt.NDArray[np.int64], window: Counts, *, ordered: bool = True
) -> ColumnShift:
    """Measure how a column of the window differs from its reference.

    Parameters
    ----------
    reference : array_like of int, shape (n_windows, n_bins)
        Rows in each bin, for each window of the reference; the last two bins are the rest and null.
    window : ndarray of int, shape (n_bins,)
        Rows in each bin of the window to judge, at least one.
    ordered : bool
        Whether neighbouring bins are alike; False for categories.
    """
    reference_counts = np.asarray(reference, np.int64)
    total = reference_counts.sum(axis=0)
    cells = cells_of(reference_counts, window, ordered=ordered)
    cell_counts = cells.count(reference_counts)
    reference_cells, window_cells = cell_counts.sum(axis=0), cells.count(window)
    window_rows, reference_rows = int(window.sum()), int(total.sum())
    rare_bins = cells.rare
    share_differences = np.append(
        window_cells / window_rows - reference_cells / reference_rows,
        [window[rare_bin] / window_rows - total[rare_bin] / reference_rows for rare_bin in rare_bins],
    )
    filled_cells = reference_cells + window_cells > 0
    statistic = cressie_read(reference_cells[filled_cells], window_cells[filled_cells])
    rows_by_window = reference_counts.sum(axis=1)
    return ColumnShift(
        column=column,
        rows=window_rows * reference_rows / (window_rows + reference_rows),
        statistic=statistic,
        freedom=max(int(filled_cells.sum()) - 1, 0),
        distance=float(np.abs(share_differences).sum() / 2),
        rare=tuple(
            rare_p_value(reference_counts[:, rare_bin], rows_by_window, int(window[rare_bin]), window_rows)
            for rare_bin in rare_bins
        ),
        spread=spread_of(cell_counts),
        effects=window_effects(cell_counts),
        reference_distances=distances_from_the_others(np.hstack([cell_counts, reference_counts[:, rare_bins]])),
        step=step_of_windows(cell_counts),
    )


def window_effects(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the deviations of the shares of windows from those of all of them, by the root of the latter.

    Parameters
    ----------
    counts : array of int, shape (n_windows, n_cells)
    """
    table = np.asarray(counts, np.float64)
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    shares = table.sum(axis=0) / table.sum()
    effects: npt.NDArray[np.float64] = (table / table.sum(axis=1, keepdims=True) - shares) / np.sqrt(shares)
    return effects


def step_of_windows(counts: npt.NDArray[Any]) -> float:
    """Return how far windows move from one to the next: the distance of their two halves, by the windows between.

    Parameters
    ----------
    counts : array of int, shape (n_windows, n_cells)

    >>> step_of_windows(np.array([[4, 6], [5, 5], [6, 4], [7, 3]]))
    0.1
    """
    table = np.asarray(counts, np.float64)
    table = table[table.sum(axis=1) > 0]
    half = len(table) // 2
    if half == 0:
        return 0.0
    first, last = (part.sum(axis=0) / part.sum() for part in (table[:half], table[-half:]))
    return round(float(np.abs(first - last).sum() / 2 / (len(table) - half)), 12)


def distances_from_the_others(counts: npt.NDArray[Any]) -> tuple[float, ...]:
    """Return the total variation distance of each window from the other ones, without windows that are empty.

    Parameters
    ----------
    counts : array of int, shape (n_windows, n_cells)

    >>> distances_from_the_others(np.array([[5, 5], [10, 0], [0, 0]]))
    (0.5, 0.5)
    """
    table = np.asarray(counts, np.float64)
    table = table[table.sum(axis=1) > 0]
    if len(table) < 2:
        return ()
    others = table.sum(axis=0) - table
    shares, other_shares = (side / side.sum(axis=1, keepdims=True) for side in (table, others))
    return tuple((np.abs(shares - other_shares).sum(axis=1) / 2).tolist())


def cressie_read(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Return Cressie and Read's statistic of homogeneity of two rows of counts [1]_; no cell may be empty in both.

    References
    ----------
    .. [1] N. Cressie, T. R. C. Read, J. R. Stat. Soc. B 46 (1984) 440-464, with their power 2/3.
    """
    table = np.asarray([first, second], np.float64)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    ratio = np.divide(table, expected, out=np.zeros_like(table), where=expected > 0)
    return float(2 / (POWER * (POWER + 1)) * (table * (ratio**POWER - 1)).sum())


def rare_p_value(past: Counts, rows: Counts, count: int, window_rows: int) -> float:
    """Return the chance that a window of ``window_rows`` rows has ``count`` or more rows in a rare cell.

    The rows of that cell, in window and reference together, fall to one of the two by chance. The p-value is 1 where a
    window of the reference had as large a share.

    Parameters
    ----------
    past, rows : ndarray of int, shape (n_windows,)
        Rows in the cell, and all rows, of each window of the reference.
    """
    if count == 0 or count / window_rows <= float(np.max(past / np.maximum(rows, 1), initial=0.0)):
        return 1.0
    reference_rows = int(rows.sum())
    return float(bdtrc(count - 1, count + int(past.sum()), window_rows / (window_rows + reference_rows)))
