"""The holdout of a past training, and the gates of its candidates on it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np

from airflow_mlops.core.declaration.evaluate import COSTS, ROBUSTNESS, STABILITY
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.windowed_candidate import window_of
from airflow_mlops.core.errors import GateError, TrainingError
from airflow_mlops.core.evaluation.evaluate_candidates import failure_of
from airflow_mlops.core.evaluation.evaluation_context import NO_LABELS
from airflow_mlops.core.evaluation.gates import Holdout, evaluate_gates, gates_pass
from airflow_mlops.core.evaluation.metrics_by_slice import Slices
from airflow_mlops.core.evaluation.recallable_versions import MIN_ROWS, best_below, mean_losses
from airflow_mlops.core.evaluation.simple_baselines import Baselines
from airflow_mlops.core.replay.fit_history import FittedHistory, FittedModel, window_positions
from airflow_mlops.core.replay.past_partitions import labelled_weights
from airflow_mlops.core.training.decision_threshold import decide
from airflow_mlops.core.training.inspect_candidates import describe_left_out
from airflow_mlops.core.training.row_losses import (
    DomainError,
    Floats,
    metric_value,
    relative_loss,
    row_losses,
    weighted_loss,
)


class PastHoldout:
    """The labelled rows that a training as of a position is judged on."""

    def __init__(self, history: FittedHistory, loop: Loop, as_of: int) -> None:
        self.history, self.loop, self.as_of = history, loop, as_of
        self.fitted, self.positions = window_positions(loop, as_of)
        self.parts = [history.partitions[position] for position in self.positions]

    @cached_property
    def label(self) -> Floats:
        """Labels, shape (n_rows,)."""
        label: Floats = np.concatenate([part.label[part.labelled] for part in self.parts])
        return label

    @cached_property
    def weight(self) -> Floats | None:
        """Weights, shape (n_rows,); None where none are declared."""
        return labelled_weights(self.parts, self.loop)

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The columns that gates slice or group by."""
        return {
            name: np.concatenate([part.columns[name][part.labelled] for part in self.parts])
            for name in self.parts[0].columns
        }

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The groups in the training window, by the columns that a gate groups by."""
        columns = {gate.group for gate in self.loop.gates if gate.group is not None}
        parts = [self.history.partitions[position].columns for position in self.fitted]
        return {
            name: list(Slices.from_column(np.concatenate([part[name] for part in parts])).names) for name in columns
        }

    @cached_property
    def usable(self) -> tuple[dict[str, float], dict[str, str]]:
        """The mean loss of each candidate that can be judged, and the reasons of the others, by name.

        Raises
        ------
        TrainingError, GateError, DataError
            If the window cannot be learned from, or nothing can be judged on the holdout.
        """
        history, losses = self.history, {}
        if self.as_of in history.untrained:
            raise TrainingError(history.untrained[self.as_of])
        models = history.models.get(self.as_of, {})
        left_out = {**history.refused, **{name: model.failed for name, model in models.items() if model.failed}}
        fitted = {name: model for name, model in models.items() if not model.failed}
        if fitted and not self.label.size:
            raise GateError(NO_LABELS)
        for name, model in fitted.items():
            try:
                if model.holdout is None:
                    left_out[name] = str(model.not_judged)
                else:
                    losses[name] = weighted_loss(self.loop.metric, self.label, model.holdout, self.weight)
            except DomainError as error:
                left_out[name] = failure_of(name, error)
        return losses, left_out

    @property
    def best(self) -> str:
        """The usable candidate with the lowest loss, as regret is measured against it.

        Raises
        ------
        TrainingError, GateError, DataError
            As :attr:`usable` does, and if no candidate has a loss.
        """
        losses, left_out = self.usable
        finite = {name: loss for name, loss in losses.items() if np.isfinite(loss)}
        if not finite:
            raise TrainingError("; ".join(describe_left_out(left_out)) or "no candidate has a loss on the holdout")
        return min(finite, key=lambda name: (finite[name], name))

    def loss_changes(self, champion: FittedModel | None) -> dict[str, float] | None:
        """Return :meth:`loss_change` of the best candidate of each window, by its name; None for a single window."""
        if not self.loop.train.has_several_windows:
            return None
        best: dict[str, str] = {}
        for name in sorted(self.usable[0], key=lambda name: (self.usable[0][name], name)):
            best.setdefault(str(window_of(name)), name)
        changes = {window: self.loss_change(name, champion) for window, name in best.items()}
        return {window: change for window, change in changes.items() if change is not None} or None

    def judge_all(self, champion: FittedModel | None) -> list[tuple[bool, float, str]]:
        """Return for each usable candidate whether it passes the gates, its mean loss, and its name.

        Raises
        ------
        TrainingError, GateError, DataError
            As :attr:`usable` does, and if no candidate is usable.
        """
        losses, left_out = self.usable
        if not losses:
            raise TrainingError("; ".join(describe_left_out(left_out)) or "no candidate was fitted")
        models = self.history.models[self.as_of]
        return [(self.passes_gates(models[name], champion), loss, name) for name, loss in losses.items()]

    def loss_change(self, candidate: str, champion: FittedModel | None) -> float | None:
        """Return a usable candidate's loss less the champion's, as a share of that; None where they do not compare."""
        predicted = self.history.models[self.as_of][candidate].holdout
        if champion is None or predicted is None:
            return None
        try:
            return relative_loss(self.loop.metric, self._metric(predicted), self._metric(self.predictions_of(champion)))
        except (TrainingError, DomainError):
            return None

    def _metric(self, predicted: Floats) -> float:
        """Return the loop's metric of predictions for the labelled rows."""
        return metric_value(self.loop.metric, row_losses(self.loop.metric, self.label, predicted), self.weight)

    def passes_gates(self, model: FittedModel, champion: FittedModel | None) -> bool:
        """Return whether a usable candidate passes the gates.

        Gates on cost, robustness and stability are left out.
        """
        assert model.holdout is not None
        return self._pass_gates(model.holdout, model.threshold, champion)

    def recalled(self, earlier: Mapping[str, FittedModel], champion: FittedModel | None, *, below: float) -> str | None:
        """Return the number of the best earlier champion if its loss is below that of the fits and it passes the gates.

        Parameters
        ----------
        earlier : mapping of str to FittedModel
            The earlier champions by number, in the order in which the loop tries them.
        below : float
            The least loss of a fitted candidate that passes; infinite where none does.
        """
        if self.label.size < MIN_ROWS:
            return None
        losses = mean_losses(self.losses_of(earlier), self.weight)
        best = best_below(losses, below)
        if best is None:
            return None
        model = earlier[best]
        passes = self._pass_gates(self.predictions_of(model), model.threshold, champion, recalled=True)
        return best if passes else None

    def losses_of(self, models: Mapping[str, FittedModel]) -> dict[str, Floats]:
        """Return the losses of older models on the holdout, shape (n_rows,), by name, without those that it stops."""
        losses: dict[str, Floats] = {}
        for name, model in models.items():
            with suppress(TrainingError, DomainError):
                losses[name] = row_losses(self.loop.metric, self.label, self.predictions_of(model))
        return losses

    def _pass_gates(
        self, predicted: Floats, threshold: float | None, champion: FittedModel | None, *, recalled: bool = False
    ) -> bool:
        loop, baselines = self.loop, self.history.baselines.get(self.as_of, Baselines({}, 0, None))
        decisions = {"candidate": decide(predicted, threshold)}
        champion_predictions, champion_failed = None, None
        if champion is not None:
            try:
                champion_predictions = self.predictions_of(champion)
                decisions["champion"] = decide(champion_predictions, champion.threshold)
            except TrainingError as error:
                champion_failed = str(error)
        compared = champion_predictions is not None
        in_force = loop.gates_of_recall if recalled else loop.gates_in_force(compared=compared)
        gates = [gate for gate in in_force if gate.metric not in {*COSTS, *ROBUSTNESS, STABILITY}]
        if not gates:
            return True
        holdout = Holdout(
            self.label,
            predicted,
            champion_predictions,
            self.columns,
            baselines.predictions,
            self.history.metrics,
            champion_failed=champion_failed,
            missing_baselines=baselines.reasons,
            expected_groups=self.groups,
            seed=loop.train.seed,
            weight=self.weight,
            classes=loop.several_class_names,
            decisions=decisions,
        )
        return gates_pass(evaluate_gates(gates, holdout))

    def predictions_of(self, model: FittedModel) -> Floats:
        """Return an older model's predictions, shape (n_rows,); raises as :meth:`FittedModel.at` does."""
        predictions: Floats = np.concatenate(
            [model.at(position)[part.labelled] for position, part in zip(self.positions, self.parts, strict=True)]
        )
        return predictions
