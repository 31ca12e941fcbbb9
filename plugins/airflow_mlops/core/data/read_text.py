"""Convert columns between text and typed values, strictly: a text that is not plainly of the type is an error.

int      -12, +7                         not 12.0, 1e3 or 1,000
float    1.5, .5, 2e-3                   not nan, inf, 1e400 or 1,5
decimal  10.25                           not more places than declared
bool     true, false                     not 1, 0, yes or no
date     2013-01-06                      not 06.01.2013
time     2013-01-06 00:00:00+01:00, …Z   with a zone where moments are declared, without where clocks are
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]

_CLOCK = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6}0*)?)?"
_ZONE = r"(Z|[+-]\d{2}:?\d{2})"


def type_pattern(kind: pa.DataType) -> str | None:
    """Return the regular expression that a text of this type matches in full; None if every text is valid."""
    if pa.types.is_integer(kind):
        return r"^[+-]?\d{1,19}$"
    if pa.types.is_floating(kind):
        return r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$"
    if pa.types.is_decimal(kind):
        return rf"^[+-]?\d{{1,{kind.precision}}}(\.\d{{1,{max(kind.scale, 1)}}})?$"
    if pa.types.is_boolean(kind):
        return r"^(?i:true|false)$"
    if pa.types.is_date(kind):
        return r"^\d{4}-\d{2}-\d{2}$"
    if pa.types.is_timestamp(kind):
        return f"^{_CLOCK}{_ZONE if kind.tz else ''}$"
    return None


def parse_column(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Mask]:
    """Return a column of text as values of ``kind``, and a mask of the invalid texts.

    Parameters
    ----------
    column : pyarrow.Array
        Text, shape (n_rows,).
    kind : pyarrow.DataType
        Type of the result.

    Returns
    -------
    values : pyarrow.Array
        The values, shape (n_rows,), null for each null and each invalid text.
    invalid : ndarray of bool
        Shape (n_rows,), true for each text that is no value of the type.
    """
    pattern = type_pattern(kind)
    if pattern is None:
        return column.cast(kind), np.zeros(len(column), bool)
    fits = pc.fill_null(pc.match_substring_regex(column, pattern), True)
    if not pc.all(fits, min_count=0).as_py():
        column = pc.if_else(fits, column, pa.scalar(None, column.type))
    try:
        values = _cast(column, kind)
    except pa.ArrowInvalid:
        # A well-formed text may still be no value (the 31st of February): then each text is tried by itself.
        values = pa.array([_cast_text(text, kind) for text in column.to_pylist()], kind)
    if pa.types.is_floating(kind):
        # The pattern admits no text for infinity, so an infinite value is a number beyond the range of floats.
        values = pc.if_else(pc.is_inf(values), pa.scalar(None, kind), values)
    failed = np.asarray(pc.and_(pc.is_null(values), pc.is_valid(column)).to_numpy(zero_copy_only=False), bool)
    return values, failed | ~np.asarray(fits.to_numpy(zero_copy_only=False), bool)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        column = pc.replace_substring_regex(column, r"^\+", "")
    if pa.types.is_boolean(kind):
        column = pc.utf8_lower(column)
    if pa.types.is_timestamp(kind):
        column = pc.replace_substring_regex(column, r"(\.\d{6})0+", r"\1")
    return column.cast(kind)


def _cast_text(text: str | None, kind: pa.DataType) -> object:
    if text is None:
        return None
    try:
        return _cast(pa.array([text], pa.string()), kind)[0].as_py()
    except pa.ArrowInvalid:
        return None


def format_column(column: pa.Array) -> pa.Array:
    """Return a column as the text that :func:`parse_column` reads; unsupported values as their Python ``repr``."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return format_column(column.dictionary_decode())
    if pa.types.is_timestamp(kind) and kind.tz:
        column = column.cast(pa.timestamp(kind.unit, tz="UTC"))
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if value is None else repr(value) for value in column.to_pylist()], pa.string())
