"""The scoring protocol of MLflow: ``POST /invocations``, as the server of ``mlflow models serve`` answers it.

    {"dataframe_split": {"columns": ["row_id", "price"], "data": [["a", 4.6]]}}
    {"dataframe_records": [{"row_id": "a", "price": 4.6}]}
    {"instances": [{"row_id": "a", "price": 4.6}]}
    {"inputs": {"row_id": ["a"], "price": [4.6]}}
    row_id,price                     as text/csv

A request has exactly one of the four fields; further fields, ``params`` too, are ignored as MLflow ignores them for a
model that has no parameters. The response is always a list: ``{"predictions": [...]}``; of three classes or more it has
``probabilities``, too, and of several quantiles ``quantiles``.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from airflow_mlops.gateway.http_messages import JSON, RefusedError
from airflow_mlops.gateway.row_errors import RowError
from airflow_mlops.gateway.row_shape import RowField, RowShape
from airflow_mlops.gateway.row_text import (
    Cell,
    decode_request,
    join_rows,
    require_keys_once,
    require_names_once,
    shorten,
    split_cells,
    split_rows,
    unmark_nonfinite,
)

CSV = b"text/csv"
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
SCORING_PROTOCOL = "3.17.2"
"""The version of MLflow whose scoring server this follows; ``GET /version`` answers it."""
ERROR_CODES = {401: "UNAUTHENTICATED", 404: "ENDPOINT_NOT_FOUND", 500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE"}
"""MLflow's names for the status of an error; BAD_REQUEST for any other."""
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?|NaN|-?Infinity", re.ASCII)
_WORDS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_TRUTH = {"true": b"true", "false": b"false"}


class Split(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A frame as pandas writes it with ``orient="split"``; the index is ignored."""

    data: msgspec.Raw
    columns: list[str] | None = None
    index: msgspec.Raw = msgspec.Raw(b"")


_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_split = msgspec.json.Decoder(Split)
_columns = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_invocation(shape: RowShape, body: bytes, kind: bytes) -> bytes:
    """Return the rows of a request as the JSON of ``/predict``, always as a list.

    Parameters
    ----------
    kind : bytes
        Media type of the body.

    Raises
    ------
    RowError
        If the request is not of the protocol; whether the rows keep the contract is not checked here.
    """
    if kind == CSV:
        return read_csv_rows(shape, body)
    request, marked = decode_request(_decoder, body)
    require_keys_once(body)
    formats = [name for name in FORMATS if name in request]
    if len(formats) != 1:
        has = f"has {' and '.join(formats)}" if formats else "has none"
        raise RowError(f"the request must have exactly one of {', '.join(FORMATS)}, and {has}")
    rows = _READERS[formats[0]](bytes(request[formats[0]]))
    return unmark_nonfinite(rows) if marked else rows


def read_split(values: bytes) -> bytes:
    """Return the rows of ``dataframe_split``."""
    try:
        split = _split.decode(values)
    except msgspec.ValidationError as error:
        raise RowError(f"dataframe_split has data, columns and index: {error}", field="dataframe_split") from None
    if split.columns is None:
        raise RowError("has no columns, so its values have no names", field="dataframe_split")
    require_names_once(split.columns, "the column")
    rows = split_rows(split.data)
    require_widths(rows, len(split.columns))
    return join_rows(split.columns, list(zip(*rows, strict=True)) if rows else [[] for _ in split.columns])


def read_records(values: bytes) -> bytes:
    """Return the rows of ``dataframe_records`` or ``instances``, which are those of ``/predict`` already."""
    if not values.lstrip().startswith(b"["):
        raise RowError(f"must be a list of records, and is {shorten(values)}")
    unnamed = next((place for place, row in enumerate(split_cells(values)) if bytes(row)[:1] == b"["), None)
    if unnamed is not None:
        raise RowError("has values without names; send a record for each row, or a list for each column", row=unnamed)
    return values


def read_inputs(values: bytes) -> bytes:
    """Return the rows of ``inputs``: a list for each column, a value for each column, or a list of records."""
    if not values.lstrip().startswith(b"{"):
        return read_records(values)
    columns = _columns.decode(values)
    lists = [name for name, cells in columns.items() if bytes(cells)[:1] == b"["]
    if not lists:
        return b"[" + values + b"]"
    single = next((name for name in columns if name not in lists), None)
    if single is not None:
        raise RowError("is one value, and other columns are lists; send a list for each column", field=single)
    cells_of = {name: split_cells(cells) for name, cells in columns.items()}
    rows = len(cells_of[lists[0]])
    other = next((name for name, cells in cells_of.items() if len(cells) != rows), None)
    if other is not None:
        raise RowError(f"has {len(cells_of[other])} values, and {lists[0]!r} has {rows}", field=other)
    return join_rows(list(cells_of), list(cells_of.values()))


def require_widths(rows: Sequence[Sequence[Any]], width: int) -> None:
    """Raise RowError unless every row has as many values as there are columns."""
    other = next((place for place, row in enumerate(rows) if len(row) != width), None)
    if other is not None:
        raise RowError(f"has {len(rows[other])} values, and there are {width} columns", row=other)


def read_csv_rows(shape: RowShape, body: bytes) -> bytes:
    """Return the rows of CSV as pandas writes it: a line of names, then a line for each row.

    A value without text is null. A first column without a name is the index of a frame, and is ignored.

    Raises
    ------
    RowError
        If the text is no CSV, or not in UTF-8.
    """
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RowError(f"the body is not CSV in UTF-8: {error}") from None
    names, rows = (lines[0] if lines else []), [line for line in lines[1:] if line]
    if not names:
        raise RowError("the body is empty; send a line of names, then a line for each row")
    require_widths(rows, len(names))
    if names[0] == "":
        names, rows = names[1:], [row[1:] for row in rows]
    require_names_once(names, "the column")
    fields = [shape.fields[shape.by_name[name]] if name in shape.by_name else None for name in names]
    columns: list[list[Cell]] = [[csv_cell(row[place], field) for row in rows] for place, field in enumerate(fields)]
    return join_rows(names, columns)


def csv_cell(text: str, field: RowField | None) -> bytes:
    """Return a value of CSV as JSON, by the type of its column."""
    if not text:
        return b"null"
    if field is not None:
        if pa.types.is_boolean(field.kind) and text.lower() in _TRUTH:
            return _TRUTH[text.lower()]
        if pa.types.is_integer(field.kind) and re.fullmatch(r"-?\d+\.0+", text, re.ASCII):
            return text.partition(".")[0].encode()
        number = _WORDS.get(text, text)
        is_number = pa.types.is_integer(field.kind) or pa.types.is_floating(field.kind)
        if is_number and _NUMBER.fullmatch(number):
            return number.encode()
    return json.dumps(text).encode()


def explain_refusal(error: RefusedError) -> dict[str, Any]:
    """Return the body of a refusal: the fields of ``/predict``, and MLflow's ``error_code`` and ``message``."""
    return {
        "error_code": ERROR_CODES.get(error.status, "BAD_REQUEST"),
        "message": error.body["error"],
        **error.body,
    }


_READERS: dict[str, Callable[[bytes], bytes]] = {
    "dataframe_split": read_split,
    "dataframe_records": read_records,
    "instances": read_records,
    "inputs": read_inputs,
}
KINDS = (JSON, CSV)
