"""The Open Inference Protocol (V2) of KServe, MLServer and Triton: a tensor for each column of a row.

    {"inputs": [{"name": "price", "datatype": "FP64", "shape": [2], "data": [4.6, 3.2]}, …]}

A tensor has the shape ``[n]`` or ``[n, 1]``. Where all features are numbers, one tensor of the shape ``[n, features]``
under a name that is no column stands for all of them, in the order of the model's metadata. A response has the tensor
``prediction`` and, where the label is a class, the same numbers as ``probability``; of three classes or more it has the
most likely class and ``probabilities`` of the shape ``[n, classes]``, and of several quantiles the middle one and
``quantiles`` of the shape ``[n, quantiles]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import msgspec
import pyarrow as pa

from airflow_mlops.gateway.answer_form import AnswerForm, Prediction
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

PLATFORM = "sklearn_skops"
WHOLE = frozenset(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
REAL = frozenset({"FP16", "FP32", "FP64", "BF16"})
DATATYPES = WHOLE | REAL | {"BOOL", "BYTES"}
CONTENT_TYPES = frozenset({"pd", "np", "str", "datetime"})
"""Values of the parameter ``content_type`` of MLServer under which data is as it is written."""
_ONE = [1]
_FIRST_BYTES = {**dict.fromkeys(WHOLE | REAL, b"-0123456789"), "BOOL": b"tf", "BYTES": b'"'}


class Tensor(msgspec.Struct, gc=False):
    """An input tensor; ``data`` is JSON as it arrived."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw
    parameters: dict[str, Any] | None = None


class RequestedOutput(msgspec.Struct, gc=False):
    """The name of an output that a client asks for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct, gc=False):
    """A request for predictions."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[RequestedOutput] | None = None


_decoder = msgspec.json.Decoder(InferRequest)


def read_request(shape: RowShape, body: bytes) -> tuple[InferRequest, bytes]:
    """Return a request, and its rows as the JSON of ``/predict``.

    Raises
    ------
    RowError
        If the request is not of the protocol; whether the rows keep the contract is not checked here.
    """
    request, marked = decode_request(_decoder, body)
    has_parameters = b'"parameters"' in body
    if body.count(b":") != count_keys(request, has_parameters=has_parameters):
        require_keys_once(body)
    if has_parameters:
        require_content_types(request)
    rows = rows_of_tensors(shape, request.inputs)
    return request, unmark_nonfinite(rows) if marked else rows


def count_keys(request: InferRequest, *, has_parameters: bool) -> int:
    """Return how many keys a request has if none is repeated.

    Every key is followed by a colon, so a body with as many colons has no key twice.
    """
    outputs = request.outputs
    count = 1 + 4 * len(request.inputs) + (request.id is not None) + (0 if outputs is None else 1 + len(outputs))
    if not has_parameters:
        return count
    parts: list[Any] = [request, *request.inputs, *(outputs or ())]
    return count + sum(1 + len(part.parameters) for part in parts if part.parameters is not None)


def require_content_types(request: InferRequest) -> None:
    """Raise RowError if data is encoded in a way that is not read here, which a parameter would say."""
    parts: list[Any] = [request, *request.inputs]
    for part in parts:
        kind = (part.parameters or {}).get("content_type")
        if kind is not None and kind not in CONTENT_TYPES:
            raise RowError(f"the content_type is {str(kind)[:60]!r}; it must be {' or '.join(sorted(CONTENT_TYPES))}")


def rows_of_tensors(shape: RowShape, tensors: Sequence[Tensor]) -> bytes:
    """Return the rows in tensors as the JSON of ``/predict``, a single row as an object."""
    if not tensors:
        raise RowError("there are no inputs; send one tensor for each column")
    row = plain_row(shape, tensors)
    if row is not None:
        return row
    names: list[str] = []
    columns: list[Sequence[Cell]] = []
    for tensor in tensors:
        if is_matrix(shape, tensor):
            features = matrix_columns(shape, tensor)
            names += features
            columns += features.values()
        else:
            names.append(tensor.name)
            columns.append(tensor_cells(tensor))
    require_names_once(names, "the column")
    rows = len(columns[0])
    other = next((place for place, column in enumerate(columns) if len(column) != rows), None)
    if other is not None:
        raise RowError(
            f"has {len(columns[other])} values, and {names[0]!r} has {rows}; each tensor has one value for each row",
            field=names[other],
        )
    return join_rows(names, columns, single=True)


