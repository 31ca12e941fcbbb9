"""Describe every path of the gateway in OpenAPI 3.1, built from the shape of the rows that are served."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from airflow_mlops.gateway import control_schemas
from airflow_mlops.gateway.answer_form import AnswerForm
from airflow_mlops.gateway.open_inference import datatype_of
from airflow_mlops.gateway.row_shape import RowField, RowShape
from airflow_mlops.release import __version__

REFUSALS = {
    "401": "no token, or the wrong one",
    "413": "the body is too large",
    "415": "the body is of another media type",
    "422": "a row is not as the contract says, or the body is not of the protocol",
    "503": "no champion is served, too many rows wait, or no version could answer",
}
PREDICT: list[Any] = [{"predictions": []}]
CONTROL: list[Any] = [{"control": []}]


def describe_gateway(model: str, shape: RowShape, form: AnswerForm) -> dict[str, Any]:
    """Return the OpenAPI document of a gateway.

    Parameters
    ----------
    model : str
        Name of the model.
    shape : RowShape
        Shape of its rows.
    form : AnswerForm
        Form of its answers.
    """
    kind = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Predictions of {model}", "version": __version__},
        "paths": {**predicting_paths(model), **pages(model), **control_paths()},
        "components": {
            "schemas": schemas_of(shape, form),
            "securitySchemes": {"predictions": kind, "control": kind},
        },
    }


def predicting_paths(model: str) -> dict[str, Any]:
    """Return the paths that predict, by each protocol."""
    rows = {"oneOf": [reference("Row"), {"type": "array", "items": reference("Row"), "minItems": 1}]}
    answers = {"oneOf": [reference("Prediction"), reference("Predictions")]}
    infer = predicting("Predict by the Open Inference Protocol", {"application/json": reference("InferRequest")})
    infer |= {"responses": responses(reference("InferResponse"), "V2Error", REFUSALS)}
    kinds = {"application/json": reference("Invocation"), "text/csv": {"type": "string"}}
    invoke = predicting("Predict as MLflow's scoring server", kinds)
    invoke |= {"responses": responses(reference("Scores"), "InvocationError", REFUSALS)}
    predict = predicting("Predict a row, or a list of rows", {"application/json": rows})
    predict |= {"responses": responses(answers, "Error", REFUSALS)}
    missing = {"404": response("the version is not live", reference("V2Error"))}
    of_version = {**infer, "parameters": [VERSION], "responses": {**infer["responses"], **missing}}
    return {
        "/predict": {"post": predict},
        "/invocations": {"post": invoke},
        f"/v2/models/{model}/infer": {"post": infer},
        f"/v2/models/{model}/versions/{{version}}/infer": {"post": of_version},
    }


def predicting(summary: str, kinds: dict[str, Any]) -> dict[str, Any]:
    """Return an operation that predicts."""
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"summary": summary, "security": PREDICT, "requestBody": {"required": True, "content": content}}


def pages(model: str) -> dict[str, Any]:
    """Return the paths that are read."""
    below = f"/v2/models/{model}"
    not_ready = {"503": "no champion is loaded"}
    return {
        "/health": page("The process lives"),
        "/ready": page("A champion is loaded and warm", refusals=not_ready),
        "/metrics": page("Counts for Prometheus", kind="text/plain", security=[*PREDICT, *CONTROL]),
        "/openapi.json": page("This document", security=[*PREDICT, *CONTROL], refusals=not_ready),
        "/ping": page("A champion is loaded, as MLflow's scoring server says it", refusals={"404": "none is"}),
        "/version": page("The version of MLflow's scoring protocol"),
        "/v2": page("The server"),
        "/v2/health/live": page("The process lives"),
        "/v2/health/ready": page("A champion is loaded and warm", refusals=not_ready, error="V2Error"),
        below: page("What a row needs", schema="Metadata", security=PREDICT, refusals=not_ready, error="V2Error"),
        f"{below}/ready": page("The model is loaded and warm", refusals=not_ready, error="V2Error"),
        f"{below}/versions/{{version}}": page(
            "What a row needs",
            schema="Metadata",
            security=PREDICT,
            refusals={**not_ready, "404": "the version is not live"},
            error="V2Error",
            parameters=[VERSION],
        ),
        f"{below}/versions/{{version}}/ready": page(
            "The version is loaded and warm",
            refusals={**not_ready, "404": "the version is not live"},
            error="V2Error",
            parameters=[VERSION],
        ),
    }


def page(
    summary: str,
    *,
    kind: str = "application/json",
    schema: str | None = None,
    security: list[Any] | None = None,
    refusals: dict[str, str] | None = None,
    error: str = "Error",
    parameters: list[Any] | None = None,
) -> dict[str, Any]:
    """Return a path that is read."""
    content = {"schema": reference(schema)} if schema else {}
    refused = {**(refusals or {}), **({"401": REFUSALS["401"]} if security else {})}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": {kind: content}},
            **{status: response(words, reference(error)) for status, words in refused.items()},
        },
    }
    if security:
        operation["security"] = security
    if parameters:
        operation["parameters"] = parameters
    return {"get": operation}


def control_paths() -> dict[str, Any]:
    """Return the paths by which a loop says what is served."""
    paths: dict[str, Any] = {
        f"/control/{name}": {
            "put": {
                "summary": summary,
                "security": CONTROL,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": reference(control_schemas.BODIES[name])}},
                },
                "responses": responses(
                    {"type": "object"}, "Error", {"401": REFUSALS["401"], **control_schemas.REFUSALS}
                ),
            }
        }
        for name, summary in control_schemas.SUMMARIES.items()
    }
    paths["/control/traffic"] |= page("The served traffic", security=CONTROL)
    paths["/control/telemetry"] = page("Counts since the traffic was applied", security=CONTROL)
    return paths


def schemas_of(shape: RowShape, form: AnswerForm) -> dict[str, Any]:
    """Return the schemas of rows, requests and responses."""
    text = {"type": "string"}
    texts = {"type": "array", "items": text}
    single, several = prediction_schemas(form)
    place = {"type": ["integer", "null"]}
    error = {"error": text, "field": {"type": ["string", "null"]}, "row": place, "reason": text}
    tensor = {"name": text, "datatype": text, "shape": {"type": "array", "items": {"type": "integer"}}}
    rows = {"type": "array", "items": reference("Row"), "minItems": 1}
    columns = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "array", "minItems": 1}}
    parameters = {"parameters": {"type": "object"}}
    inputs = [{"name": field.name, "datatype": datatype_of(field)} for field in shape.fields]
    return {
        "Row": row_schema(shape),
        "Prediction": closed({**single, "version": text}),
        "Predictions": closed({**several, "versions": texts}),
        "Error": closed(error, required=["error"]),
        "Invocation": {
            "type": "object",
            "oneOf": [
                {"required": ["dataframe_split"], "properties": {"dataframe_split": reference("Frame")}},
                {"required": ["dataframe_records"], "properties": {"dataframe_records": rows}},
                {"required": ["instances"], "properties": {"instances": rows}},
                {"required": ["inputs"], "properties": {"inputs": {"oneOf": [rows, columns]}}},
            ],
        },
        "Frame": closed(
            {
                "columns": {"type": "array", "items": text},
                "index": {"type": "array"},
                "data": {"type": "array", "items": {"type": "array"}},
            },
            required=["columns", "data"],
        ),
        "Scores": closed(several),
        "InvocationError": closed({"error_code": text, "message": text, **error}, required=["error_code", "message"]),
        "Tensor": {
            "type": "object",
            "required": ["name", "datatype", "shape", "data"],
            "properties": {**tensor, "data": {"type": "array"}, "parameters": {"type": "object"}},
            "examples": inputs,
        },
        "InferRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": text,
                "inputs": {"type": "array", "items": reference("Tensor"), "minItems": 1},
                "outputs": {"type": "array", "items": closed({"name": text})},
                "parameters": {"type": "object"},
            },
        },
        "InferResponse": {
            "type": "object",
            "required": ["model_name", "outputs"],
            "properties": {
                "model_name": text,
                "model_version": text,
                "id": text,
                "parameters": {"type": "object"},
                "outputs": {
                    "type": "array",
                    "items": closed(
                        {**tensor, "name": {"enum": list(form.tensors())}, "data": {"type": "array"}, **parameters},
                        required=[*tensor, "data"],
                    ),
                },
            },
        },
        "Metadata": closed(
            {
                "name": text,
                "versions": texts,
                "platform": text,
                "inputs": {"type": "array", "items": closed(tensor)},
                "outputs": {"type": "array", "items": closed({**tensor, **parameters}, required=list(tensor))},
            }
        ),
        "V2Error": closed({"error": text}),
        **control_schemas.control_schemas(),
    }


def prediction_schemas(form: AnswerForm) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of the answer for one row, and of that for a list of rows."""
    bounds = {"minimum": 0, "maximum": 1} if form.classes else {}
    fields: dict[str, Any] = {"prediction": {"enum": list(form.classes)} if form.classes else {"type": "number"}}
    if form.names:
        fields[form.details] = closed({name: {"type": "number", **bounds} for name in form.names})
    lists = {name: {"type": "array", "items": schema} for name, schema in fields.items()}
    return fields, {"predictions": lists.pop("prediction"), **lists}


