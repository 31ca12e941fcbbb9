"""Profile a stream of rows on bins that were made from a sample of earlier rows."""

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
from airflow_mlops.core.declaration.arrow_types import column_kind
from airflow_mlops.core.errors import ProfileMismatchError

LONGEST_CATEGORY = 200
"""Characters of the longest text that counts as a category; longer texts are prose."""
CHUNK = 16_384
"""Values counted at a time, few enough to stay in the processor's cache through all steps."""


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
        kinds, columns = {}, {}
        for name, fields in values.items():
            categories = fields["categories"]
            kinds[name] = fields["kind"]
            columns[name] = ColumnBins(tuple(fields["edges"]), None if categories is None else tuple(categories))
        return cls(kinds, columns)

    def extend(self, sample: pa.Table) -> ProfileBins:
        """Return these bins with bins for the further columns of ``sample``."""
        new = profile_bins(sample.select([name for name in sample.column_names if name not in self.columns]))
        return ProfileBins({**self.kinds, **new.kinds}, {**self.columns, **new.columns})


def profile_bins(sample: pa.Table) -> ProfileBins:
    """Return the bins of a uniform sample of rows: quantiles of numbers and times, else the most frequent values.

    Parameters
    ----------
    sample : pyarrow.Table
        Rows without the key and without columns whose values must not be stored, shape (n_rows, n_columns).
    """
    kinds = {field.name: column_kind(field.type) for field in sample.schema}
    columns = {}
    for name, kind in kinds.items():
        column = sample.column(name).combine_chunks()
        if kind == "category":
            columns[name] = ColumnBins(categories=most_frequent(category_text(column)))
        else:
            columns[name] = ColumnBins(quantile_edges(to_floats(column)))
    return ProfileBins(kinds, columns)


def most_frequent(texts: pa.Array) -> tuple[str, ...]:
    """Return the 50 most frequent texts in alphabetical order; of equally frequent texts the first ones."""
    counted = texts.drop_null().value_counts()
    pairs = zip(counted.field("counts").to_pylist(), counted.field("values").to_pylist(), strict=True)
    ranked = sorted((-count, text) for count, text in pairs if len(text) <= LONGEST_CATEGORY)
    return tuple(sorted(text for _, text in ranked[:CATEGORIES]))


def decode_nulls(column: pa.Array) -> pa.Array:
    """Return a column whose nulls are all marked in its rows, and not as a null value of its dictionary."""
    if pa.types.is_dictionary(column.type) and column.dictionary.null_count:
        return column.dictionary_decode()
    return column


def category_text(column: pa.Array) -> pa.Array:
    """Return a column of categories as text, a boolean as ``True`` or ``False``; null stays null."""
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "True", "False")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    return column.cast(pa.large_string())


def to_floats(column: pa.Array) -> Floats:
    """Return the values that are not null of a column as floats, shape (n_values,): dates in days, times in µs."""
    present = column.drop_null() if column.null_count else column
    if pa.types.is_timestamp(column.type):
        present = present.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64())
    elif pa.types.is_date(column.type):
        present = present.cast(pa.date32(), safe=False).cast(pa.int32())
    elif pa.types.is_decimal(column.type):
        present = present.cast(pa.string()).cast(pa.float64())  # the nearest float; a plain cast may give its neighbour
    return np.asarray(present.to_numpy(zero_copy_only=False), np.float64)


def bin_codes(column: pa.Array, bins: ColumnBins) -> npt.NDArray[np.intp]:
    """Return the bin of each row, shape (n_rows,); the last two bins are the rest and null.

    The column has the kind of its bins, or is null throughout.
    """
    size = len(bins.edges) + 1 if bins.categories is None else len(bins.categories)
    codes = np.full(len(column), size + 1, np.intp)
    present = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    if bins.categories is not None:
        texts = category_text(column.drop_null())
        codes[present] = pc.index_in(texts, value_set=pa.array(bins.categories, texts.type)).fill_null(size).to_numpy()
    elif len(present):
        values = to_floats(column)
        finite = np.isfinite(values)
        codes[present[np.isinf(values)]] = size
        codes[present[finite]] = EdgeFinder(bins.edges).codes(values[finite])
    return codes


