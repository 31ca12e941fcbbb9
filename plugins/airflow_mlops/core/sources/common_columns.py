"""Unite the columns of several typed files: equal canonical types are one type, and a column of nulls fits any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from airflow_mlops.core.declaration.arrow_types import canonical_type
from airflow_mlops.core.errors import SourceUnreadableError
from airflow_mlops.core.sources.partition_files import columns_error

DECIMAL_DIGITS = 38


@dataclass(frozen=True)
class FileColumns:
    """The columns of one file, by its name."""

    name: str
    schema: pa.Schema


def unite_columns(files: Sequence[FileColumns], partition: str) -> pa.Schema:
    """Return the columns of the files of a partition, in the order of the first file.

    Raises
    ------
    PartitionRefusedError
        If a file lacks a column or has another one, or the types of a column have nothing in common; names both files
        and every column that differs.
    """
    first = files[0]
    if len(set(first.schema.names)) < len(first.schema.names):  # the contract refuses names that repeat
        for file in files[1:]:
            _refuse(file, first, partition, sorted(_columns(file.schema)) != sorted(_columns(first.schema)))
        return first.schema
    kinds = {field.name: field.type for field in first.schema}
    origins = dict.fromkeys(kinds, first.name)
    for file in files[1:]:
        differences = _names_that_differ(file.schema, first.schema)
        for name in first.schema.names:
            place = file.schema.get_field_index(name)
            if place < 0:
                continue
            kind = file.schema.field(place).type
            united = unite_types(kinds[name], kind)
            if united is None:
                there = "there" if origins[name] == first.name else f"in {origins[name]}"
                differences.append(f"column {name!r} is {kind}, {there} it is {kinds[name]}")
                continue
            if pa.types.is_null(kinds[name]) and not pa.types.is_null(kind):
                origins[name] = file.name
            kinds[name] = united
        _refuse(file, first, partition, bool(differences) or len(file.schema) != len(first.schema), differences)
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])


def unite_types(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds every value of two types; None if they have nothing in common.

    >>> unite_types(pa.int32(), pa.int64()), unite_types(pa.null(), pa.bool_()), unite_types(pa.int8(), pa.string())
    (DataType(int64), DataType(bool), None)
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    left, right = canonical_type(one), canonical_type(other)
    if left is not None and right is not None and pa.types.is_decimal(left) and pa.types.is_decimal(right):
        scale = max(left.scale, right.scale)
        digits = max(left.precision - left.scale, right.precision - right.scale) + scale
        return pa.decimal128(digits, scale) if digits <= DECIMAL_DIGITS else None
    return left if left == right else None


def conform_batch(
    batch: pa.RecordBatch, schema: pa.Schema, name: str, values: Mapping[str, str | None] | None = None
) -> pa.RecordBatch:
    """Return a batch with the columns and types of a schema.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        Rows of a file that was united into the schema.
    schema : pyarrow.Schema
        The columns of the partition.
    name : str
        Partition and file, for the error.
    values : mapping of str to str or None, optional
        Values of the columns that the path of the file has.

    Raises
    ------
    SourceUnreadableError
        If a value cannot be held by the common type of its column.
    """
    names = batch.schema.names
    if names == schema.names:  # also where names repeat
        columns = batch.columns
    else:
        texts = values or {}
        columns = [
            pa.repeat(pa.scalar(texts[field.name], pa.string()), batch.num_rows)
            if field.name in texts
            else batch.column(names.index(field.name))
            for field in schema
        ]
    plain = [_convert(column, field, name) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(plain, schema=schema)


def _convert(column: pa.Array, field: pa.Field, name: str) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == field.type:
        return column
    try:
        return column.cast(field.type)
    except pa.ArrowInvalid as error:
        raise SourceUnreadableError(
            f"{name}: column {field.name!r} is {column.type}, other files of the partition make it {field.type}, and a "
            f"value does not fit: {error}; deliver the column with one type"
        ) from error


def _names_that_differ(schema: pa.Schema, first: pa.Schema) -> list[str]:
    missing = [f"column {name!r} is missing" for name in first.names if name not in schema.names]
    new = [f"column {field.name!r} ({field.type}) is new" for field in schema if field.name not in first.names]
    return missing + new


def _columns(schema: pa.Schema) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in schema]


def _refuse(
    file: FileColumns, first: FileColumns, partition: str, is_different: bool, differences: Sequence[str] = ()
) -> None:
    if is_different:
        raise columns_error(f"partition {partition}: {file.name}", first.name, differences)
