"""A digest of the content of a table that does not depend on the order of rows, on batches, files or engine.

The hashes of the rows (``row_hash``) are added up modulo 2^64 in three sums, one of which multiplies two
independent hashes of each row. The digest is the SHA-256 of the number of rows, the names and kinds of the columns,
and the sums. Rows are mixed before they are added, so that a value that moves from one row to another changes the
digest, and a duplicate row counts twice. NaN equals NaN, -0.0 equals 0.0, and a null is neither NaN nor the empty text.

The digest detects accidents, not forgery: a sum can be matched on purpose. Signatures protect against forgery.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_mlops.core.data.row_hash import HashedRows, Hashes, hash_rows
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ports.partitions import BATCH_ROWS

FORM = "airflow-mlops content 2"
"""Prefix of the digest; a later form with other digests gets another number."""
MODULUS = 2**64


class ContentDigest:
    """The digest of rows that arrive batch by batch, in bounded memory.

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
        """Add a batch, and return the hash of each of its rows, shape (n_rows,).

        Raises
        ------
        DataError
            If a column has a type without a canonical form, or the columns differ from those of the batches before.
        """
        hashed = hash_rows(batch)
        self.add(hashed)
        return hashed.rows

    def add(self, hashed: HashedRows) -> None:
        """Add a batch whose rows are hashed already.

        Raises
        ------
        DataError
            If its columns, or their kinds, differ from those of the batches before.
        """
        self._require_kinds(hashed.kinds)
        self.rows += len(hashed.rows)
        parts = (hashed.rows, hashed.second, (hashed.rows | np.uint64(1)) * hashed.second)
        self._sums = [(total + int(part.sum())) % MODULUS for total, part in zip(self._sums, parts, strict=True)]

    def merge(self, other: ContentDigest) -> None:
        """Add the rows of another digest.

        Raises
        ------
        DataError
            If its columns, or their kinds, differ.
        """
        if other._kinds is not None:
            self._require_kinds(other._kinds)
        self.rows += other.rows
        self._sums = [(total + part) % MODULUS for total, part in zip(self._sums, other._sums, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Return the digest so far as JSON values, which another process can merge."""
        return {"rows": self.rows, "kinds": self._kinds, "sums": self._sums}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ContentDigest:
        """Return the digest that ``to_dict`` wrote."""
        digest = cls()
        digest.rows, digest._kinds, digest._sums = values["rows"], values["kinds"], list(values["sums"])
        return digest

    def _require_kinds(self, kinds: dict[str, str]) -> None:
        if self._kinds is None:
            self._kinds = kinds
        elif self._kinds != kinds:
            changed = sorted(name for name, _ in self._kinds.items() ^ kinds.items())
            raise DataError(f"column {changed[0]!r} is not the same in all batches of the table")

    def hexdigest(self) -> str:
        """Return the digest of the rows added so far, 64 hexadecimal digits."""
        digest = hashlib.sha256(FORM.encode())
        # Each word is preceded by its length, so that different lists of words never give the same text.
        words = [str(self.rows), *(word for pair in sorted((self._kinds or {}).items()) for word in pair)]
        for word in words:
            digest.update(f"|{len(word.encode())}:{word}".encode())
        for part in self._sums:
            digest.update(part.to_bytes(8, "little"))
        return digest.hexdigest()


def content_digest(table: pa.Table) -> str:
    """Return the digest of a table, 64 hexadecimal digits.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of text, numbers, booleans, dates or timestamps.

    Raises
    ------
    DataError
        If a column has a type without a canonical form.
    """
    digest = ContentDigest()
    # A table without rows still has columns, and those count.
    for batch in table.to_batches(max_chunksize=BATCH_ROWS) or [pa.RecordBatch.from_pylist([], schema=table.schema)]:
        digest.update(batch)
    return digest.hexdigest()
