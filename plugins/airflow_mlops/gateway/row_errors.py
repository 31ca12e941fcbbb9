"""Explain why a row is refused: the decoder's error, with the field and the row."""

from __future__ import annotations

import json
import math
import re

import msgspec

from airflow_mlops.core.declaration.contract import Contract, first_match
from airflow_mlops.core.errors import DataError

_PLACE = re.compile(r"`\$(?:\[(\d{1,9})\])?(?:\.(.{1,128}?))?`$", re.ASCII)
_NAMED = re.compile(r"Object (missing required|contains unknown) field `(.{1,200}?)`(?: - at `|$)", re.ASCII)
_EXPECTED = re.compile(r"Expected `([^`]{1,40})`, got `([^`]{1,40})`", re.ASCII)
_WORDS = {"str": "text", "datetime": "a time", "date": "a date", "object": "an object", "array": "a list"}


class RowError(DataError):
    """A row of a request is refused.

    Parameters
    ----------
    reason : str
        Explanation.
    field : str, optional
        Column that is wrong.
    row : int, optional
        Place of the row in a list, from 0; None for a single row.
    """

    def __init__(self, reason: str, *, field: str | None = None, row: int | None = None) -> None:
        self.reason, self.field, self.row = reason, field, row
        super().__init__(f"{field}: {reason}" if field else reason)


def explain_error(error: Exception, body: bytes | bytearray, contract: Contract | None) -> RowError:
    """Return the error of a row for the error of its decoder."""
    message = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return nonfinite_number_error(body) or RowError(f"the body is not JSON: {message}")
    place = _PLACE.search(message)
    row = int(place[1]) if place and place[1] else None
    match = _NAMED.match(message)
    if match:
        field = match[2]
        return RowError(explain_column(field, contract, missing=match[1].startswith("missing")), field=field, row=row)
    field = place[2] if place else None
    mismatch = _EXPECTED.match(message)
    if mismatch and mismatch[2] == "null":
        return RowError("is null, and must have a value", field=field, row=row)
    if mismatch:
        expected = " or ".join(_WORDS.get(kind, kind) for kind in mismatch[1].split(" | "))
        return RowError(f"must be {expected}, and is {_WORDS.get(mismatch[2], mismatch[2])}", field=field, row=row)
    number_error = nonfinite_number_error(body) if field is None else None
    return number_error or RowError(message.partition(" - at ")[0], field=field, row=row)


def explain_column(field: str, contract: Contract | None, *, missing: bool) -> str:
    """Return the reason for a column that is missing, denied or not declared."""
    if missing:
        return "is missing"
    denied = first_match(field, contract.deny) if contract else None
    if denied:
        return f"is denied by the contract ({denied!r})"
    return "is unknown: no such column is declared"


def nonfinite_number_error(body: bytes | bytearray) -> RowError | None:
    """Return the error for a NaN, an infinity or a number beyond floats in a body, None if there is none."""
    try:
        raw = json.loads(body, parse_constant=_NonFinite)
    except (ValueError, RecursionError):
        return None
    rows = raw if isinstance(raw, list) else [raw]
    for index, row in enumerate(rows):
        for name, value in row.items() if isinstance(row, dict) else ():
            place = index if isinstance(raw, list) else None
            if isinstance(value, _NonFinite):
                return RowError(f"is {value}, which is not finite", field=str(name), row=place)
            if isinstance(value, float) and math.isinf(value):
                return RowError("Number out of range", field=str(name), row=place)
    return None


class _NonFinite(str):
    """NaN or an infinity, as written in the body."""

    __slots__ = ()
