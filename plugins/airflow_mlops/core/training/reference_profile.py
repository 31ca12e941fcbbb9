"""The profile of a training window: the reference that later windows are held against.

It holds the bins of the features that the model saw, the profile of each partition of the window on them, and how
many independent columns the features are worth. Versions that were registered before profiles had sums keep counts
alone; they are read as far as they go.
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
"""Rows that the bins are made of; of more, so many are drawn, the same every time."""


@dataclass(frozen=True)
class ReferenceProfile:
    """The profile of a training window.

    Parameters
    ----------
    bins : ProfileBins
        Of each feature.
    windows : mapping of str to PartitionProfile
        The profile of each partition of the window, by its key.
    effective : tuple of (float, float)
        How many independent columns the features are worth, for some alarm rates; empty if not known.
    counts_only : bool
        Whether it is of a version that kept counts alone: no sums, no ranges, and the kinds of columns are guesses.
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
        held = [window.columns[column] for window in self._with(column)]
        odd = [(one.rest + one.infinite, one.nulls + one.nan) for one in held]
        return np.array([(*one.counts, *ends) for one, ends in zip(held, odd, strict=True)], np.int64)

    def sums(self, column: str) -> npt.NDArray[np.float64] | None:
        """Return the sum of the values in each bin, shape (n_bins - 2,); None where they were not kept."""
        sums = [window.columns[column].sums for window in self._with(column)]
        return np.array([sum(each) for each in zip(*sums, strict=True)]) if all(sums) else None

    def _with(self, column: str) -> list[PartitionProfile]:
        return [window for window in self.windows.values() if column in window.columns]

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return {
            "form": 2, "bins": self.bins.to_dict(), "effective": [list(pair) for pair in self.effective],
            "windows": {key: window.to_dict() for key, window in self.windows.items()},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ReferenceProfile:
        """Return the profile that ``to_dict`` wrote, or an earlier release."""
        if "form" not in values:
            return of_counts(values)
        windows = {key: PartitionProfile.from_dict(window) for key, window in values["windows"].items()}
        effective = tuple((float(rate), float(worth)) for rate, worth in values["effective"])
        return cls(ProfileBins.from_dict(values["bins"]), windows, effective)


def of_counts(values: Mapping[str, Any]) -> ReferenceProfile:
    """Return the profile of a release that kept, for each partition and column, a list of counts."""
    bins = {
        name: ColumnBins(tuple(of["edges"]), None if of["categories"] is None else tuple(of["categories"]))
        for name, of in values["bins"].items()
    }
    kinds = {name: "number" if of.categories is None else "category" for name, of in bins.items()}
    windows = {}
    for key, counted in values["windows"].items():
        columns = {}
        for name, counts in counted.items():
            of, infinite = bins[name], 0 if bins[name].categories is not None else counts[-2]
            columns[name] = ColumnProfile(
                kinds[name], of.digest, tuple(counts[:-2]), rest=counts[-2] - infinite, infinite=infinite,
                nulls=counts[-1], categories=of.categories or (),
            )  # fmt: skip
        windows[key] = PartitionProfile(max((sum(counts) for counts in counted.values()), default=0), columns)
    return ReferenceProfile(ProfileBins(kinds, bins), windows, counts_only=True)


def profile_window(windows: Mapping[str, pd.DataFrame]) -> ReferenceProfile:
    """Return the profile of a training window.

    Parameters
    ----------
    windows : mapping of str to DataFrame
        The features of each partition, by its key. A column that one of them lacks is null there.
    """
    tables = unify_tables([feature_table(frame) for frame in windows.values()])
    whole = pa.concat_tables(tables)
    if whole.num_rows > BINS_ROWS:
        chosen = np.random.default_rng(0).choice(whole.num_rows, BINS_ROWS, replace=False)
        sample = whole.take(pa.array(np.sort(chosen)))
    else:
        sample = whole
    bins = profile_bins(sample)
    profiles = {key: profiled(table, bins) for key, table in zip(windows, tables, strict=True)}
    return ReferenceProfile(bins, profiles, effective_columns(sample, bins))


def profiled(table: pa.Table, bins: ProfileBins) -> PartitionProfile:
    """Return the profile of a table that has all the columns of the bins."""
    profiler = Profiler(bins)
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        profiler.update(batch)
    return profiler.profile()


def observe_features(features: pd.DataFrame, bins: ProfileBins) -> ObservedRows:
    """Return the counts of features on the bins of a reference, and what has become of their columns."""
    table = feature_table(features)
    observer = RowObserver(bins, table.schema)
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        observer.update(batch)
    return observer.result()
