"""Read splits of a partition on an executor: the same pass over the rows as in one process, and what it counts.

The good rows of a split become a file of the snapshots and its bad rows one of the quarantine, which no version holds
until the driver commits them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from airflow_mlops.core import errors
from airflow_mlops.core.data.delta_snapshots import DataFile, DeltaPartitions
from airflow_mlops.core.data.enforce_contract import Enforcement
from airflow_mlops.core.data.erasure import Erasure
from airflow_mlops.core.data.profiles.profile_snapshot import SplitProfiler
from airflow_mlops.core.data.quarantined_rows import Spool
from airflow_mlops.core.data.read_partition import PartitionPass, PassCounts, RepeatedKeys
from airflow_mlops.core.data.row_hash import Hashes
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.engines.spark_splits import hash_message, report_message
from airflow_mlops.core.errors import EngineError, MlopsError, NotReadyError
from airflow_mlops.core.ports.partitions import SplitNotes, Splits

REPORT, KEYS, REST, SAMPLE = range(4)
"""Kinds of messages: a report on a split, the hashes of keys and of the other columns, a sample of several splits."""


@dataclass(frozen=True)
class SplitReport:
    """The report on a split: what was counted, noted and written, and the error that ended it, if one did."""

    counts: PassCounts
    notes: SplitNotes
    erased: int = 0
    good: DataFile | None = None
    bad: DataFile | None = None
    profile: dict[str, Any] | None = None
    repeated: dict[str, list[int]] = field(default_factory=dict)
    error: tuple[str, str] | None = None

    def encode(self) -> bytes:
        """Return the report as bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, content: bytes) -> SplitReport:
        """Return the report that ``encode`` wrote."""
        return msgspec.msgpack.decode(content, type=cls)

    def raise_error(self) -> None:
        """Raise the error that ended the split, as it was raised there."""
        if self.error is not None:
            kind, message = self.error
            raise getattr(errors, kind)(message)


@dataclass(frozen=True)
class SplitPass:
    """A pass over splits, as it is sent to an executor.

    Parameters
    ----------
    partition : str
        Its key.
    data : Data
        The declared key, tolerance and limits.
    splits : Splits
        The rows.
    enforcement : Enforcement
        The checks of each row, before the first.
    erasure : Erasure
        Drops the rows of erased subjects, before the first.
    repeated : RepeatedKeys, optional
        Result of the pass before, if keys may repeat.
    profiler : SplitProfiler, optional
        Counts the good rows.
    tables : tuple of DeltaPartitions, optional
        Tables of good and of bad rows; without them no row is written.
    names : str
        Beginning of the names of files that this pass writes.
    """

    partition: str
    data: Data
    splits: Splits
    enforcement: Enforcement
    erasure: Erasure
    repeated: RepeatedKeys | None = None
    profiler: SplitProfiler | None = None
    tables: tuple[DeltaPartitions, DeltaPartitions] | None = None
    names: str = ""

    def read(self, numbers: Iterator[int]) -> Iterator[pa.RecordBatch]:
        """Read splits by their numbers, in their order, and yield messages."""
        number = -1
        for number in numbers:
            yield from self._read_split(number)
        sample = self.profiler.sample.parts() if self.profiler is not None else None
        if sample is not None:
            yield report_message(SAMPLE, number, encode_sample(*sample))

    def collect(self, numbers: Iterator[int]) -> Iterator[pa.RecordBatch]:
        """Read splits and yield messages about the rows whose key may repeat."""
        assert self.repeated is not None
        for number in numbers:
            with Spool() as spool:
                notes, error = SplitNotes(), None
                partition_pass, batches, erasure = self._start(number, spool, notes, [])
                partition_pass.repeated = RepeatedKeys(self.repeated.hashes)
                try:
                    partition_pass.collect(batches)
                except MlopsError as raised:
                    error = _plain_error(raised)
                report = SplitReport(
                    partition_pass.counts(), notes, erasure.rows, repeated=partition_pass.repeated.rows, error=error
                )
                yield report_message(REPORT, number, report.encode())

    def _read_split(self, number: int) -> Iterator[pa.RecordBatch]:
        keys: list[Hashes] = []
        if self.profiler is not None:
            self.profiler.start_split()
        with Spool() as spool:
            notes, error, good = SplitNotes(), None, None
            partition_pass, batches, erasure = self._start(
                number, spool, notes, [] if self.profiler is None else [self.profiler]
            )
            rows = pa.RecordBatchReader.from_batches(
                self.enforcement.shape.schema, partition_pass.read_batches(batches, keys.append)
            )
            try:
                good = self._write_good(number, rows)
            except MlopsError as raised:
                error = _plain_error(raised)
            report = SplitReport(
                partition_pass.counts(),
                notes,
                erasure.rows,
                good,
                self._write_bad(number, spool),
                None if self.profiler is None else self.profiler.profiler.counts(),
                error=error,
            )
        yield report_message(REPORT, number, report.encode())
        yield from (hash_message(KEYS, number, hashes) for hashes in keys)
        if self.profiler is not None:
            yield from (hash_message(REST, number, hashes) for hashes in self.profiler.rest)

    def _start(
        self, number: int, spool: Spool, notes: SplitNotes, watchers: list[Any]
    ) -> tuple[PartitionPass, Iterator[pa.RecordBatch], Erasure]:
        """Return a pass over a split, its batches and what drops rows from them, all with nothing counted yet."""
        enforcement, erasure = replace(self.enforcement, late=0, early=0), copy(self.erasure)
        erasure.rows = 0
        repeated = None
        if self.repeated is not None:
            emitted = {key for key, split in self.repeated.first.items() if split < number}
            repeated = replace(self.repeated, emitted=emitted)
        partition_pass = PartitionPass(enforcement, self.data, spool, repeated, watchers)
        batches = erasure.drop_forgotten(self.splits.read[number](notes), enforcement.canonical_texts)
        return partition_pass, batches, erasure

    def _write_good(self, number: int, rows: pa.RecordBatchReader) -> DataFile | None:
        if self.tables is None:
            for _batch in rows:
                pass
            return None
        return self.tables[0].write_file(self.partition, rows, name=self.name_of(number))

    def _write_bad(self, number: int, spool: Spool) -> DataFile | None:
        if self.tables is None or not spool.rows:
            return None
        return self.tables[1].write_file(self.partition, spool.reader(), name=self.name_of(number))

    def name_of(self, number: int) -> str:
        """Return the beginning of the name of a file of a split: files are read in the order of their names."""
        return f"{self.names}-{number:06}-"


def _plain_error(error: MlopsError) -> tuple[str, str]:
    """Return the class and the message of an error, as the driver is to raise it."""
    if isinstance(error, NotReadyError):  # the driver has found what a worker does not see
        return EngineError.__name__, (
            f"{error}, on a worker, and the task itself sees it; the files must be in one folder for all machines, or "
            "in S3"
        )
    return type(error).__name__, str(error)


def encode_sample(rows: pa.Table, hashes: Hashes) -> bytes:
    """Return a sample and the hashes of its rows, shape (n_rows,), as bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return msgspec.msgpack.encode((sink.getvalue().to_pybytes(), hashes.tobytes()))


def decode_sample(content: bytes) -> tuple[pa.Table, Hashes]:
    """Return the sample that :func:`encode_sample` wrote, and its hashes."""
    rows, hashes = msgspec.msgpack.decode(content, type=tuple[bytes, bytes])
    with pa.ipc.open_stream(rows) as reader:
        return reader.read_all(), np.frombuffer(hashes, np.uint64)
