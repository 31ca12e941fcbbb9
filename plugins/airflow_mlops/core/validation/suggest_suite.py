"""Draft a first suite of expectations from data, for a person to review.

Ranges are as wide again as what was seen; columns with few different texts expect these; columns with
some nulls expect no more than about that many. What a contract says (types, never null) is not repeated.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa

from airflow_mlops.core.data.drafting.column_facts import MAX_TEXTS, ColumnFacts
from airflow_mlops.core.data.drafting.learn_columns import LearnedTable
from airflow_mlops.core.data.drafting.suggest_contract import quote_yaml, replace_unprintable
from airflow_mlops.core.data.profiles.partition_profile import LARGEST

ROWS_PER_TEXT = 10
"""Rows for each different text below which the texts are names rather than categories."""
LONGEST = 60
LEAST_FILLED = 0.5
"""Share of rows with a value below which nothing is expected of how full a column is."""


def draft_suite(table: LearnedTable, files: Sequence[Path], *, key: str, hidden: Collection[str] = ()) -> str:
    """Return a suite as YAML that the files it was drafted from meet.

    Parameters
    ----------
    table : LearnedTable
        What the files say.
    files : sequence of Path
        Named in the draft.
    key : str
        Of which nothing is expected: the contract says all.
    hidden : collection of str
        Columns whose values are written nowhere, as those that look personal.
    """
    more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
    name = replace_unprintable(files[0].name)
    lines = [
        f"# A draft from {table.rows:,} rows of {name}{more}. Review every line before it is used.",
        "# Ranges are as wide again as what was seen. A row that breaks a critical expectation goes to quarantine; a",
        "# warning is only recorded.",
    ]
    drafted = [
        line
        for column in table.columns.values()
        if column.name != key and not column.unsupported
        for line in expectations(column, shown=column.name not in hidden)
    ]
    return "\n".join([*lines, "expectations:" if drafted else "expectations: []", *drafted]) + "\n"


def expectations(column: ColumnFacts, *, shown: bool) -> list[str]:
    """Return the lines of what is expected of one column."""
    lines: list[str] = []
    name = quote_yaml(column.name)
    filled = 1 - column.nulls / column.rows if column.rows else 0.0
    if column.nulls and filled >= LEAST_FILLED:
        # Twice the nulls that were seen, and one in a hundred at least.
        mostly = max(0.0, math.floor(100 * (1 - 2 * (1 - filled))) / 100 - 0.01)
        lines += [
            "  - type: expect_column_values_to_not_be_null",
            f"    kwargs: {{column: {name}, mostly: {mostly:.2f}}}",
            "    severity: warning",
        ]
    number = pa.types.is_integer(column.kind) or pa.types.is_floating(column.kind)
    if number and shown and not column.odd and column.low is not None and column.high is not None:
        flag = pa.types.is_integer(column.kind) and 0 <= column.low <= column.high <= 1
        low, high = ("0", "1") if flag else widened(column.low, column.high)
        lines += [
            "  - type: expect_column_values_to_be_between",
            f"    kwargs: {{column: {name}, min_value: {low}, max_value: {high}}}",
        ]
    if pa.types.is_string(column.kind) and shown and is_category(column):
        texts = ", ".join(quote_yaml(text, always=True) for text in sorted(column.texts or ()))
        lines += [
            "  - type: expect_column_values_to_be_in_set",
            f"    kwargs: {{column: {name}, value_set: [{texts}]}}",
            "    severity: warning",
        ]
    return lines


def is_category(column: ColumnFacts) -> bool:
    """Return whether the texts of a column are few, short and repeat."""
    texts, values = column.texts, column.rows - column.nulls
    if not texts or len(texts) > MAX_TEXTS or values < ROWS_PER_TEXT * len(texts):
        return False
    return all(0 < len(text) <= LONGEST for text in texts)


def widened(low: float, high: float) -> tuple[str, str]:
    """Return a range as wide again, rounded outwards to two digits; what was never negative stays so.

    >>> widened(17.0, 4983.0)
    ('0', '7500')
    >>> widened(-0.5, 0.5)
    ('-1', '1')
    """
    margin = (high / 2 - low / 2) or abs(high) / 2 or 1.0
    below = 0.0 if low >= 0 and low - margin < 0 else outwards(low - margin, -1)
    above = 0.0 if high <= 0 and high + margin > 0 else outwards(high + margin, +1)
    return plain(below), plain(above)


def plain(value: float) -> str:
    """Return a number as YAML reads it: ``7500``, ``0.075``, ``1e+20``."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def outwards(value: float, direction: int) -> float:
    """Return a value rounded to two digits, up or down."""
    if value == 0 or not math.isfinite(value):
        return math.copysign(LARGEST, value) if value else 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    steps = value / unit
    rounded = float(f"{(math.ceil(steps) if direction > 0 else math.floor(steps)) * unit:.2g}") if unit else value
    return rounded if math.isfinite(rounded) else value
