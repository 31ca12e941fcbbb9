"""How many independent columns the features are worth: columns that say the same alarm together.

Twenty columns that are copies of one alarm as often as one. The rows of the training window tell how far their
columns go together, so the stated alarm rate need not be shared among more columns than there really are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import chdtrc

from airflow_mlops.core.data.profiles.profile_rows import ProfileBins, bin_codes
from airflow_mlops.core.training.column_cells import cells_of

Effective = tuple[tuple[float, float], ...]

SEED = 11
ROWS, DRAWS = 10_000, 20_000
TOGETHER = 40
"""Columns that are looked at together; of more, each block is worth what it is by itself, which is the careful side."""
RATES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
WINDOW_ROWS = 1_000


def effective_columns(sample: pa.Table, bins: ProfileBins) -> Effective:
    """Return how many independent columns the columns of a sample are worth, for some rates of alarms.

    For large windows the deviations of all cells are normal, with the covariances that the rows' cells have. Windows
    without drift are drawn from that, and the least p-value of their columns is compared with that of independent
    columns.

    Parameters
    ----------
    sample : pyarrow.Table
        Rows of the reference.
    bins : ProfileBins
        Of its columns.

    Returns
    -------
    tuple of (float, float)
        Pairs of an alarm rate and a number of columns; empty where there are fewer than two columns, or no rows.
    """
    names = list(bins.columns)
    if len(names) < 2 or sample.num_rows < 2:
        return ()
    rows = sample.take(pa.array(np.linspace(0, sample.num_rows - 1, min(ROWS, sample.num_rows)).astype(np.int64)))
    cells = [cell_codes(rows.column(name).combine_chunks(), bins, name) for name in names]
    worth = np.zeros(len(RATES))
    for start in range(0, len(cells), TOGETHER):
        worth += worth_of_block(cells[start : start + TOGETHER])
    return tuple((rate, float(found)) for rate, found in zip(RATES, worth, strict=True))


def cell_codes(column: pa.Array, bins: ProfileBins, name: str) -> npt.NDArray[np.int64]:
    """Return the cell of each row of a column, shape (n_rows,)."""
    of = bins.columns[name]
    size = (len(of.edges) + 1 if of.categories is None else len(of.categories)) + 2
    codes = bin_codes(column, of)
    counts = np.bincount(codes, minlength=size)
    group = cells_of(counts[None], counts * WINDOW_ROWS // max(len(codes), 1)).group
    return np.asarray(np.where(group < 0, group.max(), group)[codes], np.int64)


def worth_of_block(cells: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.float64]:
    """Return how many independent columns a block of columns is worth, shape (n_rates,)."""
    marks, freedom = [], []
    for codes in cells:
        shares = np.bincount(codes) / len(codes)
        held = np.flatnonzero(shares)
        freedom.append(len(held) - 1)
        marks.append(((codes[:, None] == held) - shares[held]) / np.sqrt(shares[held]))
    if sum(one > 0 for one in freedom) < 2:
        return np.ones(len(RATES))
    whole = np.hstack(marks).astype(np.float32)
    values, vectors = np.linalg.eigh(whole.T @ whole / len(whole))
    root = (vectors * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)
    drawn = np.random.default_rng(SEED).standard_normal((DRAWS, len(root)), np.float32) @ root
    edges = np.cumsum([0, *(one + 1 for one in freedom[:-1])])
    statistics = np.add.reduceat(drawn.astype(np.float64) ** 2, edges, axis=1)
    varied = np.array(freedom) > 0
    least = chdtrc(np.array(freedom)[varied], statistics[:, varied]).min(axis=1)
    single = np.quantile(least, RATES)
    found: npt.NDArray[np.float64] = np.log1p(-np.array(RATES)) / np.log1p(-single)
    return np.clip(found, 1.0, len(cells))
