"""The profile of a training window: the reference for later windows.

It holds the bins of the features that the model saw, the profile of each partition of the window on them, and the
effective number of tests. Profiles of versions that were registered before profiles had sums hold counts only; they
are read as far as they go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.profiles.column_bins import ColumnBins
from airflow_mlops.core.data.profiles.feature_table import feature_table, unify_tables
from airflow_mlops.core.data.profiles.observe_rows import ObservedRows, RowObserver
from airflow_mlops.core.data.profiles.partition_profile import ColumnProfile, PartitionProfile
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins, Profiler, profile_bins
from airflow_mlops.core.training.effective_tests import Effective, effective_columns

BATCH_ROWS = 65_536
BINS_ROWS = 500_000
"""Most rows that the bins are made from; of more, this many are drawn with a fixed seed."""


@dataclass(frozen=True)
class ReferenceProfile:
    """The profile of a training window.

    Parameters
    ----------
    bins : ProfileBins
        Bins of each feature.
    windows : mapping of str to PartitionProfile
        The profile of each partition of the window, by its key.
    effective : tuple of (float, float)
        Effective number of tests for several alarm rates; empty if not known.
    counts_only : bool
        Whether the profile has counts only: no sums, no ranges, and the kinds of columns are guesses.
    """

    bins: ProfileBins
    windows: Mapping[str, PartitionProfile]
    effective: Effective = ()
    counts_only: bool = False

    @property
    def rows(self) -> int:
        """Rows of the training window."""
        return sum(window.rows for window in self.windows.values())

    def counts(self, column: str) -> npt.NDArray[np.int64]:
        """Return the rows of a column in each bin, shape (n_windows, n_bins); the last two are the rest and null."""
        columns = [window.columns[column] for window in self._with(column)]
        odd = [(column.rest + column.infinite, column.nulls + column.nan) for column in columns]
        return np.array([(*column.counts, *ends) for column, ends in zip(columns, odd, strict=True)], np.int64)

    def sums(self, column: str) -> npt.NDArray[np.float64] | None:
        """Return the sum of the values in each bin, shape (n_bins - 2,); None where they were not kept."""
        sums = [window.columns[column].sums for window in self._with(column)]
        return np.array([sum(bin_sums) for bin_sums in zip(*sums, strict=True)]) if all(sums) else None

    def _with(self, column: str) -> list[PartitionProfile]:
        return [window for window in self.windows.values() if column in window.columns]

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return {
            "form": 2,
            "bins": self.bins.to_dict(),
            "effective": [list(pair) for pair in self.effective],
            "windows": {key: window.to_dict() for key, window in self.windows.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ReferenceProfile:
        """Return the profile that ``to_dict`` wrote, or an earlier release."""
        if "form" not in values:
            return profile_of_counts(values)
        windows = {key: PartitionProfile.from_dict(window) for key, window in values["windows"].items()}
        effective = tuple((float(rate), float(worth)) for rate, worth in values["effective"])
        return cls(ProfileBins.from_dict(values["bins"]), windows, effective)


def profile_of_counts(values: Mapping[str, Any]) -> ReferenceProfile:
    """Return the profile that an early release wrote: a list of counts for each partition and column."""
    bins = {
        name: ColumnBins(
            tuple(column_bins["edges"]), None if column_bins["categories"] is None else tuple(column_bins["categories"])
        )
        for name, column_bins in values["bins"].items()
    }
    kinds = {name: "number" if column_bins.categories is None else "category" for name, column_bins in bins.items()}
    windows = {}
    for key, by_column in values["windows"].items():
        columns = {}
        for name, counts in by_column.items():
            column_bins, infinite = bins[name], 0 if bins[name].categories is not None else counts[-2]
            columns[name] = ColumnProfile(
                kinds[name],
                column_bins.digest,
                tuple(counts[:-2]),
                rest=counts[-2] - infinite,
                infinite=infinite,
                nulls=counts[-1],
                categories=column_bins.categories or (),
            )
        windows[key] = PartitionProfile(max((sum(counts) for counts in by_column.values()), default=0), columns)
    return ReferenceProfile(ProfileBins(kinds, bins), windows, counts_only=True)


def profile_window(windows: Mapping[str, pd.DataFrame]) -> ReferenceProfile:
    """Return the profile of a training window.

    Parameters
    ----------
    windows : mapping of str to DataFrame
        The features of each partition by its key. A column that a partition lacks is null there.
    """
    tables = unify_tables([feature_table(frame) for frame in windows.values()])
    table = pa.concat_tables(tables)
    if table.num_rows > BINS_ROWS:
        chosen = np.random.default_rng(0).choice(table.num_rows, BINS_ROWS, replace=False)
        sample = table.take(pa.array(np.sort(chosen)))
    else:
        sample = table
    bins = profile_bins(sample)
    profiles = {key: profile_table(table, bins) for key, table in zip(windows, tables, strict=True)}
    return ReferenceProfile(bins, profiles, effective_columns(sample, bins))


def profile_table(table: pa.Table, bins: ProfileBins) -> PartitionProfile:
    """Return the profile of a table that has all columns of the bins."""
    profiler = Profiler(bins)
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        profiler.update(batch)
    return profiler.profile()


def observe_features(features: pd.DataFrame, bins: ProfileBins) -> ObservedRows:
    """Return the counts of features on the bins of a reference, and the state of their columns."""
    table = feature_table(features)
    observer = RowObserver(bins, table.schema)
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        observer.update(batch)
    return observer.result()
