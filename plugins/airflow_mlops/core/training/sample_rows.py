"""The declared sample of a training window: the same rows of a partition whatever else is in the window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.row_hash import hash_cells, mix
from airflow_mlops.core.errors import TrainingError


def sample_mask(
    rows: pd.DataFrame, sample: Mapping[str, Any] | None, *, key: str, label: str | None, seed: int
) -> npt.NDArray[np.bool_]:
    """Return which of the labelled rows of a window a fit takes, shape (n_rows,): all of them without a sample.

    Each stratum keeps its share, and one row at least; of a stratum those rows are taken whose keys come first in an
    order that the seed draws. So a row that was taken is taken again when the window moves on, as long as its share
    does not shrink.

    Parameters
    ----------
    sample : mapping, optional
        ``rows``: the number of rows, and ``by``: a column whose values are strata.
    label : str, optional
        The label, where its values are classes: each is a stratum, too.

    Raises
    ------
    TrainingError
        If the rows do not have the column ``by``, or there are more strata than rows in the sample.
    """
    if sample is None or len(rows) <= sample["rows"]:
        return np.ones(len(rows), bool)
    strata = strata_of(rows, [name for name in (label, sample.get("by")) if name is not None])
    counts = np.bincount(strata)
    if len(counts) > sample["rows"]:
        raise TrainingError(
            f"train.sample: {len(counts):,} strata by {sample.get('by') or label!r} do not fit into {sample['rows']:,} "
            "rows; declare more rows, or a column with fewer values"
        )
    order = np.lexsort((order_of_keys(rows[key], seed), strata))
    first = np.repeat(np.cumsum(counts) - counts, counts)
    position = np.arange(len(rows)) - first
    mask = np.zeros(len(rows), bool)
    mask[order[position < np.repeat(shares_of(counts, sample["rows"]), counts)]] = True
    return mask


def strata_of(rows: pd.DataFrame, columns: list[str]) -> npt.NDArray[np.int64]:
    """Return the number of the stratum of each row, from 0, shape (n_rows,); a null is a value of its own.

    Raises
    ------
    TrainingError
        If the rows do not have a column.
    """
    for name in columns:
        if name not in rows.columns:
            raise TrainingError(
                f"train.sample.by: the rows have no column {name!r}; they have {', '.join(rows.columns)}"
            )
    if not columns:
        return np.zeros(len(rows), np.int64)
    numbers = rows.groupby(columns, dropna=False, sort=True, observed=True).ngroup()
    return np.asarray(numbers, np.int64)


def shares_of(counts: npt.NDArray[np.int64], rows: int) -> npt.NDArray[np.int64]:
    """Return how many rows each stratum gives, at least one each and ``rows`` in all.

    >>> shares_of(np.array([900, 99, 1]), 100)
    array([88, 11,  1])
    """
    spare = rows - len(counts)
    exact = spare * (counts - 1) / max((counts - 1).sum(), 1)
    given = np.floor(exact).astype(np.int64)
    largest = np.argsort(given - exact, kind="stable")[: spare - given.sum()]
    given[largest] += 1
    return np.asarray(given + 1, np.int64)


def order_of_keys(keys: pd.Series[Any], seed: int) -> npt.NDArray[np.uint64]:
    """Return a number for each key by which a seed orders them, shape (n_rows,)."""
    _, hashes = hash_cells("key", pa.array(keys.astype(str), pa.string()))
    return np.asarray(mix(hashes ^ mix(np.array([seed], np.int64).view(np.uint64))), np.uint64)
