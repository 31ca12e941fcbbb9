"""Bodies that OpenAPI has no words for; the tool that asks the gateway by its description loads this module."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st

LINE = st.builds("{},{},{},{}".format, st.integers(0, 99), st.floats(-9, 9), st.sampled_from("ab"), st.integers(0, 9))
TABLE = st.lists(LINE, min_size=1, max_size=3).map(lambda lines: "\n".join(["id,x,kind,stops", *lines]).encode())

schemathesis.openapi.media_type("text/csv", TABLE)


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Return a body whose whole numbers have no point: 3.0 is an integer to JSON schema, and not to a contract."""
    if isinstance(body, dict):
        return {name: map_body(context, value) for name, value in body.items()}
    if isinstance(body, list):
        return [map_body(context, value) for value in body]
    return int(body) if isinstance(body, float) and body.is_integer() else body
