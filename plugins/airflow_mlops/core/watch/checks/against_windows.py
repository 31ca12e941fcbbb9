"""One number of a window against the same number of the reference's own windows.

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
HIDDEN = "the reference's own windows differ by more than the least effect"


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """How unusual a window's number is.

    Parameters
    ----------
    now, usual : Estimate, float
        The window's number, and the usual one.
    spread : float
        How far windows lie apart by themselves, beyond their errors; 0 where that is not known.
    own, rest : float
        Variance of the difference: what comes of the rows of the window, and of all else.
    freedom : float
        Degrees of freedom of that variance.
    windows : int
        How many windows of the reference there are.
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
        """The chance of a number as far off or farther where nothing has changed."""
        t = self.difference / sqrt(max(self.own + self.rest, 1e-300))
        t = -abs(t) if self.both_sides else -t
        below = float(ndtr(t) if self.freedom == inf else stdtr(self.freedom, t))
        return min(1.0, 2 * below) if self.both_sides else below

    def numbers(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {
            "value": self.now.value, "error": self.now.error, "usual": self.usual, "spread": self.spread,
            "p_value": self.p_value,
        }  # fmt: skip

    def verdict(self, *, rows: int, alarm_rate: float, least: float, alike: bool = False) -> tuple[Verdict, int | None]:
        """Return the verdict, and the rows without which ``no alarm`` would say nothing.

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
            falling = self.own + (min(self.rest, self.own / self.windows) if alike else 0.0)
            left = (least / limit) ** 2 - (self.own + self.rest - falling)
            needed = max(FEWEST_ROWS, ceil(rows * falling / left)) if left > 0 else None
        size = abs(self.difference) if self.both_sides else self.difference
        if rows >= FEWEST_ROWS and self.p_value <= alarm_rate and size >= least:
            return "alarm", needed
        return ("no alarm" if needed is not None and rows >= needed else "insufficient data"), needed


def lacking(verdict: Verdict, needed: int | None) -> str:
    """Return what a verdict lacks, in words that go after a sentence; empty where it lacks nothing.

    >>> lacking("insufficient data", 1200), lacking("no alarm", 50)
    ('; 1,200 rows would do', '')
    """
    if verdict != "insufficient data":
        return ""
    return f"; {HIDDEN if needed is None else f'{needed:,} rows would do'}"


def compare(now: Estimate, past: Sequence[Estimate], *, both_sides: bool = False) -> Comparison:
    """Return how unusual a window's number is among those of the reference's own windows.

    Parameters
    ----------
    past : sequence of Estimate
        One for each window of the reference, taken from about as many rows; or a single one for what is known.
    both_sides : bool, default False
        Whether a smaller number is unusual too.
    """
    values = np.array([one.value for one in past])
    errors = np.array([one.error for one in past]) ** 2
    usual, count, freedom, spread = float(values.mean()), len(past), inf, 0.0
    # A window of many more rows than those of the reference could not be told from one that moved as they do.
    own = max(now.error**2, float(errors.mean())) if count >= FEWEST_WINDOWS else now.error**2
    rest = float(errors.sum()) / count**2
    if count >= FEWEST_WINDOWS:
        seen = float(values.var(ddof=1))
        spread = max(seen - float(errors.mean()), 0.0)
        if spread > 0:
            rest = spread + seen / count
            freedom = (count - 1) * ((own + rest) / (seen * (1 + 1 / count))) ** 2
    return Comparison(now, usual, sqrt(spread), own, rest, freedom, count, both_sides)
