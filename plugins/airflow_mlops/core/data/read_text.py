"""Convert columns between text and typed values, strictly: a text that is not plainly of the type is an error.

int      -12, +7                         not 12.0, 1e3 or 1,000
float    1.5, .5, 2e-3                   not nan, inf, 1e400 or 1,5
decimal  10.25                           not more places than declared
bool     true, false, t, f               not 1, 0, yes or no
date     2013-01-06                      not 06.01.2013
time     2013-01-06 00:00:00+01:00, …Z   with a zone where moments are declared, without where clocks are

A source declares other signs of numbers and other words for truth values; a contract, other forms of dates and times.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.declaration.text_form import TextForm

Mask = npt.NDArray[np.bool_]

_CLOCK = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,6}0*)?)?"
_ZONE = r" ?(Z|UTC|[+-]\d{2}(:?\d{2})?)"
_PLAIN_TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}(:?\d{2})?)?$"
"""Times as Arrow reads them."""
_PLAIN = TextForm()


def type_pattern(kind: pa.DataType, form: TextForm = _PLAIN) -> str | None:
    """Return the regular expression that a text of this type matches in full; None if every text is valid."""
    digits, point = _digits(form), re.escape(form.decimal)
    if pa.types.is_integer(kind):
        return rf"^[+-]?{digits}$"
    if pa.types.is_floating(kind):
        return rf"^[+-]?({digits}({point}\d*)?|{point}\d+)([eE][+-]?\d+)?$"
    if pa.types.is_decimal(kind):
        return rf"^[+-]?{digits}({point}\d{{1,{max(kind.scale, 1)}}})?$"
    if pa.types.is_boolean(kind):
        return rf"^(?i:{'|'.join(map(re.escape, form.true + form.false))})$"
    if pa.types.is_date(kind):
        return r"^\d{4}-\d{2}-\d{2}$"
    if pa.types.is_timestamp(kind):
        return f"^{_CLOCK}{_ZONE if kind.tz else ''}$"
    return None


def _digits(form: TextForm) -> str:
    """Return the pattern of a whole number; groups of digits are three digits each, or there are none."""
    if form.thousands is None:
        return r"\d+"
    return rf"(\d+|\d{{1,3}}({re.escape(form.thousands)}\d{{3}})+)"


def parse_column(
    column: pa.Array,
    kind: pa.DataType,
    *,
    form: TextForm = _PLAIN,
    time_format: str | None = None,
    clock: str | None = None,
) -> tuple[pa.Array, Mask]:
    """Return a column of text as values of ``kind``, and a mask of the invalid texts.

    Parameters
    ----------
    column : pyarrow.Array
        Text, shape (n_rows,).
    kind : pyarrow.DataType
        Type of the result.
    form : TextForm
        Signs of numbers and words for truth values.
    time_format : str, optional
        Form of dates and times, as strptime has it; ISO 8601 if not given.
    clock : str, optional
        Time zone of the texts that state none; without one, a moment must state its zone.

    Returns
    -------
    values : pyarrow.Array
        The values, shape (n_rows,), null for each null and each invalid text.
    invalid : ndarray of bool
        Shape (n_rows,), true for each text that is no value of the type.
    """
    if time_format is not None:
        return _parse_format(column, kind, time_format, clock)
    if clock is not None:
        return _parse_clocks(column, kind, clock)
    quick = _parse_numbers(column, kind, form)
    if quick is not None:
        return quick, np.zeros(len(column), bool)
    pattern = type_pattern(kind, form)
    if pattern is None:
        return column.cast(kind), np.zeros(len(column), bool)
    fits = pc.fill_null(pc.match_substring_regex(column, pattern), True)
    if not pc.all(fits, min_count=0).as_py():
        column = pc.if_else(fits, column, pa.scalar(None, column.type))
    try:
        values = _cast(column, kind, form)
    except pa.ArrowInvalid:
        # A well-formed text may still be no value (the 31st of February): then each text is tried by itself.
        values = pa.array([_cast_text(text, kind, form) for text in column.to_pylist()], kind)
    if pa.types.is_floating(kind):
        # The pattern admits no text for infinity, so an infinite value is a number beyond the range of floats.
        values = pc.if_else(pc.is_inf(values), pa.scalar(None, kind), values)
    return values, _is_lost(values, column) | ~_as_mask(fits)


def _parse_numbers(column: pa.Array, kind: pa.DataType, form: TextForm) -> pa.Array | None:
    """Return numbers of which every text is plainly one; None where texts have to be looked at one by one.

    Arrow reads what the pattern of a type admits, and no more but infinity, NaN and hexadecimal numbers.
    """
    if (
        form.decimal != "."
        or form.thousands is not None
        or not (pa.types.is_integer(kind) or pa.types.is_floating(kind))
    ):
        return None
    try:
        values = column.cast(kind)
    except pa.ArrowInvalid:
        return None
    if pa.types.is_floating(kind):
        return values if pc.all(pc.is_finite(values), min_count=0).as_py() else None
    is_hexadecimal = (pc.any(pc.match_substring(column, sign), min_count=0).as_py() for sign in "xX")
    return None if any(is_hexadecimal) else values


def _is_lost(values: pa.Array, column: pa.Array) -> Mask:
    """Return where a text has become null."""
    return _as_mask(pc.and_(pc.is_null(values), pc.is_valid(column)))


def _as_mask(flags: pa.Array) -> Mask:
    return np.asarray(flags.to_numpy(zero_copy_only=False), bool)


def _cast(column: pa.Array, kind: pa.DataType, form: TextForm) -> pa.Array:
    if pa.types.is_boolean(kind):
        true = pa.array([word.lower() for word in form.true], column.type)
        return pc.if_else(pc.is_null(column), pa.scalar(None, kind), pc.is_in(pc.utf8_lower(column), true))
    if pa.types.is_timestamp(kind):
        return _plain_time(column).cast(kind)
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        column = _plain_number(column, form)
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        column = pc.replace_substring_regex(column, r"^\+", "")
    return column.cast(kind)


def _plain_number(column: pa.Array, form: TextForm) -> pa.Array:
    """Return numbers as Arrow reads them: no groups of digits, and a point before the fraction."""
    if form.thousands is not None:
        column = pc.replace_substring(column, form.thousands, "")
    return column if form.decimal == "." else pc.replace_substring(column, form.decimal, ".")


def _plain_time(column: pa.Array) -> pa.Array:
    """Return times as Arrow reads them: a point before the fraction, six places, no space before the zone."""
    if pc.all(pc.match_substring_regex(column, _PLAIN_TIME), min_count=0).as_py():
        return column
    column = pc.replace_substring_regex(column, r",(\d)", r".\1")
    column = pc.replace_substring_regex(column, r"(\.\d{6})0+", r"\1")
    return pc.replace_substring_regex(pc.replace_substring(column, "UTC", "Z"), r"(:\d{2}[.0-9]*) ", r"\1")


def _cast_text(text: str | None, kind: pa.DataType, form: TextForm) -> object:
    if text is None:
        return None
    try:
        return _cast(pa.array([text], pa.string()), kind, form)[0].as_py()
    except pa.ArrowInvalid:
        return None


def _parse_clocks(column: pa.Array, kind: pa.DataType, clock: str) -> tuple[pa.Array, Mask]:
    """Return times of which some state their zone and the others are clocks in a zone; see :func:`parse_column`."""
    moments, no_moment = parse_column(column, kind)
    clocks, no_clock = parse_column(column, pa.timestamp(kind.unit))
    of_clocks, unclear = moments_of_clocks(clocks, clock)
    return pc.coalesce(moments, of_clocks), no_moment & (no_clock | unclear)


def moments_of_clocks(column: pa.Array, zone: str) -> tuple[pa.Array, Mask]:
    """Return clock times of a zone as moments, and a mask of those that name no moment there, or two.

    Parameters
    ----------
    column : pyarrow.Array
        Times without a zone, shape (n_rows,).
    zone : str
        Time zone of the tz database.

    Returns
    -------
    moments : pyarrow.Array
        Times in UTC, shape (n_rows,), null where a clock time is null, was skipped, or came twice.
    unclear : ndarray of bool
        Shape (n_rows,), true where a clock was set over the time, forward or back.
    """
    first, second = (
        pc.assume_timezone(column, zone, ambiguous=choice, nonexistent=choice) for choice in ("earliest", "latest")
    )
    is_clear = pc.fill_null(pc.equal(first, second), True)
    utc = pa.timestamp(column.type.unit, tz="UTC")
    return pc.if_else(is_clear, first, pa.scalar(None, first.type)).cast(utc), ~_as_mask(is_clear)


def _parse_format(column: pa.Array, kind: pa.DataType, time_format: str, clock: str | None) -> tuple[pa.Array, Mask]:
    """Return dates or times written in a declared form; see :func:`parse_column`."""
    import pandas as pd

    has_zone = kind != pa.date32() and ("%z" in time_format or "%Z" in time_format)
    texts = pd.Series(column.to_pylist(), dtype=object)
    read = pd.to_datetime(texts, format=time_format, errors="coerce", utc=has_zone)
    values = pa.Array.from_pandas(read, type=pa.timestamp("us", tz="UTC" if has_zone else None), safe=False)
    invalid = _is_lost(values, column)
    if pa.types.is_date(kind):
        return values.cast(kind, safe=False), invalid
    if clock is not None and not has_zone:
        values, unclear = moments_of_clocks(values, clock)
        return values, invalid | unclear
    return values.cast(kind), invalid


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
