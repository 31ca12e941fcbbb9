"""Draft a suite of expectations from learned columns, for a person to review.

Ranges are twice as wide as the observed ones; columns with few different texts expect those; columns with some nulls
expect about as many at most. The rules of the contract (types, never null) are not repeated.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from airflow_mlops.core.data.drafting.column_facts import ColumnFacts, is_category
from airflow_mlops.core.data.drafting.learn_columns import LearnedTable
from airflow_mlops.core.data.drafting.suggest_contract import quote_yaml, replace_unprintable
from airflow_mlops.core.data.profiles.partition_profile import LARGEST
from airflow_mlops.core.declaration.arrow_types import is_number
from airflow_mlops.core.declaration.key_columns import key_columns

MIN_FILLED = 0.5
"""Share of rows with a value below which no expectation on nulls is drafted."""


def draft_suite(
    table: LearnedTable,
    files: Sequence[Path],
    *,
    key: str,
    hidden: Collection[str] = (),
    names: Mapping[str, str] | None = None,
) -> str:
    """Return a suite as YAML that the files from which it was drafted meet.

    Parameters
    ----------
    table : LearnedTable
        The columns of the files.
    files : sequence of Path
        The files, for the comment in the draft.
    key : str
        The key, whose columns get no expectation: the contract covers it.
    hidden : collection of str
        Columns whose values must not be written, such as personal ones.
    names : mapping of str to str, optional
        Names of the columns in the contract, by those that arrive; the same by default.
    """
    more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
    name = replace_unprintable(files[0].name)
    lines = [
        f"# A draft from {table.rows:,} rows of {name}{more}. Review every line before it is used.",
        "# Ranges are twice as wide as observed. A row that breaks a critical expectation goes to quarantine; a",
        "# warning is only recorded.",
    ]
    body = [
        line
        for column in table.columns.values()
        if column.name not in key_columns(key) and not column.unsupported
        for line in expectation_lines(
            column, name=(names or {}).get(column.name, column.name), with_values=column.name not in hidden
        )
    ]
    return "\n".join([*lines, "expectations:" if body else "expectations: []", *body]) + "\n"


def expectation_lines(column: ColumnFacts, *, name: str, with_values: bool) -> list[str]:
    """Return the YAML lines of the expectations of one column; ``with_values`` says whether to write values."""
    lines: list[str] = []
    name = quote_yaml(name)
    filled = 1 - column.nulls / column.rows if column.rows else 0.0
    if column.nulls and filled >= MIN_FILLED:
        # Twice the observed share of nulls, and one in a hundred at least.
        mostly = max(0.0, math.floor(100 * (1 - 2 * (1 - filled))) / 100 - 0.01)
        lines += [
            "  - type: expect_column_values_to_not_be_null",
            f"    kwargs: {{column: {name}, mostly: {mostly:.2f}}}",
            "    severity: warning",
        ]
    if is_number(column.kind) and with_values and not column.odd:
        lines += range_lines(column, name)
    if column.missing is not None and with_values:
        low, high = widen_range(*bounds) if (bounds := column.range_without_missing) else ("", "")
        lines.append(f"    # REVIEW: {column.missing:g} may stand for a missing value; without it: {low} to {high}")
    if pa.types.is_string(column.kind) and with_values and is_category(column):
        texts = ", ".join(quote_yaml(text, always=True) for text in sorted(column.texts or ()))
        lines += [
            "  - type: expect_column_values_to_be_in_set",
            f"    kwargs: {{column: {name}, value_set: [{texts}]}}",
            "    severity: warning",
        ]
    return lines


def range_lines(column: ColumnFacts, name: str) -> list[str]:
    """Return the YAML lines of the range of a column of numbers; empty if it holds no finite number."""
    if column.low is None or column.high is None:
        return []
    is_flag = pa.types.is_integer(column.kind) and 0 <= column.low <= column.high <= 1
    low, high = ("0", "1") if is_flag else widen_range(column.low, column.high)
    return [
        "  - type: expect_column_values_to_be_between",
        f"    kwargs: {{column: {name}, min_value: {low}, max_value: {high}}}",
    ]


def widen_range(low: float, high: float) -> tuple[str, str]:
    """Return a range twice as wide, rounded outwards to two digits; a bound keeps the sign of the range.

    >>> widen_range(17.0, 4983.0)
    ('0', '7500')
    >>> widen_range(-0.5, 0.5)
    ('-1', '1')
    """
    margin = (high / 2 - low / 2) or abs(high) / 2 or 1.0
    below = 0.0 if low >= 0 and low - margin < 0 else round_outwards(low - margin, -1)
    above = 0.0 if high <= 0 and high + margin > 0 else round_outwards(high + margin, +1)
    return format_number(below), format_number(above)


def format_number(value: float) -> str:
    """Return a number as a YAML scalar: ``7500``, ``0.075``, ``1e+20``."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def round_outwards(value: float, direction: int) -> float:
    """Return a value rounded to two digits, up or down."""
    if value == 0 or not math.isfinite(value):
        return math.copysign(LARGEST, value) if value else 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    steps = value / unit
    rounded = float(f"{(math.ceil(steps) if direction > 0 else math.floor(steps)) * unit:.2g}") if unit else value
    return rounded if math.isfinite(rounded) else value
