"""The training window: which partitions, in which versions of the snapshots, and the rows in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.contract_over_time import held_to_contract
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import DataError, NotReadyError, TrainingError
from airflow_mlops.core.governance.state import LoopState
from airflow_mlops.core.training.declared_training import Train
from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class PinnedPartition:
    """A partition in one version of the snapshots."""

    partition: str
    version: int
    digest: str


@dataclass(frozen=True)
class TrainingWindow:
    """The partitions a model is fitted on, and the newer ones it is judged on."""

    fitted: tuple[PinnedPartition, ...]
    holdout: tuple[PinnedPartition, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the window as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingWindow:
        """Return the window that ``to_dict`` wrote."""
        return cls(*(tuple(PinnedPartition(**pin) for pin in values[part]) for part in ("fitted", "holdout")))


def pin_window(state: LoopState, declared: Train, as_of: str) -> TrainingWindow:
    """Return the window that a training as of a partition uses.

    Raises
    ------
    NotReadyError
        If fewer partitions are published than the declaration asks for.
    """
    keys = sorted(key for key in state.published if key <= as_of)
    if len(keys) < declared.first_at:
        raise NotReadyError(f"{len(keys)} partitions are published by {as_of}; the training needs {declared.first_at}")
    pins = [
        PinnedPartition(key, int(state.published[key]["version"]), str(state.published[key]["digest"])) for key in keys
    ]
    fitted, holdout = pins[: -declared.holdout], pins[-declared.holdout :]
    if isinstance(declared.window, int):
        fitted = fitted[-declared.window :]
    return TrainingWindow(tuple(fitted), tuple(holdout))


def read_partition(workspace: Workspace, pin: PinnedPartition, *, label: bool) -> pd.DataFrame:
    """Return a pinned partition's rows ordered by key, with or without the label.

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
        rows = held_to_contract(rows, workspace.contract, where, but=None if label else data.label)
    frame: pd.DataFrame = rows.sort_by(data.key).to_pandas()
    return frame


def snapshot_columns(workspace: Workspace, pin: PinnedPartition) -> list[str]:
    """Return the columns of a published partition, as the ledger knows them."""
    return sorted(workspace.state(as_of=pin.partition).published[pin.partition]["columns"])


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
    rows = [read_partition(workspace, pin, label=True) for pin in pins]
    features = [maker.of(frame, pin.partition, pin.version) for frame, pin in zip(rows, pins, strict=True)]
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
