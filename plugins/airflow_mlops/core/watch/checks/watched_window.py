"""A watched window: a scored partition and the reference of its champion, read lazily.

    window = WatchedWindow(workspace, "2013-01-27T00:00:00")
    window.rows.predictions, window.reference.held_out.label

The reference is the champion's training window and its holdout. Partitions are read whole, since features are made of
whole partitions, and then sampled: at most ``WINDOW_ROWS`` rows of the window, at most ``REFERENCE_ROWS`` of at most
``REFERENCE_PARTITIONS`` partitions that are spread over the training window, and at most ``REFERENCE_ROWS`` of each
partition of the holdout. The same partition in the same version gives the same sample.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.data.frame_types import frame_of
from airflow_mlops.core.data.input_schema import InputSchema, version_schema
from airflow_mlops.core.data.labels.labels_of import digest_of_labels
from airflow_mlops.core.data.labels.open_labels import earliest_labelled_partition
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.data_details import PredictionsPublished
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.prediction_columns import read_columns, stored_predictions
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.window import read_partition, read_rows
from airflow_mlops.core.watch.performance.measure_performance import labelled_predictions
from airflow_mlops.core.watch.sampled_rows import Reference, SampledRows, sample_positions, spread_evenly
from airflow_mlops.core.workspace import Workspace

WINDOW_ROWS = 20_000
REFERENCE_ROWS = 20_000
REFERENCE_PARTITIONS = 12

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WatchedWindow:
    """A scored partition of a workspace; see the module. Every part is read when it is first used.

    Parameters
    ----------
    as_of : str, optional
        Up to which delivery labels count, where they come from a source of their own; the partition by default.
    """

    workspace: Workspace
    partition: str
    as_of: str | None = None

    @cached_property
    def state(self) -> LoopState:
        """The loop as of the partition."""
        return self.workspace.state(as_of=self.partition)

    @cached_property
    def scored(self) -> PredictionsPublished:
        """The record of the predictions.

        Raises
        ------
        NotReadyError
            If the partition was not scored.
        """
        return self.state.require_scored(self.partition)

    def require_scored(self) -> None:
        """Raise :class:`NotReadyError` unless the partition was scored."""
        assert self.scored is not None

    @property
    def until(self) -> str:
        """The partition that counts as now."""
        return self.as_of or self.partition

    @cached_property
    def historical(self) -> bool:
        """True if a newer partition than ``until`` was decided on before, so that nothing alarms."""
        return self.workspace.is_historical(self.until)

    @property
    def labels_are_final(self) -> bool:
        """True if no delivery after ``until`` may label its rows."""
        loop = self.workspace.loop
        return loop.data.labels is None or self.partition <= earliest_labelled_partition(loop, self.until)

    @cached_property
    def scored_by_champion(self) -> list[str]:
        """Partitions up to this one that the champion scored, oldest first."""
        return [key for key, scored in self.state.scored.items() if scored.champion == self.champion.number]

    def basis(self, partitions: Sequence[str]) -> str:
        """Return a digest of the labels of partitions, 16 hex digits; it changes when any label arrives."""
        labels = self.workspace.state(as_of=self.until).labels
        entries = [
            f"{key} {self.state.scored[key].snapshot} {digest_of_labels(labels, key, self.until)}" for key in partitions
        ]
        return hashlib.sha256("; ".join(entries).encode()).hexdigest()[:16]

    def labelled(self, partition: str) -> pd.DataFrame:
        """Return the logged predictions of a partition's labelled rows, with ``key`` and ``label``."""
        return labelled_predictions(self.workspace, partition, self.state.scored[partition], as_of=self.until)

    @cached_property
    def champion(self) -> Version:
        """The champion that scored the partition."""
        return self.state.versions[self.scored.champion]

    @cached_property
    def schema(self) -> InputSchema:
        """The input schema of the champion."""
        return version_schema(self.workspace, self.champion)

    @cached_property
    def rows(self) -> SampledRows:
        """A sample of its rows, with the logged predictions of the champion and the labels that have arrived."""
        pin = PinnedPartition(self.partition, self.scored.snapshot_version, self.scored.snapshot)
        frame = read_partition(self.workspace, pin, label=False)
        features = FeatureMaker(self.workspace, self.schema).make(frame, pin.partition, pin.version)
        positions = sample_positions(len(frame), WINDOW_ROWS, pin.digest)
        keys = frame[self.workspace.loop.data.key].astype(str).to_numpy()[positions]
        logged = self.logged.reindex(keys)
        return SampledRows(
            partition=self.partition,
            keys=keys,
            features=features.iloc[positions].reset_index(drop=True),
            label=logged["label"].to_numpy(np.float64),
            predict=self.predict,
            logged=stored_predictions(logged, "champion", self.workspace.loop.class_names).astype(np.float64),
        )

    @cached_property
    def logged(self) -> pd.DataFrame:
        """The champion's predictions of all rows and the labels that have arrived, by key."""
        table = self.workspace.predictions.read(self.partition, version=self.scored.version)
        columns = read_columns("champion", self.workspace.loop.class_names)
        frame: pd.DataFrame = frame_of(table.select(["key", *columns])).set_index("key")
        return frame.assign(label=self.labels.reindex(frame.index))

    @cached_property
    def labels(self) -> pd.Series[float]:
        """The labels that have arrived, by key."""
        return self.labelled(self.partition).set_index("key")["label"].astype(float)

    @cached_property
    def model(self) -> Any:
        """The champion, its signature verified."""
        return load_version(self.workspace, self.champion)

    def predict(self, features: pd.DataFrame) -> Floats:
        """Return the champion's predictions, shape (n_rows,)."""
        return predict(self.model, features, classifies=self.workspace.loop.classifies)

    @cached_property
    def reference(self) -> Reference:
        """Samples of the champion's training window and of its holdout."""
        window = self.champion.details.window
        pins = spread_evenly(window.fitted, REFERENCE_PARTITIONS)
        most = REFERENCE_ROWS // max(len(pins) + len(window.holdout), 1)
        unread: dict[str, str] = {}
        fitted = [self._sample(pin, most, unread, label=False) for pin in pins]
        holdout = [self._sample(pin, REFERENCE_ROWS, unread, label=True) for pin in window.holdout]
        return Reference(tuple(filter(None, fitted)), tuple(filter(None, holdout)), unread)

    def _sample(self, pin: PinnedPartition, most: int, unread: dict[str, str], *, label: bool) -> SampledRows | None:
        """Return a sample of a pinned partition; None if it changed or is gone, with the reason in ``unread``."""
        data = self.workspace.loop.data
        try:
            if label:
                model_rows = read_rows(self.workspace, [pin], schema=self.schema)
                frame, features = model_rows.rows, model_rows.features
            else:
                frame = read_partition(self.workspace, pin, label=False)
                features = FeatureMaker(self.workspace, self.schema).make(frame, pin.partition, pin.version)
        except DataError as error:
            log.warning("the reference lacks partition %s: %s", pin.partition, error)
            unread[pin.partition] = str(error)
            return None
        positions = sample_positions(len(frame), most, pin.digest)
        labels = frame[data.label].to_numpy(np.float64, na_value=np.nan) if label else np.full(len(frame), np.nan)
        return SampledRows(
            partition=pin.partition,
            keys=frame[data.key].astype(str).to_numpy()[positions],
            features=features.iloc[positions].reset_index(drop=True),
            label=labels[positions],
            predict=self.predict,
        )
