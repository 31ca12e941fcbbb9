"""Compare one number of a window with the same number of the reference's own windows.

Each number comes with its own error, that of the rows it was taken from. Where the reference has six windows or more
and these differ by more than their errors explain, that spread counts too: a week that differs from other weeks as
weeks do is no shift. How well so few windows tell their spread is Student's matter, with Satterthwaite's degrees of
freedom. With fewer windows the errors alone count, and weeks that differ by themselves alarm more often than stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from airflow_mlops.core.watch.checks.check_result import Verdict
from airflow_mlops.core.watch.checks.check_terms import FEWEST_ROWS

FEWEST_WINDOWS = 6
HIDDEN_EFFECT = "the reference's own windows differ by more than the least effect"


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """The comparison of a window's number with the reference's windows.

    Parameters
    ----------
    now, usual : Estimate, float
        The window's number, and the usual one.
    spread : float
        Standard deviation between windows beyond their errors; 0 where that is not known.
    own, rest : float
        Variance of the difference: the part of the window's rows, and all other parts.
    freedom : float
        Degrees of freedom of that variance.
    windows : int
        Number of windows of the reference.
    both_sides : bool
        Whether a smaller number is unusual too.
    """

    now: Estimate
    usual: float
    spread: float
    own: float
    rest: float
    freedom: float
    windows: int
    both_sides: bool = False

    @property
    def difference(self) -> float:
        """The window's number less the usual one."""
        return self.now.value - self.usual

    @property
    def p_value(self) -> float:
        """The chance of a number as far off or farther if nothing has changed."""
        t = self.difference / sqrt(max(self.own + self.rest, 1e-300))
        t = -abs(t) if self.both_sides else -t
        below = float(ndtr(t) if self.freedom == inf else stdtr(self.freedom, t))
        return min(1.0, 2 * below) if self.both_sides else below

    def numbers(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {
            "value": self.now.value,
            "error": self.now.error,
            "usual": self.usual,
            "spread": self.spread,
            "p_value": self.p_value,
        }

    def verdict(self, *, rows: int, alarm_rate: float, least: float, alike: bool = False) -> tuple[Verdict, int | None]:
        """Return the verdict, and the least number of rows for ``no alarm``.

        Parameters
        ----------
        rows : int
            Rows that the number was taken from.
        alarm_rate : float
            Chance of an alarm where nothing has changed.
        least : float
            Difference below which a shift is no matter. Where even one of that size would not be significant, nothing
            can be said; the rows are None where no number of them would help.
        alike : bool, default False
            Whether as many rows are taken of each window of the reference, so that all errors fall with them.
        """
        tail = alarm_rate / 2 if self.both_sides else alarm_rate
        limit = -float(ndtri(tail) if self.freedom == inf else stdtrit(self.freedom, tail))
        needed: int | None = FEWEST_ROWS
        if least > 0:
            shrinking_variance = self.own + (min(self.rest, self.own / self.windows) if alike else 0.0)
            available = (least / limit) ** 2 - (self.own + self.rest - shrinking_variance)
            needed = max(FEWEST_ROWS, ceil(rows * shrinking_variance / available)) if available > 0 else None
        size = abs(self.difference) if self.both_sides else self.difference
        if rows >= FEWEST_ROWS and self.p_value <= alarm_rate and size >= least:
            return "alarm", needed
        return ("no alarm" if needed is not None and rows >= needed else "insufficient data"), needed


def shortfall(verdict: Verdict, needed: int | None) -> str:
    """Return the end of a sentence that says what ``insufficient data`` lacks; empty for other verdicts.

    >>> shortfall("insufficient data", 1200), shortfall("no alarm", 50)
    ('; 1,200 rows would do', '')
    """
    if verdict != "insufficient data":
        return ""
    return f"; {HIDDEN_EFFECT if needed is None else f'{needed:,} rows would do'}"


def compare(window: Estimate, past: Sequence[Estimate], *, both_sides: bool = False) -> Comparison:
    """Compare a window's number with those of the reference's own windows.

    Parameters
    ----------
    past : sequence of Estimate
        One for each window of the reference, from about as many rows; or a single one for a known value.
    both_sides : bool, default False
        Whether a smaller number is unusual too.
    """
    values = np.array([estimate.value for estimate in past])
    errors = np.array([estimate.error for estimate in past]) ** 2
    usual, count, freedom, spread = float(values.mean()), len(past), inf, 0.0
    # A window of many more rows than those of the reference could not be told from one that moved as they do.
    own_variance = max(window.error**2, float(errors.mean())) if count >= FEWEST_WINDOWS else window.error**2
    other_variance = float(errors.sum()) / count**2
    if count >= FEWEST_WINDOWS:
        variance = float(values.var(ddof=1))
        spread = max(variance - float(errors.mean()), 0.0)
        if spread > 0:
            other_variance = spread + variance / count
            freedom = (count - 1) * ((own_variance + other_variance) / (variance * (1 + 1 / count))) ** 2
    return Comparison(window, usual, sqrt(spread), own_variance, other_variance, freedom, count, both_sides)
