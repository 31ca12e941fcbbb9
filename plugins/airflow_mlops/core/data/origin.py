"""The origin of rows in a record: as it is, or its digest and its size where it names very many files.

A record and an XCom are read at every step; thousands of paths in them would be read as often. The whole origin is
evidence then, named by its digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.workspace import Workspace

MAX_BYTES = 4_096
"""Bytes of JSON up to which an origin is in the record itself: about thirty files."""
EVIDENCE = "evidence"
"""Key of the digest under which the whole origin is stored."""


def short_origin(workspace: Workspace, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return an origin for a record; a long one is stored as evidence, and its digest, files and bytes are returned."""
    if len(canonical_json(origin)) <= MAX_BYTES:
        return dict(origin)
    files = origin.get("files", [])
    return {
        **{name: value for name, value in origin.items() if name != "files"},
        EVIDENCE: workspace.evidence.put(dict(origin)),
        "file_count": len(files),
        "bytes": sum(file["size"] for file in files),
    }


def whole_origin(workspace: Workspace, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the origin that :func:`short_origin` shortened, or the origin itself."""
    return workspace.evidence.get(str(origin[EVIDENCE])) if EVIDENCE in origin else dict(origin)
