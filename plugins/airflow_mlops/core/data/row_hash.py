"""A hash of each row that depends on the values of the row alone.

Every cell becomes a canonical 64-bit word of its kind (independent of the width of an integer, the zone of a time, the
encoding of a text), is mixed, and multiplied by an odd constant of its column's name; the hash of the row is the mixed
sum. So neither the order of columns nor the layout of batches matters, and values that swap columns change the hash.

The hash detects accidents, not forgery: its constants are public, so two rows with the same hash can be constructed.
Signatures protect against forgery.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pandas.util import hash_array

from airflow_mlops.core.declaration.arrow_types import is_text
from airflow_mlops.core.declaration.key_columns import key_columns
from airflow_mlops.core.errors import DataError

Hashes = npt.NDArray[np.uint64]

TEXT_KEY = "airflow-mlops-01"
"""Key of SipHash, which needs 16 characters; another key would change every recorded digest."""
NULL = np.uint64(0x9E3779B97F4A7C15)
WIDEST = pa.decimal256(76, 38)
PROBE = 512
"""Number of texts of a column that are probed for repetition."""


@dataclass(frozen=True)
class HashedRows:
    """The hashes of a batch.

    ``rows`` and ``second`` are two independent hashes of each row. With a key column, ``keys`` is the hash of the key
    and ``rest`` that of all other columns. All have the shape (n_rows,).
    """

    kinds: dict[str, str]
    rows: Hashes
    second: Hashes
    keys: Hashes | None = None
    rest: Hashes | None = None


def hash_rows(batch: pa.RecordBatch, *, key: str | None = None) -> HashedRows:
    """Return the hashes of the rows of a batch, 64 bits each.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        Columns of text, numbers, booleans, dates or timestamps. Batches of at most 65,536 rows stay in the
        processor's cache.
    key : str, optional
        Column that identifies a row; its hash, and the hash of the columns that hold no part of the key, are returned
        too.

    Raises
    ------
    DataError
        If a column has a type without a canonical form.
    """
    # The sum does not start at zero, so that a row of zeros has a hash like any other.
    first, second = (np.full(batch.num_rows, start) for start in column_constants(""))
    kinds: dict[str, str] = {}
    keys = rest = None
    parts = key_columns(key) if key is not None else ()
    held = np.zeros(batch.num_rows, np.uint64)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kinds[name], cells = hash_cells(name, column)
        first_factor, second_factor = column_constants(name)
        share = cells * first_factor
        first += share
        np.multiply(cells, second_factor, out=cells)
        second += cells
        if name == key:
            keys = share
        if name == key or name in parts:
            held += share
    if keys is not None:
        rest = mix(first - held)
        keys = mix(keys)
    return HashedRows(kinds, mix(first), mix(second), keys, rest)


def hash_cells(name: str, column: pa.Array) -> tuple[str, Hashes]:
    """Return the kind of a column and a mixed 64-bit hash of each cell, shape (n_rows,); equal values hash alike.

    Parameters
    ----------
    name : str
        Name of the column, for the error.
    column : pyarrow.Array
        The cells, shape (n_rows,).

    Raises
    ------
    DataError
        If the type has no canonical form.
    """
    if pa.types.is_dictionary(column.type):
        return _hash_dictionary(name, column)
    if pa.types.is_null(column.type):
        return "null", np.full(len(column), NULL, np.uint64)
    kind, hash_values = _canonical_form(name, column.type)
    words = hash_values(column)
    if column.null_count:
        words[column.is_null().to_numpy(zero_copy_only=False)] = NULL
    return kind, words


def _hash_dictionary(name: str, column: Any) -> tuple[str, Hashes]:
    kind, cells = hash_cells(name, column.dictionary)
    places = pc.fill_null(column.indices, 0).to_numpy(zero_copy_only=False)
    words = cells[places] if len(cells) else np.full(len(column), NULL, np.uint64)
    if column.indices.null_count:
        words[column.indices.is_null().to_numpy(zero_copy_only=False)] = NULL
    return kind, words


def _canonical_form(name: str, kind: pa.DataType) -> tuple[str, Callable[[Any], Hashes]]:
    """Return the name of a kind of values and the function that hashes them; cells under a null may be anything."""
    types = pa.types
    if types.is_floating(kind):
        return "float", _hash_floats
    if types.is_integer(kind):
        return "int", _hash_integers
    if is_text(kind):
        return "text", _hash_texts
    if types.is_boolean(kind):
        return "bool", lambda column: mix(_to_numpy(column, value=False).astype(np.uint64))
    if types.is_timestamp(kind):
        return f"time[{'UTC' if kind.tz else ''}]", lambda column: _hash_times(name, column)
    if types.is_date(kind):
        return "date", lambda column: _hash_integers(column.cast(pa.date32()).cast(pa.int32()))
    if types.is_decimal(kind):
        return "decimal", lambda column: _hash_decimals(name, column)
    raise DataError(f"column {name!r} has the type {kind}; text, numbers, booleans, dates and times are supported")


def mix(words: Hashes) -> Hashes:
    """Mix ``words`` in place with the finaliser of SplitMix64, a bijection in which each bit affects every other."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


