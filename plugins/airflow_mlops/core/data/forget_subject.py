"""Erase a subject: delete their rows from snapshots, predictions and quarantine, and name the affected versions.

The tables are rewritten first, then the erasure is recorded, then the files of older versions are deleted. What a
model has learned stays in the model: the record names the versions that were made from the rows, for a person to
decide. The ledger holds the subject only as a keyed hash, which later ingests check, so that a source which still
delivers the subject does not bring them back.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.apply_retention import needed_pins, versions_made_from
from airflow_mlops.core.data.content_digest import ContentDigest
from airflow_mlops.core.data.erasure import subject_column, subject_hash
from airflow_mlops.core.data.key_text import canonical_parts, masked_text, plain_key, require_whole_key, stored_key
from airflow_mlops.core.data.labels.erase_labels import erase_labels
from airflow_mlops.core.data.masking import fingerprint, mask_key, refuse_other_key
from airflow_mlops.core.data.quarantined_rows import is_broken
from airflow_mlops.core.data.read_text import format_column
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.ledger.data_details import (
    ErasedPredictions,
    ErasedQuarantine,
    ErasedSnapshot,
    PartitionErasure,
    PredictionsPublished,
    SnapshotPublished,
    SubjectForgotten,
)
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.sources.table_copies import COPIES
from airflow_mlops.core.workspace import Workspace


@dataclass
class ErasureResult:
    """The result of an erasure: rows by table, partitions, and the versions of the model made from the rows."""

    snapshots: int = 0
    predictions: int = 0
    quarantine: int = 0
    partitions: dict[str, PartitionErasure] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)
    files: int = 0


def forget_subject(workspace: Workspace, subject: str) -> ErasureResult:
    """Erase everything about a subject, and record the erasure.

    Parameters
    ----------
    subject : str
        Value of the contract's subject column, or of the key where the contract names none; as it stands in
        the source, before any masking. Of a key of several columns, the values with ``+`` between them.

    Raises
    ------
    DeclarationError
        If there is no key to hash with; the ledger must not hold the subject's name.
    DataError
        If the subject is a key with more or fewer parts than the key of the loop has columns.
    """
    erasure = _SubjectErasure(workspace, subject)
    state = workspace.state()
    for partition in sorted({*state.published, *workspace.quarantine.partitions()}):
        erasure.erase(state, partition)
    erasure.erase_labels(state)
    result = erasure.result
    # Also if no row was found: a source may deliver the subject later.
    if result.partitions or erasure.hash not in state.forgotten:
        workspace.record_fact(
            workspace.draft(
                SubjectForgotten(
                    subject=erasure.hash,
                    column=str(erasure.column),
                    mask_key=erasure.fingerprint,
                    partitions=result.partitions,
                    models=tuple(sorted(result.models)),
                    rows={
                        "snapshots": result.snapshots,
                        "predictions": result.predictions,
                        "quarantine": result.quarantine,
                    },
                ),
                f"forgotten:{erasure.hash}:{state.sequence}",
                None,
            )
        )
    with external_write("scratch.delete_copies"):
        shutil.rmtree(workspace.scratch / COPIES, ignore_errors=True)
    result.files = purge_forgotten(workspace, erasure.hash)
    return result


def purge_forgotten(workspace: Workspace, subject: str) -> int:
    """Delete the files of older versions of the partitions that held a subject; return their number."""
    partitions: dict[str, set[str]] = {}
    for record in workspace.ledger.records(SubjectForgotten):
        if record.details.subject != subject:
            continue
        for partition, change in record.details.partitions.items():
            # Predictions of the rows exist for every publication that held them.
            tables = {*change.tables, "predictions"} if change.snapshots is not None else set(change.tables)
            for table in tables:
                partitions.setdefault(table, set()).add(partition)
    return sum(
        workspace.ports.table(table).purge(partition)
        for table, keys in partitions.items()
        for partition in sorted(keys)
    )


class _SubjectErasure:
    def __init__(self, workspace: Workspace, subject: str) -> None:
        self.workspace, self.subject = workspace, subject
        self.column = subject_column(workspace)
        key = mask_key(workspace.secret, self.column)
        refuse_other_key(key, workspace.state().mask_key)
        is_key = self.column == workspace.loop.data.key
        if is_key:
            require_whole_key(workspace, subject)
        self.plain_parts = canonical_parts(workspace, subject) if is_key else [subject]
        self.hash = subject_hash(plain_key(workspace, subject) if is_key else subject, key)
        self.fingerprint = fingerprint(key)
        self.stored_subject = stored_key(workspace, subject) if is_key else masked_text(workspace, self.column, subject)
        self.result = ErasureResult()
        self.keys: set[str] = set()

    def erase(self, state: LoopState, partition: str) -> None:
        """Rewrite a partition without the subject, in each table that holds them."""
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
            self.result.partitions[partition] = change

    def erase_labels(self, state: LoopState) -> None:
        """Rewrite the deliveries of labels without the labels of the subject."""
        own = {self.stored_subject} if self.column == self.workspace.loop.data.key else set()
        for tick, labels in erase_labels(self.workspace, state, self.keys | own).items():
            change = self.result.partitions.get(tick, PartitionErasure())
            self.result.partitions[tick] = replace(change, labels=labels)

    def _from_snapshot(
        self, state: LoopState, partition: str, published: SnapshotPublished
    ) -> tuple[set[str], ErasedSnapshot | None]:
        """Erase the subject from a snapshot; return the keys of their rows, and the new snapshot if any."""
        if published.rows == 0:
            return set(), None
        keys: set[str] = set()
        table, key = self.workspace.snapshots, self.workspace.loop.data.key
        # The rows may be in the published version, in the version that arrived, or in one that a model was made from.
        oldest_readable = state.purged.get(partition) or -1
        for version in {version for name, version in needed_pins(state, "snapshots") if name == partition}:
            if version < oldest_readable:
                continue
            keys_in_version: set[str] = set()
            for batch in table.batches(partition, version=version, columns=sorted({self.column, key})):
                keys_in_version.update(format_column(batch.column(key)).filter(self._mask(batch)).to_pylist())
            if keys_in_version:
                keys |= keys_in_version
                self.result.models.update(versions_made_from(state, partition, version))
        if not keys:
            return keys, None
        digest = ContentDigest()
        reader = table.batches(partition, version=published.version)
        remaining = pa.RecordBatchReader.from_batches(reader.schema, self._rows_without_subject(reader, digest))
        version = table.write(partition, remaining)
        self.result.snapshots += len(keys)
        return keys, ErasedSnapshot(
            version=version,
            arrived_version=version,
            digest=digest.hexdigest(),
            rows=digest.rows,
            snapshot_digest=digest.hexdigest(),
            snapshot_rows=digest.rows,
            was=published.digest,
        )

    def _from_predictions(self, partition: str, scored: PredictionsPublished, keys: set[str]) -> ErasedPredictions:
        rows = self.workspace.predictions.read(partition, version=scored.version)
        is_erased = pc.is_in(rows.column("key"), value_set=pa.array(sorted(keys), pa.string()))
        remaining = rows.filter(pc.invert(is_erased))
        self.result.predictions += rows.num_rows - remaining.num_rows
        digest = ContentDigest()
        for batch in remaining.to_batches():
            digest.update(batch)
        version = self.workspace.predictions.write(partition, remaining)
        return ErasedPredictions(version=version, rows=remaining.num_rows, digest=digest.hexdigest())

    def _from_quarantine(self, partition: str) -> ErasedQuarantine | None:
        rows = self.workspace.quarantine.read(partition)
        keep = np.array([not self._names_subject(json.loads(text)) for text in rows.column("row").to_pylist()])
        if keep.all():
            return None
        remaining = rows.filter(pa.array(keep))
        self.result.quarantine += rows.num_rows - remaining.num_rows
        version = self.workspace.quarantine.write(partition, remaining)
        return ErasedQuarantine(
            quarantine_version=version if remaining.num_rows else None,
            quarantined=remaining.num_rows,
            erased=rows.num_rows - remaining.num_rows,
        )

    def _names_subject(self, row: dict[str, str | None]) -> bool:
        if is_broken(row):
            # A broken row has no columns: whatever may be about the subject is erased.
            return all(part in str(row[""]) for part in self.plain_parts)
        return row.get(self.column) == self.stored_subject

    def _mask(self, batch: pa.RecordBatch) -> Any:
        return pc.fill_null(pc.equal(format_column(batch.column(self.column)), self.stored_subject), False)

    def _rows_without_subject(self, reader: pa.RecordBatchReader, digest: ContentDigest) -> Iterator[pa.RecordBatch]:
        for batch in reader:
            remaining = batch.filter(pc.invert(self._mask(batch)))
            digest.update(remaining)
            yield remaining
