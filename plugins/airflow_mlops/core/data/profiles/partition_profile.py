"""The profile of a partition: what its rows look like, as counts that add up.

For each column: the rows, the nulls, NaN and infinities, the counts and sums of each bin, the smallest and
the largest value. Profiles of partitions that were counted on the same bins merge by addition; a profile
names its bins by their digest, so that it cannot be added to another kind.

Dates count as days and times as microseconds since 1970. Of text a profile keeps the most frequent values
by name and nothing else, so columns that nobody may see have to be left out before.
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
    """What a column holds.

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
        Values of none of the categories.
    nulls, nan, infinite : int
        Rows that hold no finite value.
    low, high : float or None
        Of the finite values.
    categories : tuple of str
        The values that ``counts`` counts.
    only : str or None
        Of categories: a digest of the sole value there is, ``several``, or None where there is none.
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
        """Rows that hold a finite value, or a category."""
        return sum(self.counts) + self.rest

    @property
    def varies(self) -> bool:
        """Whether two rows hold different values; nulls, NaN and infinities are none."""
        return self.only == SEVERAL if self.kind == "category" else self.low != self.high

    @property
    def mean(self) -> float | None:
        """Mean of the finite values; None where there is none."""
        return sum(self.sums) / self.values if self.sums and self.values else None

    @property
    def binned(self) -> Counts:
        """Counts as :class:`ColumnBins` gives them: of the bins, the rest or infinities, and nulls or NaN."""
        return np.array([*self.counts, self.rest + self.infinite, self.nulls + self.nan], np.int64)

    def merge(self, other: ColumnProfile) -> ColumnProfile:
        """Return the profile of the rows of both; the bins must be the same."""
        return ColumnProfile.of_all([self, other])

    @classmethod
    def of_all(cls, columns: Sequence[ColumnProfile]) -> ColumnProfile:
        """Return the profile of the rows of all; there is one at least, and the bins are the same."""
        first = columns[0]
        onlys = {column.only for column in columns if column.only is not None}
        return cls(
            first.kind,
            first.bins,
            tuple(map(sum, zip(*(column.counts for column in columns), strict=True))),
            tuple(within_range(sum(each)) for each in zip(*(column.sums for column in columns), strict=True)),
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
    """What the rows of a partition look like.

    Parameters
    ----------
    rows : int
        Rows that were counted.
    columns : mapping of str to ColumnProfile
        Each column's counts, by its name.
    duplicates : int or None
        Rows that differ from an earlier one in nothing but the key; None where nobody counted them.
    """

    rows: int
    columns: Mapping[str, ColumnProfile]
    duplicates: int | None = None

    def merge(self, other: PartitionProfile) -> PartitionProfile:
        """Return the profile of the rows of both partitions.

        Duplicates are unknown then: a row of one partition may stand in the other.

        Raises
        ------
        ProfileMismatchError
            If a column is in one of them only, or was counted on other bins.
        """
        return PartitionProfile.of_all([self, other])

    @classmethod
    def of_all(cls, profiles: Sequence[PartitionProfile]) -> PartitionProfile:
        """Return the profile of the rows of all partitions, by one addition of tables for each column.

        Raises
        ------
        ProfileMismatchError
            If there is none, or a column is in some of them only, or was counted on other bins.
        """
        if not profiles:
            raise ProfileMismatchError("there is no profile to add up")
        first = profiles[0]
        for profile in profiles[1:]:
            first.require_same_bins(profile)
        columns = {name: ColumnProfile.of_all([one.columns[name] for one in profiles]) for name in first.columns}
        return cls(sum(profile.rows for profile in profiles), columns)

    def require_same_bins(self, other: PartitionProfile) -> None:
        """Raise :class:`ProfileMismatchError` unless both have the same columns, counted on the same bins."""
        apart = sorted(self.columns.keys() ^ other.columns.keys())
        if apart:
            raise ProfileMismatchError(f"column {apart[0]!r} is in one of the two profiles only")
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


def within_range(total: float) -> float:
    """Return ``total``, or the nearest finite float; 0 where it is none."""
    return max(-LARGEST, min(float(total), LARGEST)) if total == total else 0.0  # noqa: PLR0124