def row_schema(shape: RowShape) -> dict[str, Any]:
    """Return the schema of a row: its columns, their types and whether they may be null or missing."""
    return {
        "type": "object",
        "required": [field.name for field in shape.fields if field.required],
        "properties": {
            **{field.name: field_schema(field) for field in shape.fields},
            shape.label: {"description": "the label, which is ignored"},
        },
        "additionalProperties": bool(shape.ignores_columns),
    }


def field_schema(field: RowField) -> dict[str, Any]:
    """Return the schema of a column."""
    kind = field.kind
    schema: dict[str, Any] = {"type": "string"}
    if pa.types.is_boolean(kind):
        schema = {"type": "boolean"}
    elif pa.types.is_integer(kind):
        schema = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    elif pa.types.is_floating(kind):
        schema = {"type": "number"}
    elif pa.types.is_timestamp(kind):
        schema = {"type": "string", "format": "date-time"} if kind.tz else {"type": "string"}
    elif pa.types.is_date(kind):
        schema = {"type": "string", "format": "date"}
    elif pa.types.is_decimal(kind):
        schema = decimal_schema(kind)
    if field.nullable or not field.required:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        schema["type"] = [*types, "null"]
    return schema


def decimal_schema(kind: pa.Decimal128Type) -> dict[str, Any]:
    """Return the schema of a decimal, which is a text or a number with at most its digits."""
    before, after = kind.precision - kind.scale, kind.scale
    fraction = rf"(\.[0-9]{{1,{after}}})?" if after > 0 else ""
    return {
        "type": ["string", "number"],
        "description": str(kind),
        "pattern": rf"^-?[0-9]{{1,{before}}}{fraction}$" if before > 0 else rf"^-?0{fraction}$",
        "exclusiveMinimum": -(10**before),
        "exclusiveMaximum": 10**before,
        "multipleOf": 10.0**-after,
    }


def responses(schema: dict[str, Any], error: str, refusals: dict[str, str]) -> dict[str, Any]:
    """Return the responses of an operation: the answer, and each refusal."""
    return {
        "200": response("OK", schema),
        **{status: response(words, reference(error)) for status, words in refusals.items()},
    }


def response(words: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a response in JSON."""
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def closed(properties: dict[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    """Return the schema of an object of these properties; all are required by default."""
    return {"type": "object", "required": list(properties) if required is None else required, "properties": properties}


def reference(name: str) -> dict[str, str]:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
