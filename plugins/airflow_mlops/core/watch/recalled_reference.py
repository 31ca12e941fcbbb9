"""The earlier champion that a training as of the partition before would have recalled, for the regret against it.

It is chosen on the holdout of that training and never on the rows whose regret is measured, or the least of several
losses would be too low by luck alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from airflow_mlops.core.data.input_schema import InputSchema, version_schema
from airflow_mlops.core.data.row_weights import row_weights
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.evaluation.recall_versions import UNUSABLE
from airflow_mlops.core.evaluation.recallable_versions import best_below, recallable_versions
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import weighted_loss
from airflow_mlops.core.training.window import ModelRows, read_window
from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class ModelWithSchema:
    """A fitted model, and the schema in which it takes its features; ``version`` is empty of one that is not kept."""

    model: Any
    schema: InputSchema
    version: str = ""


def recalled_reference(
    workspace: Workspace,
    state: LoopState,
    champion: Version,
    holdout: Sequence[PinnedPartition],
    *,
    as_of: str,
    beside: Sequence[ModelWithSchema],
) -> ModelWithSchema | None:
    """Return the earlier champion that a training as of a partition would have recalled; None for a fit.

    It costs predictions alone, and without an earlier champion nothing.

    Parameters
    ----------
    state : LoopState
        What is known now: a version that was rolled back since is no reference.
    champion : Version
        The version whose regret is measured.
    holdout : sequence of PinnedPartition
        The holdout of that training.
    beside : sequence of ModelWithSchema
        The champion and the fresh model: it must be better than both of them there.
    """
    keys = [pin.partition for pin in holdout]
    recall = workspace.loop.retrain.recall
    earlier = recallable_versions(workspace.state(as_of=as_of), keys, limit=recall, now=state)
    versions = {version.number: version for version in earlier if version.number != champion.number}
    if not versions:
        return None
    rows = _HoldoutLosses(workspace, holdout)
    losses, best = {}, None
    for number, version in versions.items():
        with suppress(*UNUSABLE):  # the next training says why it is left out
            model = ModelWithSchema(load_version(workspace, version), version_schema(workspace, version), number)
            losses[number] = rows.of(model)
            best = model if losses[number] == min(losses.values()) else best
    below = [np.inf]
    for model in beside:
        with suppress(*UNUSABLE):
            below.append(rows.of(model))
    return best if best_below(losses, min(below)) is not None else None


class _HoldoutLosses:
    """The mean losses of models on the labelled rows of a holdout, which are read once for each input schema."""

    def __init__(self, workspace: Workspace, pins: Sequence[PinnedPartition]) -> None:
        self._workspace, self._pins = workspace, pins
        self._read: list[tuple[InputSchema, ModelRows]] = []

    def of(self, model: ModelWithSchema) -> float:
        """Return the mean loss of a model; raises as reading, predicting and the metric do."""
        loop, rows = self._workspace.loop, self._rows(model.schema)
        if rows.rows.empty:
            raise DataError("no row of the holdout has a label")
        label = rows.rows[loop.data.label].to_numpy(float)
        predicted = predict(model.model, rows.features, classifies=loop.classifies)
        return weighted_loss(loop.metric, label, predicted, row_weights(rows.rows, loop.train.weight))

    def _rows(self, schema: InputSchema) -> ModelRows:
        for known, rows in self._read:
            if known == schema:
                return rows
        self._read.append((schema, read_window(self._workspace, self._pins, schema=schema)))
        return self._read[-1][1]
