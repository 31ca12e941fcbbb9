"""The rows of a window that are least like the reference, and why: drift on the level of a single prediction.

What is unlike in a row is counted: numbers outside of the range that the reference's sample has, categories that it
does not have (of a column with very many nobody can tell), and nulls where it had none. Among rows that are alike in
this, the one whose columns contradict each other most comes first. Values are not repeated here, since a report may be
read by those who must not see them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.watch.checks.encoded_rows import CategoryColumn, NumberColumn, RowEncoder, coded, values_of

LISTED = 10
NULL = "null or infinite, and the reference has no such value"


def unlike_rows(
    encoder: RowEncoder, window: pd.DataFrame, keys: npt.NDArray[Any], errors: Floats, *, listed: int = LISTED
) -> list[dict[str, Any]]:
    """Return the rows that are least like the reference, the least usual first, with key, reasons and error.

    Parameters
    ----------
    encoder : RowEncoder
        What the reference's columns are like.
    keys : array of str, shape (n_rows,)
        Keys of the window's rows.
    errors : array of float, shape (n_rows,)
        How much the columns of each row contradict each other.
    """
    found = {name: strange_values(window[name], of) for name, of in encoder.columns.items()}
    counts = np.sum([np.array([reason != "" for reason in reasons]) for reasons in found.values()], axis=0)
    order = np.lexsort((-errors, -counts))[:listed]
    return [
        {
            "key": str(keys[row]),
            "unlike": int(counts[row]),
            "reasons": [f"{name}: {reasons[row]}" for name, reasons in found.items() if reasons[row]],
            "error": round(float(errors[row]), 6),
        }
        for row in order
    ]


def strange_values(column: pd.Series[Any], of: NumberColumn | CategoryColumn) -> npt.NDArray[np.str_]:
    """Return for each row what is strange about its value, shape (n_rows,); empty where nothing is."""
    if isinstance(of, CategoryColumn):
        codes = coded(column, of)
        unseen = "not among the reference's values" if of.whole else ""
        return np.where(np.isnan(codes) & (not of.nulls), NULL, np.where(codes == -1, unseen, ""))
    values = values_of(column)
    high = f"above {of.high:.6g}, the reference's largest"
    low = f"below {of.low:.6g}, the reference's smallest"
    beyond = np.where(values > of.high, high, np.where(values < of.low, low, ""))
    return np.where(np.isnan(values) & (not of.nulls), NULL, beyond)
