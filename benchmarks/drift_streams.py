"""Windows without drift, and windows with one: counts and rows of flights and of three made-up distributions.

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
    """Where windows come from. After :meth:`begin` all windows are of one distribution, until it is begun again."""

    name: str
    effective: Effective = ()
    unordered: frozenset[str] = frozenset()

    @abstractmethod
    def begin(self, random: np.random.Generator, rows: int) -> None:
        """Begin anew, with bins as a reference of ``rows`` rows gives them."""

    @abstractmethod
    def counts(self, random: np.random.Generator, rows: int, windows: int) -> dict[str, Counts]:
        """Return the counts of each column, each of shape (n_windows, n_bins)."""

    @abstractmethod
    def frame(self, random: np.random.Generator, rows: int) -> pd.DataFrame:
        """Return rows of a window as a peer takes them."""


class Numbers(Stream):
    """Twenty independent columns that are normal underneath."""

    name = "normal"

    def __init__(self) -> None:
        self.shift = 0.0
        self._edges: list[Floats] = []

    def begin(self, random: np.random.Generator, rows: int) -> None:
        """See :class:`Stream`."""
        places = (np.arange(1, BINS) * rows) // BINS
        self._edges = [np.unique(np.partition(self._made(random.normal(size=rows)), places)[places])
                       for _ in range(COLUMNS)]  # fmt: skip

    def counts(self, random: np.random.Generator, rows: int, windows: int) -> dict[str, Counts]:
        """See :class:`Stream`; the first column is moved by ``shift`` standard deviations."""
        found = {}
        for place, edges in enumerate(self._edges):
            below = norm.cdf(self._underneath(edges) - (self.shift if place == 0 else 0.0))
            shares = np.diff(np.concatenate([[0.0], below, [1.0]])) * (1 - self._infinite - self._null)
            found[f"x{place:02}"] = random.multinomial(rows, [*shares, self._infinite, self._null], size=windows)
        return found

    def frame(self, random: np.random.Generator, rows: int) -> pd.DataFrame:
        """See :class:`Stream`."""
        values = random.normal(size=(rows, COLUMNS))
        values[:, 0] += self.shift
        return pd.DataFrame(self._made(values), columns=[f"x{place:02}" for place in range(COLUMNS)])

    _infinite = _null = 0.0

    def _made(self, values: Floats) -> Floats:
        """Return what is measured of what is underneath."""
        return values

    def _underneath(self, edges: Floats) -> Floats:
        """Return up to where it is underneath what is measured up to each edge."""
        return edges


class Amounts(Numbers):
    """Twenty independent columns of skewed amounts, rounded to tenths, some null and, seldom, infinite."""

    name = "rounded lognormal"
    _infinite, _null = 0.0003, 0.03

    def _made(self, values: Floats) -> Floats:
        return np.asarray(np.round(np.exp(values), 1), np.float64)

    def _underneath(self, edges: Floats) -> Floats:
        return np.log(edges + 0.05)


class Categories(Stream):
    """Twenty independent columns of 2 to 60 categories, few of them frequent; some hold nulls, some unseen values."""

    name = "categories"
    unordered = frozenset(f"c{place:02}" for place in range(COLUMNS))

    def __init__(self) -> None:
        self._shares = [self._of_column(place) for place in range(COLUMNS)]

    @staticmethod
    def _of_column(place: int) -> Floats:
        held = (2, 3, 5, 10, 20, 60)[place % 6]
        shares = 1 / np.arange(1, held + 1) ** (0.5 + place % 3 / 2)
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
            2 + (len(of.edges) + 1 if of.categories is None else len(of.categories)) for of in bins.columns.values()
        ]
        self._starts = np.cumsum([0, *self._sizes])
        codes = [bin_codes(self.table[name].combine_chunks(), of) for name, of in bins.columns.items()]
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
        whole = []
        for _ in range(windows):
            taken = self._codes[self._pool[random.integers(0, len(self._pool), rows)]]
            whole.append(np.bincount(taken.ravel(), minlength=self._starts[-1]))
        table = np.array(whole)
        return {
            name: table[:, self._starts[place] : self._starts[place + 1]]
            for place, name in enumerate(self.table.column_names)
        }

    def frame(self, random: np.random.Generator, rows: int) -> pd.DataFrame:
        """See :class:`Stream`; without the time itself, which no peer takes for a column."""
        taken = self.table.take(pa.array(self._pool[random.integers(0, len(self._pool), rows)]))
        frame: pd.DataFrame = taken.drop_columns(["scheduled_departure"]).to_pandas()
        return frame
