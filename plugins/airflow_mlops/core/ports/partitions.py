"""Ports to data: a source of rows, and a store of immutable snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

BATCH_ROWS = 65_536
"""Rows of the largest batch of a source, which bounds the memory of a pass over the rows."""


@dataclass(frozen=True)
class BrokenRow:
    """A row that its reader could not split into columns.

    ``text`` is the raw row, ``reason`` the problem, and ``at`` its location: ``orders.csv, line 17``.
    """

    text: str
    reason: str
    at: str


@dataclass
class SplitNotes:
    """The notes of the reading of a split, beside its rows.

    ``broken`` are its broken rows, ``names`` the columns that its ``records`` have in a source without a header, and
    ``rows``, ``cells`` and ``bytes`` what counts against the limits of the partition.
    """

    broken: list[BrokenRow] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    records: int = 0
    rows: int = 0
    cells: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Splits:
    """The rows of an arrival in splits, which other processes read by themselves.

    Parameters
    ----------
    read : tuple of callables
        Each yields the batches of one split, as they would arrive in this order without splits, and fills in its
        notes. They can be sent to another process.
    check : callable
        Called with the notes of all splits, in order, after the last row; raises what the source raises where the
        rows of all splits together break its rules.
    packages : tuple of str
        Packages beside PyArrow without which no split is read: other processes need the versions of this one.
    """

    read: tuple[Callable[[SplitNotes], Iterator[pa.RecordBatch]], ...]
    check: Callable[[Sequence[SplitNotes]], None]
    packages: tuple[str, ...] = ()


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
        Origin of the rows, as JSON values for the ledger: files with their sizes, a query, entity tags. It holds no
        secret, and the digest of the content does not depend on it.
    unchanged : bool
        Whether the source reports that nothing differs from the ``known`` origin; then there are no batches.
    broken : list of BrokenRow
        Filled while the batches are read.
    texts : frozenset of str
        Columns of a typed source that are text because it has no types for dates and times: where the contract
        says date or time, it reads them as strictly as it reads a CSV file.
    untyped : frozenset of str
        Columns of a typed source that are text because they come from its paths: the contract reads them all.
    warnings : tuple of str
        Warnings for a person about these rows; the record of the publication holds them.
    splits : callable, optional
        Returns the same rows in splits; None where the source is read in one pass.
    """

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    typed: bool = True
    origin: dict[str, Any] = field(default_factory=dict)
    unchanged: bool = False
    broken: list[BrokenRow] = field(default_factory=list)
    texts: frozenset[str] = frozenset()
    untyped: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    splits: Callable[[], Splits] | None = None


class Source(Protocol):
    """A source of the rows of a partition."""

    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> AbstractContextManager[Arrival]:
        """Return the rows of a partition as they arrive; leaving the context closes the source.

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
            If there is more than the declared limits allow; raised before reading wherever possible.
        """


class PartitionedTable(Protocol):
    """A versioned table whose partitions are replaced whole."""

    def write(self, partition: str, rows: pa.Table | pa.RecordBatchReader) -> int:
        """Replace a partition with ``rows`` and return the new version of the table.

        A reader is consumed batch by batch. If it raises, the table stays as it was. Without any rows the partition is
        removed.
        """

    def read(self, partition: str, *, version: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a partition, in the newest or a stated version of the table.

        Raises
        ------
        DataError
            If the version or the partition is not there.
        LakeUnavailableError
            If the lake does not answer.
        """

    def batches(
        self, partition: str, *, version: int | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """Return the rows of a partition batch by batch, in the order in which they were written.

        Raises
        ------
        DataError
            If the version or the partition is not there.
        LakeUnavailableError
            If the lake does not answer; also while the batches are read.
        """

    def partitions(self) -> list[str]:
        """Return the keys of the current partitions, in order; empty for a table that was not yet written."""

    def vacuum(self, keep: Sequence[tuple[str, int]], *, after_hours: int = 24) -> int:
        """Delete the files that neither the newest version nor the partitions in ``keep`` need; return their number.

        Parameters
        ----------
        keep : sequence of (str, int)
            Partitions and the versions in which they have to stay readable.
        after_hours : int
            Files that were replaced, or written and never committed, within these hours stay: an ingest under way
            has not yet recorded in the ledger which files it needs.
        """

    def purge(self, partition: str) -> int:
        """Delete a partition from older versions, even if it is needed; return the number of files or versions."""
