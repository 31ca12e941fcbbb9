"""Why a row is refused: what the decoder says, in our words, with the field and the row."""

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
        What is wrong, in words.
    field : str, optional
        The column that it is about.
    row : int, optional
        Place of the row in a list, from 0; None for a single row.
    """

    def __init__(self, reason: str, *, field: str | None = None, row: int | None = None) -> None:
        self.reason, self.field, self.row = reason, field, row
        super().__init__(f"{field}: {reason}" if field else reason)


def in_words(error: Exception, body: bytes | bytearray, contract: Contract | None) -> RowError:
    """Return what a decoder found wrong, with the field and in our words."""
    said = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return odd_number(body) or RowError(f"the body is no JSON: {said}")
    place = _PLACE.search(said)
    row = int(place[1]) if place and place[1] else None
    named = _NAMED.match(said)
    if named:
        field = named[2]
        return RowError(
            missing_or_unknown(field, contract, missing=named[1].startswith("missing")), field=field, row=row
        )
    field = place[2] if place else None
    kinds = _EXPECTED.match(said)
    if kinds and kinds[2] == "null":
        return RowError("is null, and must have a value", field=field, row=row)
    if kinds:
        wanted = " or ".join(_WORDS.get(one, one) for one in kinds[1].split(" | "))
        return RowError(f"must be {wanted}, and is {_WORDS.get(kinds[2], kinds[2])}", field=field, row=row)
    odd = odd_number(body) if field is None else None
    return odd or RowError(said.partition(" - at ")[0], field=field, row=row)


def missing_or_unknown(field: str, contract: Contract | None, *, missing: bool) -> str:
    """Return what is wrong with a column that a row lacks, or that no contract declares."""
    if missing:
        return "is missing"
    denied = first_match(field, contract.deny) if contract else None
    if denied:
        return f"is denied by the contract ({denied!r})"
    return "is unknown: no such column is declared"


def odd_number(body: bytes | bytearray) -> RowError | None:
    """Return the error for a body that is JSON but for NaN, infinity or a number beyond floats; None for others."""
    try:
        raw = json.loads(body, parse_constant=_Odd)
    except (ValueError, RecursionError):
        return None
    rows = raw if isinstance(raw, list) else [raw]
    for at, row in enumerate(rows):
        for name, value in row.items() if isinstance(row, dict) else ():
            place = at if isinstance(raw, list) else None
            if isinstance(value, _Odd):
                return RowError(f"is {value}, which is not finite", field=str(name), row=place)
            if isinstance(value, float) and math.isinf(value):
                return RowError("Number out of range", field=str(name), row=place)
    return None


class _Odd(str):
    """NaN or an infinity, by the name it has in a body."""

    __slots__ = ()
