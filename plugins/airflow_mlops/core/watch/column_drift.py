"""The calibrated drift test of one column: has the share of rows in its bins moved more than it used to?

The reference's own partitions say how much shares move when nothing has happened. Their homogeneity
statistic, divided by its degrees of freedom, is the dispersion ``phi``: 1 where rows are drawn
independently, more where weeks differ by themselves. The window's statistic is judged against that,
by an F test when ``phi`` was estimated above 1 and by chi-square otherwise, so the stated alarm rate
holds at any number of rows. Holm's step-down keeps it over all columns together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, f

TEST_BINS = 10
MIN_EXPECTED = 5.0
MIN_ROWS = 50

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ColumnDrift:
    """What the test of a column said.

    ``distance`` is the total variation distance between window and reference, the share of rows that
    would have to move bins.
    """

    column: str
    p_value: float
    distance: float
    dispersion: float
    drifted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return asdict(self)


def measure_column(column: str, reference: Sequence[Counts], window: Counts) -> ColumnDrift:
    """Return the p-value and the size of a column's shift.

    Parameters
    ----------
    reference : sequence of ndarray of int, each shape (n_bins,)
        Rows in each bin, one array for each partition of the training window.
    window : ndarray of int, shape (n_bins,)
        Rows in each bin of the window to judge.
    """
    total = np.sum(reference, axis=0)
    group = merged_bins(total, int(window.sum()))
    size = int(group.max()) + 1
    past = [np.bincount(group, counts, size) for counts in reference]
    whole, now = np.bincount(group, total, size), np.bincount(group, window, size)
    distance = float(np.abs(now / now.sum() - whole / whole.sum()).sum() / 2)
    freedom = size - 1
    if freedom == 0:
        return ColumnDrift(column, 1.0, distance, 1.0)
    statistic = two_sample(whole, now)
    spread, spread_freedom = dispersion(past)
    if spread > 1.0:
        p_value = float(f.sf(statistic / freedom / spread, freedom, spread_freedom))
    else:
        p_value = float(chi2.sf(statistic, freedom))
    return ColumnDrift(column, p_value, distance, max(spread, 1.0))


def merged_bins(total: Counts, rows: int) -> npt.NDArray[np.int64]:
    """Return the group of each bin: about ten equal ones, none expecting fewer than five rows of the window.

    The order of bins is kept, so neighbouring quantiles merge with each other.
    """
    wanted = total.sum() / min(TEST_BINS, max(1.0, rows / MIN_EXPECTED))
    group, current, filled = np.zeros(len(total), np.int64), 0, 0.0
    for position, count in enumerate(total):
        group[position] = current
        filled += count
        if filled >= wanted and total[position + 1 :].sum() >= wanted / 2:
            current, filled = current + 1, 0.0
    return group


def two_sample(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Return Pearson's statistic of homogeneity of two rows of counts; bins empty in both do not count."""
    table = np.asarray([first, second], np.float64)
    table = table[:, table.sum(axis=0) > 0]
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return float(((table - expected) ** 2 / expected).sum())


def dispersion(past: Sequence[npt.NDArray[Any]]) -> tuple[float, int]:
    """Return how much more the reference's own partitions differ than independent rows would, and its freedom."""
    table = np.asarray([counts for counts in past if counts.sum() > 0], np.float64)
    table = table[:, table.sum(axis=0) > 0]
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    if freedom < 1:
        return 1.0, 0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return float(((table - expected) ** 2 / expected).sum()) / freedom, freedom


def judge_columns(tested: Sequence[ColumnDrift], *, alarm_rate: float, min_effect: float) -> list[ColumnDrift]:
    """Return the outcomes with ``drifted`` set by Holm's step-down at ``alarm_rate`` and the minimum effect."""
    order = sorted(range(len(tested)), key=lambda position: tested[position].p_value)
    drifted: dict[int, bool] = {}
    going_on = True
    for rank, position in enumerate(order):
        going_on = going_on and tested[position].p_value <= alarm_rate / (len(tested) - rank)
        drifted[position] = going_on and tested[position].distance >= min_effect
    return [ColumnDrift(**{**asdict(column), "drifted": drifted[position]}) for position, column in enumerate(tested)]


def drift_verdict(
    reference: Mapping[str, Sequence[Counts]],
    window: Mapping[str, Counts],
    *,
    alarm_rate: float,
    min_effect: float,
) -> dict[str, Any]:
    """Return ``alarm``, ``no alarm`` or ``insufficient data`` over all columns, with each column's numbers.

    Parameters
    ----------
    reference : mapping of str to sequence of counts
        Columns of the training window, one array of counts for each of its partitions.
    window : mapping of str to counts
        The same columns in the window to judge; a column that is missing here is its own finding.
    """
    rows = max((int(counts.sum()) for counts in window.values()), default=0)
    missing = sorted(set(reference) - set(window))
    if rows < MIN_ROWS:
        return {
            "verdict": "insufficient data",
            "rows": rows,
            "needed": MIN_ROWS,
            "missing": missing,
            "columns": [],
        }
    tested = [measure_column(name, reference[name], window[name]) for name in sorted(set(reference) & set(window))]
    judged = judge_columns(tested, alarm_rate=alarm_rate, min_effect=min_effect)
    drifted = [column.column for column in judged if column.drifted]
    return {
        "verdict": "alarm" if drifted or missing else "no alarm",
        "rows": rows,
        "drifted": drifted,
        "missing": missing,
        "columns": [column.to_dict() for column in judged],
    }
