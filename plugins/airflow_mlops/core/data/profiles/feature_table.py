"""Features as Arrow tables, in types that can be counted.

Floats of pandas are not copied. A column without a plain Arrow type, such as one that mixes numbers and text, becomes
the text of its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.profiles.profile_rows import category_text
from airflow_mlops.core.declaration.arrow_types import column_kind, is_text


def feature_table(frame: pd.DataFrame) -> pa.Table:
    """Return a frame as a table of columns that can be counted, shape (n_rows, n_columns)."""
    return pa.table({str(name): arrow_column(frame[name]) for name in frame.columns})


def arrow_column(column: pd.Series[Any]) -> pa.Array | pa.ChunkedArray:
    """Return a column as an Arrow array, as text if it has no plain Arrow type."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        return pa.array(column.to_numpy())  # from_pandas would turn NaN into null, and NaN is counted apart
    try:
        array = pa.array(column)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return format_values(column)
    return array if is_countable(array.type) else format_values(column)


def is_countable(kind: pa.DataType) -> bool:
    """Return whether values of a type are numbers, times, booleans, text, or null throughout."""
    if pa.types.is_dictionary(kind):
        return bool(pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))
    if column_kind(kind) != "category":
        return True
    return is_text(kind) or bool(pa.types.is_boolean(kind) or pa.types.is_null(kind))


def format_values(column: pd.Series[Any]) -> pa.Array:
    """Return the values of a column as text; null stays null."""
    return pa.array(
        [None if null else str(value) for value, null in zip(column, column.isna(), strict=True)], pa.string()
    )


def unify_tables(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Return tables with the same columns of the same types.

    A column that a table lacks is null there. A column of several kinds, such as text and numbers, becomes text.
    """
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    columns: dict[str, list[pa.ChunkedArray]] = {}
    for name in names:
        parts = [
            table.column(name) if name in table.column_names else pa.chunked_array([pa.nulls(table.num_rows)])
            for table in tables
        ]
        columns[name] = parts if len({part.type for part in parts}) == 1 else unify_types(parts)
    return [pa.table({name: parts[place] for name, parts in columns.items()}) for place in range(len(tables))]


def unify_types(columns: list[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Return columns of several types as columns of one type: the only type besides null, floats, or text."""
    types = {column.type for column in columns if not pa.types.is_null(column.type)}
    kinds = {column_kind(kind) for kind in types}
    if len(types) == 1:
        (kind,) = types
    else:
        kind = pa.float64() if kinds == {"number"} else pa.large_string()
    return [column.cast(kind) if not pa.types.is_large_string(kind) else cast_to_text(column) for column in columns]


def cast_to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as text."""
    return pa.chunked_array(
        [category_text(chunk).cast(pa.large_string()) for chunk in column.chunks], pa.large_string()
    )
