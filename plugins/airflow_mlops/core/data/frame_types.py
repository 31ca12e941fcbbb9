"""Turn stored rows into pandas frames whose types follow from the contract alone.

pandas has no integer and no boolean for a missing value in its plain types: one null turns a whole column into floats
or objects, and integers beyond 2**53 lose digits. Here a whole number or a truth value that may be null is of the type
``Int64`` or ``boolean``, whether a null is there or not; one that is never null is of the plain type. Every other
type is the one in which pandas reads the stored type.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.declaration.key_columns import identifying_columns

if TYPE_CHECKING:
    from airflow_mlops.core.declaration.contract import Contract

NULLABLE_TYPES: dict[pa.DataType, Any] = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
"""The pandas types of stored types whose plain type has no missing value."""


def never_null(contract: Contract | None, key: str | None = None) -> frozenset[str]:
    """Return the columns of a data set that are never null: those that the contract declares so, and the key.

    Parameters
    ----------
    contract : Contract, optional
        The contract; without one, only the key is never null, whatever the rows at hand hold.
    key : str, optional
        The key of the rows; that of the contract if not given.
    """
    if contract is None:
        return frozenset() if key is None else identifying_columns(key)
    columns = contract.columns.items()
    declared = {name for name, column in columns if not (column.nullable or column.optional)}
    return frozenset(declared) | identifying_columns(key or contract.key)


def frame_of(rows: pa.Table, present: Collection[str] = ()) -> pd.DataFrame:
    """Return rows as a frame, in types that depend on the stored types and on ``present`` alone.

    Parameters
    ----------
    rows : pyarrow.Table, shape (n_rows, n_columns)
        Rows in the types of snapshots.
    present : collection of str
        Columns that are never null; see :func:`never_null`.
    """
    nullable = [field.name for field in rows.schema if field.type in NULLABLE_TYPES and field.name not in present]
    if not nullable:
        return plain_frame(rows)
    parts = [
        plain_frame(rows.drop_columns(nullable)),
        rows.select(nullable).replace_schema_metadata().to_pandas(types_mapper=NULLABLE_TYPES.get),
    ]
    frame: pd.DataFrame = pd.concat(parts, axis=1)[rows.column_names]
    return frame


def as_objects(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with nullable whole numbers and truth values as objects, exact to the last digit.

    A null is NaN there: ``pandas.NA`` has no truth value, which libraries that compare values do not expect.
    """
    names = [name for name in nullable_columns(frame) if frame[name].dtype.kind in "biu"]
    return as_floats(_replace(frame, {name: frame[name].to_numpy(object, na_value=np.nan) for name in names}))


def as_floats(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with nullable numbers and truth values as 64-bit floats, NaN for null."""
    names = nullable_columns(frame)
    return _replace(frame, {name: frame[name].to_numpy(np.float64, na_value=np.nan) for name in names})


def fill_nulls(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame in plain types, 0 or false for null: for what reads the types of columns and not their values."""
    names = nullable_columns(frame)
    return _replace(frame, {name: frame[name].fillna(0).to_numpy() for name in names})


def values_of(column: pd.Series[Any]) -> npt.NDArray[Any]:
    """Return the values of a column, shape (n_rows,), whole numbers as such even where one is missing.

    >>> values_of(pd.Series([104, None], dtype="Int64")).tolist()
    [104, nan]
    """
    return as_objects(column.to_frame("values"))["values"].to_numpy()


def nullable_columns(frame: pd.DataFrame) -> list[str]:
    """Return the names of the columns of numbers and truth values whose null is ``pandas.NA``."""
    return [str(name) for name, kind in frame.dtypes.items() if _is_nullable_number(kind)]


def _is_nullable_number(kind: Any) -> bool:
    is_extension = isinstance(kind, pd.api.extensions.ExtensionDtype)
    return is_extension and kind.na_value is pd.NA and kind.kind in "biuf"


def _replace(frame: pd.DataFrame, columns: dict[str, Any]) -> pd.DataFrame:
    return frame.assign(**columns) if columns else frame


def plain_frame(rows: pa.Table) -> pd.DataFrame:
    """Return rows as pandas reads them, with as many rows even where there is no column."""
    if not rows.num_columns:
        return pd.DataFrame(index=pd.RangeIndex(rows.num_rows))
    frame: pd.DataFrame = rows.to_pandas(split_blocks=True)
    return frame
