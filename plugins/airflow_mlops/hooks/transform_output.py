"""Join the predictions that a job gave to the rows that it was given, and refuse what is not whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.errors import TransformError
from airflow_mlops.core.training.transform_server import KEY

if TYPE_CHECKING:
    from airflow_mlops.core.training.row_losses import Floats


def read_predictions(files: Sequence[Path], keys: Sequence[str], width: int | None, where: str) -> Floats:
    """Return the predictions of rows in the order of their keys, shape (n_rows,), or (n_rows, width).

    :param keys: the key of each row, each once
    :param width: count of numbers of a prediction; None where it is one number
    :param where: begins each error message
    :raises TransformError: if a file cannot be read, a type is another one, a row is missing, unknown or there twice,
        or a prediction is NaN or infinite
    """
    schema = pa.schema(
        [pa.field(KEY, pa.string()), *(pa.field(f"p{place}", pa.float64()) for place in range(width or 1))]
    )
    tables = [read_part(file, schema, f"{where}, file {place} of {len(files)}") for place, file in enumerate(files, 1)]
    table = pa.concat_tables(tables)
    given = pd.Index(table[KEY].to_pylist(), dtype=object)
    positions = require_each_row_once(given, pd.Index(list(keys), dtype=object), where)
    values = np.column_stack([table[name].to_numpy() for name in table.column_names if name != KEY])[positions]
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise TransformError(f"{where} gave {bad:,} NaN or infinite predictions for {len(keys):,} rows")
    return values if width is not None else values[:, 0]


def read_part(file: Path, schema: pa.Schema, where: str) -> pa.Table:
    """Return the table of a file of predictions.

    :raises TransformError: if it is no whole Parquet file of the schema, or has a null
    """
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise TransformError(f"{where} is no Parquet file of predictions: {error}") from error
    if not table.schema.remove_metadata().equals(schema):
        seen = ", ".join(f"{field.name}: {field.type}" for field in table.schema)
        expected = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise TransformError(f"{where} has the columns {seen}; a version of this loop gives {expected}")
    nulls = sum(column.null_count for column in table.columns)
    if nulls:
        raise TransformError(f"{where} has {nulls:,} nulls among {table.num_rows:,} rows")
    return table


def require_each_row_once(given: pd.Index, keys: pd.Index, where: str) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the position of each key among the given ones.

    :raises TransformError: if one is missing, unknown, or there twice
    """
    twice = given[given.duplicated()]
    if len(twice):
        raise TransformError(f"{where} gave {len(twice):,} rows more than once, the first of them {twice[0]!r}")
    positions = given.get_indexer(keys)
    missing = int(np.count_nonzero(positions < 0))
    if missing:
        first = keys[int(np.argmax(positions < 0))]
        raise TransformError(
            f"{where} gave predictions for {len(keys) - missing:,} of {len(keys):,} rows; the first without one is "
            f"{first!r}"
        )
    if len(given) > len(keys):
        unknown = given[keys.get_indexer(given) < 0][0]
        raise TransformError(f"{where} gave {len(given):,} rows for {len(keys):,}; {unknown!r} is none of them")
    return positions
