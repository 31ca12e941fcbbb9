"""Replay one policy over a fitted history: the same decisions, gates and rollout as the Dags make, on records alone.

Each partition is published, scored, judged and decided on in the order of the Dags, and every record is folded by the
same fold. What is left out is named in :data:`LEFT_OUT`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Regret
from airflow_mlops.core.declaration.rollout import SERVING
from airflow_mlops.core.errors import GateError
from airflow_mlops.core.ledger.data_details import PredictionsPublished, SnapshotPublished
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.fold import Fold
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.rollout_details import (
    Promoted,
    RolledBack,
    RolloutStarted,
    StageApproved,
    StageEntered,
)
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.training_details import (
    CandidateRefused,
    CandidateRegistered,
    RetrainDecided,
    TrainingFailed,
    TrainingStarted,
)
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, MEASURED, RegretMeasured
from airflow_mlops.core.replay.fit_history import FittedHistory, FittedModel
from airflow_mlops.core.replay.judged_windows import JudgedWindows
from airflow_mlops.core.replay.past_holdout import PastHoldout
from airflow_mlops.core.retrain.retrain_policy import RetrainDecision, Trigger, decide_retrain
from airflow_mlops.core.rollout.analyse_rows import ComparedRows, StageOnRows, rows_verdict
from airflow_mlops.core.rollout.next_transition import next_transition
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.verdict import StageVerdict
from airflow_mlops.core.training.row_losses import Floats, metric_value, row_losses
from airflow_mlops.core.watch.measure_regret import least_rows, regret_of, too_few_labels

D = TypeVar("D", bound=Details)
Decide = Callable[[LoopState, Loop, str, Trigger], RetrainDecision]
LEFT_OUT = (
    "gates on cost, robustness and stability, user metrics, people's approvals, further checks of the watch, "
    "rollouts on anything but the labels of partitions, and Evidently's verdicts, for which the calibrated ones stand"
)
"""What a replay cannot know; it takes it that each would have passed or said nothing."""


@dataclass
class ReplayedPolicy:
    """What a policy would have done.

    ``losses`` is the metric of who served, by the position of the partition; ``promoted`` and ``decided`` are the
    positions of promotions, the first model's too, and of decisions to retrain.
    """

    name: str
    losses: dict[int, float] = field(default_factory=dict)
    promoted: list[int] = field(default_factory=list)
    decided: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    taken_back: list[int] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)


def replay_policy(
    history: FittedHistory, loop: Loop, name: str, windows: JudgedWindows, decide: Decide = decide_retrain
) -> ReplayedPolicy:
    """Return what a declaration's policy would have done.

    Parameters
    ----------
    history : FittedHistory
        All models there could have been.
    loop : Loop
        The declaration, with the policy to replay in its ``retrain``.
    name : str
        What to call it.
    windows : JudgedWindows
        What alarms there would have been, where the policy listens to any.
    decide : callable, optional
        What decides in the place of the declared policy, such as a plain schedule.
    """
    replayed = _Replay(history, loop, windows, decide, ReplayedPolicy(name))
    for position in range(len(history.partitions)):
        replayed.live_through(position)
    return replayed.found


class _Replay:
    """A loop that is being replayed: its records, folded, and what they add up to."""

    def __init__(
        self, history: FittedHistory, loop: Loop, windows: JudgedWindows, decide: Decide, found: ReplayedPolicy
    ) -> None:
        self.history, self.loop, self.windows, self.decide, self.found = history, loop, windows, decide, found
        self.fold = Fold()
        self.made: dict[str, tuple[int, str]] = {}
        self.at = {partition.key: position for position, partition in enumerate(history.partitions)}

    @property
    def state(self) -> LoopState:
        """The state after the records so far."""
        return self.fold.state

    def add(self, key: str, details: D) -> Record[D]:
        """Record something as of a partition."""
        sequence = self.fold.sequence + 1
        record: Record[D] = Record(
            self.loop.model,
            sequence,
            f"replay:{sequence}",
            details.KIND,
            "replay",
            key,
            details.stored(),
            (),
            "",
            "",
            "",
        )
        self.fold.add(record)
        return record

    def live_through(self, position: int) -> None:
        """Let a partition arrive, and everything follow that follows from it."""
        partition = self.history.partitions[position]
        key, pin = partition.key, partition.pin
        self.add(key, SnapshotPublished(version=pin.version, digest=pin.digest, rows=len(partition.label)))
        if self.state.champion is not None:
            self._served(position)
            self._decide(position, "watch")
            self._train(position)
            self._roll_out(position)
        self._decide(position, "nightly")
        self._train(position)
        self._roll_out(position)

    def _served(self, position: int) -> None:
        champion, partition = self.state.champion, self.history.partitions[position]
        assert champion is not None
        key, number, loop = partition.key, champion.number, self.loop
        self.add(
            key,
            PredictionsPublished(
                champion=number,
                snapshot=partition.pin.digest,
                version=position,
                snapshot_version=partition.pin.version,
                rows=len(partition.label),
            ),
        )
        known, losses, served = partition.labelled, self._losses(number, position), self._served_predictions(position)
        if known.any():
            lost = row_losses(loop.metric, partition.label[known], served[known])
            self.found.losses[position] = metric_value(loop.metric, lost)
        for judged in self.windows.judged(position, *self.made[number], number, served):
            self.add(key, judged)
        if isinstance(loop.retrain.policy, Regret):
            measured = self._regret(number, position, losses, int(known.sum()))
            self.add(key, replace(measured, champion=number, snapshot=partition.pin.digest))

    def _served_predictions(self, position: int) -> Floats:
        """Return what is served: the champion's predictions, and on its share of the keys a challenger's."""
        champion, rollout = self.state.champion, self.state.rollout
        assert champion is not None
        theirs = self._predictions(champion.number, position)
        if rollout is None or rollout.kind not in SERVING:
            return theirs
        keys = self.history.partitions[position].keys
        chosen = sticky_share(keys.tolist(), salt=rollout.salt, percent=rollout.share)
        return np.where(chosen, self._predictions(rollout.version.number, position), theirs)

    def _predictions(self, number: str, position: int) -> Floats:
        return self._model(number).predictions[position]

    def _model(self, number: str) -> FittedModel:
        made, candidate = self.made[number]
        return self.history.models[made][candidate]

    def _regret(self, number: str, position: int, losses: Floats, labelled: int) -> RegretMeasured:
        needed = least_rows(self.loop)
        if labelled < needed:
            return too_few_labels(labelled, needed)
        made, candidate = self.made[number]
        fresh = self.history.models.get(position - 1, {}).get(candidate)
        if fresh is None or fresh.failed is not None:
            why = "none was fitted" if fresh is None else fresh.failed
            return RegretMeasured(verdict=INSUFFICIENT_DATA, message=f"no fresh model: {why}", rows=labelled)
        fresh_losses = losses if made == position - 1 else self._losses_of(fresh, position)
        figures = regret_of(self.loop.metric, losses, fresh_losses)
        return replace(RegretMeasured(verdict=MEASURED, rows=labelled), **figures)

    def _losses(self, number: str, position: int) -> Floats:
        return self._losses_of(self._model(number), position)

    def _losses_of(self, model: FittedModel, position: int) -> Floats:
        partition = self.history.partitions[position]
        known = partition.labelled
        if not known.any():
            return np.zeros(0)
        return row_losses(self.loop.metric, partition.label[known], model.predictions[position][known])

    def _decide(self, position: int, trigger: Trigger) -> None:
        key = self.history.partitions[position].key
        decision = self.decide(self.state, self.loop, key, trigger)
        self.add(key, RetrainDecided(trigger=trigger, **decision.to_dict()))
        self.found.decisions.append({"partition": key, "trigger": trigger, **decision.to_dict()})
        if decision.retrain:
            self.found.decided.append(position)

    def _train(self, position: int) -> None:
        decision = self.state.open_decision
        if decision is None or position < self.history.first:
            return
        key = self.history.partitions[position].key
        self.add(key, TrainingStarted(decision=decision.sequence))
        models = self.history.models.get(position, {})
        holdout = PastHoldout(self.history, self.loop, position)
        champion = None if self.state.champion is None else self._model(self.state.champion.number)
        try:
            judged = [
                (*holdout.judged(model, champion), name) for name, model in sorted(models.items()) if not model.failed
            ]
        except GateError as error:
            self.add(key, CandidateRefused(decision=decision.sequence, reason=str(error)))
            self.found.refused.append(position)
            return
        if not judged:
            self.add(key, TrainingFailed(decision=decision.sequence, reason="no candidate could be fitted"))
            return
        ok, loss, name = min(judged, key=lambda one: (not one[0], one[1], one[2]))
        if not ok or not np.isfinite(loss):
            self.found.refused.append(position)
            self.add(key, CandidateRefused(decision=decision.sequence, reason="gates"))
            return
        number = str(len(self.made) + 1)
        self.made[number] = (position, name)
        self.add(key, CandidateRegistered(version=number, decision=decision.sequence, candidate=name, request=key))
        self.add(key, RolloutStarted(version=number))

    def _roll_out(self, position: int) -> None:
        """Take a rollout as far as a partition lets it."""
        key, stages = self.history.partitions[position].key, self.loop.rollout.stages
        while (rollout := self.state.rollout) is not None:
            number, move = rollout.version.number, next_transition(stages, rollout)
            if move.to == "promote":
                self.add(key, Promoted(version=number))
                self.found.promoted.append(position)
            elif move.to == "roll_back":
                self.found.taken_back.append(position)
                self.add(key, RolledBack(version=number, reason=str(move.reason)))
            elif move.to in ("enter", "look"):
                if move.to == "enter":
                    stage = stages[move.stage]
                    entered = StageEntered(version=number, stage=move.stage, kind=stage.kind, share=stage.share)
                    self.add(key, entered)
                if not self._looked(position):
                    return
            else:
                self.add(key, StageApproved(version=number, stage=rollout.stage + 1))  # people are not replayed

    def _looked(self, position: int) -> bool:
        """Look at the open stage, and return whether something came of it."""
        rollout, key = self.state.rollout, self.history.partitions[position].key
        assert rollout is not None
        if any(look.partition == key for look in rollout.looks):
            return False
        if self.state.champion is None or self.loop.rollout.is_live:
            said = StageVerdict("pass", "not replayed", 0)
        else:
            said = rows_verdict(_PastRows(self), key)
        self.add(key, said.details(rollout, self.loop.rollout.stages[rollout.stage].name))
        return said.verdict != "inconclusive"

    def compared(self, position: int) -> tuple[Floats, Floats, Any]:
        """Return the losses of challenger and champion on a partition's labelled rows, and the keys of these."""
        champion, rollout = self.state.champion, self.state.rollout
        assert champion is not None
        assert rollout is not None
        partition = self.history.partitions[position]
        keys = partition.keys[partition.labelled]
        return self._losses(rollout.version.number, position), self._losses(champion.number, position), keys


class _PastRows(StageOnRows):
    """A stage on the rows of the history."""

    def __init__(self, replay: _Replay) -> None:
        state, loop = replay.state, replay.loop
        assert state.rollout is not None
        super().__init__(loop, state, loop.rollout.stages[state.rollout.stage])
        self.replay = replay

    def compare(self, partitions: list[str]) -> ComparedRows:
        ours, theirs, keys = zip(
            *(self.replay.compared(self.replay.at[key]) for key in partitions), strict=True
        )  # fmt: skip
        found = ComparedRows(np.concatenate(ours), np.concatenate(theirs), np.concatenate(keys), 0)
        kept = np.ones(len(found.keys), bool)
        if self.stage.share < 100:
            kept = sticky_share(found.keys, salt=self.rollout.salt, percent=self.stage.share)
        rows = int(kept.sum())
        return ComparedRows(found.challenger_losses[kept], found.champion_losses[kept], found.keys[kept], rows)
