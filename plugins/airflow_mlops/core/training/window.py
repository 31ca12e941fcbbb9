"""The training window: which partitions, in which versions of the snapshots, and the rows in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.contract_over_time import apply_contract
from airflow_mlops.core.data.labels.labels_of import LabelReader, pin_labels, wholly_labelled, with_labels
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.train import Train
from airflow_mlops.core.errors import DataError, NotReadyError, TrainingError
from airflow_mlops.core.ledger.data_details import PredictionsPublished
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import PinnedPartition, TrainingWindow
from airflow_mlops.core.workspace import Workspace


def pin_published(state: LoopState, partition: str, as_of: str | None = None) -> PinnedPartition:
    """Return a published partition as it is now, with the labels delivered by ``as_of``; all by default."""
    known = state.published[partition]
    labels = pin_labels(state.labels, partition, as_of)
    return PinnedPartition(partition, known.version, known.digest, labels)


def pin_scored(
    state: LoopState, partition: str, as_of: str | None = None, *, scored: PredictionsPublished | None = None
) -> PinnedPartition:
    """Return a scored partition in the version that was scored, with the labels delivered by ``as_of``.

    Parameters
    ----------
    scored : PredictionsPublished, optional
        The scoring that is meant; the newest by default.
    """
    scored = scored or state.scored[partition]
    labels = pin_labels(state.labels, partition, as_of)
    return PinnedPartition(partition, scored.snapshot_version, scored.snapshot, labels)


def trainable(state: LoopState, as_of: str, *, own_labels: bool | None = None) -> list[str]:
    """Return the partitions that a training as of a partition may use, oldest first.

    Where labels come from a source of their own, these are the ones whose labels have all come: of the others only
    those are known that were quick.

    Parameters
    ----------
    own_labels : bool, optional
        Whether they do; by default, whether any delivery has come.
    """
    keys = state.published.keys(until=as_of)
    if own_labels is None:
        own_labels = bool(state.labels)
    return wholly_labelled(state.labels, keys, as_of) if own_labels else keys


def pin_window(state: LoopState, declared: Train, as_of: str, *, own_labels: bool | None = None) -> TrainingWindow:
    """Return the window that a training as of a partition uses; ``own_labels`` as :func:`trainable` has it.

    Raises
    ------
    NotReadyError
        If fewer partitions are published, or have their labels, than the declaration asks for.
    """
    keys = trainable(state, as_of, own_labels=own_labels)
    if len(keys) < declared.partitions_needed:
        published = state.published.count(until=as_of)
        have = "are published" if len(keys) == published else f"of {published} published have all their labels"
        needed = declared.partitions_needed
        raise NotReadyError(f"{len(keys)} partitions {have} by {as_of}; the training needs {needed}")
    if isinstance(declared.window, int):
        keys = keys[-(declared.window + declared.holdout) :]
    pins = [pin_published(state, key, as_of) for key in keys]
    return TrainingWindow(tuple(pins[: -declared.holdout]), tuple(pins[-declared.holdout :]))


def read_partition(
    workspace: Workspace, pin: PinnedPartition, *, label: bool, labels: LabelReader | None = None
) -> pd.DataFrame:
    """Return a pinned partition's rows ordered by key, with or without the label.

    Parameters
    ----------
    labels : LabelReader, optional
        What reads the labels of several partitions, where they come from a source of their own.

    Raises
    ------
    DataError
        If, with the label, the content is not the one that was pinned, or it does not meet the contract of today.
    """
    data = workspace.loop.data
    columns = None if label else [name for name in snapshot_columns(workspace, pin) if name != data.label]
    rows = workspace.snapshots.read(pin.partition, version=pin.version, columns=columns)
    if label:
        found = content_digest(rows)
        if found != pin.digest:
            raise DataError(
                f"snapshot {pin.partition} in version {pin.version} has the digest {found[:12]}…, "
                f"the ledger says {pin.digest[:12]}…"
            )
    if workspace.contract is not None:
        where = f"snapshot {pin.partition} in version {pin.version}"
        rows = apply_contract(rows, workspace.contract, where, but=None if label else data.label)
    rows = rows.sort_by(data.key)
    frame: pd.DataFrame = rows.to_pandas()
    if label and (data.labels is not None or pin.labels is not None):
        delivered = (labels or LabelReader(workspace)).of(pin.partition, pin.labels)
        return with_labels(frame, rows[data.key], delivered, data.label)
    return frame


def read_labels(workspace: Workspace, pin: PinnedPartition, *, labels: LabelReader | None = None) -> pd.DataFrame:
    """Return key (as text) and label of a pinned partition's rows, NaN where there is none; reads nothing else.

    The content of the snapshot is not compared with its digest: this is for counting.
    """
    data = workspace.loop.data
    held = workspace.snapshots.batches(pin.partition, version=pin.version).schema.names
    columns = [name for name in (data.key, data.label) if name in held]
    rows = workspace.snapshots.read(pin.partition, version=pin.version, columns=columns)
    frame = rows.to_pandas()
    if data.labels is not None or pin.labels is not None:
        found = (labels or LabelReader(workspace)).of(pin.partition, pin.labels)
        frame = with_labels(frame, rows[data.key], found, data.label)
    label = frame[data.label].to_numpy(np.float64, na_value=np.nan)
    return pd.DataFrame({"key": frame[data.key].astype(str), "label": label})


def snapshot_columns(workspace: Workspace, pin: PinnedPartition) -> list[str]:
    """Return the columns of a published partition, as the ledger knows them."""
    return sorted(workspace.state(as_of=pin.partition).published[pin.partition].columns)


@dataclass(frozen=True)
class ModelRows:
    """Rows as they are kept, and beside them, row by row, the features that a model sees of them."""

    rows: pd.DataFrame
    features: pd.DataFrame

    def where(self, kept: npt.NDArray[np.bool_]) -> ModelRows:
        """Return some of the rows; ``kept`` has a truth value for each, shape (n_rows,)."""
        return ModelRows(self.rows[kept].reset_index(drop=True), self.features[kept].reset_index(drop=True))


def read_rows(workspace: Workspace, pins: Sequence[PinnedPartition]) -> ModelRows:
    """Return all rows of pinned partitions with their labels, oldest first, and the features of each partition.

    Features are made of a whole partition at a time, labelled or not, as scoring makes them.

    Raises
    ------
    TrainingError
        If the user's function fails, or gives other columns for one partition than for another.
    """
    maker = FeatureMaker(workspace)
    labels = LabelReader(workspace)
    rows = [read_partition(workspace, pin, label=True, labels=labels) for pin in pins]
    features = [maker.make(frame, pin.partition, pin.version) for frame, pin in zip(rows, pins, strict=True)]
    for pin, frame in zip(pins, features, strict=True):
        strange = sorted(set(frame.columns) ^ set(features[0].columns))
        if strange and maker.reference is not None:
            raise TrainingError(
                f"{maker.reference} gave other columns for {pin.partition} than for {pins[0].partition}: "
                f"{', '.join(map(repr, strange[:5]))} only for one of them"
            )
    return ModelRows(pd.concat(rows, ignore_index=True), pd.concat(features, ignore_index=True))


def read_window(workspace: Workspace, pins: Sequence[PinnedPartition]) -> ModelRows:
    """Return the rows of pinned partitions that have a label, oldest first, and their features."""
    whole = read_rows(workspace, pins)
    return whole.where(whole.rows[workspace.loop.data.label].notna().to_numpy())
