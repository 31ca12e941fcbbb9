"""Bins of a column, on which its values are counted.

Bins of numbers, dates and times are quantiles, closed on the right: (previous, edge]. Other values are binned by the
most frequent of them. Counts on the same bins merge by addition.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BINS = 64
CATEGORIES = 50
CELLS = 2048
DEEPEST = 4


@dataclass(frozen=True)
class ColumnBins:
    """The bins of a column: ``edges`` (numbers, dates, times) or ``categories`` (other values).

    The last two bins of every column are "the rest" (unseen categories, infinities) and "null".
    """

    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] | None = None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the bins."""
        words = [repr(edge) for edge in self.edges] if self.categories is None else list(self.categories)
        form = "edges" if self.categories is None else "categories"
        return hashlib.sha256("".join(f"{len(word)}:{word}" for word in [form, *words]).encode()).hexdigest()[:16]

    def count(self, numbers: npt.ArrayLike) -> Counts:
        """Return the count of ``numbers``, shape (n,), in each bin, shape (n_bins,); NaN counts as null."""
        values = np.asarray(numbers, np.float64)
        null, finite = np.isnan(values), np.isfinite(values)
        counts = np.bincount(EdgeFinder(self.edges).codes(values[finite]), minlength=len(self.edges) + 1)
        nulls = int(null.sum())
        return np.array([*counts, len(values) - nulls - int(finite.sum()), nulls], np.int64)


def quantile_edges(values: Floats) -> tuple[float, ...]:
    """Return up to 63 edges that cut the finite ``values``, shape (n,), into equal parts; each edge is a value."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return ()
    edges = np.unique(np.quantile(finite, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    return tuple(float(edge) for edge in edges)


class EdgeFinder:
    """Finds the bin of each value as ``numpy.searchsorted(edges, values, side="left")`` does, several times faster.

    The range of the edges is cut into equal cells, and a table holds the number of edges before each. The cell never
    decreases as the value grows, rounding included, so edges of earlier cells are below a value and edges of later
    cells are not; the few edges of its own cell are compared one after another.

    Parameters
    ----------
    edges : array_like of float, shape (n,)
        In ascending order, each once, finite.
    """

    def __init__(self, edges: npt.ArrayLike) -> None:
        self.edges = np.asarray(edges, np.float64)
        self._depth = 0
        if len(self.edges) < 2:
            return
        self._low = self.edges[0]
        with np.errstate(over="ignore"):
            self._scale = (CELLS - 1) / (self.edges[-1] - self._low)
        if not 0 < self._scale < np.inf:
            return
        edges_per_cell = np.bincount(self._cells(self.edges), minlength=CELLS)
        self._before = np.cumsum(edges_per_cell) - edges_per_cell
        self._padded = np.append(self.edges, np.inf)
        self._depth = int(edges_per_cell.max())

    def codes(self, values: Floats) -> npt.NDArray[np.intp]:
        """Return the bin of each of ``values``, which are finite; shape (n,)."""
        if not 0 < self._depth <= DEEPEST:
            return np.asarray(np.searchsorted(self.edges, values, side="left"), np.intp)
        bins: npt.NDArray[np.intp] = self._before.take(self._cells(values))
        for _ in range(self._depth):
            bins += values > self._padded.take(bins)
        return bins

    def _cells(self, values: Floats) -> npt.NDArray[np.intp]:
        with np.errstate(over="ignore"):  # far outside the edges the clip below gives the first or the last cell
            place: Floats = values - self._low
            place *= self._scale
        np.clip(place, 0, CELLS - 1, out=place)
        return place.astype(np.intp)
