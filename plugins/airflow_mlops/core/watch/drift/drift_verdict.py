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
POWER = 0.8
"""Chance to find a shift of the minimum effect, which a verdict ``no alarm`` requires."""


@dataclass(frozen=True)
class ColumnDrift:
    """Result of the test of a column.

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
        """Return the result as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class DriftVerdict:
    """Verdict of the tests of all columns together.

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
    """Return the verdict over the columns that window and reference have in common.

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
        Effective number of independent tests for some alarm rates; the number of columns if empty.
    unordered : collection of str
        Columns of categories: their bins have no order.
    """
    rows = max((int(counts.sum()) for counts in window.values()), default=0)
    names = sorted(set(reference) & set(window))
    if rows < MIN_ROWS or not names:
        return DriftVerdict("insufficient data", rows, MIN_ROWS, False, ())
    shifts = [measure_column(name, reference[name], window[name], ordered=name not in unordered) for name in names]
    tests = effective_number_of_tests(effective, alarm_rate, len(names))
    restless = is_restless([shift.spread for shift in shifts], columns=tests)
    single = single_test_rate(alarm_rate, tests)
    p_values, least = column_p_values(shifts, single, restless=restless)
    significant = holm_step_down(p_values, alarm_rate=alarm_rate, tests=tests)
    columns = tuple(
        ColumnDrift(
            column=shift.column,
            p_value=p_value,
            distance=shift.distance,
            detectable=detectable,
            dispersion=shift.spread.dispersion,
            drifted=is_significant and shift.distance >= min_effect,
        )
        for shift, p_value, detectable, is_significant in zip(shifts, p_values, least, significant, strict=True)
    )
    reference_rows = max(int(np.sum(reference[name])) for name in names)
    needed = rows_needed(min_effect, single, reference_rows)
    enough = needed is not None and rows >= needed
    # Where the reference's own windows hide the effect in every column, no number of rows shows it.
    visible = not restless or min_effect <= 0 or any(column.detectable <= min_effect for column in columns)
    drifted = any(column.drifted for column in columns)
    verdict = "alarm" if drifted else "no alarm" if enough and visible else "insufficient data"
    return DriftVerdict(verdict, rows, needed, restless, columns)


def effective_number_of_tests(effective: Effective, alarm_rate: float, columns: int) -> float:
    """Return the effective number of independent tests at an alarm rate, between 1 and ``columns``.

    Parameters
    ----------
    effective : sequence of (float, float)
        Pairs of an alarm rate and an effective number, interpolated over the logarithm of the rate; without any, every
        column counts as independent.
    """
    if not effective:
        return float(columns)
    rates, counts = zip(*sorted(effective), strict=True)
    count = float(np.interp(np.log(alarm_rate), np.log(rates), counts))
    return min(max(count, 1.0), float(columns))


def single_test_rate(alarm_rate: float, tests: float) -> float:
    """Return the rate of each of ``tests`` independent tests that alarm at ``alarm_rate`` together (Šidák)."""
    return float(-np.expm1(np.log1p(-alarm_rate) / tests))


def holm_step_down(p_values: Sequence[float], *, alarm_rate: float, tests: float) -> list[bool]:
    """Return which p-values are significant by Holm's step-down: each rejection leaves fewer tests to share the rate.

    Parameters
    ----------
    p_values : sequence of float
        One of each column.
    alarm_rate : float
        Chance of any false rejection.
    tests : float
        Effective number of independent tests among the columns.
    """
    significant, left = [False] * len(p_values), len(p_values)
    for place in sorted(range(len(p_values)), key=lambda at: p_values[at]):
        if p_values[place] > single_test_rate(alarm_rate, max(1.0, tests * left / len(p_values))):
            break
        significant[place], left = True, left - 1
    return significant


def column_p_values(shifts: Sequence[ColumnShift], rate: float, *, restless: bool) -> tuple[list[float], list[float]]:
    """Return each column's p-value, and the least distance that is significant at ``rate`` in four windows of five.

    The distance is that of the shift which is hardest to find: in proportion in every cell.
    """
    freedom = np.array([max(shift.freedom, 1) for shift in shifts])
    statistics = np.array([shift.statistic if shift.freedom else 0.0 for shift in shifts])
    p_values, limits = chdtrc(freedom, statistics), chdtri(freedom, rate)
    scale = np.ones(len(shifts))
    moved = [place for place, shift in enumerate(shifts) if restless and shift.freedom and shift.spread.freedom]
    if moved:
        spreads, rows = [shifts[place].spread for place in moved], [shifts[place].rows for place in moved]
        windows = RestlessWindows(spreads, rows, freedom[moved].tolist())
        p_values[moved], limits[moved] = windows.p_values(statistics[moved]), windows.limits(rate)
        scale[moved] = limits[moved] / chdtri(freedom[moved], rate)
    distances = np.sqrt(chndtrinc(limits / scale, freedom, 1 - POWER) * scale / [shift.rows for shift in shifts]) / 2
    least = [
        min(1.0, float(distance)) if shift.freedom else 1.0 for distance, shift in zip(distances, shifts, strict=True)
    ]
    return [shift.combine_p_values(float(p_value)) for shift, p_value in zip(shifts, p_values, strict=True)], least


def rows_needed(min_effect: float, rate: float, reference: int) -> int | None:
    """Return the number of rows with which the minimum effect is significant in four windows of five.

    Rows are taken as independent draws; ``rate`` is that of one column. None if no window is large enough, because
    the reference is too small.
    """
    if min_effect <= 0:
        return MIN_ROWS
    freedom = TEST_CELLS - 1
    rows = chndtrinc(chdtri(freedom, rate), freedom, 1 - POWER) / (4 * min_effect**2)
    return max(MIN_ROWS, int(np.ceil(rows / (1 - rows / reference)))) if rows < reference else None
