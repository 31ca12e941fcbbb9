"""Forget a subject: erase their rows from snapshots, predictions and quarantine, and say who had learnt from them.

The rows leave the tables first, then the ledger says so, then the files that still held them are deleted,
in every version. What a model has learnt stays in the model: the record names the versions that had seen
the rows, for a person to decide. The subject themselves stands there only as a keyed hash, which later
ingests look for, so that a source which still holds the subject does not bring them back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.apply_retention import made_from, needed
from airflow_mlops.core.data.content_digest import ContentDigest
from airflow_mlops.core.data.erasure import subject_column, subject_hash
from airflow_mlops.core.data.labels.erase_labels import erase_labels
from airflow_mlops.core.data.masking import fingerprint, keyed_hash, mask_key, refuse_other_key
from airflow_mlops.core.data.quarantined_rows import is_broken
from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.ledger.data_details import (
    ErasedPredictions,
    ErasedQuarantine,
    ErasedSnapshot,
    PartitionErasure,
    PredictionsPublished,
    SnapshotPublished,
    SubjectForgotten,
)
from airflow_mlops.core.ledger.fault_point import fault_point
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.workspace import Workspace


@dataclass
class Forgotten:
    """What was erased: rows by table, the partitions, and the versions of the model that had seen them."""

    snapshots: int = 0
    predictions: int = 0
    quarantine: int = 0
    partitions: dict[str, PartitionErasure] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    files: int = 0


def forget_subject(workspace: Workspace, subject: str) -> Forgotten:
    """Erase everything about a subject and record that it was done.

    Parameters
    ----------
    subject : str
        Value of the contract's subject column, or of the key where the contract names none; as it stands in
        the source, before any masking.

    Raises
    ------
    DeclarationError
        If there is no key to hash with: the ledger must not hold the subject's name.
    """
    erasing = _Erasing(workspace, subject)
    state = workspace.state()
    for partition in sorted({*state.published, *workspace.quarantine.partitions()}):
        erasing.erase(state, partition)
    erasing.erase_labels(state)
    done = erasing.done
    # Also where no row was found: a source that delivers them later shall not bring them in.
    if done.partitions or erasing.hash not in state.forgotten:
        workspace.record_fact(
            workspace.draft(
                SubjectForgotten(
                    subject=erasing.hash,
                    column=erasing.column,
                    mask_key=erasing.fingerprint,
                    partitions=done.partitions,
                    models=tuple(sorted(done.models)),
                    rows={"snapshots": done.snapshots, "predictions": done.predictions, "quarantine": done.quarantine},
                ),
                f"forgotten:{erasing.hash}:{state.sequence}",
                None,
            )
        )
    fault_point("forgotten")
    done.files = purge_forgotten(workspace, erasing.hash)
    return done


def purge_forgotten(workspace: Workspace, subject: str) -> int:
    """Delete every file that older versions keep of the partitions a subject was erased from; return how many."""
    touched: dict[str, set[str]] = {}
    for record in workspace.ledger.records(SubjectForgotten):
        if record.details.subject != subject:
            continue
        for partition, change in record.details.partitions.items():
            # What was predicted of rows lies beside them, of every publication that they were in.
            tables = {*change.tables, "predictions"} if change.snapshots is not None else set(change.tables)
            for table in tables:
                touched.setdefault(table, set()).add(partition)
    return sum(
        workspace.ports.table(table).purge(partition) for table, keys in touched.items() for partition in sorted(keys)
    )


class _Erasing:
    def __init__(self, workspace: Workspace, subject: str) -> None:
        self.workspace, self.subject = workspace, subject
        self.column = subject_column(workspace)
        key = mask_key(workspace.secret, self.column)
        refuse_other_key(key, workspace.state().mask_key)
        self.hash, self.fingerprint = subject_hash(subject, key), fingerprint(key)
        contract = workspace.contract
        masks = contract is not None and self.column in contract.columns and contract.columns[self.column].mask
        self.kept_as = keyed_hash(subject, mask_key(workspace.secret, self.column)) if masks else subject
        self.done = Forgotten()
        self.keys: set[str] = set()

    def erase(self, state: LoopState, partition: str) -> None:
        """Write each table's partition without the subject, where it holds them."""
        snapshots, predictions, quarantine = None, None, None
        published = state.published.get(partition)
        if published is not None:
            keys, snapshots = self._from_snapshot(state, partition, published)
            self.keys |= keys
            scored = state.scored.get(partition)
            if keys and scored is not None:
                predictions = self._from_predictions(partition, scored, keys)
        if partition in self.workspace.quarantine.partitions():
            quarantine = self._from_quarantine(partition)
        change = PartitionErasure(snapshots=snapshots, predictions=predictions, quarantine=quarantine)
        if change.tables:
            self.done.partitions[partition] = change

    def erase_labels(self, state: LoopState) -> None:
        """Write the deliveries of labels without those of the subject."""
        own = {self.kept_as} if self.column == self.workspace.loop.data.key else set()
        for tick, labels in erase_labels(self.workspace, state, self.keys | own).items():
            change = self.done.partitions.get(tick, PartitionErasure())
            self.done.partitions[tick] = replace(change, labels=labels)

    def _from_snapshot(
        self, state: LoopState, partition: str, published: SnapshotPublished
    ) -> tuple[set[str], ErasedSnapshot | None]:
        """Erase the subject from a snapshot; return the keys of their rows, and what was changed."""
        if published.rows == 0:
            return set(), None
        keys: set[str] = set()
        table, key = self.workspace.snapshots, self.workspace.loop.data.key
        # The rows may be in the published version, in the one that arrived, or in one that a model was made from.
        gone_before = state.purged.get(partition) or -1
        for version in {version for name, version in needed(state, "snapshots") if name == partition}:
            if version < gone_before:
                continue
            here: set[str] = set()
            for batch in table.batches(partition, version=version, columns=sorted({self.column, key})):
                here.update(format_column(batch.column(key)).filter(self._mask(batch)).to_pylist())
            if here:
                keys |= here
                self.done.models.update(made_from(state, partition, version))
        if not keys:
            return keys, None
        counted = ContentDigest()
        reader = table.batches(partition, version=published.version)
        rest = pa.RecordBatchReader.from_batches(reader.schema, self._without(reader, counted))
        version = table.write(partition, rest)
        self.done.snapshots += len(keys)
        return keys, ErasedSnapshot(
            version=version,
            arrived_version=version,
            digest=counted.hexdigest(),
            rows=counted.rows,
            snapshot_digest=counted.hexdigest(),
            snapshot_rows=counted.rows,
            was=published.digest,
        )

    def _from_predictions(self, partition: str, scored: PredictionsPublished, keys: set[str]) -> ErasedPredictions:
        rows = self.workspace.predictions.read(partition, version=scored.version)
        gone = pc.is_in(rows.column("key"), value_set=pa.array(sorted(keys), pa.string()))
        rest = rows.filter(pc.invert(gone))
        self.done.predictions += rows.num_rows - rest.num_rows
        counted = ContentDigest()
        for batch in rest.to_batches():
            counted.update(batch)
        version = self.workspace.predictions.write(partition, rest)
        return ErasedPredictions(version=version, rows=rest.num_rows, digest=counted.hexdigest())

    def _from_quarantine(self, partition: str) -> ErasedQuarantine | None:
        rows = self.workspace.quarantine.read(partition)
        stay = np.array([not self._is_theirs(json.loads(text)) for text in rows.column("row").to_pylist()])
        if stay.all():
            return None
        rest = rows.filter(pa.array(stay))
        self.done.quarantine += rows.num_rows - rest.num_rows
        version = self.workspace.quarantine.write(partition, rest)
        return ErasedQuarantine(
            quarantine_version=version if rest.num_rows else None,
            quarantined=rest.num_rows,
            erased=rows.num_rows - rest.num_rows,
        )

    def _is_theirs(self, row: dict[str, str | None]) -> bool:
        if is_broken(row):
            return self.subject in str(row[""])
        return row.get(self.column) == self.kept_as

    def _mask(self, batch: pa.RecordBatch) -> Any:
        return pc.fill_null(pc.equal(format_column(batch.column(self.column)), self.kept_as), False)

    def _without(self, reader: pa.RecordBatchReader, counted: ContentDigest) -> Iterator[pa.RecordBatch]:
        for batch in reader:
            rest = batch.filter(pc.invert(self._mask(batch)))
            counted.update(rest)
            yield rest
