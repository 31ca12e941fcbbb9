"""The training window: its partitions, the pinned versions of their snapshots, and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.contract_over_time import apply_contract
from airflow_mlops.core.data.frame_types import frame_of, never_null
from airflow_mlops.core.data.input_schema import InputSchema, contract_schema, levels_of, open_categories
from airflow_mlops.core.data.label_classes import encode_column
from airflow_mlops.core.data.labels.labels_of import LabelReader, fully_labelled_partitions, pin_labels, with_labels
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.train import Train
from airflow_mlops.core.errors import DataError, NotReadyError, TrainingError
from airflow_mlops.core.ledger.data_details import PredictionsPublished
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import PinnedPartition, TrainingWindow
from airflow_mlops.core.ports.spans import span
from airflow_mlops.core.workspace import Workspace


def pin_published(state: LoopState, partition: str, as_of: str | None = None) -> PinnedPartition:
    """Pin the current snapshot of a published partition, with the labels delivered by ``as_of``; all by default."""
    published = state.published[partition]
    labels = pin_labels(state.labels, partition, as_of)
    return PinnedPartition(partition, published.version, published.digest, labels)


def pin_scored(
    state: LoopState, partition: str, as_of: str | None = None, *, scored: PredictionsPublished | None = None
) -> PinnedPartition:
    """Pin the snapshot that a partition was scored from, with the labels delivered by ``as_of``.

    Parameters
    ----------
    scored : PredictionsPublished, optional
        The scoring to pin; the newest by default.
    """
    scored = scored or state.scored[partition]
    labels = pin_labels(state.labels, partition, as_of)
    return PinnedPartition(partition, scored.snapshot_version, scored.snapshot, labels)


def trainable_partitions(
    state: LoopState, as_of: str, *, own_labels: bool | None = None, newest: int | None = None
) -> list[str]:
    """Return the partitions that a training as of a partition may use, oldest first.

    Where labels come from a source of their own, only partitions whose labels have all arrived are used: the labels
    of the others are biased towards quick outcomes.

    Parameters
    ----------
    own_labels : bool, optional
        Whether labels have a source of their own; by default, whether any delivery has arrived.
    newest : int, optional
        Number of partitions, the newest ones, that suffice; all by default.
    """
    if own_labels is None:
        own_labels = bool(state.labels)
    if own_labels:
        labelled = fully_labelled_partitions(state.labels, state.published.keys(until=as_of), as_of)
        return labelled if newest is None else labelled[-newest:]
    return state.published.keys(until=as_of) if newest is None else state.published.last(newest, until=as_of)


def pin_window(state: LoopState, declared: Train, as_of: str, *, own_labels: bool | None = None) -> TrainingWindow:
    """Return the window that a training as of a partition uses; ``own_labels`` as in :func:`trainable_partitions`.

    Of several declared windows it is the longest, which holds all others.

    Raises
    ------
    NotReadyError
        If fewer partitions are published, or have their labels, than the declaration asks for.
    """
    longest = declared.longest_window
    length = longest + declared.holdout if isinstance(longest, int) else None
    newest = None if length is None else max(length, declared.partitions_needed)
    keys = trainable_partitions(state, as_of, own_labels=own_labels, newest=newest)
    if len(keys) < declared.partitions_needed:
        published = state.published.count(until=as_of)
        have = "are published" if len(keys) == published else f"of {published} published have all their labels"
        needed = declared.partitions_needed
        raise NotReadyError(f"{len(keys)} partitions {have} by {as_of}; the training needs {needed}")
    if length is not None:
        keys = keys[-length:]
    pins = [pin_published(state, key, as_of) for key in keys]
    return TrainingWindow(tuple(pins[: -declared.holdout]), tuple(pins[-declared.holdout :]))


def read_partition(
    workspace: Workspace, pin: PinnedPartition, *, label: bool, labels: LabelReader | None = None
) -> pd.DataFrame:
    """Return a pinned partition's rows ordered by key, with or without the label; of classes, with its code.

    Parameters
    ----------
    labels : LabelReader, optional
        Reader to share between partitions, where labels come from a source of their own.

    Raises
    ------
    DataError
        If, with the label, the content differs from the pinned digest, or breaks the current contract.
    """
    data = workspace.loop.data
    columns = None if label else [name for name in snapshot_columns(workspace, pin) if name != data.label]
    rows = workspace.snapshots.read(pin.partition, version=pin.version, columns=columns)
    if label:
        digest = content_digest(rows)
        if digest != pin.digest:
            raise DataError(
                f"snapshot {pin.partition} in version {pin.version} has the digest {digest[:12]}…, "
                f"the ledger says {pin.digest[:12]}…"
            )
    if workspace.contract is not None:
        where = f"snapshot {pin.partition} in version {pin.version}"
        rows = apply_contract(rows, workspace.contract, where, but=None if label else data.label)
    rows = rows.sort_by(data.key)
    frame = frame_of(rows, never_null(workspace.contract, data.key))
    frame = encode_column(frame, data.label, workspace.loop.class_names, f"partition {pin.partition}")
    if label and (data.labels is not None or pin.labels is not None):
        delivered = (labels or LabelReader(workspace)).of(pin.partition, pin.labels)
        return with_labels(frame, rows[data.key], delivered, data.label)
    return frame


def read_labels(workspace: Workspace, pin: PinnedPartition, *, labels: LabelReader | None = None) -> pd.DataFrame:
    """Return key (as text) and label (NaN if there is none) of a pinned partition's rows; reads no other column.

    The content of the snapshot is not compared with its digest: this is for counting.
    """
    data = workspace.loop.data
    present = workspace.snapshots.batches(pin.partition, version=pin.version).schema.names
    columns = [name for name in (data.key, data.label) if name in present]
    rows = workspace.snapshots.read(pin.partition, version=pin.version, columns=columns)
    frame = frame_of(rows, never_null(workspace.contract, data.key))
    frame = encode_column(frame, data.label, workspace.loop.class_names, f"partition {pin.partition}")
    if data.labels is not None or pin.labels is not None:
        delivered = (labels or LabelReader(workspace)).of(pin.partition, pin.labels)
        frame = with_labels(frame, rows[data.key], delivered, data.label)
    label = frame[data.label].to_numpy(np.float64, na_value=np.nan)
    return pd.DataFrame({"key": frame[data.key].astype(str), "label": label})


def snapshot_columns(workspace: Workspace, pin: PinnedPartition) -> list[str]:
    """Return the columns of a published partition from the ledger."""
    return sorted(workspace.state(as_of=pin.partition).published[pin.partition].columns)


@dataclass(frozen=True)
class ModelRows:
    """Stored rows, and the features that a model gets of each."""

    rows: pd.DataFrame
    features: pd.DataFrame

    def where(self, mask: npt.NDArray[np.bool_]) -> ModelRows:
        """Return the rows where ``mask``, of shape (n_rows,), is true."""
        return ModelRows(self.rows[mask].reset_index(drop=True), self.features[mask].reset_index(drop=True))


def fit_schema(workspace: Workspace, pins: Sequence[PinnedPartition]) -> InputSchema:
    """Return the input schema of a model that is fitted on pinned partitions.

    The levels of a category are the declared ones, or else its values in the rows that have a label.

    Raises
    ------
    TrainingError
        If a category has too many levels.
    """
    schema = contract_schema(workspace)
    names = list(open_categories(workspace))
    if not names:
        return schema
    labels, frames = LabelReader(workspace), []
    for pin in pins:
        frame = read_partition(workspace, pin, label=True, labels=labels)
        frames.append(frame.loc[frame[workspace.loop.data.label].notna(), names])
    levels = {**schema.levels, **{name: levels_of(frames, name) for name in names}}
    return InputSchema(schema.hidden, dict(sorted(levels.items())))


def read_rows(workspace: Workspace, pins: Sequence[PinnedPartition], *, schema: InputSchema | None = None) -> ModelRows:
    """Return all rows of pinned partitions with their labels, oldest first, and the features of each partition.

    Features are made from a whole partition at a time, with unlabelled rows, as scoring makes them, in the input
    ``schema`` of the version that predicts them; by default the one that the contract gives.

    Raises
    ------
    TrainingError
        If the user's function fails, or gives other columns for one partition than for another.
    """
    maker = FeatureMaker(workspace, schema)
    labels = LabelReader(workspace)
    rows = [read_partition(workspace, pin, label=True, labels=labels) for pin in pins]
    features = [maker.make(frame, pin.partition, pin.version) for frame, pin in zip(rows, pins, strict=True)]
    for pin, frame in zip(pins, features, strict=True):
        differing = sorted(set(frame.columns) ^ set(features[0].columns))
        if differing and maker.reference is not None:
            raise TrainingError(
                f"{maker.reference} gave other columns for {pin.partition} than for {pins[0].partition}: "
                f"{', '.join(map(repr, differing[:5]))} only for one of them"
            )
    return ModelRows(pd.concat(rows, ignore_index=True), pd.concat(features, ignore_index=True))


@span("read")
def read_window(
    workspace: Workspace, pins: Sequence[PinnedPartition], *, schema: InputSchema | None = None
) -> ModelRows:
    """Return the rows of pinned partitions that have a label, oldest first, and their features."""
    rows = read_rows(workspace, pins, schema=schema)
    return rows.where(rows.rows[workspace.loop.data.label].notna().to_numpy())
