"""The rows of a fit: features, label and the order of the rows in time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.errors import TrainingError

LABEL, MOMENT, WEIGHT = "__label__", "__moment__", "__weight__"
"""Columns of the file beside the features."""
LEVELS = b"levels"
"""Metadata of the file: the levels of each category of text, which Parquet keeps only where rows have them."""
NAN = b"missing_is_nan"
"""Metadata of the file: which columns of type object have NaN where a value is missing."""


class RowsToFit(Protocol):
    """The rows of a fit, read when they are needed: a runner whose job has them already never loads them."""

    def load(self) -> FitRows:
        """Return the rows."""


@dataclass(frozen=True)
class UnreadRows:
    """Rows that ``read`` reads."""

    read: Callable[[], FitRows]

    def load(self) -> FitRows:
        """Read and return the rows."""
        return self.read()


@dataclass(frozen=True)
class FitRows:
    """Features, shape (n_rows, n_features), and row by row the label, the moment and the weight.

    ``moment`` counts the different times of rows upwards from 0, so rows of the same moment share a number. It is
    None where the fit does not split rows in time, and ``weight`` where none is declared.
    """

    features: pd.DataFrame
    label: npt.NDArray[Any]
    moment: npt.NDArray[np.int64] | None = None
    weight: npt.NDArray[np.float64] | None = None

    def load(self) -> FitRows:
        """Return these rows."""
        return self

    def write(self, path: Path) -> None:
        """Write the rows as one Parquet file that only its owner can read.

        Raises
        ------
        TrainingError
            If a feature cannot be kept in Parquet, or has a name that the file needs for itself.
        """
        reserved = sorted({LABEL, MOMENT, WEIGHT} & set(self.features.columns))
        if reserved:
            raise TrainingError(f"a feature is called {reserved[0]!r}, which the file of the rows needs; rename it")
        table = feature_table(self.features).append_column(LABEL, pa.array(self.label))
        for name, values in ((MOMENT, self.moment), (WEIGHT, self.weight)):
            if values is not None:
                table = table.append_column(name, pa.array(values))
        path.touch(mode=0o600)
        pq.write_table(table, path)

    @classmethod
    def read(cls, path: Path) -> FitRows:
        """Return the rows that ``write`` wrote, with the same types."""
        table = pq.read_table(path)
        label = table[LABEL].to_numpy()
        present = [name for name in (LABEL, MOMENT, WEIGHT) if name in table.column_names]
        moment, weight = (table[name].to_numpy() if name in present else None for name in (MOMENT, WEIGHT))
        return cls(features_of(table.drop_columns(present)), label, moment, weight)


def feature_table(features: pd.DataFrame) -> pa.Table:
    """Return features as a table for Parquet, with what :func:`features_of` needs to give them the same types.

    Raises
    ------
    TrainingError
        If a feature cannot be kept in Parquet.
    """
    try:
        table = pa.Table.from_pandas(features, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise TrainingError(f"the features cannot be handed to another process: {error}") from error
    # Parquet has one missing value, and an estimator may tell None and NaN apart.
    metadata = table.schema.metadata | {
        NAN: json.dumps(nan_columns(features)).encode(),
        LEVELS: json.dumps(levels_of_text(features)).encode(),
    }
    return table.replace_schema_metadata(metadata)


def features_of(table: pa.Table) -> pd.DataFrame:
    """Return the features of a table that :func:`feature_table` made, with the same types."""
    features: pd.DataFrame = table.to_pandas()
    # pandas reads text back as its own type of text, whatever type it had.
    nan = json.loads(table.schema.metadata[NAN])
    for name in object_columns(table.schema):
        values = table[name].to_pylist()
        filled = [math.nan if value is None else value for value in values] if name in nan else values
        features[name] = pd.Series(filled, dtype=object)
    for name, (levels, text) in json.loads(table.schema.metadata.get(LEVELS, b"{}")).items():
        kind = pd.CategoricalDtype(pd.Index(levels, dtype=text))
        codes = kind.categories.get_indexer(pd.Index(table[name].to_pylist(), dtype=object))
        features[name] = pd.Categorical.from_codes(codes.tolist(), dtype=kind)
    return features


def object_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that were of type object when pandas gave them."""
    described = (schema.pandas_metadata or {}).get("columns", [])
    return [
        column["name"]
        for column in described
        if column["numpy_type"] == "object" and column["pandas_type"] != "categorical"
    ]


def levels_of_text(features: pd.DataFrame) -> dict[str, tuple[list[str], str]]:
    """Return the levels of the categories of text that have no order, and the type of the levels, by column."""
    categories = {}
    for name, kind in features.dtypes.items():
        if isinstance(kind, pd.CategoricalDtype) and not kind.ordered and kind.categories.dtype in ("str", object):
            levels = kind.categories.tolist()
            if all(isinstance(level, str) for level in levels):
                categories[str(name)] = (levels, str(kind.categories.dtype))
    return categories


def nan_columns(features: pd.DataFrame) -> list[str]:
    """Return the columns of type object in which a missing value is NaN and not None."""
    names = [name for name in features.columns if features[name].dtype == object]
    return [
        name for name in names if any(isinstance(value, float) for value in features.loc[features[name].isna(), name])
    ]


def moments(time: pd.Series[Any]) -> npt.NDArray[np.int64]:
    """Return the rank in time of each row, from 0; rows of the same time share a rank.

    >>> moments(pd.Series(pd.to_datetime(["2013-01-02", "2013-01-01", "2013-01-02"]))).tolist()
    [1, 0, 1]
    """
    codes, _ = pd.factorize(time, sort=True)
    return codes.astype(np.int64)
