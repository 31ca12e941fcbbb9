"""Types of columns: the canonical Arrow type, its names in the ledger and in a contract, and its kind."""

from __future__ import annotations

import re
from typing import Literal

import pyarrow as pa

ColumnKind = Literal["number", "date", "time", "category"]
"""How the values of a column are counted and compared."""

CONTRACT_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
}
"""The Arrow types of the contract's types that take no argument."""


def column_kind(kind: pa.DataType) -> ColumnKind:
    """Return how values of a type are counted; text, booleans and every other type are categories."""
    if pa.types.is_timestamp(kind):
        return "time"
    if pa.types.is_date(kind):
        return "date"
    return "number" if is_number(kind) or pa.types.is_decimal(kind) else "category"


def is_number(kind: pa.DataType) -> bool:
    """Return whether a type is one of the integers or floats."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type is one of the three encodings of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_time(kind: pa.DataType) -> bool:
    """Return whether a type is a date or a time."""
    return column_kind(kind) in ("date", "time")


def contract_type(kind: pa.DataType) -> str:
    """Return the name of a canonical type in a contract.

    >>> contract_type(pa.float64()), contract_type(pa.decimal128(10, 2)), contract_type(pa.timestamp("us"))
    ('float', 'decimal(10, 2)', 'time')
    """
    if pa.types.is_timestamp(kind):
        return "time"
    names = (name for name, arrow_type in CONTRACT_TYPES.items() if arrow_type == kind)
    return next(names, str(kind).replace("128", ""))


def is_compatible(arriving: pa.DataType, declared: pa.DataType) -> bool:
    """Return whether values of the arriving type convert to the declared type without loss."""
    if pa.types.is_null(arriving):
        return True
    kind = canonical_type(arriving)
    # A decimal fits if the declared one has at least as many digits on either side of the point.
    if kind is not None and pa.types.is_decimal(kind) and pa.types.is_decimal(declared):
        return bool(kind.scale <= declared.scale and kind.precision - kind.scale <= declared.precision - declared.scale)
    return bool(kind == declared)


def canonical_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type in which values of ``kind`` are stored; None for an unsupported type."""
    if pa.types.is_dictionary(kind):
        return canonical_type(kind.value_type)
    if is_text(kind):
        return pa.string()
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if pa.types.is_date(kind):
        return pa.date32()
    return kind if pa.types.is_boolean(kind) or pa.types.is_decimal128(kind) else None


_TYPE_BY_NAME = {
    str(kind): kind
    for kind in (
        pa.string(),
        pa.int64(),
        pa.float64(),
        pa.bool_(),
        pa.date32(),
        pa.timestamp("us"),
        pa.timestamp("us", tz="UTC"),
    )
}


def parse_type(text: str) -> pa.DataType | None:
    """Return the canonical type of a name in the ledger; None for an unknown name."""
    decimal = re.fullmatch(r"decimal128\((\d+), (-?\d+)\)", text)
    return pa.decimal128(int(decimal[1]), int(decimal[2])) if decimal else _TYPE_BY_NAME.get(text)
