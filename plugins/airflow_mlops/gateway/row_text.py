"""Rewrite rows of other protocols as the JSON of ``/predict``, value by value and digit by digit.

A protocol may have rows as columns, tensors or lines of text. Each value is taken as the bytes in which it arrives and
put behind the name of its column, so one decoder holds the rows of every protocol to the contract, and a shadow gets
rows of one form.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from airflow_mlops.gateway.row_errors import RowError

Cell = bytes | msgspec.Raw
_cells = msgspec.json.Decoder(list[msgspec.Raw]).decode
_rows_of_cells = msgspec.json.Decoder(list[list[msgspec.Raw]]).decode
_encode = msgspec.json.Encoder().encode
_MARK = "\x00"
_NONFINITE = ("NaN", "Infinity", "-Infinity")


def split_cells(values: Cell) -> Sequence[Cell]:
    """Return the values of a JSON list as they are written; RowError if it is no list."""
    try:
        return _cells(values)
    except msgspec.DecodeError as error:
        raise RowError(f"{shorten(values)} is no list of values: {error}") from None


def split_rows(values: Cell) -> Sequence[Sequence[Cell]]:
    """Return the values of a JSON list of lists as they are written; RowError if it is none."""
    try:
        return _rows_of_cells(values)
    except msgspec.DecodeError as error:
        raise RowError(f"{shorten(values)} is no list of rows: {error}") from None


def join_rows(names: Sequence[str], columns: Sequence[Sequence[Cell]], *, single: bool = False) -> bytes:
    """Return rows as the JSON of ``/predict``.

    Parameters
    ----------
    names : sequence of str
        Names of the columns.
    columns : sequence of sequences of bytes
        Values of each column, all of one length.
    single : bool
        Whether to write a row that is alone as an object, and not as a list.
    """
    heads = [_encode(name) + b":" for name in names]
    rows = [
        b"{" + b",".join([head + bytes(cell) for head, cell in zip(heads, cells, strict=True)]) + b"}"
        for cells in zip(*columns, strict=True)
    ]
    return rows[0] if single and len(rows) == 1 else b"[" + b",".join(rows) + b"]"


def require_names_once(names: Sequence[str], what: str) -> None:
    """Raise RowError if a name is there twice."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RowError(f"{what} {twice!r} is there {names.count(twice)} times; send it once", field=twice)


def require_keys_once(body: bytes | bytearray) -> None:
    """Raise RowError if an object in a JSON body has a key twice: decoders would silently take one of the values.

    A body that is no JSON is left to its decoder.
    """
    try:
        json.loads(body, object_pairs_hook=_require_pairs_once)
    except _RepeatedKeyError as error:
        raise RowError("is there twice in one object; send it once", field=error.key, row=_row_of(body)) from None
    except (ValueError, RecursionError):
        return


class _RepeatedKeyError(Exception):
    """An object has a key twice."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)


def _require_pairs_once(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    keys: set[str] = set()
    for key, _value in pairs:
        if key in keys:
            raise _RepeatedKeyError(key)
        keys.add(key)


def _row_of(body: bytes | bytearray) -> int | None:
    """Return the place of the first element with a repeated key of a list, None if the body is no list."""
    if not body.lstrip().startswith(b"["):
        return None
    for place, row in enumerate(_cells(body)):
        try:
            json.loads(bytes(row), object_pairs_hook=_require_pairs_once)
        except _RepeatedKeyError:
            return place
    return None


def decode_request(decoder: Any, body: bytes | bytearray) -> tuple[Any, bool]:
    """Return a decoded request, and whether it holds NaN or infinity, which are then marked texts.

    Clients in Python write NaN, which is no JSON. It is marked, so that the row is refused by its field and not the
    whole body.

    Raises
    ------
    RowError
        If the body is no JSON, or not of the decoder's form.
    """
    try:
        return decode_strictly(decoder, body), False
    except RowError:
        marked = _mark_nonfinite(body)
        if marked is None:
            raise
        return decode_strictly(decoder, marked), True


def decode_strictly(decoder: Any, body: bytes | bytearray) -> Any:
    """Return a decoded request; RowError if the body is no JSON, or not of the decoder's form."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise RowError(f"the request is not of the form: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RowError(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise RowError("the body is nested too deeply") from None


def unmark_nonfinite(rows: bytes) -> bytes:
    """Return rows with NaN and infinities as they arrived."""
    for word in _NONFINITE:
        rows = rows.replace(json.dumps(_MARK + word).encode(), word.encode())
    return rows


def _mark_nonfinite(body: bytes | bytearray) -> bytes | None:
    """Return a body with its NaN and infinities marked; None if it has none, or is no JSON for another reason."""
    if not any(word.encode() in body for word in _NONFINITE):
        return None
    try:
        return json.dumps(json.loads(body, parse_constant=lambda word: _MARK + word)).encode()
    except (ValueError, RecursionError):
        return None


def shorten(values: Cell) -> str:
    """Return the beginning of a JSON value, for a message."""
    text = bytes(values).decode("utf-8", "replace")
    return text if len(text) <= 60 else f"{text[:60]}…"
