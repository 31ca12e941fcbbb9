"""What the loop needs from data: a source of rows, and a store of immutable snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa


class Source(Protocol):
    """Where the rows of a partition come from."""

    def read(self, partition: str) -> pa.Table:
        """Return the rows of a partition as they arrived.

        Raises
        ------
        SourceMissingError
            If there is nothing for the partition yet.
        SourceUnreadableError
            If there is something that cannot be read.
        """


class PartitionedTable(Protocol):
    """A versioned table whose partitions are replaced whole."""

    def write(self, partition: str, rows: pa.Table) -> int:
        """Replace a partition with ``rows`` and return the new version of the table."""

    def read(self, partition: str, *, version: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a partition, in the newest or a stated version of the table.

        Raises
        ------
        DataError
            If the version or the partition is not there.
        """