def plain_row(shape: RowShape, tensors: Sequence[Tensor]) -> bytes | None:
    """Return the row in tensors of one plain value each; None if another form needs a closer look.

    Most requests are of this form, and for one row a look at every part would cost more than the prediction.
    """
    parts = []
    for tensor in tensors:
        head, cell = shape.heads.get(tensor.name), plain_cell(tensor)
        if head is None or cell is None:
            return None
        parts.append(head + cell)
    if len({tensor.name for tensor in tensors}) < len(parts):
        return None
    return b"{" + b",".join(parts) + b"}"


def plain_cell(tensor: Tensor) -> bytes | None:
    """Return the value of a tensor of the shape [1] as it is written; None if it takes a closer look."""
    if tensor.shape != _ONE:
        return None
    cell = bytes(tensor.data)[1:-1]
    if not cell or b"," in cell or cell[0] not in _FIRST_BYTES.get(tensor.datatype, b""):
        return None
    if tensor.datatype in WHOLE and not cell.lstrip(b"-").isdigit():
        return None
    return cell


def is_matrix(shape: RowShape, tensor: Tensor) -> bool:
    """Return whether a tensor is the one of all features: numbers in two dimensions under a name that is no column."""
    if len(tensor.shape) != 2 or tensor.name in shape.by_name or tensor.datatype in ("BYTES", "BOOL"):
        return False
    return tensor.shape[1] != 1 or len(feature_fields(shape)) == 1


def tensor_cells(tensor: Tensor) -> Sequence[Cell]:
    """Return the values of the tensor of a column, as they are written.

    Raises
    ------
    RowError
        If shape, datatype and data do not fit together.
    """
    shape = tensor.shape
    if len(shape) not in (1, 2) or shape[0] < 0 or shape[1:] not in ([], [1]):
        raise RowError(f"has the shape {shape}; the tensor of a column has [n] or [n, 1]", field=tensor.name)
    cells = split_cells(tensor.data)
    if cells and bytes(cells[0])[:1] == b"[":
        cells = [cell for row in split_rows(tensor.data) for cell in row]
    require_count(tensor, cells)
    require_datatype(tensor, cells)
    return cells


def matrix_columns(shape: RowShape, tensor: Tensor) -> dict[str, Sequence[Cell]]:
    """Return the values of each feature in the tensor of all features.

    Raises
    ------
    RowError
        If a feature is no number, or the shape does not fit.
    """
    features = feature_fields(shape)
    other = next((field.name for field in features if not field.numeric), None)
    if other is not None:
        raise RowError(
            f"a tensor of all features needs features that are numbers, and {other!r} is none; "
            "send one tensor for each column",
            field=tensor.name,
        )
    if tensor.shape[1] != len(features):
        listed = ", ".join(field.name for field in features)
        raise RowError(
            f"has {tensor.shape[1]} columns, and the model has {len(features)} features: {listed}", field=tensor.name
        )
    cells = split_cells(tensor.data)
    if cells and bytes(cells[0])[:1] == b"[":
        cells = [cell for row in split_rows(tensor.data) for cell in row]
    require_count(tensor, cells)
    require_datatype(tensor, cells)
    width = len(features)
    return {field.name: [as_kind(cell, field) for cell in cells[place::width]] for place, field in enumerate(features)}


def feature_fields(shape: RowShape) -> list[RowField]:
    """Return the columns of a row that are features, in the order of the metadata."""
    return [field for field in shape.fields if field.name not in shape.no_features]


