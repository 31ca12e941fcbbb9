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
from airflow_mlops.core.watch.drift.heavy_tails import HeavyWindows
from airflow_mlops.core.watch.drift.reference_spread import RestlessWindows, is_restless
from airflow_mlops.core.watch.drift.window_trust import Doubt, Trust, trust_columns

MIN_ROWS = 50
POWER = 0.8
"""Chance to find a shift of the minimum effect, which a verdict ``no alarm`` requires."""
GROSS, ALIKE = 0.8, 0.5
"""Where too few reference windows say how windows differ: the distance that alarms, and that of them which forbids it.

It takes for granted that windows of one process have a fifth of their rows in common.
"""
MOST_IN_DOUBT = 0.5
"""Share of columns in doubt, above which the rate of all of them together is less than half of the stated one."""


@dataclass(frozen=True)
class ColumnDrift:
    """Result of the test of a column.

    ``distance`` is the total variation distance between window and reference, the share of rows that would have to
    move to another cell; ``detectable`` the least distance that would be found in four windows of five, 1 where none
    would; ``dispersion`` how much more than chance the reference's own windows differ. ``reference_distances`` are
    those of each reference window from the other ones, ``step`` how far they move from one to the next, and
    ``doubt`` is why they do not say how far further ones go.
    """

    column: str
    p_value: float
    distance: float
    detectable: float
    dispersion: float
    drifted: bool = False
    reference_distances: tuple[float, ...] = ()
    step: float = 0.0
    doubt: Doubt = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {**asdict(self), "reference_distances": list(self.reference_distances)}


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
    lone_is_usual: bool = False,
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
    lone_is_usual : bool
        Whether a reference of one window counts as what every window is like, with rows as independent draws. Otherwise
        it says nothing of how windows differ, and the answer is ``insufficient data`` unless a shift is gross.
    """
    rows = max((int(counts.sum()) for counts in window.values()), default=0)
    names = sorted(set(reference) & set(window))
    if rows < MIN_ROWS or not names:
        return DriftVerdict("insufficient data", rows, MIN_ROWS, False, ())
    shifts = [measure_column(name, reference[name], window[name], ordered=name not in unordered) for name in names]
    tests = effective_number_of_tests(effective, alarm_rate, len(names))
    restless = is_restless([shift.spread for shift in shifts], columns=tests)
    trusts = trust_columns(shifts, restless=restless, columns=tests, lone_is_usual=lone_is_usual)
    single = single_test_rate(alarm_rate, tests)
    p_values, least = column_p_values(shifts, trusts, single, restless=restless)
    significant = holm_step_down(p_values, alarm_rate=alarm_rate, tests=tests)
    columns = tuple(
        ColumnDrift(
            column=shift.column,
            p_value=p_value,
            distance=shift.distance,
            detectable=detectable,
            dispersion=shift.spread.dispersion,
            drifted=is_significant and shift.distance >= min_effect,
            reference_distances=shift.reference_distances,
            step=shift.step,
            doubt=trust.doubt,
        )
        for shift, trust, p_value, detectable, is_significant in zip(
            shifts, trusts, p_values, least, significant, strict=True
        )
    )
    reference_rows = max(int(np.sum(reference[name])) for name in names)
    needed = rows_needed(min_effect, single, reference_rows)
    enough = needed is not None and rows >= needed
    drifted = any(column.drifted for column in columns)
    visible = is_visible(columns, min_effect, restless=restless)
    verdict = "alarm" if drifted else "no alarm" if enough and visible else "insufficient data"
    return DriftVerdict(verdict, rows, needed, restless, columns)


def is_visible(columns: Sequence[ColumnDrift], min_effect: float, *, restless: bool) -> bool:
    """Return whether a shift of the minimum effect would be seen in one column, and at a rate that is known.

    Where the reference's own windows hide the effect in every column, no number of rows shows it. Where none is
    declared, most columns must be judged at the stated rate.
    """
    if any(column.doubt == "one" for column in columns):
        return False
    if min_effect <= 0:
        return sum(column.doubt != "" for column in columns) <= len(columns) * MOST_IN_DOUBT
    return not restless or any(column.detectable <= min_effect for column in columns)


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


def column_p_values(
    shifts: Sequence[ColumnShift], trusts: Sequence[Trust], rate: float, *, restless: bool
) -> tuple[list[float], list[float]]:
    """Return each column's p-value, and the least distance that is significant at ``rate`` in four windows of five.

    The distance is that of the shift which is hardest to find: in proportion in every cell.
    """
    freedom = np.array([max(shift.freedom, 1) for shift in shifts])
    statistics = np.array([shift.statistic if shift.freedom else 0.0 for shift in shifts])
    p_values, limits = chdtrc(freedom, statistics), chdtri(freedom, rate)
    scale = np.ones(len(shifts))
    moved = [
        place
        for place, (shift, trust) in enumerate(zip(shifts, trusts, strict=True))
        if restless and shift.freedom and shift.spread.freedom and not trust.gross_only
    ]
    for tails in dict.fromkeys(trusts[place].tails for place in moved):
        alike = [place for place in moved if trusts[place].tails == tails]
        spreads, rows = [shifts[place].spread for place in alike], [shifts[place].rows for place in alike]
        degrees = freedom[alike].tolist()
        windows = (
            RestlessWindows(spreads, rows, degrees) if tails is None else HeavyWindows(spreads, rows, degrees, tails)
        )
        p_values[alike], limits[alike] = windows.p_values(statistics[alike]), windows.limits(rate)
        scale[alike] = limits[alike] / chdtri(freedom[alike], rate)
    distances = np.sqrt(chndtrinc(limits / scale, freedom, 1 - POWER) * scale / [shift.rows for shift in shifts]) / 2
    least = [
        min(1.0, float(distance)) if shift.freedom else 1.0 for distance, shift in zip(distances, shifts, strict=True)
    ]
    values = []
    for shift, trust, p_value in zip(shifts, trusts, p_values, strict=True):
        unknown = trust.gross_only and not is_gross(shift)
        # Kinds of values that were too rare for a cell are new ones, unless there was one window to be rare in.
        values.append(
            1.0 if unknown and trust.doubt == "one" else shift.combine_p_values(1.0 if unknown else float(p_value))
        )
    return values, [1.0 if trust.gross_only else distance for trust, distance in zip(trusts, least, strict=True)]


def is_gross(shift: ColumnShift) -> bool:
    """Return whether hardly a row is where those of the reference were, and none of its own windows did the like."""
    return shift.distance >= GROSS and max(shift.reference_distances, default=0.0) <= ALIKE


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
