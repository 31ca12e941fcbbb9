"""A digest of what a table says, whatever the order of its rows, its files or its engine.

Rows are ordered by all columns that are needed to tell them apart, each column is brought to one
canonical type, and nulls are hashed as nulls. NaN counts as NaN, and -0.0 as 0.0.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.errors import DataError


def content_digest(table: pa.Table, *, key: str) -> str:
    """Return the SHA-256 of a table's content as hexadecimal text.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of text, numbers, booleans, dates or timestamps.
    key : str
        Column that tells rows apart; where it does not, all columns do.

    Raises
    ------
    DataError
        If a column has a type that has no canonical form here.
    """
    names = sorted(table.column_names)
    ordered = in_canonical_order(sortable(table.select(names)), key)
    total = hashlib.sha256(f"{table.num_rows}".encode())
    for name in names:
        kind, parts = canonical_column(name, ordered.column(name))
        total.update(f"|{name}|{kind}|".encode())
        for part in parts:
            total.update(part)
    return total.hexdigest()


def sortable(table: pa.Table) -> pa.Table:
    """Return ``table`` with its columns of text in a form that Arrow can sort."""
    plain = [
        field.with_type(pa.large_string()) if pa.types.is_string_view(field.type)
        else field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type)
        else field
        for field in table.schema
    ]  # fmt: skip
    return table.cast(pa.schema(plain))


def in_canonical_order(table: pa.Table, key: str) -> pa.Table:
    """Return ``table`` sorted by its key, and by every column where keys repeat."""
    by = [(key, "ascending")]
    if pc.count_distinct(table.column(key), mode="all").as_py() != table.num_rows:
        by += [(name, "ascending") for name in sorted(table.column_names) if name != key]
    return table.sort_by(by)


def canonical_column(name: str, column: pa.ChunkedArray) -> tuple[str, list[bytes]]:
    """Return a column's kind and its bytes: a mask of nulls, then the values with nulls blanked."""
    mask = pc.is_null(column).to_numpy().tobytes()
    kind = column.type
    if pa.types.is_boolean(kind):
        return "bool", [mask, _numbers(column, False, np.uint8)]
    if pa.types.is_integer(kind):
        return "int", [mask, _numbers(column, 0, np.int64)]
    if pa.types.is_floating(kind):
        values = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy() + 0.0
        values[np.isnan(values)] = np.nan
        return "float", [mask, values.tobytes()]
    if pa.types.is_timestamp(kind):
        try:
            micros = column.cast(pa.timestamp("us", tz=kind.tz)).cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise DataError(f"column {name!r} has times finer than a microsecond, which no snapshot keeps") from error
        # A moment is the same in every zone, and stores bring all zones to one.
        return f"time[{'UTC' if kind.tz else ''}]", [mask, _numbers(micros, 0, np.int64)]
    if pa.types.is_date(kind):
        return "date", [mask, _numbers(column.cast(pa.date32()).cast(pa.int32()), 0, np.int64)]
    if pa.types.is_null(kind):
        return "null", [mask]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text", [mask, *_text(column)]
    raise DataError(f"column {name!r} has the type {kind}; text, numbers, booleans, dates and times are supported")


def _numbers(column: pa.ChunkedArray, blank: Any, dtype: Any) -> bytes:
    return bytes(np.asarray(pc.fill_null(column, blank).to_numpy()).astype(dtype).tobytes())


def _text(column: pa.ChunkedArray) -> list[bytes]:
    filled = pc.fill_null(column.cast(pa.large_string()), "")
    lengths = pc.binary_length(filled).to_numpy().astype(np.int64).tobytes()
    return [lengths, "".join(filled.to_pylist()).encode()]