def as_kind(cell: Cell, field: RowField) -> Cell:
    """Return a number of a tensor of floats as its column has it: 3.0 is 3 for whole numbers, 1 is true for truth."""
    text = bytes(cell)
    if pa.types.is_boolean(field.kind):
        return {b"1": b"true", b"1.0": b"true", b"0": b"false", b"0.0": b"false"}.get(text, text)
    if pa.types.is_integer(field.kind):
        whole, point, rest = text.partition(b".")
        return whole if point and not rest.strip(b"0") else text
    return cell


def require_count(tensor: Tensor, cells: Sequence[Cell]) -> None:
    """Raise RowError unless a tensor has as many values as its shape says."""
    if len(cells) != prod(tensor.shape) or min(tensor.shape) < 0:
        raise RowError(f"has {len(cells)} values, and its shape is {tensor.shape}", field=tensor.name)


def require_datatype(tensor: Tensor, cells: Sequence[Cell]) -> None:
    """Raise RowError unless the values of a tensor are of its datatype, or null."""
    if tensor.datatype not in DATATYPES:
        raise RowError(
            f"has the datatype {tensor.datatype[:40]!r}; there are {', '.join(sorted(DATATYPES))}", field=tensor.name
        )
    for cell in cells:
        text = bytes(cell)
        if not is_of_datatype(text, tensor.datatype):
            raise RowError(f"has the datatype {tensor.datatype}, and holds {shorten(text)}", field=tensor.name)


def is_of_datatype(text: bytes, datatype: str) -> bool:
    """Return whether a JSON value is of a datatype, null, or a marked NaN."""
    first = text[:1]
    if first == b"n" or text.startswith(b'"\\u0000'):
        return True
    if first == b'"':
        return datatype == "BYTES"
    if first in b"tf":
        return datatype == "BOOL"
    if datatype in WHOLE:
        return not (b"." in text or b"e" in text or b"E" in text)
    return datatype in REAL and first in b"-0123456789"


def write_response(
    model: str, request: InferRequest, predictions: Sequence[tuple[Prediction, str]], form: AnswerForm
) -> dict[str, Any]:
    """Return the response to a request.

    Raises
    ------
    RowError
        If the request asks for an output that there is not.
    """
    values = [prediction for prediction, _version in predictions]
    versions = [version for _prediction, version in predictions]
    answer: dict[str, Any] = {"model_name": model}
    if len(set(versions)) == 1:
        answer["model_version"] = versions[0]
    else:
        answer["parameters"] = {"versions": ",".join(versions)}
    if request.id is not None:
        answer["id"] = request.id
    answer["outputs"] = form.outputs(requested_outputs(request, form), values)
    return answer


def requested_outputs(request: InferRequest, form: AnswerForm) -> list[str]:
    """Return the names of the outputs of a response; RowError if the request asks for another."""
    present = list(form.tensors())
    names = present if request.outputs is None else [output.name for output in request.outputs]
    unknown = next((name for name in names if name not in present), None)
    if unknown is not None:
        raise RowError(f"there is no output {unknown[:60]!r}; there is {' and '.join(present)}")
    return names


def metadata(model: str, version: str, shape: RowShape, form: AnswerForm) -> dict[str, Any]:
    """Return the metadata of a model: what a row needs, and its features."""
    fields = [field for field in shape.fields if field.required or field.name not in shape.no_features]
    return {
        "name": model,
        "versions": [version],
        "platform": PLATFORM,
        "inputs": [{"name": field.name, "datatype": datatype_of(field), "shape": [-1]} for field in fields],
        "outputs": list(form.tensors().values()),
    }


def datatype_of(field: RowField) -> str:
    """Return the datatype of a column; times, dates and decimals are texts."""
    if pa.types.is_boolean(field.kind):
        return "BOOL"
    if pa.types.is_integer(field.kind):
        return "INT64"
    return "FP64" if pa.types.is_floating(field.kind) else "BYTES"
