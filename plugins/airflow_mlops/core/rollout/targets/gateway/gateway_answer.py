"""The body of an answer of a gateway: its JSON, and what an error may quote of it."""

from __future__ import annotations

import json
from typing import Any


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON body, None if it is not JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def error_message(body: bytes, *, secret: str | None = None) -> str:
    """Return the ``error`` of a body, or else its text, without a secret; at most 500 characters.

    A proxy may repeat the headers of a request that it refuses, and an error is read in logs and pages.
    """
    answer = parse_json(body)
    error = answer.get("error") if isinstance(answer, dict) else None
    text = str(error if error is not None else body.decode("utf-8", "replace"))
    return (text.replace(secret, "***") if secret else text)[:500]
