"""What a database driver hands over, as Arrow columns: one type for each, nothing coerced."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from airflow_mlops.core.errors import SourceUnreadableError

DECIMAL_DIGITS = 38
_PLAIN: dict[type, pa.DataType] = {
    bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string(), bytes: pa.binary(),
    date: pa.date32(), time: pa.time64("us"), timedelta: pa.duration("us"), uuid.UUID: pa.string(),
}  # fmt: skip
_LOCAL, _MOMENT = pa.timestamp("us"), pa.timestamp("us", tz="UTC")

# PostgreSQL's numbers of its types, for columns whose first rows are all null.
_OIDS = {
    16: pa.bool_(), 17: pa.binary(), 18: pa.string(), 19: pa.string(), 20: pa.int64(), 21: pa.int64(), 23: pa.int64(),
    25: pa.string(), 700: pa.float64(), 701: pa.float64(), 1042: pa.string(), 1043: pa.string(), 1082: pa.date32(),
    1083: pa.time64("us"), 1114: _LOCAL, 1184: _MOMENT, 2950: pa.string(),
}  # fmt: skip
_NUMERIC_OID = 1700


def column_type(described: Sequence[Any], values: Sequence[Any], *, oids: bool, where: str) -> pa.DataType:
    """Return the type of a column from its description and its first values.

    Parameters
    ----------
    described : sequence
        Its entry in the cursor's description: name, type, ..., precision and scale in places 4 and 5.
    values : sequence
        Its values in the first rows.
    oids : bool
        Whether the type is one of PostgreSQL's numbers.
    where : str
        Whose column it is, for the error.

    Raises
    ------
    SourceUnreadableError
        If the values are of several types, or of one that no column here can hold.
    """
    name, kind = described[0], described[1]
    if oids and kind == _NUMERIC_OID:
        return decimal_type(described[4], described[5], values)
    if oids and kind in _OIDS:
        return _OIDS[kind]
    seen = {_type_of(value) for value in values if value is not None}
    if not seen:
        return pa.null()
    if len(seen) > 1:
        raise SourceUnreadableError(f"{where}: column {name!r} mixes values of the types {_listed(seen)}")
    found = seen.pop()
    if isinstance(found, pa.DataType):
        return decimal_type(None, None, values) if pa.types.is_decimal(found) else found
    raise SourceUnreadableError(
        f"{where}: column {name!r} holds values of the type {found}, which no column here can hold; "
        "cast it in the query, to text for example, or leave it out"
    )


def decimal_type(precision: Any, scale: Any, values: Sequence[Any]) -> pa.DataType:
    """Return the type of decimals: as declared in the database, or with the places that the first values have."""
    if isinstance(precision, int) and isinstance(scale, int) and 0 < precision <= DECIMAL_DIGITS and scale >= 0:
        return pa.decimal128(precision, scale)
    exponents = [value.as_tuple().exponent for value in values if isinstance(value, Decimal)]
    places = max((-exponent for exponent in exponents if isinstance(exponent, int)), default=0)
    return pa.decimal128(DECIMAL_DIGITS, min(max(0, places), DECIMAL_DIGITS))


def arrow_column(name: str, kind: pa.DataType, values: Sequence[Any], *, where: str) -> pa.Array:
    """Return the values of a column as ``kind``.

    Raises
    ------
    SourceUnreadableError
        If one of them is of another type or does not fit.
    """
    strange = {_type_of(value) for value in values if value is not None} - {kind}
    if strange and not (pa.types.is_decimal(kind) and all(pa.types.is_decimal(one) for one in strange)):
        if pa.types.is_null(kind):
            raise SourceUnreadableError(
                f"{where}: column {name!r} is null in all the first rows and {_listed(strange)} later, and the "
                "database does not say its type; cast it in the query"
            )
        raise SourceUnreadableError(
            f"{where}: column {name!r} holds {kind} in the first rows and {_listed(strange)} later"
        )
    try:
        if pa.types.is_string(kind):
            return pa.array([None if value is None else str(value) for value in values], kind)
        if pa.types.is_binary(kind):
            return pa.array([None if value is None else bytes(value) for value in values], kind)
        return pa.array(values, kind)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, ValueError) as error:
        advice = "; cast it in the query to the digits and places it has" if pa.types.is_decimal(kind) else ""
        raise SourceUnreadableError(f"{where}: column {name!r} is no {kind}: {error}{advice}") from error


def _type_of(value: Any) -> pa.DataType | str:
    """Return the type of one value, as Arrow has it or else by its name in Python."""
    kind = type(value)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(value, datetime):
        return _LOCAL if value.tzinfo is None else _MOMENT
    if kind is memoryview:
        return pa.binary()
    return pa.decimal128(DECIMAL_DIGITS, 0) if kind is Decimal else kind.__name__


def _listed(types: set[Any]) -> str:
    return " and ".join(sorted(str(kind) for kind in types))