class Profiler:
    """Counts rows on given bins, batch by batch, in bounded memory.

    Parameters
    ----------
    bins : ProfileBins
        The bins of the columns that are counted.
    keep_chunks : bool, default False
        Whether to keep the sums of each chunk of values, for :meth:`merge` in another process; they grow with the rows.

    >>> bins = profile_bins(pa.table({"x": [1.0, 2.0, 3.0], "t": ["a", "b", "a"]}))
    >>> profiler = Profiler(bins)
    >>> profiler.update(pa.RecordBatch.from_pydict({"x": [2.0, None], "t": ["a", "z"]}))
    >>> profile = profiler.profile()
    >>> profile.rows, profile.columns["x"].nulls, profile.columns["t"].rest
    (2, 1, 1)
    """

    def __init__(self, bins: ProfileBins, *, keep_chunks: bool = False) -> None:
        self.bins = bins
        self.rows = 0
        self._columns: dict[str, _Numbers | _Categories] = {
            name: _Numbers(column, keep_chunks=keep_chunks) if column.categories is None else _Categories(column)
            for name, column in bins.columns.items()
        }

    def counts(self) -> dict[str, Any]:
        """Return the counts so far as plain values, for :meth:`merge` in another process."""
        return {"rows": self.rows, "columns": {name: column.counts() for name, column in self._columns.items()}}

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add the counts of the rows after those counted so far, on the same bins.

        Sums are added chunk by chunk in the order of the rows, so that each is rounded as if all had been counted here.
        """
        self.rows += counts["rows"]
        for name, column in self._columns.items():
            column.merge(counts["columns"][name])

    def update(self, batch: pa.RecordBatch) -> None:
        """Count a batch; columns without bins are left out.

        Raises
        ------
        ProfileMismatchError
            If a column with bins is missing, or has another kind than its bins.
        """
        for name, counter in self._columns.items():
            place = batch.schema.get_field_index(name)
            if place < 0:
                raise ProfileMismatchError(f"column {name!r} has bins and is missing from the rows")
            column = decode_nulls(batch.column(place))
            if not pa.types.is_null(column.type) and column_kind(column.type) != self.bins.kinds[name]:
                raise ProfileMismatchError(
                    f"column {name!r} has the type {column.type}; its bins are those of a {self.bins.kinds[name]}"
                )
            counter.nulls += column.null_count
            if column.null_count < len(column):
                counter.update(column)
        self.rows += batch.num_rows

    def profile(self, *, duplicates: int | None = None) -> PartitionProfile:
        """Return the profile of the rows so far."""
        columns = {name: counter.profile(self.bins.kinds[name]) for name, counter in self._columns.items()}
        return PartitionProfile(self.rows, columns, duplicates)


class _Numbers:
    """The counts of a column of numbers, dates or times."""

    def __init__(self, bins: ColumnBins, *, keep_chunks: bool) -> None:
        self.bins, self.nulls, self.nan, self.infinite = bins, 0, 0, 0
        self._finder = EdgeFinder(bins.edges)
        self._counts = np.zeros(len(bins.edges) + 1, np.int64)
        self._sums = np.zeros(len(bins.edges) + 1)
        self._chunks: list[Floats] | None = [] if keep_chunks else None
        self._low, self._high = np.inf, -np.inf

    def counts(self) -> dict[str, Any]:
        return {
            "nulls": self.nulls,
            "nan": self.nan,
            "infinite": self.infinite,
            "counts": self._counts.tobytes(),
            "chunks": np.array(self._chunks or []).tobytes(),
            "low": float(self._low),
            "high": float(self._high),
        }

    def merge(self, counts: Mapping[str, Any]) -> None:
        self.nulls += counts["nulls"]
        self.nan += counts["nan"]
        self.infinite += counts["infinite"]
        self._counts += np.frombuffer(counts["counts"], np.int64)
        for sums in np.frombuffer(counts["chunks"], np.float64).reshape(-1, len(self._counts)):
            self._add_sums(sums)
        self._low, self._high = min(self._low, counts["low"]), max(self._high, counts["high"])

    def update(self, column: pa.Array) -> None:
        values = to_floats(column)
        finite = np.isfinite(values)
        if not finite.all():
            nan = int(np.isnan(values).sum())
            self.nan += nan
            self.infinite += len(values) - int(finite.sum()) - nan
            values = values[finite]
            if not len(values):
                return
        for start in range(0, len(values), CHUNK):
            self._count(values[start : start + CHUNK])

    def _count(self, values: Floats) -> None:
        """Count at most ``CHUNK`` finite values."""
        codes = self._finder.codes(values)
        self._counts += np.bincount(codes, minlength=len(self._counts))
        with np.errstate(over="ignore", invalid="ignore"):
            sums: Floats = np.bincount(codes, values, minlength=len(self._sums)).astype(np.float64, copy=False)
        if self._chunks is not None:
            self._chunks.append(sums)
        self._add_sums(sums)
        self._low, self._high = min(self._low, values.min()), max(self._high, values.max())

    def _add_sums(self, sums: Floats) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            self._sums += sums

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
    """The counts of a column of categories."""

    def __init__(self, bins: ColumnBins) -> None:
        self.bins, self.nulls, self.rest, self.categories = bins, 0, 0, bins.categories or ()
        self._counts = np.zeros(len(self.categories), np.int64)
        self._first: str | None = None
        self._several = False

    def counts(self) -> dict[str, Any]:
        return {
            "nulls": self.nulls,
            "rest": self.rest,
            "counts": self._counts.tobytes(),
            "first": self._first,
            "several": self._several,
        }

    def merge(self, counts: Mapping[str, Any]) -> None:
        self.nulls += counts["nulls"]
        self.rest += counts["rest"]
        self._counts += np.frombuffer(counts["counts"], np.int64)
        first = counts["first"]
        self._several |= counts["several"] or (None not in (first, self._first) and first != self._first)
        self._first = self._first if self._first is not None else first

    def update(self, column: pa.Array) -> None:
        if pa.types.is_dictionary(column.type):  # each value is looked up once, not once a row
            rows = np.bincount(column.indices.drop_null().to_numpy(), minlength=len(column.dictionary))
            used = np.flatnonzero(rows)
            self._add(category_text(column.dictionary.take(pa.array(used))), rows[used])
        else:
            self._add(category_text(column))

    def _add(self, texts: pa.Array, rows: Counts | None = None) -> None:
        """Count texts, shape (n,), each with its number of rows, or once."""
        size = len(self.categories)
        places = pc.index_in(texts, value_set=pa.array(self.categories, texts.type)).fill_null(size).to_numpy()
        counts = np.bincount(places, rows, minlength=size + 1).astype(np.int64)
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
