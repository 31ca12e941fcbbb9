"""Take the profile of rows as they stream past, on bins that a sample of earlier rows gave."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.profiles.column_bins import (
    CATEGORIES,
    ColumnBins,
    Counts,
    EdgeFinder,
    Floats,
    quantile_edges,
)
from airflow_mlops.core.data.profiles.partition_profile import SEVERAL, ColumnProfile, PartitionProfile
from airflow_mlops.core.errors import ProfileMismatchError

LONGEST = 200
"""Characters of the longest text that is kept as a category: what is longer is prose, and no category."""
NEAR = 16_384


@dataclass(frozen=True)
class ProfileBins:
    """The bins and the kind of each column: ``number``, ``date``, ``time`` or ``category``."""

    kinds: Mapping[str, str]
    columns: Mapping[str, ColumnBins]

    def to_dict(self) -> dict[str, Any]:
        """Return the bins as JSON values."""
        return {name: {"kind": self.kinds[name], **asdict(bins)} for name, bins in self.columns.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProfileBins:
        """Return the bins that ``to_dict`` wrote."""
        return cls(
            {name: of["kind"] for name, of in values.items()},
            {
                name: ColumnBins(tuple(of["edges"]), None if of["categories"] is None else tuple(of["categories"]))
                for name, of in values.items()
            },
        )

    def extended(self, sample: pa.Table) -> ProfileBins:
        """Return these bins, and bins for the columns of ``sample`` that have none here."""
        new = profile_bins(sample.select([name for name in sample.column_names if name not in self.columns]))
        return ProfileBins({**self.kinds, **new.kinds}, {**self.columns, **new.columns})


def profile_bins(sample: pa.Table) -> ProfileBins:
    """Return the bins of a uniform sample of rows: quantiles of numbers, the most frequent other values.

    Parameters
    ----------
    sample : pyarrow.Table
        Without the columns of which no value may be kept, and without the key.
    """
    kinds = {field.name: kind_of(field.type) for field in sample.schema}
    columns = {}
    for name, kind in kinds.items():
        column = sample.column(name).combine_chunks()
        if kind == "category":
            columns[name] = ColumnBins(categories=most_frequent(as_text(column)))
        else:
            columns[name] = ColumnBins(quantile_edges(as_floats(column)))
    return ProfileBins(kinds, columns)


def kind_of(kind: pa.DataType) -> str:
    """Return how values of a type are counted."""
    if pa.types.is_timestamp(kind):
        return "time"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "category"


def most_frequent(texts: pa.Array) -> tuple[str, ...]:
    """Return the 50 most frequent texts in the order of their names; of equally frequent ones the first by name."""
    counted = texts.drop_null().value_counts()
    pairs = zip(counted.field("counts").to_pylist(), counted.field("values").to_pylist(), strict=True)
    ranked = sorted((-count, text) for count, text in pairs if len(text) <= LONGEST)
    return tuple(sorted(text for _, text in ranked[:CATEGORIES]))


def plain_nulls(column: pa.Array) -> pa.Array:
    """Return a column whose nulls are all its own; a dictionary may hold one among its values."""
    if pa.types.is_dictionary(column.type) and column.dictionary.null_count:
        return column.dictionary_decode()
    return column


def as_text(column: pa.Array) -> pa.Array:
    """Return a column of categories as text, a boolean as Python writes it; null stays null."""
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "True", "False")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    return column.cast(pa.large_string())


def as_floats(column: pa.Array) -> Floats:
    """Return the values of a column of numbers, dates or times that are not null: days, microseconds."""
    present = column.drop_null() if column.null_count else column
    if pa.types.is_timestamp(column.type):
        present = present.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64())
    elif pa.types.is_date(column.type):
        present = present.cast(pa.date32(), safe=False).cast(pa.int32())
    elif pa.types.is_decimal(column.type):
        present = present.cast(pa.string()).cast(pa.float64())  # the nearest float; a plain cast may give its neighbour
    return np.asarray(present.to_numpy(zero_copy_only=False), np.float64)


def bin_codes(column: pa.Array, bins: ColumnBins) -> npt.NDArray[np.intp]:
    """Return the bin of each row, the rest and null being the last two, shape (n,).

    The column is of the kind that its bins were made for, or all null.
    """
    size = len(bins.edges) + 1 if bins.categories is None else len(bins.categories)
    codes = np.full(len(column), size + 1, np.intp)
    here = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    if bins.categories is not None:
        texts = as_text(column.drop_null())
        found = pc.index_in(texts, value_set=pa.array(bins.categories, texts.type)).fill_null(size).to_numpy()
        codes[here] = found
    elif len(here):
        values = as_floats(column)
        finite = np.isfinite(values)
        codes[here[np.isinf(values)]] = size
        codes[here[finite]] = EdgeFinder(bins.edges).codes(values[finite])
    return codes


class Profiler:
    """Counts rows on given bins, batch by batch; memory does not grow with the rows.

    >>> bins = profile_bins(pa.table({"x": [1.0, 2.0, 3.0], "t": ["a", "b", "a"]}))
    >>> profiler = Profiler(bins)
    >>> profiler.update(pa.RecordBatch.from_pydict({"x": [2.0, None], "t": ["a", "z"]}))
    >>> profile = profiler.profile()
    >>> profile.rows, profile.columns["x"].nulls, profile.columns["t"].rest
    (2, 1, 1)
    """

    def __init__(self, bins: ProfileBins) -> None:
        self.bins = bins
        self.rows = 0
        self._columns: dict[str, _Numbers | _Categories] = {
            name: _Categories(of) if of.categories is not None else _Numbers(of) for name, of in bins.columns.items()
        }

    def update(self, batch: pa.RecordBatch) -> None:
        """Count a batch; columns that have no bins are left out.

        Raises
        ------
        ProfileMismatchError
            If a column that has bins is missing, or of another kind than they are.
        """
        for name, counter in self._columns.items():
            place = batch.schema.get_field_index(name)
            if place < 0:
                raise ProfileMismatchError(f"column {name!r} has bins and is missing from the rows")
            column = plain_nulls(batch.column(place))
            if not pa.types.is_null(column.type) and kind_of(column.type) != self.bins.kinds[name]:
                raise ProfileMismatchError(
                    f"column {name!r} has the type {column.type}; its bins are those of a {self.bins.kinds[name]}"
                )
            counter.nulls += column.null_count
            if column.null_count < len(column):
                counter.update(column)
        self.rows += batch.num_rows

    def profile(self, *, duplicates: int | None = None) -> PartitionProfile:
        """Return the profile of what was counted so far."""
        columns = {name: counter.profile(self.bins.kinds[name]) for name, counter in self._columns.items()}
        return PartitionProfile(self.rows, columns, duplicates)


class _Numbers:
    """The counts of a column of numbers, dates or times."""

    def __init__(self, bins: ColumnBins) -> None:
        self.bins, self.nulls, self.nan, self.infinite = bins, 0, 0, 0
        self._finder = EdgeFinder(bins.edges)
        self._counts = np.zeros(len(bins.edges) + 1, np.int64)
        self._sums = np.zeros(len(bins.edges) + 1)
        self._low, self._high = np.inf, -np.inf

    def update(self, column: pa.Array) -> None:
        values = as_floats(column)
        finite = np.isfinite(values)
        if not finite.all():
            nan = int(np.isnan(values).sum())
            self.nan += nan
            self.infinite += len(values) - int(finite.sum()) - nan
            values = values[finite]
            if not len(values):
                return
        for start in range(0, len(values), NEAR):
            self._count(values[start : start + NEAR])

    def _count(self, values: Floats) -> None:
        """Count finite values, few enough to stay near the processor on their way through its steps."""
        codes = self._finder.codes(values)
        self._counts += np.bincount(codes, minlength=len(self._counts))
        with np.errstate(over="ignore", invalid="ignore"):
            self._sums += np.bincount(codes, values, minlength=len(self._sums))
        self._low, self._high = min(self._low, values.min()), max(self._high, values.max())

    def profile(self, kind: str) -> ColumnProfile:
        any_value = bool(self._counts.any())
        return ColumnProfile(
            kind,
            self.bins.digest,
            tuple(self._counts.tolist()),
            tuple(np.nan_to_num(self._sums).tolist()),
            nulls=self.nulls,
            nan=self.nan,
            infinite=self.infinite,
            low=float(self._low) if any_value else None,
            high=float(self._high) if any_value else None,
        )


class _Categories:
    """The counts of a column of anything else."""

    def __init__(self, bins: ColumnBins) -> None:
        self.bins, self.nulls, self.rest, self.categories = bins, 0, 0, bins.categories or ()
        self._counts = np.zeros(len(self.categories), np.int64)
        self._first: str | None = None
        self._several = False

    def update(self, column: pa.Array) -> None:
        if pa.types.is_dictionary(column.type):  # each word is looked up once, however many rows have it
            rows = np.bincount(column.indices.drop_null().to_numpy(), minlength=len(column.dictionary))
            held = np.flatnonzero(rows)
            self._add(as_text(column.dictionary.take(pa.array(held))), rows[held])
        else:
            self._add(as_text(column))

    def _add(self, texts: pa.Array, rows: Counts | None = None) -> None:
        """Count texts, each as many times as ``rows`` says, or once."""
        found = pc.index_in(texts, value_set=pa.array(self.categories, texts.type)).fill_null(-1).to_numpy()
        size = len(self.categories)
        counts = np.bincount(np.where(found < 0, size, found), rows, minlength=size + 1).astype(np.int64)
        self._counts += counts[:size]
        self.rest += int(counts[size]) - texts.null_count
        if not self._several:
            if self._first is None:
                self._first = texts.drop_null()[0].as_py()
            self._several = bool(pc.any(pc.not_equal(texts, self._first)).as_py())

    def profile(self, kind: str) -> ColumnProfile:
        only = None if self._first is None else hashlib.sha256(self._first.encode()).hexdigest()[:16]
        return ColumnProfile(
            kind,
            self.bins.digest,
            tuple(self._counts.tolist()),
            rest=self.rest,
            nulls=self.nulls,
            categories=self.categories,
            only=SEVERAL if self._several else only,
        )
