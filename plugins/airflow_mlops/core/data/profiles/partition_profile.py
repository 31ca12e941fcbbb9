"""The profile of a partition: what its rows look like, as counts that add up.

For each column: the rows, the nulls, NaN and infinities, the counts and sums of each bin, the smallest and
the largest value. Profiles of partitions that were counted on the same bins merge by addition; a profile
names its bins by their digest, so that it cannot be added to another kind.

Dates count as days and times as microseconds since 1970. Of text a profile keeps the most frequent values
by name and nothing else, so columns that nobody may see have to be left out before.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        onlys = {only for only in (self.only, other.only) if only is not None}
        lows = [low for low in (self.low, other.low) if low is not None]
        highs = [high for high in (self.high, other.high) if high is not None]
        return ColumnProfile(
            self.kind,
            self.bins,
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            tuple(within_range(a + b) for a, b in zip(self.sums, other.sums, strict=True)),
            self.rest + other.rest,
            self.nulls + other.nulls,
            self.nan + other.nan,
            self.infinite + other.infinite,
            min(lows, default=None),
            max(highs, default=None),
            self.categories,
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
        apart = sorted(self.columns.keys() ^ other.columns.keys())
        if apart:
            raise ProfileMismatchError(f"column {apart[0]!r} is in one of the two profiles only")
        for name, column in self.columns.items():
            if (column.kind, column.bins) != (other.columns[name].kind, other.columns[name].bins):
                raise ProfileMismatchError(
                    f"column {name!r} was counted on the {column.kind} bins {column.bins} in one profile and on the "
                    f"{other.columns[name].kind} bins {other.columns[name].bins} in the other; count both on one"
                )
        merged = {name: column.merge(other.columns[name]) for name, column in self.columns.items()}
        return PartitionProfile(self.rows + other.rows, merged)

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
    """Return ``total``, or the nearest finite float."""
    return float(np.nan_to_num(total, posinf=LARGEST, neginf=-LARGEST))
