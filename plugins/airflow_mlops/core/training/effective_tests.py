"""The effective number of independent tests among the feature columns.

Twenty copies of one column alarm as often as one column. The rows of the training window show how dependent the
columns are, so that the alarm rate is divided among no more tests than there effectively are.
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
"""Largest block of columns judged together. Blocks are added up as if independent, which is conservative."""
RATES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
WINDOW_ROWS = 1_000


def effective_columns(sample: pa.Table, bins: ProfileBins) -> Effective:
    """Return the effective number of tests of a sample's columns for several alarm rates.

    For large windows the deviations of all cells are normal, with the covariances of the rows' cells. Windows without
    drift are drawn from that distribution, and the smallest p-value of their columns is compared with that of
    independent columns.

    Parameters
    ----------
    sample : pyarrow.Table
        Rows of the reference.
    bins : ProfileBins
        Bins of the columns.

    Returns
    -------
    tuple of (float, float)
        Pairs of an alarm rate and a number of tests; empty if there are fewer than two columns or two rows.
    """
    names = list(bins.columns)
    if len(names) < 2 or sample.num_rows < 2:
        return ()
    rows = sample.take(pa.array(np.linspace(0, sample.num_rows - 1, min(ROWS, sample.num_rows)).astype(np.int64)))
    cells = [cell_codes(rows.column(name).combine_chunks(), bins, name) for name in names]
    effective = np.zeros(len(RATES))
    for start in range(0, len(cells), TOGETHER):
        effective += effective_tests_of_block(cells[start : start + TOGETHER])
    return tuple((rate, float(number)) for rate, number in zip(RATES, effective, strict=True))


def cell_codes(column: pa.Array, bins: ProfileBins, name: str) -> npt.NDArray[np.int64]:
    """Return the cell of each row of a column, shape (n_rows,)."""
    column_bins = bins.columns[name]
    size = (len(column_bins.edges) + 1 if column_bins.categories is None else len(column_bins.categories)) + 2
    codes = bin_codes(column, column_bins)
    counts = np.bincount(codes, minlength=size)
    group = cells_of(counts[None], counts * WINDOW_ROWS // max(len(codes), 1)).group
    return np.asarray(np.where(group < 0, group.max(), group)[codes], np.int64)


def effective_tests_of_block(cells: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.float64]:
    """Return the effective number of tests of a block of columns at each alarm rate, shape (n_rates,)."""
    blocks, freedom = [], []
    for codes in cells:
        shares = np.bincount(codes) / len(codes)
        present = np.flatnonzero(shares)
        freedom.append(len(present) - 1)
        blocks.append(((codes[:, None] == present) - shares[present]) / np.sqrt(shares[present]))
    if sum(degrees > 0 for degrees in freedom) < 2:
        return np.ones(len(RATES))
    matrix = np.hstack(blocks).astype(np.float32)
    values, vectors = np.linalg.eigh(matrix.T @ matrix / len(matrix))
    root = (vectors * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)
    draws = np.random.default_rng(SEED).standard_normal((DRAWS, len(root)), np.float32) @ root
    edges = np.cumsum([0, *(degrees + 1 for degrees in freedom[:-1])])
    statistics = np.add.reduceat(draws.astype(np.float64) ** 2, edges, axis=1)
    varied = np.array(freedom) > 0
    smallest = chdtrc(np.array(freedom)[varied], statistics[:, varied]).min(axis=1)
    quantiles = np.quantile(smallest, RATES)
    number: npt.NDArray[np.float64] = np.log1p(-np.array(RATES)) / np.log1p(-quantiles)
    return np.clip(number, 1.0, len(cells))
