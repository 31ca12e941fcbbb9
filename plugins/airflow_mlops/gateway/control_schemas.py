"""Describe the paths by which a loop says what is served: their bodies in JSON schema, and their refusals."""

from __future__ import annotations

from typing import Any, get_args

from airflow_mlops.core.ports.rollout_target import Kind

TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "a SHA-256"}
NUMBER = {"type": ["string", "null"], "description": "the number of a version"}
PERCENT = {"type": "number", "minimum": 0, "maximum": 100}
SUMMARIES = {"prepare": "Load a version", "traffic": "Change the traffic", "finalize": "Drop versions"}
REFUSALS = {
    "409": "newer traffic was applied",
    "412": "a version is not loaded",
    "413": "the body is too large",
    "415": "the body is of another media type",
    "422": "the request is wrong",
}
BODIES = {"prepare": "ServedVersion", "traffic": "TrafficRequest", "finalize": "FinalizeRequest"}
"""The schema of the body by the last part of its path."""


def control_schemas() -> dict[str, Any]:
    """Return the schemas of control requests by name."""
    signature = {"type": "object", "required": ["digest", "key"], "properties": {"digest": DIGEST, "key": DIGEST}}
    traffic = {
        "order": {"type": "integer", "minimum": 0, "description": "the number of a record; higher is newer"},
        "champion": NUMBER,
        "challenger": {**NUMBER, "description": "null where the kind is none, and a version where it is another"},
        "kind": {"enum": list(get_args(Kind))},
        "share": PERCENT,
        "salt": {"type": "string", "maxLength": 250},
        "standby": NUMBER,
    }
    version = {
        "number": {"type": "string", "pattern": "^[1-9][0-9]{0,9}$"},
        "artefact": DIGEST,
        "signature": signature,
        "columns": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
        "hidden": {**TEXTS, "type": ["array", "null"]},
        "levels": {"type": ["object", "null"], "additionalProperties": TEXTS},
    }
    of_traffic = {"traffic": {"$ref": "#/components/schemas/Traffic"}}
    local = {"local_share": {**PERCENT, "type": ["number", "null"]}}
    required = ["number", "artefact", "signature"]
    return {
        "ServedVersion": {"type": "object", "required": required, "properties": version},
        "Traffic": {"type": "object", "required": ["order"], "properties": traffic, "additionalProperties": False},
        "TrafficRequest": {"type": "object", "required": ["traffic"], "properties": {**of_traffic, **local}},
        "FinalizeRequest": {"type": "object", "required": ["traffic"], "properties": of_traffic},
    }
