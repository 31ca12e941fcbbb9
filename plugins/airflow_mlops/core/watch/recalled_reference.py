"""The earlier champion that a training as of the partition before would have recalled, for the regret against it.

It is chosen on the holdout of that training and never on the rows whose regret is measured, or the least of several
losses would be too low by luck alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_mlops.core.data.input_schema import InputSchema, version_schema
from airflow_mlops.core.data.row_weights import row_weights
from airflow_mlops.core.evaluation.recall_versions import UNUSABLE
from airflow_mlops.core.evaluation.recallable_versions import evident_recall, recallable_versions
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats, row_losses
from airflow_mlops.core.training.window import ModelRows, read_window
from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class ModelWithSchema:
    """The schema in which a model takes its features, what loads it, and its version; empty where it is not kept."""

    schema: InputSchema
    load: Callable[[], Any]
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
        The champion, and the fresh model if there is one: it must be better than both of them there.
    """
    keys = [pin.partition for pin in holdout]
    recall = workspace.loop.retrain.recallable
    earlier = recallable_versions(workspace.state(as_of=as_of), keys, limit=recall, now=state)
    versions = {version.number: version for version in earlier if version.number != champion.number}
    if not versions:
        return None
    rows = _Holdout(workspace, holdout)
    models = {
        number: ModelWithSchema(version_schema(workspace, version), partial(load_version, workspace, version), number)
        for number, version in versions.items()
    }
    losses = rows.losses_of(models)
    compared = rows.losses_of(dict(zip(("champion", "fresh"), beside, strict=False)))
    best = evident_recall(losses, compared, "champion", workspace.loop.retrain, weight=rows.weight)
    return None if best is None else models[best]


class _Holdout:
    """The labelled rows of a holdout, which are read once for each input schema."""

    def __init__(self, workspace: Workspace, pins: Sequence[PinnedPartition]) -> None:
        self._workspace, self._pins = workspace, pins
        self._read: list[tuple[InputSchema, ModelRows]] = []

    @property
    def weight(self) -> Floats | None:
        """The weights of the rows, shape (n_rows,); None where none are declared, or no model could read the rows."""
        rows = self._read[0][1].rows if self._read else None
        return None if rows is None else row_weights(rows, self._workspace.loop.train.weight)

    def losses_of(self, models: Mapping[str, ModelWithSchema]) -> dict[str, Floats]:
        """Return the losses of models on the rows, shape (n_rows,), by name, without those that it stops."""
        losses = {}
        for name, model in models.items():
            with suppress(*UNUSABLE):  # the next training says why a version is left out
                losses[name] = self._losses(model)
        return losses

    def _losses(self, model: ModelWithSchema) -> Floats:
        loop, rows = self._workspace.loop, self._rows(model.schema)
        label = rows.rows[loop.data.label].to_numpy(float)
        return row_losses(loop.metric, label, predict(model.load(), rows.features, classifies=loop.classifies))

    def _rows(self, schema: InputSchema) -> ModelRows:
        for known, rows in self._read:
            if known == schema:
                return rows
        self._read.append((schema, read_window(self._workspace, self._pins, schema=schema)))
        return self._read[-1][1]
