"""Numbers and other values of records as a person reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_mlops.core.report.page_parts import Table


def told(value: Any) -> str:
    """Return a value in words: a number with four digits, nothing as a dash.

    >>> told(0.123456), told(12_345), told(None), told(True), told(["a", "b"]), told({"x": 1})
    ('0.1235', '12,345', '–', 'yes', 'a, b', '{"x": 1}')
    """
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def interval(low: Any, high: Any) -> str:
    """Return an interval, or a dash where there is none.

    >>> interval(0.5, 1), interval(None, None)
    ('[0.5, 1]', '–')
    """
    return "–" if low is None or high is None else f"[{told(low)}, {told(high)}]"


def table_of(head: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of records; ``head`` says which of their values, and what the columns of them are called.

    A column that no record has a value of is left out.
    """
    held = list(rows)
    kept = {key: words for key, words in head.items() if any(row.get(key) is not None for row in held)}
    return Table(tuple(kept.values()), tuple(tuple(told(row.get(key)) for key in kept) for row in held))


def pairs(values: Mapping[str, Any]) -> Table:
    """Return values by their names, those that are there."""
    return Table(("what", "value"), tuple((key, told(value)) for key, value in values.items() if value is not None))
