"""Weights of rows: a column of them, and their decay with the age of a row within a training window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.errors import DataError

Floats = npt.NDArray[np.float64]


class WeightError(DataError):
    """A row has no weight, or one that is negative or infinite; or no row of several has any."""


def row_weights(rows: pd.DataFrame, column: str | None) -> Floats | None:
    """Return the weight of each row, shape (n_rows,); None where no column of weights is declared.

    Raises
    ------
    WeightError
        If a weight is null, negative, infinite or no number, or all are 0; with the number of such rows.
    """
    if column is None:
        return None
    if column not in rows.columns:
        raise WeightError(f"train.weight: the rows have no column {column!r}; they have {', '.join(rows.columns)}")
    try:
        weights = rows[column].to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise WeightError(f"the weight {column!r} must be a number: {error}; turn it into one in the source") from error
    faults = (("null", np.isnan(weights)), ("negative", weights < 0), ("infinite", np.isinf(weights)))
    for words, mask in faults:
        count = int(np.count_nonzero(mask))
        if count:
            raise WeightError(
                f"the weight {column!r} of {count:,} of {weights.size:,} rows is {words}, and a weight is a number "
                "from 0; correct it in the source, or hold such rows back: nullable: false in the contract, and an "
                "expectation of values from 0"
            )
    if weights.size and not weights.any():
        raise WeightError(f"the weight {column!r} of all {weights.size:,} rows is 0: none of them would count")
    return weights


def fit_weights(rows: pd.DataFrame, weights: Mapping[str, Any] | None, time: str) -> Floats | None:
    """Return the weight of each row in a fit, shape (n_rows,); None where nothing is declared.

    Parameters
    ----------
    weights : mapping, optional
        ``column`` of the weights, and ``half_life_days``: a row so much older than the newest one counts half.
    time : str
        The column of the times.

    Raises
    ------
    WeightError
        As for :func:`row_weights`, and if a row has no time to tell its age from.
    """
    if weights is None:
        return None
    column = row_weights(rows, weights.get("column"))
    half_life = weights.get("half_life_days")
    if half_life is None or rows.empty:
        return column
    moments = pd.to_datetime(rows[time])
    missing = int(moments.isna().sum())
    if missing:
        raise WeightError(
            f"{missing:,} of {len(rows):,} rows have no {time!r}, and train.half_life_days needs the age of every row"
        )
    ages = ((moments.max() - moments) / pd.Timedelta(days=1)).to_numpy(np.float64)
    decay: Floats = 0.5 ** (ages / half_life)
    return decay if column is None else column * decay
