"""The point-in-time history of a partition: the earlier rows that its features may use.

Later corrections do not apply: a row gets the same history in training as in scoring, however often earlier
partitions were ingested again in between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.frame_types import frame_of, never_null
from airflow_mlops.core.data.input_schema import InputSchema, contract_schema
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
"""Kinds of records that determine the version of a partition at a point in time."""

Reads = OrderedDict[tuple[str, int, tuple[str, ...]], pd.DataFrame]


class History:
    """The published rows of partitions strictly before one, in the versions that were current when it was published.

    Parameters
    ----------
    workspace : Workspace
        The loop and its stores.
    partition : str
        The partition whose history this is.
    version : int, optional
        Version of the partition's snapshot; without one, the history is what is published now.
    reads : OrderedDict, optional
        Cache of rows; shared by the histories of several partitions in the same schema.
    schema : InputSchema, optional
        The input schema of the version that predicts; by default the one that the contract gives.
    """

    def __init__(
        self,
        workspace: Workspace,
        partition: str,
        version: int | None = None,
        *,
        reads: Reads | None = None,
        schema: InputSchema | None = None,
    ) -> None:
        self._workspace, self._partition, self._version = workspace, partition, version
        self._schema = contract_schema(workspace) if schema is None else schema
        self._reads: Reads = OrderedDict() if reads is None else reads

    @property
    def partitions(self) -> list[str]:
        """Keys of the earlier partitions, oldest first."""
        return sorted(self._past.versions)

    def rows(self, partitions: int | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the rows of earlier partitions, oldest first and by key within each, with the label.

        Parameters
        ----------
        partitions : int, optional
            Number of the newest partitions; all by default.
        columns : sequence of str, optional
            Columns to read; by default all but those that the contract hides. Read only what you need.

        Returns
        -------
        DataFrame
            Empty, with the requested columns, if there is no earlier partition.

        Raises
        ------
        TrainingError
            If a column is hidden from models by the contract, or ``partitions`` reaches beyond the retention.
        """
        if partitions is not None and partitions < 1:
            raise TrainingError(f"history.rows(partitions={partitions}): ask for at least 1")
        data = self._workspace.loop.data
        hidden = self._schema.hidden - data.key_and_time - {data.label}
        for name in columns or ():
            if name in hidden:
                raise TrainingError(f"history.rows: {name!r} is hidden from models by the contract (feature: false)")
        keys = self.partitions if partitions is None else self.partitions[-partitions:]
        expired = sorted(key for key in self._past.expired if partitions is not None and len(keys) < partitions)
        if expired:
            raise TrainingError(
                f"the past of {self._partition} needs {partitions} partitions, and {expired[-1]} is beyond "
                "data.retention.snapshots: keep more, or look back on fewer"
            )
        parts = [self._read(key, tuple(columns or ()), hidden) for key in keys]
        if not parts:
            return self._no_rows(list(columns or ()))
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def _past(self) -> Past:
        return past_as_of(self._workspace.ledger.records(*PAST), self._partition, self._version)

    def _read(self, key: str, columns: tuple[str, ...], hidden: frozenset[str]) -> pd.DataFrame:
        cache_key = (key, self._past.versions[key], columns)
        if cache_key in self._reads:
            self._reads.move_to_end(cache_key)
            return self._reads[cache_key]
        order, version = self._workspace.loop.data.key, self._past.versions[key]
        present = self._workspace.snapshots.batches(key, version=version).schema.names
        names = list(columns) or [name for name in present if name not in hidden]
        self._refuse_unknown([name for name in names if name not in present], key)
        read_columns = [name for name in dict.fromkeys([*names, order]) if name in present]
        table = self._workspace.snapshots.read(key, version=version, columns=read_columns).sort_by(order)
        frame = self._schema.with_categories(self._add_younger(frame_of(table, self._never_null), names))
        self._reads[cache_key] = frame
        while len(self._reads) > KEPT_READS:
            self._reads.popitem(last=False)
        return frame

    @cached_property
    def _never_null(self) -> frozenset[str]:
        return never_null(self._workspace.contract, self._workspace.loop.data.key)

    def _no_rows(self, names: list[str]) -> pd.DataFrame:
        contract = self._workspace.contract
        if contract is None or not set(names) <= set(contract.stored):
            return pd.DataFrame(columns=names)
        return self._schema.with_categories(frame_of(contract.schema.empty_table().select(names), self._never_null))

    def _add_younger(self, frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        """Return the named columns; those that the contract has and the rows do not are null, in their own type."""
        younger = [name for name in names if name not in frame.columns]
        if not younger or self._workspace.contract is None:
            return frame[list(names)]
        columns = self._workspace.contract.stored
        nulls = pa.table({name: pa.nulls(len(frame), columns[name].stored_type) for name in younger})
        return pd.concat([frame, frame_of(nulls, self._never_null)], axis=1)[list(names)]

    def _refuse_unknown(self, missing: Sequence[str], key: str) -> None:
        # A column that was added to the contract later is null in older partitions.
        contract = self._workspace.contract
        unknown = [name for name in missing if contract is None or name not in contract.stored]
        if unknown:
            raise TrainingError(f"history.rows: there is no column {unknown[0]!r} in the partition {key}")


@dataclass(frozen=True)
class Past:
    """The version of each earlier partition, and the earlier partitions that have expired."""

    versions: dict[str, int]
    expired: frozenset[str] = frozenset()


def past_as_of(records: Iterable[AnyRecord], partition: str, version: int | None) -> Past:
    """Return the versions that were current when a version of a partition was published.

    Two later events apply all the same: the erasure of a subject, and the expiry of partitions.

    Parameters
    ----------
    records : iterable of Record
        Records of the kinds :data:`PAST`, oldest first.
    """
    history = list(records)
    until = publication_sequence(history, partition, version)
    versions: dict[str, int] = {}
    expired: set[str] = set()
    for record in history:
        details, at = record.details, str(record.partition)
        if isinstance(details, SnapshotPublished):
            if at < partition and (until is None or record.sequence < until):
                versions[at] = details.version
                expired.discard(at)
        elif isinstance(details, SubjectForgotten):
            for key, snapshot in erased_snapshots(details).items():
                if key in versions:
                    versions[key] = snapshot.version
        elif isinstance(details, PartitionsExpired):
            expired |= set(details.tables.get("snapshots", ())) & versions.keys()
    return Past({key: number for key, number in versions.items() if key not in expired}, frozenset(expired))


def publication_sequence(records: Iterable[AnyRecord], partition: str, version: int | None) -> int | None:
    """Return the sequence of the record that published a version of a partition, or that an erasure replaced."""
    newest = match = None
    for record in records:
        details = record.details
        if isinstance(details, SnapshotPublished) and record.partition == partition:
            newest = record.sequence
            match = newest if details.version == version else match
        elif isinstance(details, SubjectForgotten):
            snapshot = erased_snapshots(details).get(partition)
            if snapshot is not None and snapshot.version == version:
                match = newest
    return match


def erased_snapshots(forgotten: SubjectForgotten) -> dict[str, ErasedSnapshot]:
    """Return the snapshots that the erasure of a subject rewrote, by partition."""
    changes = forgotten.partitions.items()
    return {partition: change.snapshots for partition, change in changes if change.snapshots is not None}


def history_pins(ledger: Ledger, state: LoopState) -> list[tuple[str, int]]:
    """Return the pairs of partition and version in the histories of all published partitions.

    Where a loop declares ``data.features``, they must stay readable like those that a model was made from.
    """
    records = list(ledger.records(*PAST))
    pasts = (past_as_of(records, key, published.version) for key, published in state.published.items())
    return sorted({pin for past in pasts for pin in past.versions.items()})
