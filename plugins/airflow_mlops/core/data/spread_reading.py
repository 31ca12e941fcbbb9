"""The reading of one partition on the executors of a Spark cluster: they read and write, the driver counts and commits.

What splits have counted is merged in their order, and their files are read in that order, so that the records are those
of a reading in one process. Nothing is visible before the one commit; files of a reading that failed are removed, and
those of a lost executor are left to the vacuum.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from airflow_mlops.core.data.delta_snapshots import DataFile, DeltaPartitions
from airflow_mlops.core.data.partition_reading import PartitionReading
from airflow_mlops.core.data.quarantined_rows import SCHEMA
from airflow_mlops.core.data.read_partition import RepeatedKeys
from airflow_mlops.core.data.split_pass import (
    KEYS,
    REPORT,
    REST,
    SAMPLE,
    SplitPass,
    SplitReport,
    decode_sample,
)
from airflow_mlops.core.engines.spark_splits import SparkSplits, Work
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ports.partitions import Splits


class SpreadReading(PartitionReading):
    """One pass over the splits of an arrival; see :class:`PartitionReading`."""

    def __post_init__(self) -> None:
        """Prepare the pass that counts the rows."""
        super().__post_init__()
        self._names = uuid.uuid4().hex
        self._good: list[DataFile] = []
        self._bad: list[DataFile] = []
        self._duplicates = 0

    @contextmanager
    def opened(self) -> Iterator[SpreadReading]:
        """Remove the files that were not committed at the end of the block."""
        try:
            yield self
        finally:
            self._snapshots.discard_files(self._good)
            self._quarantine.discard_files(self._bad)

    def write(self) -> int:
        """Write the good rows on executors, commit them as a new version and return it."""
        self._read((self._snapshots, self._quarantine))
        version = self._snapshots.commit_files(self.partition, self.enforcement.shape.schema, self._good)
        self._good = []
        return version

    def count(self) -> None:
        """Count the rows on executors."""
        self._read(None)

    def collect(self) -> RepeatedKeys:
        """Return the rows whose key may repeat."""
        assert self.repeated is not None
        with self._spread(self._split_pass(None).collect) as answers:
            for _, split, content in answers.reports(REPORT):
                report = SplitReport.decode(content)
                for key, rows in report.repeated.items():
                    self.repeated.first.setdefault(key, split)
                    for row in rows:
                        self.repeated.collect(key, row)
                report.raise_error()
        return self.repeated

    def quarantine_rows(self) -> int:
        """Commit the bad rows that the executors wrote, and the broken ones after them; return the version."""
        name = self._split_pass(None).name_of(len(self._splits.read))
        broken = self._quarantine.write_file(self.partition, self.spool.reader(), name=name)
        self._bad += [broken] if broken else []
        version = self._quarantine.commit_files(self.partition, SCHEMA, self._bad)
        self._bad = []
        return version

    def keep_profile(self, version: int) -> tuple[str, str]:
        """Store the profile of the written snapshot, and its bins; return the digests of both."""
        assert self.profiler is not None, "rows that are kept are profiled"
        return self.profiler.keep(self.partition, version, duplicates=self._duplicates)

    @cached_property
    def _splits(self) -> Splits:
        """The splits of the arrival.

        Raises
        ------
        DeclarationError
            If its source has none.
        """
        if self.arrival.splits is None:
            raise DeclarationError("is spark, and the source is read in one pass; declare engine: local", key="engine")
        return self.arrival.splits()

    @property
    def _snapshots(self) -> DeltaPartitions:
        return _delta(self.workspace.snapshots)

    @property
    def _quarantine(self) -> DeltaPartitions:
        return _delta(self.workspace.quarantine)

    def _split_pass(self, tables: tuple[DeltaPartitions, DeltaPartitions] | None) -> SplitPass:
        return SplitPass(
            self.partition,
            self.workspace.loop.data,
            self._splits,
            self.enforcement,
            self.erasure,
            self.repeated,
            None if self.profiler is None else self.profiler.split_profiler(),
            tables,
            self._names,
        )

    @contextmanager
    def _spread(self, work: Work) -> Iterator[SparkSplits]:
        address, splits = self.workspace.connections.spark(), self._splits
        with SparkSplits(address, work, len(splits.read), packages=splits.packages) as answers:
            yield answers

    def _read(self, tables: tuple[DeltaPartitions, DeltaPartitions] | None) -> None:
        """Read the splits on executors, merge their counts, and judge the partition as a whole."""
        with self._spread(self._split_pass(tables).read) as answers:
            messages = answers.reports(REPORT, SAMPLE)
            reports = [SplitReport.decode(content) for kind, _, content in messages if kind == REPORT]
            self._good = [report.good for report in reports if report.good is not None]
            self._bad = [report.bad for report in reports if report.bad is not None]
            for report in reports:
                self.partition_pass.merge(report.counts)
                self.erasure.rows += report.erased
                if self.profiler is not None and report.profile is not None:
                    self.profiler.merge(report.profile)
                report.raise_error()
            self._splits.check([report.notes for report in reports])
            if self.profiler is not None:
                for content in (content for kind, _, content in messages if kind == SAMPLE):
                    self.profiler.merge_sample(*decode_sample(content))
                self._duplicates = answers.surplus(REST)
            broken = [row for report in reports for row in report.notes.broken]
            self.partition_pass.end(broken, answers.duplicates(KEYS))


def _delta(table: object) -> DeltaPartitions:
    assert isinstance(table, DeltaPartitions), "executors write files of a Delta table"
    return table
