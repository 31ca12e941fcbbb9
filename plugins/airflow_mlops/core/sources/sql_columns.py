"""Convert the values of a database driver to Arrow columns: one type per column, nothing coerced."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from airflow_mlops.core.errors import SourceUnreadableError

DECIMAL_DIGITS = 38
_PLAIN: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    date: pa.date32(),
    time: pa.time64("us"),
    timedelta: pa.duration("us"),
    uuid.UUID: pa.string(),
}
_LOCAL, _MOMENT = pa.timestamp("us"), pa.timestamp("us", tz="UTC")

# PostgreSQL's OIDs of types: they give a type to a column whose first rows are all null.
_OIDS = {
    16: pa.bool_(),
    17: pa.binary(),
    18: pa.string(),
    19: pa.string(),
    20: pa.int64(),
    21: pa.int64(),
    23: pa.int64(),
    25: pa.string(),
    700: pa.float64(),
    701: pa.float64(),
    1042: pa.string(),
    1043: pa.string(),
    1082: pa.date32(),
    1083: pa.time64("us"),
    1114: _LOCAL,
    1184: _MOMENT,
    2950: pa.string(),
}
_NUMERIC_OID = 1700

# The types of MySQL's protocol, the same in each of its drivers. Texts and bytes share theirs, so values decide there.
_MYSQL_TYPES = {
    1: pa.int64(),
    2: pa.int64(),
    3: pa.int64(),
    4: pa.float64(),
    5: pa.float64(),
    7: _MOMENT,
    8: pa.int64(),
    9: pa.int64(),
    10: pa.date32(),
    11: pa.duration("us"),
    12: _LOCAL,
    13: pa.int64(),
}
_MYSQL_DECIMALS = (0, 246)
_MYSQL_TRUTHS = (1, 16)  # TINYINT, as which BOOLEAN is kept, and BIT
_TRUTHS = {0: False, 1: True, b"\0": False, b"\1": True}

POSTGRES = ("psycopg", "psycopg2")
MYSQL = ("pymysql", "MySQLdb", "mysql.connector")
"""Drivers, by their modules, of one protocol each."""


def column_type(
    description: Sequence[Any], values: Sequence[Any], *, driver: str, where: str, declared: pa.DataType | None = None
) -> pa.DataType:
    """Return the type of a column: that of the database, that of its first values, or the declared one.

    Parameters
    ----------
    description : sequence
        Entry of the cursor's ``description`` (PEP 249): name at 0, type at 1, precision and scale at 4 and 5.
    values : sequence
        Values of the column in the first rows.
    driver : str
        Module of the driver, which says what the type in the description means.
    where : str
        Partition and table, for the error.
    declared : pyarrow.DataType, optional
        Type in the contract, or of the column in the table. It counts where the first values are all null, and for
        the digits and places of decimals of which the database states none.

    Raises
    ------
    SourceUnreadableError
        If the values have several types, or a type that Arrow cannot hold here.
    """
    name, stated = description[0], _stated_type(description, values, driver, declared)
    if stated is not None:
        return stated
    seen = {_type_of(value) for value in values if value is not None}
    if not seen:
        return declared or pa.null()
    if len(seen) > 1:
        raise SourceUnreadableError(f"{where}: column {name!r} mixes values of the types {_list_types(seen)}")
    arrow_type = seen.pop()
    if isinstance(arrow_type, pa.DataType):
        return decimal_type(None, None, values, declared) if pa.types.is_decimal(arrow_type) else arrow_type
    raise SourceUnreadableError(
        f"{where}: column {name!r} holds values of the type {arrow_type}, which no column can hold; "
        "cast it in the query, to text for example, or leave it out"
    )


def _stated_type(
    description: Sequence[Any], values: Sequence[Any], driver: str, declared: pa.DataType | None
) -> pa.DataType | None:
    """Return the type that the database states; None if it states none that is known here."""
    kind = description[1]
    if driver in POSTGRES:
        if kind == _NUMERIC_OID:
            return decimal_type(description[4], description[5], values, declared)
        return _OIDS.get(kind)
    if driver not in MYSQL:
        return None
    if kind in _MYSQL_DECIMALS:
        # The width also counts the sign, of which the description does not say whether there is one.
        width = None if description[4] is None else min(description[4] - bool(description[5]), DECIMAL_DIGITS)
        return declared if _is_decimal(declared) else decimal_type(width, description[5], values)
    if kind in _MYSQL_TRUTHS and declared == pa.bool_():
        return declared
    return _MYSQL_TYPES.get(kind)


def driver_values(kind: pa.DataType, values: Sequence[Any], driver: str) -> Sequence[Any]:
    """Return values as their column has them: of MySQL, truth values for 0 and 1, and moments for times in UTC."""
    if driver not in MYSQL:
        return values
    if pa.types.is_boolean(kind):
        return [_TRUTHS.get(value, value) for value in values]
    if kind == _MOMENT:
        return [value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for value in values]
    return values


def decimal_type(precision: Any, scale: Any, values: Sequence[Any], declared: pa.DataType | None = None) -> pa.DataType:
    """Return the type of a decimal column: of the database, as declared, or with the places of the first values."""
    if isinstance(precision, int) and isinstance(scale, int) and 0 < precision <= DECIMAL_DIGITS and scale >= 0:
        return pa.decimal128(precision, scale)
    if _is_decimal(declared):
        return declared
    exponents = [value.as_tuple().exponent for value in values if isinstance(value, Decimal)]
    places = max((-exponent for exponent in exponents if isinstance(exponent, int)), default=0)
    return pa.decimal128(DECIMAL_DIGITS, min(max(0, places), DECIMAL_DIGITS))


def arrow_column(
    name: str, kind: pa.DataType, values: Sequence[Any], *, where: str, is_declared: bool = False
) -> pa.Array:
    """Return the values of a column as an Arrow array of type ``kind``, which is declared or that of the first values.

    Raises
    ------
    SourceUnreadableError
        If a value has another type or does not fit.
    """
    other_types = {_type_of(value) for value in values if value is not None} - {kind}
    if other_types and not (pa.types.is_decimal(kind) and all(pa.types.is_decimal(other) for other in other_types)):
        if pa.types.is_null(kind):
            raise SourceUnreadableError(
                f"{where}: column {name!r} is null in all the first rows and {_list_types(other_types)} later, and the "
                "database does not say its type; cast it in the query, or declare it in the contract"
            )
        if is_declared:
            raise SourceUnreadableError(
                f"{where}: column {name!r} is {kind} by the contract or the table, and {_list_types(other_types)} in "
                "the rows; correct the contract, or cast the column in the query"
            )
        raise SourceUnreadableError(
            f"{where}: column {name!r} holds {kind} in the first rows and {_list_types(other_types)} later"
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


def sqlite_type(declared: str) -> pa.DataType | None:
    """Return the type of values in a column of SQLite by its declared type; None for numbers of any kind, and blobs.

    >>> sqlite_type("BIGINT"), sqlite_type("varchar(20)"), sqlite_type("DOUBLE PRECISION"), sqlite_type("NUMERIC")
    (DataType(int64), DataType(string), DataType(double), None)
    """
    words = {
        ("INT",): pa.int64(),
        ("CHAR", "CLOB", "TEXT", "DATE", "TIME"): pa.string(),
        ("REAL", "FLOA", "DOUB"): pa.float64(),
    }
    return next((kind for parts, kind in words.items() if any(part in declared.upper() for part in parts)), None)


def _is_decimal(kind: pa.DataType | None) -> bool:
    return kind is not None and bool(pa.types.is_decimal(kind))


def _type_of(value: Any) -> pa.DataType | str:
    """Return the Arrow type of a value, or the name of its Python type where Arrow has none."""
    kind = type(value)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(value, datetime):
        return _LOCAL if value.tzinfo is None else _MOMENT
    if kind is memoryview:
        return pa.binary()
    return pa.decimal128(DECIMAL_DIGITS, 0) if kind is Decimal else kind.__name__


def _list_types(types: set[Any]) -> str:
    return " and ".join(sorted(str(kind) for kind in types))