@lru_cache(maxsize=4096)
def column_constants(name: str) -> tuple[np.uint64, np.uint64]:
    """Return the two odd constants of a column's name, for the two hashes of a row."""
    digest = hashlib.sha256(b"column:" + name.encode()).digest()
    first, second = (int.from_bytes(digest[start : start + 8], "little") | 1 for start in (0, 8))
    return np.uint64(first), np.uint64(second)


def _to_numpy(column: Any, *, value: Any) -> npt.NDArray[Any]:
    filled = pc.fill_null(column, value) if column.null_count else column
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _hash_integers(column: Any) -> Hashes:
    values = _to_numpy(column, value=0)
    if values.dtype == np.uint64:
        # Beyond int64 the same bits would be those of a negative number.
        return mix(np.where(values > np.uint64(2**63 - 1), ~mix(values.copy()), values))
    return mix(values.astype(np.int64).view(np.uint64))


def _hash_floats(column: Any) -> Hashes:
    values = _to_numpy(column, value=0.0).astype(np.float64, copy=False) + 0.0  # which turns -0.0 into 0.0
    values[np.isnan(values)] = np.nan
    return mix(values.view(np.uint64))


def _hash_times(name: str, column: Any) -> Hashes:
    try:
        # A time is the same moment in every zone, and stores convert all zones to UTC.
        return _hash_integers(column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64()))
    except pa.ArrowInvalid as error:
        if column.type.unit != "ns":
            raise DataError(f"column {name!r} has times beyond the year 290,000, which no snapshot keeps") from error
        raise DataError(f"column {name!r} has times finer than a microsecond, which no snapshot keeps") from error


def _hash_decimals(name: str, column: Any) -> Hashes:
    """Hash decimals of every scale alike (1.5 and 1.50): cast to one width and scale, and mix its four words."""
    try:
        wide = column.cast(WIDEST)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"column {name!r} of the type {column.type} has values of more than 38 digits before or after the point"
        ) from error
    parts = np.frombuffer(wide.buffers()[1], np.uint64).reshape(-1, 4)[wide.offset : wide.offset + len(wide)]
    words = np.zeros(len(wide), np.uint64)
    for place in range(4):
        words = mix(words + parts[:, place] + np.uint64(place))
    return words


def _hash_texts(column: Any) -> Hashes:
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    probe = column.slice(0, PROBE)
    if len(column) > PROBE and len(probe.unique()) <= PROBE // 2:
        encoded = column.dictionary_encode()
        cells = _hash_each_text(encoded.dictionary)
        places = _to_numpy(encoded.indices, value=0)
        return cells[places] if len(cells) else np.zeros(len(column), np.uint64)
    return _hash_each_text(column)


def _hash_each_text(column: Any) -> Hashes:
    values = column.to_numpy(zero_copy_only=False)
    return np.asarray(hash_array(values, hash_key=TEXT_KEY, categorize=False), dtype=np.uint64)
