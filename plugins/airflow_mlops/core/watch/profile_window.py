"""Profiles: what a set of rows looks like, as counts.

A profile holds, for each column, how many rows fall into each bin. Bins of a numeric column are
quantiles of the reference, closed on the right: (previous, edge]. Nulls and unseen categories are
bins of their own, so their share is watched like any other. Profiles on the same bins merge by addition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Counts = npt.NDArray[np.int64]

BINS = 64
CATEGORIES = 50


@dataclass(frozen=True)
class ColumnBins:
    """How a column is binned: by ``edges`` (numbers) or by ``categories`` (everything else).

    The last two bins of every column are "the rest" (unseen categories, infinities) and "null".
    """

    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] | None = None

    def count(self, column: pd.Series[Any]) -> Counts:
        """Return the rows of ``column`` in each bin, shape (n_bins,)."""
        null = column.isna().to_numpy()
        if self.categories is not None:
            codes = pd.Index(self.categories).get_indexer(pd.Index(column[~null].astype(str)))
            size = len(self.categories)
            return _counted(np.where(codes < 0, size, codes), size + 1, int(null.sum()))
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)[~null]
        infinite = ~np.isfinite(values)
        codes = np.searchsorted(np.asarray(self.edges), values, side="left")
        size = len(self.edges) + 1
        return _counted(np.where(infinite, size, codes), size + 1, int(null.sum()))


def _counted(codes: npt.NDArray[Any], size: int, nulls: int) -> Counts:
    return np.append(np.bincount(codes, minlength=size), nulls).astype(np.int64)


@dataclass(frozen=True)
class ReferenceProfile:
    """The bins of a training window and the counts of each of its partitions on them."""

    bins: Mapping[str, ColumnBins]
    windows: Mapping[str, Mapping[str, Counts]]

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return {
            "bins": {
                name: {
                    "edges": list(of.edges),
                    "categories": None if of.categories is None else list(of.categories),
                }
                for name, of in self.bins.items()
            },
            "windows": {
                partition: {name: counts.tolist() for name, counts in columns.items()}
                for partition, columns in self.windows.items()
            },
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ReferenceProfile:
        """Return the profile that ``to_dict`` wrote."""
        bins = {
            name: ColumnBins(tuple(of["edges"]), None if of["categories"] is None else tuple(of["categories"]))
            for name, of in values["bins"].items()
        }
        windows = {
            partition: {name: np.asarray(counts, np.int64) for name, counts in columns.items()}
            for partition, columns in values["windows"].items()
        }
        return cls(bins, windows)


def profile_window(windows: Mapping[str, pd.DataFrame]) -> ReferenceProfile:
    """Return the profile of a training window.

    Parameters
    ----------
    windows : mapping of str to DataFrame
        The feature columns of each partition, by its key.
    """
    whole = pd.concat(windows.values(), ignore_index=True)
    bins = {str(name): bins_of(whole[name]) for name in whole.columns}
    return ReferenceProfile(bins, {key: count_columns(frame, bins) for key, frame in windows.items()})


def count_columns(frame: pd.DataFrame, bins: Mapping[str, ColumnBins]) -> dict[str, Counts]:
    """Return the counts of each column that both the frame and the reference have."""
    return {name: of.count(frame[name]) for name, of in bins.items() if name in frame.columns}


def bins_of(column: pd.Series[Any]) -> ColumnBins:
    """Return the bins of a reference column: quantiles of numbers, the most frequent other values."""
    present = column.dropna()
    if pd.api.types.is_numeric_dtype(present) and not pd.api.types.is_bool_dtype(present):
        values = present.to_numpy(np.float64)
        values = values[np.isfinite(values)]
        if values.size == 0:
            return ColumnBins()
        edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf"))
        return ColumnBins(tuple(float(edge) for edge in edges))
    top = present.astype(str).value_counts().head(CATEGORIES)
    return ColumnBins(categories=tuple(sorted(str(value) for value in top.index)))
