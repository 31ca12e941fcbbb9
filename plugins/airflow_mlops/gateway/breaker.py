"""The breaker: takes the challenger out as soon as its failures are plainly too many, with few requests.

A failure is a row that the challenger raises on, gives no finite number for, or is grossly slow at. Its share may be
the champion's, or ``FLOOR`` where that is less, plus ``MARGIN``. Against that limit an e-value bets, after every row,
that the share is one of ``WORSE`` [1]_: if the challenger is within the limit, the bet ever grows to ``ENOUGH`` with a
chance of at most 1 / ENOUGH, however often it is looked at. One key alone does not take a challenger out: its
requests are not independent of each other.

This is for gross breakage within seconds. Whether a challenger that answers is as good as the champion is for the
planned looks to say, which nothing here takes part in.

References
----------
.. [1] A. Ramdas, P. Grünwald, V. Vovk, G. Shafer, Game-theoretic statistics and safe anytime-valid inference,
   Statistical Science 38 (2023) 576-601.
"""

from __future__ import annotations

from math import exp, log, log1p

FLOOR = 0.01
MARGIN = 0.01
ENOUGH = 200.0
WORSE = (0.08, 0.2, 0.5, 0.95)
FEWEST_UNITS = 2
"""Units of the sticky split that must have failed."""
SLOW_SECONDS = 0.25
SLOW_TIMES = 20.0
"""The challenger is grossly slow where it takes SLOW_SECONDS and, for each row it has at once, SLOW_TIMES what the
champion takes for one in the mean."""


class Breaker:
    """Counts of one traffic, and whether they are enough to take the challenger out."""

    def __init__(self) -> None:
        self.champion_rows = self.champion_failures = 0
        self.champion_seconds = 0.0
        self.rows = self.failures = self.slow = 0
        self.units: set[int] = set()

    def champion_answered(self, seconds: float, *, failed: bool) -> None:
        """Count a row of the champion, and its part of the seconds that the request took."""
        self.champion_rows += 1
        self.champion_failures += failed
        self.champion_seconds += seconds

    def challenger_answered(self, unit: int, seconds: float, *, failed: bool, together: int = 1) -> str | None:
        """Count a row of the challenger; return why it is to be taken out, in words, or None.

        Parameters
        ----------
        unit : int
            Unit of the split that the row belongs to.
        seconds : float
            What the challenger took for all rows that it had at once, ``together`` of them.
        """
        self.rows += 1
        mean = self.champion_seconds / self.champion_rows if self.champion_rows else 0.0
        slow = not failed and seconds > SLOW_SECONDS + SLOW_TIMES * mean * together
        if not failed and not slow:
            return None
        self.failures += 1
        self.slow += slow
        self.units.add(unit)
        share = self.champion_failures / self.champion_rows if self.champion_rows else 0.0
        limit = max(share, FLOOR) + MARGIN
        if len(self.units) < FEWEST_UNITS or e_value(self.rows, self.failures, limit) < ENOUGH:
            return None
        slowly = f", {self.slow} of them by taking over {SLOW_SECONDS:g} s" if self.slow else ""
        return f"{self.failures} of {self.rows} rows failed{slowly}; up to {100 * limit:.1f} % are allowed"


def e_value(rows: int, failures: int, limit: float) -> float:
    """Return by how much a bet against a share of failures of at most ``limit`` has grown.

    >>> e_value(3, 3, 0.02) > ENOUGH, e_value(100, 2, 0.02) < 1
    (True, True)
    """
    bets = [share for share in WORSE if share > limit]
    grown = [
        exp(min(failures * log(share / limit) + (rows - failures) * (log1p(-share) - log1p(-limit)), 700.0))
        for share in bets
    ]
    return sum(grown) / len(grown) if grown else 0.0
