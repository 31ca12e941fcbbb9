"""A uniform sample of the rows of a partition that is the same in whatever order they arrive.

The sample holds the rows with the smallest hashes. Hashes are mixed well, so to be among them does not
depend on what a row says; rows that are equal throughout are in it together.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.row_hash import Hashes

SAMPLE_ROWS = 50_000


class BottomSample:
    """Takes in rows with their hashes, and keeps those with the smallest.

    Parameters
    ----------
    size : int, default 50,000
        Rows of the sample; at most twice as many, and a batch, are held at a time.
    """

    def __init__(self, size: int = SAMPLE_ROWS) -> None:
        self.size = size
        self._highest: np.uint64 | None = None  # of a full sample; a row with the same hash is equal to one it holds
        self._parts: list[pa.Table] = []
        self._hashes: list[Hashes] = []
        self._held = 0

    def update(self, batch: pa.RecordBatch, hashes: Hashes) -> None:
        """Take in a batch and the hash of each of its rows, shape (n_rows,)."""
        near = np.arange(len(hashes)) if self._highest is None else np.flatnonzero(hashes < self._highest)
        if not len(near):
            return
        table = pa.Table.from_batches([batch])
        self._parts.append(table if len(near) == len(hashes) else table.take(pa.array(near)))
        self._hashes.append(hashes[near])
        self._held += len(near)
        if self._held > 2 * self.size:
            self._cut()

    def _cut(self) -> None:
        hashes = np.concatenate(self._hashes)
        order = np.argsort(hashes, kind="stable")[: self.size]
        self._parts = [pa.concat_tables(self._parts).take(pa.array(order)).combine_chunks()]
        self._hashes = [hashes[order]]
        self._held = len(order)
        if self._held == self.size:
            self._highest = self._hashes[0][-1]

    def table(self) -> pa.Table | None:
        """Return the sample, ordered by hash; None if no batch was taken in, all rows if they are few."""
        if not self._parts:
            return None
        self._cut()
        return self._parts[0]
