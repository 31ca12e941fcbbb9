"""The profile of a partition: counts of its rows that merge by addition.

For each column it holds the nulls, NaN and infinities, the count and sum of each bin, the smallest and the largest
value. Profiles on the same bins merge by addition; a profile names its bins by their digest, so that it is never added
to a profile on other bins.

Dates count as days and times as microseconds since 1970. Of a text column the most frequent values are stored by name
and no other, so personal columns have to be left out before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from airflow_mlops.core.data.profiles.column_bins import Counts
from airflow_mlops.core.errors import ProfileMismatchError

LARGEST = float(np.finfo(np.float64).max)
SEVERAL = "several"


@dataclass(frozen=True)
class ColumnProfile:
    """The counts of a column.

    Parameters
    ----------
    kind : str
        ``number``, ``date``, ``time`` or ``category``.
    bins : str
        Digest of the bins.
    counts : tuple of int
        Finite values in each bin, or values of each category.
    sums : tuple of float
        Sum of the values in each bin; none for categories. A sum beyond the range of floats is their largest.
    rest : int
        Number of values outside the categories.
    nulls, nan, infinite : int
        Number of rows without a finite value, by kind.
    low, high : float or None
        Smallest and largest finite value.
    categories : tuple of str
        The values that ``counts`` counts.
    only : str or None
        Of categories: the digest of the only value, ``several``, or None without a value.
    """

    kind: str
    bins: str
    counts: tuple[int, ...]
    sums: tuple[float, ...] = ()
    rest: int = 0
    nulls: int = 0
    nan: int = 0
    infinite: int = 0
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    only: str | None = None

    @property
    def values(self) -> int:
        """Number of rows with a finite value, or with a category."""
        return sum(self.counts) + self.rest

    @property
    def varies(self) -> bool:
        """Whether two rows hold different values, nulls, NaN and infinities aside."""
        return self.only == SEVERAL if self.kind == "category" else self.low != self.high

    @property
    def mean(self) -> float | None:
        """Mean of the finite values; None without one."""
        return sum(self.sums) / self.values if self.sums and self.values else None

    @property
    def bin_counts(self) -> Counts:
        """Counts of the bins, then of the rest or infinities, then of nulls or NaN, as :class:`ColumnBins` has them."""
        return np.array([*self.counts, self.rest + self.infinite, self.nulls + self.nan], np.int64)

    def merge(self, other: ColumnProfile) -> ColumnProfile:
        """Return the profile of the rows of both, which have the same bins."""
        return ColumnProfile.merge_all([self, other])

    @classmethod
    def merge_all(cls, columns: Sequence[ColumnProfile]) -> ColumnProfile:
        """Return the profile of the rows of all columns, at least one, which have the same bins."""
        first = columns[0]
        onlys = {column.only for column in columns if column.only is not None}
        return cls(
            first.kind,
            first.bins,
            tuple(map(sum, zip(*(column.counts for column in columns), strict=True))),
            tuple(clip_to_finite(sum(sums)) for sums in zip(*(column.sums for column in columns), strict=True)),
            sum(column.rest for column in columns),
            sum(column.nulls for column in columns),
            sum(column.nan for column in columns),
            sum(column.infinite for column in columns),
            min((column.low for column in columns if column.low is not None), default=None),
            max((column.high for column in columns if column.high is not None), default=None),
            first.categories,
            SEVERAL if len(onlys) > 1 else next(iter(onlys), None),
        )


@dataclass(frozen=True)
class PartitionProfile:
    """The counts of a partition.

    Parameters
    ----------
    rows : int
        Number of rows.
    columns : mapping of str to ColumnProfile
        The counts of each column, by its name.
    duplicates : int or None
        Number of rows that differ from an earlier row in the key alone; None if not counted.
    """

    rows: int
    columns: Mapping[str, ColumnProfile]
    duplicates: int | None = None

    def merge(self, other: PartitionProfile) -> PartitionProfile:
        """Return the profile of the rows of both partitions.

        Its duplicates are unknown: a row of one partition may repeat a row of the other.

        Raises
        ------
        ProfileMismatchError
            If a column is in one of them only, or was counted on other bins.
        """
        return PartitionProfile.merge_all([self, other])

    @classmethod
    def merge_all(cls, profiles: Sequence[PartitionProfile]) -> PartitionProfile:
        """Return the profile of the rows of all partitions.

        Raises
        ------
        ProfileMismatchError
            If there is no profile, or a column is in some of them only, or was counted on other bins.
        """
        if not profiles:
            raise ProfileMismatchError("there is no profile to add up")
        first = profiles[0]
        for profile in profiles[1:]:
            first.require_same_bins(profile)
        columns = {
            name: ColumnProfile.merge_all([profile.columns[name] for profile in profiles]) for name in first.columns
        }
        return cls(sum(profile.rows for profile in profiles), columns)

    def require_same_bins(self, other: PartitionProfile) -> None:
        """Raise ProfileMismatchError unless both profiles have the same columns on the same bins."""
        unmatched = sorted(self.columns.keys() ^ other.columns.keys())
        if unmatched:
            raise ProfileMismatchError(f"column {unmatched[0]!r} is in one of the two profiles only")
        for name, column in self.columns.items():
            if (column.kind, column.bins) != (other.columns[name].kind, other.columns[name].bins):
                raise ProfileMismatchError(
                    f"column {name!r} was counted on the {column.kind} bins {column.bins} in one profile and on the "
                    f"{other.columns[name].kind} bins {other.columns[name].bins} in the other; count both on one"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON values, all finite."""
        return {
            "rows": self.rows,
            "duplicates": self.duplicates,
            "columns": {name: asdict(column) for name, column in self.columns.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PartitionProfile:
        """Return the profile that ``to_dict`` wrote."""
        columns: dict[str, ColumnProfile] = {}
        for name, column in values["columns"].items():
            listed = {key: tuple(column[key]) for key in ("counts", "sums", "categories")}
            columns[name] = ColumnProfile(**{**column, **listed})
        return cls(values["rows"], columns, values["duplicates"])


def clip_to_finite(total: float) -> float:
    """Return the finite float nearest to ``total``; 0 for NaN."""
    return max(-LARGEST, min(float(total), LARGEST)) if total == total else 0.0  # noqa: PLR0124
