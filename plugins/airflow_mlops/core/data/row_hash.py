"""A hash of each row that depends on what the row says, and on nothing else.

Every cell is brought to one canonical 64-bit word by its kind (an integer whatever its width, a moment
whatever its zone, a text whatever its encoding), mixed, and multiplied by an odd constant of its
column's name; the row is the mixed sum. So neither the order of columns nor the layout of batches
matters, and values that change places between columns show.

The hash tells accidents, not forgers: its constants are public, so that whoever wants two rows with the
same hash can make them. Forgery is what signatures are for.
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

from airflow_mlops.core.errors import DataError

Hashes = npt.NDArray[np.uint64]

TEXT_KEY = "airflow-mlops-01"
"""Key of SipHash, 16 characters as it wants them; another one would change every digest ever recorded."""
NULL = np.uint64(0x9E3779B97F4A7C15)
WIDEST = pa.decimal256(76, 38)
PROBE = 512
"""Values of a column of text that are looked at to tell whether they repeat."""


@dataclass(frozen=True)
class HashedRows:
    """The hashes of a batch.

    ``rows`` and ``second`` are two independent hashes of each row. ``keys`` is the hash of each row's key and
    ``rest`` that of everything but the key, where a key was named. All have the shape (n_rows,).
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
        Column whose hash is returned too, and without which ``rest`` is taken.

    Raises
    ------
    DataError
        If a column has a type that has no canonical form here.
    """
    # Not from zero, so that a row of zeros has a hash like any other.
    first, second = (np.full(batch.num_rows, start) for start in constants(""))
    kinds: dict[str, str] = {}
    keys = rest = None
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kinds[name], cells = hash_cells(name, column)
        one, other = constants(name)
        share = cells * one
        first += share
        np.multiply(cells, other, out=cells)
        second += cells
        if name == key:
            keys = share
    if keys is not None:
        rest = mixed(first - keys)
        keys = mixed(keys)
    return HashedRows(kinds, mixed(first), mixed(second), keys, rest)


def hash_cells(name: str, column: pa.Array) -> tuple[str, Hashes]:
    """Return the kind of a column and a well mixed 64-bit hash of each of its cells; equal values hash alike.

    Parameters
    ----------
    name : str
        For the error.
    column : pyarrow.Array

    Raises
    ------
    DataError
        If the type has no canonical form here.
    """
    if pa.types.is_dictionary(column.type):
        return _dictionary(name, column)
    kind, words_of = _canonical(name, column.type)
    if kind == "null":
        return kind, np.full(len(column), NULL, np.uint64)
    words = words_of(column)
    if column.null_count:
        words[column.is_null().to_numpy(zero_copy_only=False)] = NULL
    return kind, words


def _dictionary(name: str, column: Any) -> tuple[str, Hashes]:
    kind, cells = hash_cells(name, column.dictionary)
    places = pc.fill_null(column.indices, 0).to_numpy(zero_copy_only=False)
    words = cells[places] if len(cells) else np.full(len(column), NULL, np.uint64)
    if column.indices.null_count:
        words[column.indices.is_null().to_numpy(zero_copy_only=False)] = NULL
    return kind, words


def _canonical(name: str, kind: pa.DataType) -> tuple[str, Callable[[Any], Hashes]]:
    """Return the word for a type and the function that hashes its values, whatever stands under a null."""
    types = pa.types
    if types.is_floating(kind):
        return "float", _floats
    if types.is_integer(kind):
        return "int", _integers
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text", _texts
    if types.is_boolean(kind):
        return "bool", lambda column: mixed(_plain(column, value=False).astype(np.uint64))
    if types.is_timestamp(kind):
        return f"time[{'UTC' if kind.tz else ''}]", lambda column: _moments(name, column)
    if types.is_date(kind):
        return "date", lambda column: _integers(column.cast(pa.date32()).cast(pa.int32()))
    if types.is_decimal(kind):
        return "decimal", lambda column: _decimals(name, column)
    if types.is_null(kind):
        return "null", _integers
    raise DataError(f"column {name!r} has the type {kind}; text, numbers, booleans, dates and times are supported")


def mixed(words: Hashes) -> Hashes:
    """Return ``words`` mixed in place by the finaliser of SplitMix64: a bijection, every bit moves every other."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


@lru_cache(maxsize=4096)
def constants(name: str) -> tuple[np.uint64, np.uint64]:
    """Return the two odd constants of a column's name, one for each lane."""
    digest = hashlib.sha256(b"column:" + name.encode()).digest()
    one, other = (int.from_bytes(digest[start : start + 8], "little") | 1 for start in (0, 8))
    return np.uint64(one), np.uint64(other)


def _plain(column: Any, *, value: Any) -> npt.NDArray[Any]:
    filled = pc.fill_null(column, value) if column.null_count else column
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _integers(column: Any) -> Hashes:
    values = _plain(column, value=0)
    if values.dtype == np.uint64:
        # Beyond int64 the same bits would be a negative number.
        return mixed(np.where(values > np.uint64(2**63 - 1), ~mixed(values.copy()), values))
    return mixed(values.astype(np.int64).view(np.uint64))


def _floats(column: Any) -> Hashes:
    values = _plain(column, value=0.0).astype(np.float64, copy=False) + 0.0  # which turns -0.0 into 0.0
    values[np.isnan(values)] = np.nan
    return mixed(values.view(np.uint64))


def _moments(name: str, column: Any) -> Hashes:
    try:
        # A moment is the same in every zone, and stores bring all zones to one.
        return _integers(column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64()))
    except pa.ArrowInvalid as error:
        if column.type.unit != "ns":
            raise DataError(f"column {name!r} has times beyond the year 290,000, which no snapshot keeps") from error
        raise DataError(f"column {name!r} has times finer than a microsecond, which no snapshot keeps") from error


def _decimals(name: str, column: Any) -> Hashes:
    """Hash 1.5 and 1.50 alike: all are brought to one width and scale, and its four words are mixed."""
    try:
        wide = column.cast(WIDEST)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"column {name!r} of the type {column.type} has values of more than 38 digits before or after the point"
        ) from error
    whole = np.frombuffer(wide.buffers()[1], np.uint64).reshape(-1, 4)[wide.offset : wide.offset + len(wide)]
    words = np.zeros(len(wide), np.uint64)
    for place in range(4):
        words = mixed(words + whole[:, place] + np.uint64(place))
    return words


def _texts(column: Any) -> Hashes:
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    probe = column.slice(0, PROBE)
    if len(column) > PROBE and len(probe.unique()) <= PROBE // 2:
        found = column.dictionary_encode()
        cells = _hashed_texts(found.dictionary)
        places = _plain(found.indices, value=0)
        return cells[places] if len(cells) else np.zeros(len(column), np.uint64)
    return _hashed_texts(column)


def _hashed_texts(column: Any) -> Hashes:
    values = column.to_numpy(zero_copy_only=False)
    return np.asarray(hash_array(values, hash_key=TEXT_KEY, categorize=False), dtype=np.uint64)
