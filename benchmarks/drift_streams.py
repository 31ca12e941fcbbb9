"""Streams of windows with and without drift: counts and rows of flights and of three synthetic distributions.

Rows of a window are independent draws, so of a made-up column the counts are drawn as they are; their bins are the
quantiles of the reference's own rows. Flights are drawn row by row, since their columns go together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import norm

from airflow_mlops.core.data.profiles.column_bins import BINS
from airflow_mlops.core.data.profiles.profile_rows import bin_codes, profile_bins
from airflow_mlops.core.training.effective_tests import Effective, effective_columns

DATA = Path(__file__).resolve().parents[1] / "include" / "data"
COLUMNS = 20
PERIOD = 8
"""Weeks of flights that a reference and its windows are drawn from."""

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Stream(ABC):
    """A source of windows; after :meth:`begin` all windows follow one distribution until the next call of it."""

    name: str
    effective: Effective = ()
    unordered: frozenset[str] = frozenset()

    @abstractmethod
    def begin(self, random: np.random.Generator, rows: int) -> None:
        """Start a new distribution, with the bins of a reference of ``rows`` rows."""

    @abstractmethod
    def counts(self, random: np.random.Generator, rows: int, windows: int) -> dict[str, Counts]:
        """Return the counts of each column, each of shape (n_windows, n_bins)."""

    @abstractmethod
    def frame(self, random: np.random.Generator, rows: int) -> pd.DataFrame:
        """Return the rows of a window in the form that a peer takes."""


class Numbers(Stream):
    """Twenty independent columns, each a transformation of normal values."""

    name = "normal"

    def __init__(self) -> None:
        self.shift = 0.0
        self._edges: list[Floats] = []

    def begin(self, random: np.random.Generator, rows: int) -> None:
        """See :class:`Stream`."""
        places = (np.arange(1, BINS) * rows) // BINS
        self._edges = [
            np.unique(np.partition(self._measure(random.normal(size=rows)), places)[places]) for _ in range(COLUMNS)
        ]

    def counts(self, random: np.random.Generator, rows: int, windows: int) -> dict[str, Counts]:
        """See :class:`Stream`; the first column is moved by ``shift`` standard deviations."""
        counts = {}
        for place, edges in enumerate(self._edges):
            below = norm.cdf(self._invert(edges) - (self.shift if place == 0 else 0.0))
            shares = np.diff(np.concatenate([[0.0], below, [1.0]])) * (1 - self._infinite - self._null)
            counts[f"x{place:02}"] = random.multinomial(rows, [*shares, self._infinite, self._null], size=windows)
        return counts

    def frame(self, random: np.random.Generator, rows: int) -> pd.DataFrame:
        """See :class:`Stream`."""
        values = random.normal(size=(rows, COLUMNS))
        values[:, 0] += self.shift
        return pd.DataFrame(self._measure(values), columns=[f"x{place:02}" for place in range(COLUMNS)])

    _infinite = _null = 0.0

    def _measure(self, values: Floats) -> Floats:
        """Transform normal values into measured values."""
        return values

    def _invert(self, edges: Floats) -> Floats:
        """Return the normal values that correspond to measured edges."""
        return edges


class Amounts(Numbers):
    """Twenty independent columns of skewed amounts, rounded to tenths, some null and, seldom, infinite."""

    name = "rounded lognormal"
    _infinite, _null = 0.0003, 0.03

    def _measure(self, values: Floats) -> Floats:
        return np.asarray(np.round(np.exp(values), 1), np.float64)

    def _invert(self, edges: Floats) -> Floats:
        return np.log(edges + 0.05)


class Categories(Stream):
    """Twenty independent columns of 2 to 60 categories, few of them frequent; some hold nulls, some unseen values."""

    name = "categories"
    unordered = frozenset(f"c{place:02}" for place in range(COLUMNS))

    def __init__(self) -> None:
        self._shares = [self._of_column(place) for place in range(COLUMNS)]

    @staticmethod
    def _of_column(place: int) -> Floats:
        size = (2, 3, 5, 10, 20, 60)[place % 6]
        shares = 1 / np.arange(1, size + 1) ** (0.5 + place % 3 / 2)
        null, rest = (0.0, 0.03, 0.0004)[place % 3], (0.0, 0.002)[place % 2]
        return np.array([*shares / shares.sum() * (1 - null - rest), rest, null])

    def begin(self, random: np.random.Generator, rows: int) -> None:
        """See :class:`Stream`."""

    def counts(self, random: np.random.Generator, rows: int, windows: int) -> dict[str, Counts]:
        """See :class:`Stream`."""
        return {
            f"c{place:02}": random.multinomial(rows, shares, size=windows) for place, shares in enumerate(self._shares)
        }

    def frame(self, random: np.random.Generator, rows: int) -> pd.DataFrame:
        """See :class:`Stream`."""
        columns = {}
        for place, shares in enumerate(self._shares):
            names = np.array([*(f"k{code}" for code in range(len(shares) - 2)), "new", None], dtype=object)
            columns[f"c{place:02}"] = random.choice(names, rows, p=shares)
        return pd.DataFrame(columns)


class Flights(Stream):
    """Twenty columns of real flights, as both loops have them: rows of eight weeks in a row, drawn at random."""

    name = "flights"

    def __init__(self) -> None:
        folders = [DATA / model for model in ("flights_air_time", "flights_delay")]
        air, late = (pa.concat_tables(map(pq.read_table, sorted(folder.glob("*.parquet")))) for folder in folders)
        # The files of both loops hold the same rows in the same order.
        table = air.append_column("arrived_late", late["arrived_late"])
        minutes = pa.array(table["air_time"].to_pandas() / table["distance"].to_pandas())
        self.table = table.append_column("minutes_a_mile", minutes).drop_columns(["flight_id"]).combine_chunks()
        if self.table.num_columns != COLUMNS:
            raise RuntimeError(f"flights have {self.table.num_columns} columns; {COLUMNS} were expected")
        bins = profile_bins(self.table)
        self.effective = effective_columns(self.table, bins)
        self.unordered = frozenset(name for name, kind in bins.kinds.items() if kind == "category")
        self._sizes = [
            2 + (len(column.edges) + 1 if column.categories is None else len(column.categories))
            for column in bins.columns.values()
        ]
        self._starts = np.cumsum([0, *self._sizes])
        codes = [bin_codes(self.table[name].combine_chunks(), column) for name, column in bins.columns.items()]
        self._codes = (np.stack(codes, axis=1) + self._starts[:-1]).astype(np.int32)
        self._order = np.argsort(self.table["scheduled_departure"].to_numpy(), kind="stable")
        self._pool = self._order

    def begin(self, random: np.random.Generator, rows: int) -> None:  # noqa: ARG002
        """See :class:`Stream`: choose the period."""
        length = len(self._order) * PERIOD // 53
        start = int(random.integers(0, len(self._order) - length))
        self._pool = self._order[start : start + length]

    def counts(self, random: np.random.Generator, rows: int, windows: int) -> dict[str, Counts]:
        """See :class:`Stream`."""
        samples = []
        for _ in range(windows):
            codes = self._codes[self._pool[random.integers(0, len(self._pool), rows)]]
            samples.append(np.bincount(codes.ravel(), minlength=self._starts[-1]))
        table = np.array(samples)
        return {
            name: table[:, self._starts[place] : self._starts[place + 1]]
            for place, name in enumerate(self.table.column_names)
        }

    def frame(self, random: np.random.Generator, rows: int) -> pd.DataFrame:
        """See :class:`Stream`; without the time itself, which no peer takes for a column."""
        sample = self.table.take(pa.array(self._pool[random.integers(0, len(self._pool), rows)]))
        frame: pd.DataFrame = sample.drop_columns(["scheduled_departure"]).to_pandas()
        return frame
