"""Features as Arrow columns: what a model is given, in the form in which rows are counted.

Numbers of pandas are taken as they lie in memory. What Arrow has no plain type for, such as a column that mixes
numbers and text, counts as the text that Python writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.profiles.profile_rows import as_text, kind_of


def feature_table(frame: pd.DataFrame) -> pa.Table:
    """Return the columns of a frame, each of a type that can be counted, shape (n_rows, n_columns)."""
    return pa.table({str(name): arrow_column(frame[name]) for name in frame.columns})


def arrow_column(column: pd.Series[Any]) -> pa.Array | pa.ChunkedArray:
    """Return a column as Arrow has it, or as text if it has no plain type there."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        return pa.array(column.to_numpy())  # the memory as it is: NaN is counted as NaN
    try:
        found = pa.array(column)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return as_words(column)
    return found if is_plain(found.type) else as_words(column)


def is_plain(kind: pa.DataType) -> bool:
    """Whether values of a type are numbers, times, truth values or text, or all null."""
    if pa.types.is_dictionary(kind):
        return bool(pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_timestamp,
        pa.types.is_date,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_null,
    )
    return any(test(kind) for test in tests)


def as_words(column: pd.Series[Any]) -> pa.Array:
    """Return the text that Python writes of each value; null stays null."""
    return pa.array(
        [None if null else str(value) for value, null in zip(column, column.isna(), strict=True)], pa.string()
    )


def unified(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Return the tables with the same columns of the same types.

    A column that a table lacks is null there. One that is of several kinds, as text here and numbers there, is text.
    """
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    columns: dict[str, list[pa.ChunkedArray]] = {}
    for name in names:
        of = [
            table.column(name) if name in table.column_names else pa.chunked_array([pa.nulls(table.num_rows)])
            for table in tables
        ]
        columns[name] = of if len({one.type for one in of}) == 1 else as_one_type(of)
    return [pa.table({name: of[place] for name, of in columns.items()}) for place in range(len(tables))]


def as_one_type(columns: list[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Return columns of several types as columns of one: the type they have, floats, or text."""
    types = {column.type for column in columns if not pa.types.is_null(column.type)}
    kinds = {kind_of(one) for one in types}
    if len(types) == 1:
        (kind,) = types
    else:
        kind = pa.float64() if kinds == {"number"} else pa.large_string()
    return [column.cast(kind) if not pa.types.is_large_string(kind) else texts(column) for column in columns]


def texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as text."""
    return pa.chunked_array([as_text(chunk).cast(pa.large_string()) for chunk in column.chunks], pa.large_string())
