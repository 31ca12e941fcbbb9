"""Encode features of any kind as the columns of a matrix, in the terms of the reference.

Columns that cannot be compared are left out by name, so that a broken one does not hide what happens to the others:
one that is missing, empty or of another kind in the window is a finding of the drift of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.training.row_losses import Floats

CATEGORIES = 200
"""Categories of a column that are told apart; rarer ones count as unseen."""
SHOWN = 5
FARTHEST = 10.0
"""Standard deviations at which a value is cut off, so that one cell does not outweigh all others."""


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers: statistics of the reference's finite values, and whether it has nulls or infinities."""

    low: float
    high: float
    middle: float
    spread: float
    nulls: bool


@dataclass(frozen=True)
class CategoryColumn:
    """A column of anything else: the share of the reference's values that each category has, the most frequent first.

    ``whole`` says whether these are all of them, ``nulls`` whether the reference has nulls.
    """

    shares: Mapping[str, float]
    whole: bool
    nulls: bool


class RowEncoder:
    """Encodes features as matrices.

    Parameters
    ----------
    reference : DataFrame
        Features of the reference. Columns without a value, and with one value alone, are left out.
    window : DataFrame
        Features of the window. Columns of the reference that it lacks, or has no value of, or that hold numbers in one
        and text in the other, are left out.

    Raises
    ------
    NotReadyError
        If no column is left.
    """

    def __init__(self, reference: pd.DataFrame, window: pd.DataFrame) -> None:
        self.left_out: dict[str, str] = {}
        self.columns: dict[str, NumberColumn | CategoryColumn] = {}
        for name in map(str, reference.columns):
            reason = comparison_obstacle(reference[name], window[name] if name in window.columns else None)
            if reason:
                self.left_out[name] = reason
            else:
                self.columns[name] = describe_column(reference[name])
        if not self.columns:
            raise NotReadyError(f"no column can be compared: {self.left_out}")

    def encode(self, frame: pd.DataFrame) -> Floats:
        """Return features for trees, shape (n_rows, n_columns): numbers as they are, categories by their rank.

        NaN stands for null and for infinity, -1 for a category that is not among the reference's.
        """
        return np.column_stack([encode_column(frame[name], description) for name, description in self.columns.items()])

    def standardise(self, frame: pd.DataFrame) -> Floats:
        """Return features for distances, shape (n_rows, n_columns): standardised, and 0 where there is no value.

        A category counts as the share that it has in the reference, and an unseen one as 0.
        """
        return np.column_stack(
            [standardise_column(frame[name], description) for name, description in self.columns.items()]
        )

    @cached_property
    def remark(self) -> str:
        """The end of a sentence that lists the columns left out; empty where there are none."""
        if not self.left_out:
            return ""
        columns = [f"{name} ({reason})" for name, reason in sorted(self.left_out.items())]
        more = f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
        return f"; left out: {', '.join(columns[:SHOWN])}{more}"


def is_number(column: pd.Series[Any]) -> bool:
    """Return whether a column holds numbers or times; truth values are categories."""
    kind = column.dtype
    if pd.api.types.is_bool_dtype(kind):
        return False
    return bool(pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind))


def values_of(column: pd.Series[Any]) -> Floats:
    """Return numbers, and times as seconds since 1970, shape (n_rows,); NaN stands for null and for infinity."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        zone = column.dt.tz_convert("UTC").dt.tz_localize(None) if column.dt.tz is not None else column
        values = zone.astype("datetime64[us]").astype("int64").to_numpy(np.float64) / 1e6
        return np.where(column.isna().to_numpy(), np.nan, values)
    values = column.to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def texts_of(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return categories as text; null stays null."""
    return column.astype(object).where(column.isna(), column.astype(str))


def comparison_obstacle(reference: pd.Series[Any], window: pd.Series[Any] | None) -> str | None:
    """Return the reason why a column cannot be compared; None where it can."""
    if window is None:
        return "missing"
    numbers = is_number(reference)
    if not window.notna().any():
        return "no value"
    if numbers != is_number(window):
        return "of another kind"
    if numbers and not np.isfinite(values_of(window)).any():
        return "no finite value"
    present = values_of(reference) if numbers else texts_of(reference)
    return "constant in the reference" if pd.Series(present).nunique() < 2 else None


def describe_column(column: pd.Series[Any]) -> NumberColumn | CategoryColumn:
    """Return the statistics of a reference column."""
    if is_number(column):
        values = values_of(column)
        finite = values[np.isfinite(values)]
        low, middle, high = (float(np.quantile(finite, at, method="inverted_cdf")) for at in (0, 0.5, 1))
        unit = max(abs(low), abs(high))  # the square of a very large float is infinite
        spread = float(np.std(finite / unit)) * unit
        return NumberColumn(low, high, middle, spread, finite.size < values.size)
    shares = texts_of(column).value_counts(normalize=True)
    frequent = {str(name): float(share) for name, share in shares.head(CATEGORIES).items()}
    return CategoryColumn(frequent, len(shares) <= CATEGORIES, bool(column.isna().any()))


def encode_column(column: pd.Series[Any], description: NumberColumn | CategoryColumn) -> Floats:
    """Encode a column for trees, shape (n_rows,)."""
    if isinstance(description, NumberColumn):
        return values_of(column)
    codes = pd.Index(list(description.shares)).get_indexer(pd.Index(texts_of(column))).astype(np.float64)
    return np.where(column.isna().to_numpy(), np.nan, codes)


def standardise_column(column: pd.Series[Any], description: NumberColumn | CategoryColumn) -> Floats:
    """Standardise a column for distances, shape (n_rows,)."""
    if isinstance(description, NumberColumn):
        with np.errstate(over="ignore"):
            scaled = (values_of(column) - description.middle) / description.spread
        return np.clip(np.nan_to_num(scaled, nan=0.0), -FARTHEST, FARTHEST)
    shares = np.array([*description.shares.values(), 0.0])
    usual = float(np.sum(shares**2))
    spread = float(np.sqrt(max(np.sum(shares**3) - usual**2, 0.0)))
    codes = encode_column(column, description)
    share = np.where(np.isnan(codes), usual, shares[np.nan_to_num(codes, nan=-1.0).astype(np.int64)])
    return np.clip((share - usual) / (spread if spread > 1e-9 else 1.0), -FARTHEST, FARTHEST)
