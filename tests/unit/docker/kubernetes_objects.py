"""The schemas of Kubernetes for the objects of ``docker/kubernetes``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS: dict[str, Any] = json.loads((Path(__file__).parent / "kubernetes_schemas" / "v1.37.json").read_text())
POD = {"$ref": "#/$defs/io.k8s.api.core.v1.PodTemplateSpec"}
"""A pod has the metadata and the spec of the template of one."""


def problems(manifest: dict[str, Any]) -> list[str]:
    """Return the errors of a manifest by the schema of its kind."""
    if manifest["kind"] == "Pod":
        schema = POD
        manifest = {name: value for name, value in manifest.items() if name not in {"apiVersion", "kind"}}
    else:
        schema = SCHEMAS["kinds"][manifest["kind"]]
    validator = Draft202012Validator({**schema, "$defs": SCHEMAS["$defs"]})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
