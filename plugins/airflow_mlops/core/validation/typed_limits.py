"""Give the limits and values of an expectation the type of the column that they are compared with.

YAML has no moments and no decimals: ``min_value: 2025-12-01`` arrives as text, and the engine would compare it with
times.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import pandas as pd
import pyarrow as pa

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.validation.suite import Expectation

LIMITS = ("min_value", "max_value", "value")
SETS = ("value_set",)


def typed_limits(expectation: Expectation, kind: pa.DataType | None) -> Expectation:
    """Return an expectation whose limits and values have the type of its column.

    Parameters
    ----------
    expectation : Expectation
        An expectation about one column, or about several or none, which stays as it is.
    kind : pyarrow.DataType, optional
        Type of the column.

    Raises
    ------
    DeclarationError
        If a limit is no value of the type; names the expectation, the limit and an example of what it may be.
    """
    if kind is None or expectation.kwargs.get("column") is None:
        return expectation
    converted = {}
    for name, value in expectation.kwargs.items():
        if name in LIMITS and value is not None:
            converted[name] = _convert(expectation, name, value, kind)
        elif name in SETS and isinstance(value, list):
            converted[name] = [_convert(expectation, name, item, kind) for item in value]
    return expectation.model_copy(update={"kwargs": {**expectation.kwargs, **converted}}) if converted else expectation


def _convert(expectation: Expectation, name: str, value: Any, kind: pa.DataType) -> Any:
    """Return a limit in the type of a column; counts and shares of rows stay numbers."""
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        convert: Callable[[Any, pa.DataType], Any] = _moment if pa.types.is_timestamp(kind) else _date
        example = "2025-12-01"
    elif pa.types.is_decimal(kind) and expectation.type.startswith("expect_column_values_"):
        convert, example = _decimal, "10.25"
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        convert, example = _number, "10.25"
    else:
        return value
    # The limits of these are numbers of values, whatever the values are.
    if "unique_value_count" in expectation.type or "proportion" in expectation.type or "length" in expectation.type:
        return value
    try:
        return convert(value, kind)
    except (TypeError, ValueError, InvalidOperation):
        raise DeclarationError(
            f"{expectation.type} on {expectation.column}: {name} is {value!r}, and the column holds {kind}; write a "
            f"value such as {example}"
        ) from None


def _moment(value: Any, kind: pa.DataType) -> pd.Timestamp:
    if not isinstance(value, str | date):
        raise TypeError(value)
    moment = pd.Timestamp(value)
    if kind.tz is None:
        return moment.tz_convert("UTC").tz_localize(None) if moment.tzinfo else moment
    return moment.tz_convert("UTC") if moment.tzinfo else moment.tz_localize("UTC")


def _date(value: Any, _kind: pa.DataType) -> date:
    if isinstance(value, date):
        return value
    return date.fromisoformat(value)


def _decimal(value: Any, _kind: pa.DataType) -> Decimal:
    return Decimal(str(value))


def _number(value: Any, _kind: pa.DataType) -> Any:
    return float(value) if isinstance(value, str) else value
