"""The reading of one partition in this process: what is done with its good rows, its bad rows and its counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from airflow_mlops.core.data.enforce_contract import Enforcement
from airflow_mlops.core.data.erasure import Erasure
from airflow_mlops.core.data.profiles.profile_snapshot import SnapshotProfiler
from airflow_mlops.core.data.quarantined_rows import SCHEMA, Spool
from airflow_mlops.core.data.read_partition import PartitionPass, RepeatedKeys
from airflow_mlops.core.ports.partitions import Arrival
from airflow_mlops.core.workspace import Workspace


@dataclass
class PartitionReading:
    """One pass over an arrival.

    Parameters
    ----------
    workspace : Workspace
        The loop and its tables.
    partition : str
        Key of the partition.
    arrival : Arrival
        Its rows.
    enforcement : Enforcement
        The checks of each row.
    erasure : Erasure
        Drops the rows of erased subjects.
    spool : Spool
        Receives the bad rows.
    repeated : RepeatedKeys, optional
        Result of the pass before, if keys may repeat.
    profiler : SnapshotProfiler, optional
        Counts the good rows.
    """

    workspace: Workspace
    partition: str
    arrival: Arrival
    enforcement: Enforcement
    erasure: Erasure
    spool: Spool
    repeated: RepeatedKeys | None = None
    profiler: SnapshotProfiler | None = None

    def __post_init__(self) -> None:
        """Prepare the pass that counts the rows."""
        watchers = [] if self.profiler is None else [self.profiler]
        self.partition_pass = PartitionPass(
            self.enforcement, self.workspace.loop.data, self.spool, self.repeated, list(watchers)
        )

    @contextmanager
    def opened(self) -> Iterator[PartitionReading]:
        """Yield the reading itself; there is nothing to remove afterwards."""
        yield self

    def write(self) -> int:
        """Write the good rows as a new version of the snapshots, and return it.

        Raises
        ------
        PartitionRefusedError
            If the partition is refused; nothing is committed then.
        KeysRepeatError
            If keys may repeat that the pass before did not collect.
        """
        return self.workspace.snapshots.write(self.partition, self._good_rows())

    def count(self) -> None:
        """Count the rows, and write none.

        Raises
        ------
        PartitionRefusedError
            If the partition is refused.
        KeysRepeatError
            If keys may repeat that the pass before did not collect.
        """
        for _batch in self._good_rows():
            pass

    def collect(self) -> RepeatedKeys:
        """Return the rows whose key may repeat."""
        return self.partition_pass.collect(self._remaining())

    def quarantine(self) -> int | None:
        """Replace the quarantined rows of the partition; return the version, None without bad rows."""
        if self.spool.rows:
            return self.quarantine_rows()
        table = self.workspace.quarantine
        if self.partition in table.partitions():
            table.write(self.partition, SCHEMA.empty_table())
        return None

    def quarantine_rows(self) -> int:
        """Write the bad rows as a new version of the quarantine, and return it."""
        return self.workspace.quarantine.write(self.partition, self.spool.reader())

    def keep_profile(self, version: int) -> tuple[str, str]:
        """Store the profile of the written snapshot, and its bins; return the digests of both."""
        assert self.profiler is not None, "rows that are kept are profiled"
        return self.profiler.keep(self.partition, version)

    def _remaining(self) -> Iterator[pa.RecordBatch]:
        return self.erasure.drop_forgotten(self.arrival.batches, self.enforcement.canonical_texts)

    def _good_rows(self) -> pa.RecordBatchReader:
        self.arrival.batches = self._remaining()
        return pa.RecordBatchReader.from_batches(
            self.enforcement.shape.schema, self.partition_pass.good_rows(self.arrival)
        )
