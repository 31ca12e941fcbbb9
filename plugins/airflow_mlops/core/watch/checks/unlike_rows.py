"""The rows of a window that are least like the reference, with reasons: drift on the level of a single prediction.

A row is ranked by the number of its unusual values: numbers outside of the range of the reference's sample, categories
that it does not have (unknown for a column with very many), and nulls where it had none. Rows with equally many are
ranked by their reconstruction error. Values are not repeated here, since a report may be read by people who must not
see them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.watch.checks.encoded_rows import (
    CategoryColumn,
    NumberColumn,
    RowEncoder,
    encode_column,
    values_of,
)

LISTED = 10
NULL = "null or infinite, and the reference has no such value"


def unlike_rows(
    encoder: RowEncoder, window: pd.DataFrame, keys: npt.NDArray[Any], errors: Floats, *, listed: int = LISTED
) -> list[dict[str, Any]]:
    """Return the rows that are least like the reference, the least usual first, with key, reasons and error.

    Parameters
    ----------
    encoder : RowEncoder
        With the statistics of the reference's columns.
    keys : array of str, shape (n_rows,)
        Keys of the window's rows.
    errors : array of float, shape (n_rows,)
        Reconstruction error of each row.
    """
    reasons_by_column = {
        name: strange_values(window[name], description) for name, description in encoder.columns.items()
    }
    counts = np.sum([np.array([reason != "" for reason in reasons]) for reasons in reasons_by_column.values()], axis=0)
    order = np.lexsort((-errors, -counts))[:listed]
    return [
        {
            "key": str(keys[row]),
            "unlike": int(counts[row]),
            "reasons": [f"{name}: {reasons[row]}" for name, reasons in reasons_by_column.items() if reasons[row]],
            "error": round(float(errors[row]), 6),
        }
        for row in order
    ]


def strange_values(column: pd.Series[Any], description: NumberColumn | CategoryColumn) -> npt.NDArray[np.str_]:
    """Return for each row the reason why its value is unusual, shape (n_rows,); empty where it is not."""
    if isinstance(description, CategoryColumn):
        codes = encode_column(column, description)
        unseen = "not among the reference's values" if description.whole else ""
        return np.where(np.isnan(codes) & (not description.nulls), NULL, np.where(codes == -1, unseen, ""))
    values = values_of(column)
    high = f"above {description.high:.6g}, the reference's largest"
    low = f"below {description.low:.6g}, the reference's smallest"
    beyond = np.where(values > description.high, high, np.where(values < description.low, low, ""))
    return np.where(np.isnan(values) & (not description.nulls), NULL, beyond)
