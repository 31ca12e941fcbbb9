"""Read the history of a loop for a replay: the published partitions with their rows, features and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.data.row_weights import row_weights
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.evaluation.evaluation_context import column_of, declared_columns
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.window import ModelRows, fit_schema, pin_published, read_rows
from airflow_mlops.core.workspace import Workspace


@dataclass(frozen=True)
class PastPartition:
    """A published partition: its pin, and row by row the features, label, key and columns of slices.

    ``label`` is NaN where none has arrived; ``rows`` are the columns of label, time and weight as they are stored, with
    a sample also those of key and strata; ``columns`` those that gates, the evaluation or the watch slice or group by.
    """

    pin: PinnedPartition
    rows: pd.DataFrame
    features: pd.DataFrame
    label: Floats
    keys: npt.NDArray[np.object_]
    columns: Mapping[str, npt.NDArray[Any]]

    @property
    def key(self) -> str:
        """Key of the partition."""
        return self.pin.partition

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Mask of the rows with a label, shape (n_rows,)."""
        return ~np.isnan(self.label)


def past_partitions(workspace: Workspace, *, until: str | None = None) -> list[PastPartition]:
    """Return the published partitions, oldest first.

    Features are made once, so a feature function sees a category with the levels of the whole history; each model is
    fitted with those of its own window.

    Parameters
    ----------
    until : str, optional
        Key of the last partition; the newest published one by default.

    Raises
    ------
    NotReadyError
        If there are too few for a first training and a partition after it.
    """
    state, loop = workspace.state(), workspace.loop
    keys = state.published.keys(until=until)
    needed = loop.train.partitions_needed + 1
    if len(keys) < needed:
        raise NotReadyError(
            f"{len(keys)} partitions are published{'' if until is None else f' by {until}'}; a replay needs {needed}: "
            f"{loop.train.partitions_needed} for the first training, and one to judge its model on"
        )
    pins = [pin_published(state, key) for key in keys]
    schema = fit_schema(workspace, pins)
    return [past_partition(loop, pin, read_rows(workspace, [pin], schema=schema)) for pin in pins]


def labelled_weights(parts: Sequence[PastPartition], loop: Loop) -> Floats | None:
    """Return the weights of the labelled rows of partitions; raises as :func:`row_weights` does."""
    return row_weights(pd.concat([part.rows[part.labelled] for part in parts], ignore_index=True), loop.train.weight)


def past_partition(loop: Loop, pin: PinnedPartition, rows: ModelRows) -> PastPartition:
    """Return a partition from its pin and its rows."""
    label = pd.to_numeric(rows.rows[loop.data.label]).to_numpy(np.float64, na_value=np.nan)
    slices = loop.watch.performance.slices if loop.watch.performance is not None else ()
    columns = {name: column_of(rows, name) for name in dict.fromkeys([*declared_columns(loop), *slices])}
    stored = [loop.data.label, loop.data.time, loop.train.weight]
    if loop.train.sample is not None:
        stored += [loop.data.key, loop.train.sample.by]
    kept = rows.rows[[name for name in dict.fromkeys(stored) if name in rows.rows]]
    return PastPartition(pin, kept, rows.features, label, rows.rows[loop.data.key].to_numpy(object), columns)
