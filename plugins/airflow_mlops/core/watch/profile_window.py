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
import pandas as pd

from airflow_mlops.core.data.profiles.column_bins import CATEGORIES, ColumnBins, Counts, quantile_edges


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
        return ColumnBins(quantile_edges(present.to_numpy(np.float64)))
    top = present.astype(str).value_counts().head(CATEGORIES)
    return ColumnBins(categories=tuple(sorted(str(value) for value in top.index)))
