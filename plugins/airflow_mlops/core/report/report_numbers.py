"""Format numbers and other values of records for a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_mlops.core.report.page_parts import Table


def format_value(value: Any) -> str:
    """Return a value as text: a float with four digits, None as a dash.

    >>> format_value(0.123456), format_value(12_345), format_value(None)
    ('0.1235', '12,345', '–')
    >>> format_value(True), format_value(["a", "b"]), format_value({"x": 1})
    ('yes', 'a, b', '{"x": 1}')
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


def format_interval(low: Any, high: Any) -> str:
    """Return an interval, or a dash where there is none.

    >>> format_interval(0.5, 1), format_interval(None, None)
    ('[0.5, 1]', '–')
    """
    return "–" if low is None or high is None else f"[{format_value(low)}, {format_value(high)}]"


def table_of(head: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of records; ``head`` has the heading of each column by its key in the records.

    A column without any value is left out.
    """
    records = list(rows)
    columns = {key: heading for key, heading in head.items() if any(row.get(key) is not None for row in records)}
    return Table(
        tuple(columns.values()), tuple(tuple(format_value(row.get(key)) for key in columns) for row in records)
    )


def value_table(values: Mapping[str, Any]) -> Table:
    """Return a table of values by name, without those that are None."""
    return Table(
        ("what", "value"), tuple((key, format_value(value)) for key, value in values.items() if value is not None)
    )
