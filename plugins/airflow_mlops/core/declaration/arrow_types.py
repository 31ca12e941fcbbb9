"""The canonical Arrow type of each kind of value, and its name in the ledger."""

from __future__ import annotations

import re

import pyarrow as pa


def is_compatible(arriving: pa.DataType, declared: pa.DataType) -> bool:
    """Return whether values of the arriving type convert to the declared type without loss."""
    if pa.types.is_null(arriving):
        return True
    kind = canonical_type(arriving)
    if kind is not None and pa.types.is_decimal(kind) and pa.types.is_decimal(declared):
        return bool(kind.scale <= declared.scale and kind.precision - kind.scale <= declared.precision - declared.scale)
    return bool(kind == declared)


def canonical_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type in which values of ``kind`` are stored; None for an unsupported type."""
    if pa.types.is_dictionary(kind):
        return canonical_type(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
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
