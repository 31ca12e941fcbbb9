"""The verdict over all columns: one stated rate of false alarms, significance and a minimum effect, three answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, chdtri, chndtrinc

from airflow_mlops.core.training.column_cells import TEST_CELLS, Counts
from airflow_mlops.core.training.effective_tests import Effective
from airflow_mlops.core.watch.drift.column_drift import ColumnShift, measure_column
from airflow_mlops.core.watch.drift.reference_spread import RestlessWindows, is_restless

MIN_ROWS = 50
FOUND = 0.8
"""How often a shift of the minimum effect is to be found where the verdict is to say that there is none."""


@dataclass(frozen=True)
class ColumnDrift:
    """What the test of a column said.

    ``distance`` is the total variation distance between window and reference, the share of rows that would have to
    move to another cell; ``detectable`` the least distance that would be found in four windows of five, 1 where none
    would; ``dispersion`` how much more than chance the reference's own windows differ.
    """

    column: str
    p_value: float
    distance: float
    detectable: float
    dispersion: float
    drifted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class DriftVerdict:
    """What the tests of all columns say together.

    Parameters
    ----------
    verdict : str
        ``alarm``, ``no alarm`` or ``insufficient data``.
    rows : int
        Of the window.
    needed : int or None
        Rows that the minimum effect needs; None where the reference is too small for it whatever the window.
    restless : bool
        Whether the reference's own windows differ by more than chance.
    columns : tuple of ColumnDrift
        In order of their names.
    """

    verdict: str
    rows: int
    needed: int | None
    restless: bool
    columns: tuple[ColumnDrift, ...]

    @property
    def drifted(self) -> list[str]:
        """Columns that moved further than they used to, and far enough to matter."""
        return [column.column for column in self.columns if column.drifted]


def judge_columns(
    reference: Mapping[str, Sequence[Counts] | npt.NDArray[np.int64]],
    window: Mapping[str, Counts],
    *,
    alarm_rate: float,
    min_effect: float,
    effective: Effective = (),
    unordered: Collection[str] = (),
) -> DriftVerdict:
    """Return the verdict over the columns that both have.

    Parameters
    ----------
    reference : mapping of str to array_like of int, each shape (n_windows, n_bins)
        Rows in each bin for each window of the reference; the last two bins are the rest and null.
    window : mapping of str to ndarray of int, each shape (n_bins,)
        The same of the window to judge.
    alarm_rate : float
        Share of windows without drift that may alarm, all columns together.
    min_effect : float
        Total variation distance below which a shift is no matter.
    effective : sequence of (float, float)
        How many independent columns these are worth, for some alarm rates; as many as there are if not known.
    unordered : collection of str
        Columns of categories: their bins have no order.
    """
    rows = max((int(counts.sum()) for counts in window.values()), default=0)
    names = sorted(set(reference) & set(window))
    if rows < MIN_ROWS or not names:
        return DriftVerdict("insufficient data", rows, MIN_ROWS, False, ())
    shifts = [measure_column(name, reference[name], window[name], ordered=name not in unordered) for name in names]
    worth = worth_of(effective, alarm_rate, len(names))
    restless = is_restless([shift.spread for shift in shifts], columns=worth)
    single = rate_of_one(alarm_rate, worth)
    p_values, least = tested(shifts, single, restless=restless)
    significant = stepped_down(p_values, alarm_rate=alarm_rate, worth=worth)
    columns = tuple(
        ColumnDrift(
            shift.column, p_value, shift.distance, detectable, shift.spread.dispersion,
            found and shift.distance >= min_effect,
        )
        for shift, p_value, detectable, found in zip(shifts, p_values, least, significant, strict=True)
    )  # fmt: skip
    there = max(int(np.sum(reference[name])) for name in names)
    needed = rows_needed(min_effect, single, there)
    enough = needed is not None and rows >= needed
    # Where the reference's own windows hide the effect in every column, no number of rows shows it.
    seen = not restless or min_effect <= 0 or any(column.detectable <= min_effect for column in columns)
    drifted = any(column.drifted for column in columns)
    verdict = "alarm" if drifted else "no alarm" if enough and seen else "insufficient data"
    return DriftVerdict(verdict, rows, needed, restless, columns)


def worth_of(effective: Effective, alarm_rate: float, columns: int) -> float:
    """Return how many independent columns these are worth at an alarm rate, at most as many as there are."""
    if not effective:
        return float(columns)
    rates, worths = zip(*sorted(effective), strict=True)
    found = float(np.interp(np.log(alarm_rate), np.log(rates), worths))
    return min(max(found, 1.0), float(columns))


def rate_of_one(alarm_rate: float, worth: float) -> float:
    """Return the rate of one column where ``worth`` independent ones alarm at ``alarm_rate`` together."""
    return float(-np.expm1(np.log1p(-alarm_rate) / worth))


def stepped_down(p_values: Sequence[float], *, alarm_rate: float, worth: float) -> list[bool]:
    """Return which columns are significant, by Holm's step-down: each one found leaves fewer to share the rate."""
    found, left = [False] * len(p_values), len(p_values)
    for place in sorted(range(len(p_values)), key=lambda at: p_values[at]):
        if p_values[place] > rate_of_one(alarm_rate, max(1.0, worth * left / len(p_values))):
            break
        found[place], left = True, left - 1
    return found


def tested(shifts: Sequence[ColumnShift], rate: float, *, restless: bool) -> tuple[list[float], list[float]]:
    """Return each column's p-value, and the least distance that ``rate`` would let it find in four windows of five.

    That distance is of the shift which is hardest to find, in proportion in every cell.
    """
    freedom = np.array([max(shift.freedom, 1) for shift in shifts])
    statistics = np.array([shift.statistic if shift.freedom else 0.0 for shift in shifts])
    p_values, limits = chdtrc(freedom, statistics), chdtri(freedom, rate)
    scale = np.ones(len(shifts))
    moved = [place for place, shift in enumerate(shifts) if restless and shift.freedom and shift.spread.freedom]
    if moved:
        of = [shifts[place] for place in moved]
        weeks = RestlessWindows([one.spread for one in of], [one.rows for one in of], freedom[moved].tolist())
        p_values[moved], limits[moved] = weeks.p_values(statistics[moved]), weeks.limits(rate)
        scale[moved] = limits[moved] / chdtri(freedom[moved], rate)
    apart = np.sqrt(chndtrinc(limits / scale, freedom, 1 - FOUND) * scale / [shift.rows for shift in shifts]) / 2
    least = [min(1.0, float(one)) if shift.freedom else 1.0 for one, shift in zip(apart, shifts, strict=True)]
    return [shift.with_rare(float(one)) for shift, one in zip(shifts, p_values, strict=True)], least


def rows_needed(min_effect: float, rate: float, reference: int) -> int | None:
    """Return the rows of a window in which the minimum effect is significant in four cases of five.

    Rows are taken as independent draws; ``rate`` is that of one column. None if no window is large enough, because
    the reference is too small.
    """
    if min_effect <= 0:
        return MIN_ROWS
    freedom = TEST_CELLS - 1
    apart = chndtrinc(chdtri(freedom, rate), freedom, 1 - FOUND) / (4 * min_effect**2)
    return max(MIN_ROWS, int(np.ceil(apart / (1 - apart / reference)))) if apart < reference else None
