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
from scipy.special import ndtr, ndtri, stdtr

from airflow_mlops.core.watch.checks.check_result import Verdict
from airflow_mlops.core.watch.checks.check_terms import FEWEST_ROWS

FEWEST_WINDOWS = 6


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Comparison:
    """How unusual a window's number is.

    ``p_value`` is the chance of one as far off or farther where nothing has changed; ``spread`` is how far windows
    lie apart by themselves, beyond their errors, and 0 where that is not known. ``both_sides`` says whether a smaller
    number is unusual too.
    """

    now: Estimate
    usual: float
    spread: float
    p_value: float
    both_sides: bool = False

    @property
    def difference(self) -> float:
        """The window's number less the usual one."""
        return self.now.value - self.usual

    def numbers(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {
            "value": self.now.value, "error": self.now.error, "usual": self.usual, "spread": self.spread,
            "p_value": self.p_value,
        }  # fmt: skip

    def verdict(self, *, rows: int, alarm_rate: float, least: float) -> tuple[Verdict, int]:
        """Return the verdict, and the rows without which ``no alarm`` would say nothing.

        Parameters
        ----------
        rows : int
            Rows that the number was taken from.
        alarm_rate : float
            Chance of an alarm where nothing has changed.
        least : float
            Difference below which a shift is no matter. Rows whose error could hide one of that size tell nothing.
        """
        needed = FEWEST_ROWS
        if least > 0:
            z = -float(ndtri(alarm_rate / 2 if self.both_sides else alarm_rate))
            needed = max(needed, ceil(rows * (z * self.now.error / least) ** 2))
        size = abs(self.difference) if self.both_sides else self.difference
        if rows >= FEWEST_ROWS and self.p_value <= alarm_rate and size >= least:
            return "alarm", needed
        return ("insufficient data" if rows < needed else "no alarm"), needed


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
    known = own + float(errors.sum()) / count**2
    if count >= FEWEST_WINDOWS:
        seen = float(values.var(ddof=1))
        spread = max(seen - float(errors.mean()), 0.0)
        if spread > 0:
            known = own + spread + seen / count
            freedom = (count - 1) * (known / (seen * (1 + 1 / count))) ** 2
    t = (now.value - usual) / sqrt(max(known, 1e-300))
    t = -abs(t) if both_sides else -t
    below = float(ndtr(t) if freedom == inf else stdtr(freedom, t))
    return Comparison(now, usual, sqrt(spread), min(1.0, 2 * below if both_sides else below), both_sides)
