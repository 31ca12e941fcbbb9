"""A digest of what a table says, whatever the order of its rows, its batches, its files or its engine.

The hashes of the rows (``row_hash``) are added up modulo 2^64, in three sums of which one multiplies two
independent hashes of each row; the digest is the SHA-256 of the number of rows, the names and kinds of
the columns, and the sums. Rows are mixed before they are added, so that a value which moves from one row
to another shows, and a row that stands there twice counts twice. NaN counts as NaN, -0.0 as 0.0, and a
null is neither NaN nor the empty text.

The digest tells accidents, not forgers: a sum can be matched on purpose. Forgery is what signatures are for.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.row_hash import HashedRows, Hashes, hash_rows
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ports.partitions import BATCH_ROWS

FORM = "airflow-mlops content 2"
"""What the digest begins with; a later form that gives other digests says another number."""
MODULUS = 2**64


class ContentDigest:
    """The digest of rows that arrive batch by batch; memory does not grow with them.

    >>> digest = ContentDigest()
    >>> hashes = digest.update(pa.RecordBatch.from_pydict({"id": ["a", "b"], "x": [1.5, None]}))
    >>> digest.rows, digest.hexdigest()[:12]
    (2, '...')
    """

    def __init__(self) -> None:
        self.rows = 0
        self._kinds: dict[str, str] | None = None
        self._sums = [0, 0, 0]

    def update(self, batch: pa.RecordBatch) -> Hashes:
        """Take in a batch and return the hash of each of its rows, shape (n_rows,).

        Raises
        ------
        DataError
            If a column has a type without a canonical form, or the batch has other columns than those before.
        """
        hashed = hash_rows(batch)
        self.add(hashed)
        return hashed.rows

    def add(self, hashed: HashedRows) -> None:
        """Take in a batch whose rows were hashed already.

        Raises
        ------
        DataError
            If the batch has other columns, or of other kinds, than those before.
        """
        if self._kinds is None:
            self._kinds = hashed.kinds
        elif self._kinds != hashed.kinds:
            changed = sorted(name for name, _ in self._kinds.items() ^ hashed.kinds.items())
            raise DataError(f"column {changed[0]!r} is not the same in all batches of the table")
        self.rows += len(hashed.rows)
        parts = (hashed.rows, hashed.second, (hashed.rows | np.uint64(1)) * hashed.second)
        self._sums = [(total + int(part.sum())) % MODULUS for total, part in zip(self._sums, parts, strict=True)]

    def hexdigest(self) -> str:
        """Return the SHA-256 of what was taken in so far, as hexadecimal text."""
        total = hashlib.sha256(FORM.encode())
        # Lengths stand before names, so that no name can be taken for the end of another.
        words = [str(self.rows), *(word for pair in sorted((self._kinds or {}).items()) for word in pair)]
        for word in words:
            total.update(f"|{len(word.encode())}:{word}".encode())
        for part in self._sums:
            total.update(part.to_bytes(8, "little"))
        return total.hexdigest()


def content_digest(table: pa.Table) -> str:
    """Return the digest of a whole table as hexadecimal text.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of text, numbers, booleans, dates or timestamps.

    Raises
    ------
    DataError
        If a column has a type that has no canonical form.
    """
    digest = ContentDigest()
    # A table without rows still has columns, and those count.
    for batch in table.to_batches(max_chunksize=BATCH_ROWS) or [pa.RecordBatch.from_pylist([], schema=table.schema)]:
        digest.update(batch)
    return digest.hexdigest()
