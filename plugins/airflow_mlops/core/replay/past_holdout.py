"""The holdout of a past training, and the gates of a candidate on it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.declaration.evaluate import COSTS, ROBUSTNESS, STABILITY
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.evaluation.gates import Holdout, evaluate_gates, gates_pass
from airflow_mlops.core.evaluation.metrics_by_slice import Slices
from airflow_mlops.core.replay.fit_history import FittedHistory, FittedModel, window_positions
from airflow_mlops.core.training.row_losses import Floats, row_losses


class PastHoldout:
    """The labelled rows that a training as of a position is judged on."""

    def __init__(self, history: FittedHistory, loop: Loop, as_of: int) -> None:
        self.history, self.loop, self.as_of = history, loop, as_of
        self.fitted, self.positions = window_positions(loop, as_of)

    @cached_property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Mask of the rows with a label."""
        return np.concatenate([self.history.partitions[position].labelled for position in self.positions])

    @cached_property
    def label(self) -> Floats:
        """Labels, shape (n_rows,)."""
        parts = [self.history.partitions[position].label for position in self.positions]
        label: Floats = np.concatenate(parts)[self.labelled]
        return label

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The columns that gates slice or group by."""
        parts = [self.history.partitions[position].columns for position in self.positions]
        return {name: np.concatenate([part[name] for part in parts])[self.labelled] for name in parts[0]}

    @cached_property
    def baselines(self) -> dict[str, Floats]:
        """Predictions of the baselines."""
        return {
            name: predictions[self.labelled] for name, predictions in self.history.baselines.get(self.as_of, {}).items()
        }

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The groups in the training window, by the columns that a gate groups by."""
        columns = {gate.group for gate in self.loop.gates if gate.group is not None}
        parts = [self.history.partitions[position].columns for position in self.fitted]
        return {
            name: list(Slices.from_column(np.concatenate([part[name] for part in parts])).names) for name in columns
        }

    def predictions_of(self, model: FittedModel) -> Floats:
        """Return a model's predictions, shape (n_rows,)."""
        predictions: Floats = np.concatenate([model.predictions[position] for position in self.positions])[
            self.labelled
        ]
        return predictions

    def judge(self, model: FittedModel, champion: FittedModel | None) -> tuple[bool, float]:
        """Return whether a candidate passes the gates, and its mean loss.

        Gates on cost, robustness, stability and a user's own metrics are left out.
        """
        loop, predicted = self.loop, self.predictions_of(model)
        holdout = Holdout(
            self.label,
            predicted,
            None if champion is None else self.predictions_of(champion),
            self.columns,
            self.baselines,
            expected_groups=self.groups,
            seed=loop.train.seed,
        )
        left_out = {*COSTS, *ROBUSTNESS, STABILITY, *(metric.name for metric in loop.evaluate.metrics)}
        gates = [gate for gate in loop.gates if gate.metric not in left_out]
        loss = float(np.mean(row_losses(loop.metric, self.label, predicted)))
        return gates_pass(evaluate_gates(gates, holdout)) if gates else True, loss
