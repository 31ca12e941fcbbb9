"""Profile a snapshot in the pass that takes it, on the bins of the loop's first partition.

The first partition, and one with a new column, has no bins yet: they are made from a sample, and the written snapshot
is read once more and counted on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from airflow_mlops.core.data.duplicate_keys import KeySpool
from airflow_mlops.core.data.profiles.bottom_sample import BottomSample
from airflow_mlops.core.data.profiles.partition_profile import PartitionProfile
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins, Profiler, profile_bins
from airflow_mlops.core.data.row_hash import HashedRows, Hashes
from airflow_mlops.core.declaration.key_columns import identifying_columns
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.workspace import Workspace

NO_BINS = ProfileBins({}, {})


class SnapshotProfiler:
    """Profiles the good rows of a pass, and stores the profile as evidence.

    Parameters
    ----------
    columns : list of str
        Columns of the snapshot whose values may be counted: not the key and no personal column.
    """

    def __init__(self, workspace: Workspace, state: LoopState, columns: list[str]) -> None:
        self._workspace = workspace
        self._columns = columns
        self._bins = current_bins(workspace, state)
        self._unbinned = [name for name in columns if name not in self._bins.columns]
        counted = {name: self._bins.columns[name] for name in columns if name in self._bins.columns}
        self._counted = ProfileBins(self._bins.kinds, counted)
        self._profiler = Profiler(self._counted)
        self._sample = BottomSample()
        self._rest = KeySpool()

    def update(self, batch: pa.RecordBatch, hashed: HashedRows) -> None:
        """Add the good rows of a batch and their hashes."""
        if hashed.rest is not None:
            self._rest.add(hashed.rest)
        if self._unbinned:
            self._sample.update(batch.select(self._unbinned), hashed.rows)
        else:
            self._profiler.update(batch)

    def split_profiler(self) -> SplitProfiler:
        """Return a counter of the rows of splits, for another process."""
        return SplitProfiler(tuple(self._unbinned), self._counted)

    def merge(self, counts: Mapping[str, Any]) -> None:
        """Add the counts of a split; splits come in their order."""
        self._profiler.merge(counts)

    def merge_sample(self, rows: pa.Table, hashes: Hashes) -> None:
        """Add the sample of further splits, and the hashes of its rows, shape (n_rows,)."""
        for batch in rows.combine_chunks().to_batches():
            self._sample.update(batch, hashes)

    def close(self) -> None:
        """Remove the temporary files of a large partition."""
        self._rest.close()

    def keep(self, partition: str, version: int, *, duplicates: int | None = None) -> tuple[str, str]:
        """Store the profile of the written snapshot, and the bins; return the digests of both.

        ``duplicates`` are the rows that differ from an earlier row in the key alone, where they were counted elsewhere.
        """
        if duplicates is None:
            duplicates = self._rest.surplus()
        if self._unbinned:
            profile = self._count_again(partition, version, duplicates)
        else:
            profile = self._profiler.profile(duplicates=duplicates)
        evidence = self._workspace.evidence
        return evidence.put(profile.to_dict()), evidence.put(self._bins.to_dict())

    def _count_again(self, partition: str, version: int, duplicates: int) -> PartitionProfile:
        sample = self._sample.table()
        assert sample is not None, "a partition without rows is refused before"
        self._bins = self._bins.extend(sample) if self._bins.columns else profile_bins(sample)
        counted = {name: self._bins.columns[name] for name in self._columns}
        profiler = Profiler(ProfileBins(self._bins.kinds, counted))
        for batch in self._workspace.snapshots.batches(partition, version=version, columns=self._columns):
            profiler.update(batch)
        return profiler.profile(duplicates=duplicates)


class SplitProfiler:
    """Counts the good rows of splits, or draws a sample of them where a column has no bins yet.

    Parameters
    ----------
    unbinned : tuple of str
        Columns without bins.
    bins : ProfileBins
        The bins of the others.
    """

    def __init__(self, unbinned: tuple[str, ...], bins: ProfileBins) -> None:
        self.unbinned, self.bins = unbinned, bins
        self.sample = BottomSample()
        self.profiler = Profiler(bins, keep_chunks=True)
        self.rest: list[Hashes] = []

    def start_split(self) -> None:
        """Begin a split: its rows are counted apart; the sample is one of all splits."""
        self.profiler, self.rest = Profiler(self.bins, keep_chunks=True), []

    def update(self, batch: pa.RecordBatch, hashed: HashedRows) -> None:
        """Add the good rows of a batch and their hashes."""
        if hashed.rest is not None:
            self.rest.append(hashed.rest)
        if self.unbinned:
            self.sample.update(batch.select(list(self.unbinned)), hashed.rows)
        else:
            self.profiler.update(batch)


def current_bins(workspace: Workspace, state: LoopState) -> ProfileBins:
    """Return the bins of the newest partition; empty bins before the first."""
    newest = state.published.newest()
    if newest is None:
        return NO_BINS
    return ProfileBins.from_dict(workspace.evidence.get(str(state.published[newest].bins)))


def countable_columns(workspace: Workspace, columns: list[str]) -> list[str]:
    """Return the columns whose values a profile may hold: all but the key, its parts and personal columns."""
    contract = workspace.contract
    personal = (
        set()
        if contract is None
        else {name for name, column in contract.columns.items() if column.mask or column.privacy != "none"}
    )
    identifying = identifying_columns(workspace.loop.data.key)
    return [name for name in columns if name not in identifying and name not in personal]
