"""Weeks that misbehave, as counts: heavy tails, one factor for all columns, trends, seasons, few reference weeks.

Each week moves each of twenty columns by an effect: of a number it moves the mean, in standard deviations of its rows,
of a category the log odds of its values. Some columns hold nulls, of two the share moves too. Nothing new happens in
the window that is judged, unless ``shift`` says so: its effect comes from the same process as those of the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

COLUMNS, NUMBERS = 20, 12
ROWS = 5_000
SIZE = 0.1
"""Scale of a week's effect: seven times what chance does to a mean of 5,000 rows."""
EDGES = norm.ppf(np.arange(1, 64) / 64)
UNORDERED = frozenset(f"c{place:02}" for place in range(NUMBERS, COLUMNS))

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Effects = Callable[[np.random.Generator, int], Floats]
"""Draw the effects of some weeks in a row, shape (n_weeks, n_columns)."""


@dataclass(frozen=True)
class Weeks:
    """A process of weeks.

    Parameters
    ----------
    name : str
        What misbehaves.
    effects : callable
        Draws the effects of weeks in a row.
    windows : int
        Weeks of the reference.
    judged : int
        References that are judged: more where the rate is one that holds, and not most of them are insufficient data.
    """

    name: str
    effects: Effects
    windows: int = 8
    judged: int = 1_000

    def draw(
        self, random: np.random.Generator, *, rows: int = ROWS, shift: float = 0.0, moved: int = 1
    ) -> tuple[dict[str, Counts], dict[str, Counts]]:
        """Return the counts of a reference, each of shape (n_windows, n_bins), and of the week after it.

        ``shift`` is added to the effect of the first ``moved`` columns in that week.
        """
        effects = self.effects(random, self.windows + 1)
        effects[-1, :moved] += shift
        counts = {
            name: np.array([random.multinomial(rows, shares) for shares in column_shares(place, effects[:, place])])
            for place, name in enumerate(names())
        }
        return {name: weeks[:-1] for name, weeks in counts.items()}, {name: weeks[-1] for name, weeks in counts.items()}


def names() -> list[str]:
    """Return the names of the columns: ``x`` for numbers, ``c`` for categories."""
    return [f"{'x' if place < NUMBERS else 'c'}{place:02}" for place in range(COLUMNS)]


def column_shares(place: int, effects: Floats) -> Floats:
    """Return the shares of a column's bins in each week, shape (n_weeks, n_bins)."""
    null = (0.0, 0.03)[place % 2] * np.exp(effects if place in (1, 13) else np.zeros(len(effects)))
    null = np.minimum(null, 0.5)[:, None]
    if place < NUMBERS:
        below = norm.cdf(EDGES[None, :] - effects[:, None])
        ends = np.zeros((len(effects), 1))
        shares, rest = np.diff(np.hstack([ends, below, ends + 1]), axis=1), 0.0
    else:
        size, rest = (3, 5, 10, 20)[place % 4], (0.0, 0.002)[place % 3 == 0]
        contrast = np.cos(np.arange(size) * (1 + place % 2))
        tilted = np.exp(np.clip(effects[:, None] * contrast, -50, 50)) / np.arange(1, size + 1)
        shares = tilted / tilted.sum(axis=1, keepdims=True)
    return np.hstack([shares * (1 - rest - null), np.full_like(null, rest), null])


def heavy(freedom: float) -> Effects:
    """Return effects of Student's t, each column for itself."""
    return lambda random, weeks: SIZE * random.standard_t(freedom, (weeks, COLUMNS))


def normal(size: float = SIZE) -> Effects:
    """Return normal effects, each column for itself."""
    return lambda random, weeks: size * random.normal(size=(weeks, COLUMNS))


def common(freedom: float | None = None) -> Effects:
    """Return effects of one factor that moves all columns, normal or of Student's t."""

    def draw(random: np.random.Generator, weeks: int) -> Floats:
        factor = random.normal(size=weeks) if freedom is None else random.standard_t(freedom, weeks)
        return SIZE * np.outer(factor, random.uniform(0.5, 1.5, COLUMNS) * random.choice([-1, 1], COLUMNS))

    return draw


def trend(random: np.random.Generator, weeks: int) -> Floats:
    """Return effects that grow by half the scale every week, and a little noise."""
    slopes = SIZE / 2 * random.choice([-1, 1], COLUMNS)
    return np.outer(np.arange(weeks), slopes) + random.normal(size=(weeks, COLUMNS)) * SIZE / 4


def season(period: float) -> Effects:
    """Return effects of a season of thrice the scale, with a phase of each column, and a little noise."""

    def draw(random: np.random.Generator, weeks: int) -> Floats:
        phases = random.uniform(0, 1, COLUMNS) + random.uniform()
        noise = random.normal(size=(weeks, COLUMNS)) * SIZE / 4
        return 3 * SIZE * np.sin(2 * np.pi * (np.arange(weeks)[:, None] / period + phases)) + noise

    return draw


FIRM = 4_000
"""Windows that tell a rate of 0.01 from one of 0.015."""
WEEKS = (
    Weeks("tails_t2", heavy(2), judged=FIRM),
    Weeks("tails_t3", heavy(3), judged=FIRM),
    Weeks("tails_t4", heavy(4), judged=FIRM),
    Weeks("common_factor", common()),
    Weeks("common_factor_t3", common(3)),
    Weeks("trend", trend),
    Weeks("season_4_weeks", season(4)),
    Weeks("season_52_weeks", season(52)),
    *(Weeks(f"few_{windows}", normal(), windows) for windows in range(1, 6)),
    *(Weeks(f"few_{windows}_t3", heavy(3), windows) for windows in (1, 3, 5)),
    Weeks("normal", normal(), judged=FIRM),
    Weeks("normal_26_weeks", normal(), 26, judged=FIRM),
    Weeks("tails_t3_26_weeks", heavy(3), 26, judged=FIRM),
)
"""The processes that are measured; the last three misbehave less, or are known for longer."""
