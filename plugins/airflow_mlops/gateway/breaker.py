"""The circuit breaker: take the challenger out after few requests if it fails far too often.

A failure is a row for which the challenger raises, gives no finite number, or is grossly slow. The allowed share of
failures is the champion's, at least ``FLOOR``, plus ``MARGIN``. After every row an e-value bets against that limit
on the shares in ``WORSE_SHARES`` [1]_: if the challenger is within the limit, the bet ever grows to ``TRIP_THRESHOLD``
with a probability of at most 1 / TRIP_THRESHOLD, at whatever times it is checked. A single key does not take a
challenger out, since its requests are not independent.

The breaker is for gross breakage within seconds. Whether a working challenger is as good as the champion is decided by
the planned analyses, in which the breaker has no part.

References
----------
.. [1] A. Ramdas, P. Grünwald, V. Vovk, G. Shafer, Game-theoretic statistics and safe anytime-valid inference,
   Statistical Science 38 (2023) 576-601.
"""

from __future__ import annotations

from math import exp, log, log1p

FLOOR = 0.01
MARGIN = 0.01
TRIP_THRESHOLD = 200.0
WORSE_SHARES = (0.08, 0.2, 0.5, 0.95)
MIN_UNITS = 2
"""Units of the sticky split that must have failed."""
SLOW_SECONDS = 0.25
SLOW_TIMES = 20.0
"""A batch of the challenger is grossly slow if it takes longer than SLOW_SECONDS plus, for each of its rows, SLOW_TIMES
the champion's mean time of a row."""


class Breaker:
    """Counts of rows and failures under the same traffic, and the decision to take the challenger out."""

    def __init__(self) -> None:
        self.champion_rows = self.champion_failures = 0
        self.champion_seconds = 0.0
        self.rows = self.failures = self.slow = 0
        self.units: set[int] = set()

    def record_champion(self, seconds: float, *, failed: bool) -> None:
        """Count a row of the champion, and its share of the seconds of the request."""
        self.champion_rows += 1
        self.champion_failures += failed
        self.champion_seconds += seconds

    def record_challenger(self, unit: int, seconds: float, *, failed: bool, batch_rows: int = 1) -> str | None:
        """Count a row of the challenger; return the reason to take it out, None if there is none.

        Parameters
        ----------
        unit : int
            Unit of the split that the row belongs to.
        seconds : float
            Time of the challenger for the whole batch of the row.
        batch_rows : int
            Rows of that batch.
        """
        self.rows += 1
        mean = self.champion_seconds / self.champion_rows if self.champion_rows else 0.0
        slow = not failed and seconds > SLOW_SECONDS + SLOW_TIMES * mean * batch_rows
        if not failed and not slow:
            return None
        self.failures += 1
        self.slow += slow
        self.units.add(unit)
        share = self.champion_failures / self.champion_rows if self.champion_rows else 0.0
        limit = max(share, FLOOR) + MARGIN
        if len(self.units) < MIN_UNITS or e_value(self.rows, self.failures, limit) < TRIP_THRESHOLD:
            return None
        slow_part = f", {self.slow} of them by taking over {SLOW_SECONDS:g} s" if self.slow else ""
        return f"{self.failures} of {self.rows} rows failed{slow_part}; up to {100 * limit:.1f} % are allowed"


def e_value(rows: int, failures: int, limit: float) -> float:
    """Return the e-value against a share of failures of at most ``limit``: the factor by which the bet has grown.

    >>> e_value(3, 3, 0.02) > TRIP_THRESHOLD, e_value(100, 2, 0.02) < 1
    (True, True)
    """
    bets = [share for share in WORSE_SHARES if share > limit]
    factors = [
        exp(min(failures * log(share / limit) + (rows - failures) * (log1p(-share) - log1p(-limit)), 700.0))
        for share in bets
    ]
    return sum(factors) / len(factors) if factors else 0.0
