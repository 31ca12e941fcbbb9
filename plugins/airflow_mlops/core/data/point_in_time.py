"""The past as it was known when a partition was published: what features may look back on.

A correction that came later does not reach back: a row is given the same past in training as it was given
when it was scored, however often older partitions were taken again in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.ledger.data_details import (
    ErasedSnapshot,
    PartitionsExpired,
    SnapshotPublished,
    SubjectForgotten,
)
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.protocols import Ledger
from airflow_mlops.core.ledger.record import AnyRecord
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.workspace import Workspace

KEPT_READS = 32
PAST: tuple[type[Details], ...] = (SnapshotPublished, SubjectForgotten, PartitionsExpired)
"""Kinds of records that say which versions of a partition there were."""

Reads = OrderedDict[tuple[str, int, tuple[str, ...]], pd.DataFrame]


class History:
    """The published rows of partitions strictly before one, in the versions that were current when it was published.

    Parameters
    ----------
    workspace : Workspace
        Where the rows are kept.
    partition : str
        The partition whose past this is.
    version : int, optional
        Version of the partition's snapshot; for one that is not published, the past is what is published now.
    reads : OrderedDict, optional
        What was read before; shared by the histories of several partitions.
    """

    def __init__(
        self, workspace: Workspace, partition: str, version: int | None = None, *, reads: Reads | None = None
    ) -> None:
        self._workspace, self._partition, self._version = workspace, partition, version
        self._reads: Reads = OrderedDict() if reads is None else reads

    @property
    def partitions(self) -> list[str]:
        """Keys of the partitions of the past, oldest first."""
        return sorted(self._past.versions)

    def rows(self, partitions: int | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return rows of the past, oldest partition first and by key within it, the label included.

        Parameters
        ----------
        partitions : int, optional
            How many of the newest partitions; all if not given.
        columns : sequence of str, optional
            Which columns; all but those that the contract hides if not given. Read only what you need.

        Returns
        -------
        DataFrame
            Without any row, and with those columns that were asked for by name, where there is no past.

        Raises
        ------
        TrainingError
            If a column is asked for that the contract hides from models.
        """
        if partitions is not None and partitions < 1:
            raise TrainingError(f"history.rows(partitions={partitions}): ask for at least 1")
        contract = self._workspace.contract
        data = self._workspace.loop.data
        hidden = (contract.hidden if contract else frozenset()) - {data.key, data.time, data.label}
        for name in columns or ():
            if name in hidden:
                raise TrainingError(f"history.rows: {name!r} is hidden from models by the contract (feature: false)")
        keys = self.partitions if partitions is None else self.partitions[-partitions:]
        gone = sorted(key for key in self._past.expired if partitions is not None and len(keys) < partitions)
        if gone:
            raise TrainingError(
                f"the past of {self._partition} needs {partitions} partitions, and {gone[-1]} is beyond "
                "data.retention.snapshots: keep more, or look back on fewer"
            )
        parts = [self._read(key, tuple(columns or ()), hidden) for key in keys]
        if not parts:
            return pd.DataFrame(columns=list(columns or ()))
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def _past(self) -> Past:
        return known_at(self._workspace.ledger.records(*PAST), self._partition, self._version)

    def _read(self, key: str, columns: tuple[str, ...], hidden: frozenset[str]) -> pd.DataFrame:
        asked = (key, self._past.versions[key], columns)
        if asked in self._reads:
            self._reads.move_to_end(asked)
            return self._reads[asked]
        order, version = self._workspace.loop.data.key, self._past.versions[key]
        held = self._workspace.snapshots.batches(key, version=version).schema.names
        names = list(columns) or [name for name in held if name not in hidden]
        self._refuse_unknown([name for name in names if name not in held], key)
        wanted = [name for name in dict.fromkeys([*names, order]) if name in held]
        table = self._workspace.snapshots.read(key, version=version, columns=wanted).sort_by(order)
        frame: pd.DataFrame = table.to_pandas().reindex(columns=names)
        self._reads[asked] = frame
        while len(self._reads) > KEPT_READS:
            self._reads.popitem(last=False)
        return frame

    def _refuse_unknown(self, missing: Sequence[str], key: str) -> None:
        # A column that the contract has got since is null in older partitions, as it is everywhere else.
        contract = self._workspace.contract
        unknown = [name for name in missing if contract is None or name not in contract.columns]
        if unknown:
            raise TrainingError(f"history.rows: there is no column {unknown[0]!r} in the partition {key}")


@dataclass(frozen=True)
class Past:
    """Which version of each earlier partition is looked back on, and which earlier partitions are let go."""

    versions: dict[str, int]
    expired: frozenset[str] = frozenset()


def known_at(records: Iterable[AnyRecord], partition: str, version: int | None) -> Past:
    """Return the past of a partition in a version: what was current when that version was published.

    Two things reach back all the same: a subject that was erased is seen by nobody again, and what is beyond
    its retention is gone.

    Parameters
    ----------
    records : iterable of Record
        Those of :data:`PAST`, oldest first.
    """
    kept = list(records)
    until = published_by(kept, partition, version)
    versions: dict[str, int] = {}
    expired: set[str] = set()
    for record in kept:
        details, at = record.details, str(record.partition)
        if isinstance(details, SnapshotPublished):
            if at < partition and (until is None or record.sequence < until):
                versions[at] = details.version
                expired.discard(at)
        elif isinstance(details, SubjectForgotten):
            for key, snapshot in erased_in(details).items():
                if key in versions:
                    versions[key] = snapshot.version
        elif isinstance(details, PartitionsExpired):
            expired |= set(details.tables.get("snapshots", ())) & versions.keys()
    return Past({key: number for key, number in versions.items() if key not in expired}, frozenset(expired))


def published_by(records: Iterable[AnyRecord], partition: str, version: int | None) -> int | None:
    """Return the number of the record that published a partition in a version, or of what was erased from it."""
    newest = match = None
    for record in records:
        details = record.details
        if isinstance(details, SnapshotPublished) and record.partition == partition:
            newest = record.sequence
            match = newest if details.version == version else match
        elif isinstance(details, SubjectForgotten):
            snapshot = erased_in(details).get(partition)
            if snapshot is not None and snapshot.version == version:
                match = newest
    return match


def erased_in(forgotten: SubjectForgotten) -> dict[str, ErasedSnapshot]:
    """Return the snapshots that the erasure of a subject has replaced, by partition."""
    changes = forgotten.partitions.items()
    return {partition: change.snapshots for partition, change in changes if change.snapshots is not None}


def looked_back_on(ledger: Ledger, state: LoopState) -> list[tuple[str, int]]:
    """Return the partitions, each in a version, that the features of published partitions look back on.

    Where a loop declares ``data.features``, they must stay readable as those do that a model was made from.
    """
    records = list(ledger.records(*PAST))
    pasts = (known_at(records, key, published.version) for key, published in state.published.items())
    return sorted({pin for past in pasts for pin in past.versions.items()})
