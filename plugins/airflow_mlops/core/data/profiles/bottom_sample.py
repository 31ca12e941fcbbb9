"""A uniform sample of the rows of a partition that does not depend on their order.

The sample holds the rows with the smallest hashes. Hashes are well mixed, so the choice does not depend on the values
of a row; equal rows are in the sample together.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.row_hash import Hashes

SAMPLE_ROWS = 50_000


class BottomSample:
    """Keeps the rows with the smallest hashes.

    Parameters
    ----------
    size : int, default 50,000
        Rows of the sample; at most twice as many, and a batch, are in memory at a time.
    """

    def __init__(self, size: int = SAMPLE_ROWS) -> None:
        self.size = size
        self._highest: np.uint64 | None = None  # of a full sample; a row with this hash equals one in it
        self._parts: list[pa.Table] = []
        self._hashes: list[Hashes] = []
        self._rows = 0

    def update(self, batch: pa.RecordBatch, hashes: Hashes) -> None:
        """Add a batch and the hash of each of its rows, shape (n_rows,)."""
        near = np.arange(len(hashes)) if self._highest is None else np.flatnonzero(hashes < self._highest)
        if not len(near):
            return
        table = pa.Table.from_batches([batch])
        self._parts.append(table if len(near) == len(hashes) else table.take(pa.array(near)))
        self._hashes.append(hashes[near])
        self._rows += len(near)
        if self._rows > 2 * self.size:
            self._cut()

    def _cut(self) -> None:
        hashes = np.concatenate(self._hashes)
        order = np.argsort(hashes, kind="stable")[: self.size]
        self._parts = [pa.concat_tables(self._parts).take(pa.array(order)).combine_chunks()]
        self._hashes = [hashes[order]]
        self._rows = len(order)
        if self._rows == self.size:
            self._highest = self._hashes[0][-1]

    def parts(self) -> tuple[pa.Table, Hashes] | None:
        """Return the sample and its hashes, in order; None if no batch was added."""
        table = self.table()
        return None if table is None else (table, self._hashes[0])

    def table(self) -> pa.Table | None:
        """Return the sample, ordered by hash; all rows if they are few, None if no batch was added."""
        if not self._parts:
            return None
        self._cut()
        return self._parts[0]
