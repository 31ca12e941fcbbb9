"""The holdout of a training in the past, and what the gates would have said of a candidate on it."""

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
    def known(self) -> npt.NDArray[np.bool_]:
        """Which of the rows have a label."""
        return np.concatenate([self.history.partitions[position].labelled for position in self.positions])

    @cached_property
    def label(self) -> Floats:
        """Labels, shape (n_rows,)."""
        label: Floats = np.concatenate([self.history.partitions[each].label for each in self.positions])[self.known]
        return label

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The columns that gates slice or group by."""
        parts = [self.history.partitions[position].columns for position in self.positions]
        return {name: np.concatenate([part[name] for part in parts])[self.known] for name in parts[0]}

    @cached_property
    def baselines(self) -> dict[str, Floats]:
        """Predictions of the baselines."""
        return {name: found[self.known] for name, found in self.history.baselines.get(self.as_of, {}).items()}

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The groups that the window knows, of columns that a gate groups by."""
        named = {gate.group for gate in self.loop.gates if gate.group is not None}
        parts = [self.history.partitions[position].columns for position in self.fitted]
        return {name: list(Slices.from_column(np.concatenate([part[name] for part in parts])).names) for name in named}

    def of(self, model: FittedModel) -> Floats:
        """Return a model's predictions."""
        found: Floats = np.concatenate([model.predictions[position] for position in self.positions])[self.known]
        return found

    def judged(self, model: FittedModel, champion: FittedModel | None) -> tuple[bool, float]:
        """Return whether a candidate passes the gates, and its mean loss.

        Gates on cost, robustness, stability and a user's own metrics are left out.
        """
        loop, predicted = self.loop, self.of(model)
        holdout = Holdout(
            self.label, predicted, None if champion is None else self.of(champion), self.columns, self.baselines,
            expected_groups=self.groups, seed=loop.train.seed,
        )
        left_out = {*COSTS, *ROBUSTNESS, STABILITY, *(metric.name for metric in loop.evaluate.metrics)}
        gates = [gate for gate in loop.gates if gate.metric not in left_out]
        loss = float(np.mean(row_losses(loop.metric, self.label, predicted)))
        return gates_pass(evaluate_gates(gates, holdout)) if gates else True, loss
