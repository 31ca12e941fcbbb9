"""What the loop needs from data: a source of rows, and a store of immutable snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

BATCH_ROWS = 65_536
"""Rows of the largest batch that a source hands over: what bounds the memory of a pass over the rows."""


@dataclass(frozen=True)
class BrokenRow:
    """A row that its reader could not split into columns.

    ``text`` is what stood there, ``reason`` what is wrong with it, ``at`` where: ``orders.csv, line 17``.
    """

    text: str
    reason: str
    at: str


@dataclass
class Arrival:
    """The rows of a partition on their way in, to be read once and in order.

    Parameters
    ----------
    schema : pyarrow.Schema
        Columns in the order in which they arrive, with the types that the source gives them.
    batches : iterator of pyarrow.RecordBatch
        At most ``BATCH_ROWS`` rows each.
    typed : bool
        Whether the source knows types. Where it does not (CSV, JSON), every column is text, a null is a
        null, and the contract reads the values.
    origin : dict
        Where the rows come from, as JSON values for the ledger: files with their sizes, a query, entity tags.
        Nothing secret. What counts as the same content does not depend on it.
    unchanged : bool
        Whether the source says itself that nothing differs from the ``known`` origin; then there are no batches.
    broken : list of BrokenRow
        Filled while the batches are read.
    texts : frozenset of str
        Columns of a typed source that are text because it has no types for dates and times: where the contract
        says date or time, it reads them as strictly as it reads a CSV file.
    warnings : tuple of str
        What a person must hear of beside these rows; the publication says it.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    typed: bool = True
    origin: dict[str, Any] = field(default_factory=dict)
    unchanged: bool = False
    broken: list[BrokenRow] = field(default_factory=list)
    texts: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


class Source(Protocol):
    """Where the rows of a partition come from."""

    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> AbstractContextManager[Arrival]:
        """Return the rows of a partition as they arrive; leaving the context closes what was opened.

        Parameters
        ----------
        partition : str
            Its key.
        known : mapping, optional
            Origin of the snapshot taken before, for sources that can tell that nothing changed since.

        Raises
        ------
        SourceMissingError
            If there is nothing for the partition yet.
        SourceUnreadableError
            If there is something that cannot be read; also while the batches are read.
        PartitionRefusedError
            If there is more than the declared limits allow; told before it is read wherever that is possible.
        """


class PartitionedTable(Protocol):
    """A versioned table whose partitions are replaced whole."""

    def write(self, partition: str, rows: pa.Table | pa.RecordBatchReader) -> int:
        """Replace a partition with ``rows`` and return the new version of the table.

        A reader is taken batch by batch. An error that it raises leaves the table as it was. Without any
        rows the partition is there no more.
        """

    def read(self, partition: str, *, version: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a partition, in the newest or a stated version of the table.

        Raises
        ------
        DataError
            If the version or the partition is not there.
        """

    def batches(
        self, partition: str, *, version: int | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """Return the rows of a partition batch by batch, in the order in which they were written.

        Raises
        ------
        DataError
            If the version or the partition is not there.
        """

    def partitions(self) -> list[str]:
        """Return the keys of the partitions that are there now, in order; none of a table not yet written."""

    def vacuum(self, keep: Sequence[tuple[str, int]], *, after_hours: int = 24) -> int:
        """Delete what neither the newest version nor the partitions in ``keep`` need; return how many files.

        Parameters
        ----------
        keep : sequence of (str, int)
            Partitions and the versions in which they have to stay readable.
        after_hours : int
            What was replaced, or written and never committed, less long ago than this stays: an ingest that is
            under way has not told the ledger yet what it needs.
        """

    def purge(self, partition: str) -> int:
        """Delete what older versions hold of a partition, whoever needs it; return how many files or versions."""
