"""Replay one policy over a fitted history: the same decisions, gates and rollout as the Dags make, on records alone.

Each partition is published, scored, judged and decided on in the order of the Dags, and every record is folded by the
same fold. What is left out is named in :data:`LEFT_OUT`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from airflow_mlops.core.data.row_weights import WeightError
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Regret
from airflow_mlops.core.declaration.rollout import SERVING
from airflow_mlops.core.errors import DataError, GateError, TrainingError
from airflow_mlops.core.evaluation.recallable_versions import evident_recall, recallable_versions
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
    TrainingWindow,
    VersionRecalled,
)
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, MEASURED, RegretMeasured
from airflow_mlops.core.replay.fit_history import FittedHistory, FittedModel
from airflow_mlops.core.replay.judged_windows import JudgedWindows
from airflow_mlops.core.replay.past_holdout import PastHoldout
from airflow_mlops.core.replay.past_partitions import labelled_weights
from airflow_mlops.core.retrain.retrain_policy import RetrainDecision, Trigger, decide_retrain
from airflow_mlops.core.rollout.analyse_rows import (
    ChallengerFailedError,
    ComparedRows,
    StageOnRows,
    challenger_losses,
    relative_weights,
    rows_verdict,
)
from airflow_mlops.core.rollout.next_transition import next_transition
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.verdict import StageVerdict
from airflow_mlops.core.training.row_losses import DomainError, Floats, metric_value, row_losses
from airflow_mlops.core.watch.measure_regret import MIN_ROWS, insufficient_labels, regret_of

D = TypeVar("D", bound=Details)
Decide = Callable[[LoopState, Loop, str, Trigger], RetrainDecision]
LEFT_OUT = (
    "gates on cost, robustness and stability, people's approvals, further checks of the watch, regret that is "
    "estimated before labels come, rollouts on anything but the labels of partitions, and Evidently's verdicts, for "
    "which the calibrated ones stand"
)
"""Parts of the loop that a replay leaves out; each is taken to pass, or to raise no alarm."""


@dataclass
class ReplayedPolicy:
    """The outcome of a replayed policy.

    ``losses`` is the served metric by the position of the partition. ``promoted`` and ``decided`` are the positions of
    promotions, the first model's too, and of decisions to retrain; ``trained`` are those of trainings, ``recalled`` of
    those that ended with an earlier champion. ``unserved`` has the reasons why the champion could not predict a
    partition, by its position.
    """

    name: str
    losses: dict[int, float] = field(default_factory=dict)
    promoted: list[int] = field(default_factory=list)
    decided: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    recalled: list[int] = field(default_factory=list)
    taken_back: list[int] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    unserved: dict[int, str] = field(default_factory=dict)


def replay_policy(
    history: FittedHistory, loop: Loop, name: str, windows: JudgedWindows, decide: Decide = decide_retrain
) -> ReplayedPolicy:
    """Replay a declaration's policy over a history and return its outcome.

    Parameters
    ----------
    history : FittedHistory
        The candidates fitted as of each partition.
    loop : Loop
        The declaration, with the policy to replay in its ``retrain``.
    name : str
        Name of the policy in the outcome.
    windows : JudgedWindows
        Judges past partitions, where the policy depends on alarms.
    decide : callable, optional
        Decides in place of the declared policy, such as a plain schedule.
    """
    replay = _Replay(history, loop, windows, decide, ReplayedPolicy(name))
    for position in range(len(history.partitions)):
        replay.replay_partition(position)
    return replay.policy


class _Replay:
    """A loop that is being replayed: its folded records, and the outcome so far."""

    def __init__(
        self, history: FittedHistory, loop: Loop, windows: JudgedWindows, decide: Decide, policy: ReplayedPolicy
    ) -> None:
        self.history, self.loop, self.windows, self.decide, self.policy = history, loop, windows, decide, policy
        self.fold = Fold()
        self.trained: dict[str, tuple[int, str]] = {}
        self.at = {partition.key: position for position, partition in enumerate(history.partitions)}

    @property
    def state(self) -> LoopState:
        """The state after the records so far."""
        return self.fold.state

    def add(self, key: str, details: D) -> Record[D]:
        """Append a record as of a partition, and return it."""
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

    def replay_partition(self, position: int) -> None:
        """Replay one partition: publish, score, judge, decide, train, and advance any rollout."""
        partition = self.history.partitions[position]
        key, pin = partition.key, partition.pin
        self.add(key, SnapshotPublished(version=pin.version, digest=pin.digest, rows=len(partition.label)))
        if self.state.champion is not None and self._score(position):
            self._decide(position, "watch")
            self._train(position)
            self._roll_out(position)
        self._decide(position, "nightly")
        self._train(position)
        self._roll_out(position)

    def _score(self, position: int) -> bool:
        """Score a partition and judge it; return whether the champion can predict it."""
        champion, partition = self.state.champion, self.history.partitions[position]
        assert champion is not None
        key, number, loop = partition.key, champion.number, self.loop
        try:
            predictions = self._served_predictions(position)
        except TrainingError as error:
            self.policy.unserved[position] = str(error)
            return False
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
        labelled = partition.labelled
        if labelled.any():
            # A label, a prediction or a weight that has no place in the metric: no value, as in the watch.
            with suppress(DomainError, WeightError):
                losses = row_losses(loop.metric, partition.label[labelled], predictions[labelled])
                self.policy.losses[position] = metric_value(loop.metric, losses, labelled_weights([partition], loop))
        for verdict in self.windows.judge(position, *self.trained[number], number, predictions):
            self.add(key, verdict)
        if isinstance(loop.retrain.policy, Regret):
            try:
                regret = self._regret(number, position, int(labelled.sum()))
            except (TrainingError, GateError, DataError) as error:
                regret = RegretMeasured(verdict=INSUFFICIENT_DATA, message=f"no fresh model: {error}", rows=0)
            self.add(key, replace(regret, champion=number, snapshot=partition.pin.digest))
        return True

    def _served_predictions(self, position: int) -> Floats:
        """Return the served predictions: the champion's, and a challenger's on its share of the keys."""
        champion, rollout = self.state.champion, self.state.rollout
        assert champion is not None
        predictions = self._model(champion.number).at(position)
        if rollout is None or rollout.kind not in SERVING:
            return predictions
        keys = self.history.partitions[position].keys
        mask = sticky_share(keys.tolist(), salt=rollout.salt, percent=rollout.share)
        mask = mask if predictions.ndim == 1 else mask[:, None]
        challenger = self._model(rollout.version.number)
        if position in challenger.unpredicted:
            return predictions
        return np.where(mask, challenger.at(position), predictions)

    def _model(self, number: str) -> FittedModel:
        as_of, candidate = self.trained[number]
        return self.history.models[as_of][candidate]

    def _regret(self, number: str, position: int, labelled: int) -> RegretMeasured:
        if labelled < MIN_ROWS:
            return insufficient_labels(labelled)
        as_of, _ = self.trained[number]
        losses, name = self._losses(number, position), None
        fresh_losses, beside = losses, {"champion": self._model(number)}
        if as_of != position - 1:
            models = self.history.models.get(position - 1, {})
            several = len(models) > 1
            fresh = PastHoldout(self.history, self.loop, position - 1).best if several else next(iter(models), None)
            name = fresh if several else None
            beside["fresh"] = self._fresh_model(position - 1, fresh)
            fresh_losses = self._losses_of(beside["fresh"], position)
        recalled = self._recalled_before(position, beside)
        if recalled is not None:
            fresh_losses, name = self._losses(recalled, position), None
        figures = regret_of(self.loop.metric, losses, fresh_losses)
        return replace(
            RegretMeasured(verdict=MEASURED, rows=labelled, fresh_candidate=name, recalled=recalled), **figures
        )

    def _fresh_model(self, as_of: int, candidate: str | None) -> FittedModel:
        """Return a model as of a position; raise TrainingError if there is none."""
        fresh = None if candidate is None else self.history.models[as_of][candidate]
        if fresh is None or fresh.failed is not None:
            reason = self.history.untrained.get(as_of, "none was fitted") if fresh is None else fresh.failed
            raise TrainingError(reason)
        return fresh

    def _recalled_before(self, position: int, beside: dict[str, FittedModel]) -> str | None:
        """Return the earlier champion that a training as of the partition before would have chosen; None for a fit."""
        holdout = PastHoldout(self.history, self.loop, position - 1)
        earlier = self._earlier(holdout)
        if not earlier:
            return None
        losses = holdout.losses_of(earlier)
        return evident_recall(losses, holdout.losses_of(beside), "champion", self.loop.retrain, weight=holdout.weight)

    def _losses(self, number: str, position: int) -> Floats:
        return self._losses_of(self._model(number), position)

    def _losses_of(self, model: FittedModel, position: int) -> Floats:
        partition = self.history.partitions[position]
        labelled = partition.labelled
        if not labelled.any():
            return np.zeros(0)
        return row_losses(self.loop.metric, partition.label[labelled], model.at(position)[labelled])

    def _decide(self, position: int, trigger: Trigger) -> None:
        key = self.history.partitions[position].key
        decision = self.decide(self.state, self.loop, key, trigger)
        self.add(key, RetrainDecided(trigger=trigger, **decision.to_dict()))
        self.policy.decisions.append({"partition": key, "trigger": trigger, **decision.to_dict()})
        if decision.retrain:
            self.policy.decided.append(position)

    def _train(self, position: int) -> None:
        decision = self.state.open_decision
        if decision is None or position < self.history.first:
            return
        key = self.history.partitions[position].key
        self.add(key, TrainingStarted(decision=decision.sequence))
        self.policy.trained.append(position)
        champion = None if self.state.champion is None else self._model(self.state.champion.number)
        try:
            holdout = PastHoldout(self.history, self.loop, position)
            judged = holdout.judge_all(champion)
        except GateError as error:
            self.add(key, CandidateRefused(decision=decision.sequence, reason=str(error)))
            self.policy.refused.append(position)
            return
        except (TrainingError, DataError) as error:
            self.add(key, TrainingFailed(decision=decision.sequence, reason=str(error)))
            return
        passes, loss, name = min(judged, key=lambda candidate: (not candidate[0], candidate[1], candidate[2]))
        left_out = holdout.usable[1] or None
        below = loss if passes and np.isfinite(loss) else np.inf
        recalled = holdout.recalled(self._earlier(holdout), champion, below=below)
        if recalled is not None:
            self.policy.recalled.append(position)
            self.add(key, VersionRecalled(version=recalled, decision=decision.sequence, left_out=left_out))
            self.add(key, RolloutStarted(version=recalled))
            return
        if not passes or not np.isfinite(loss):
            self.policy.refused.append(position)
            refused = CandidateRefused(decision=decision.sequence, reason="gates", left_out=left_out)
            change, by_window = holdout.loss_change(name, champion), holdout.loss_changes(champion)
            self.add(key, replace(refused, loss_change=change, by_window=by_window))
            return
        number = str(len(self.trained) + 1)
        self.trained[number] = (position, name)
        window = TrainingWindow(tuple(self.history.partitions[at].pin for at in holdout.fitted))
        registered = CandidateRegistered(version=number, decision=decision.sequence, candidate=name, request=key)
        self.add(key, replace(registered, left_out=left_out, window=window))
        self.add(key, RolloutStarted(version=number))

    def _earlier(self, holdout: PastHoldout) -> dict[str, FittedModel]:
        """Return the models of the earlier champions that a training with a holdout may recall, by number."""
        keys = [part.key for part in holdout.parts]
        versions = recallable_versions(self.state, keys, limit=self.loop.retrain.recallable)
        return {version.number: self._model(version.number) for version in versions}

    def _roll_out(self, position: int) -> None:
        """Advance the open rollout as far as the rows of a partition allow."""
        key, stages = self.history.partitions[position].key, self.loop.rollout.stages
        while (rollout := self.state.rollout) is not None:
            number, move = rollout.version.number, next_transition(stages, rollout, first=self.state.champion is None)
            if move.to == "promote":
                self.add(key, Promoted(version=number))
                self.policy.promoted.append(position)
            elif move.to == "roll_back":
                self.policy.taken_back.append(position)
                self.add(key, RolledBack(version=number, reason=str(move.reason)))
            elif move.to in ("enter", "look"):
                if move.to == "enter":
                    stage = stages[move.stage]
                    entered = StageEntered(version=number, stage=move.stage, kind=stage.kind, share=stage.share)
                    self.add(key, entered)
                if not self._analyse_stage(position):
                    return
            else:
                self.add(key, StageApproved(version=number, stage=move.stage))  # people are not replayed

    def _analyse_stage(self, position: int) -> bool:
        """Analyse the open stage, record the verdict, and return whether it is conclusive."""
        rollout, key = self.state.rollout, self.history.partitions[position].key
        assert rollout is not None
        if any(look.partition == key for look in rollout.looks):
            return False
        if self.loop.rollout.is_live:
            verdict = StageVerdict("pass", "not replayed", 0)
        else:
            verdict = rows_verdict(_PastRows(self), key)
        self.add(key, verdict.details(rollout, self.loop.rollout.stages[rollout.stage].name))
        return verdict.verdict != "inconclusive"

    def compare_losses(self, position: int) -> tuple[Floats, Floats, Any]:
        """Return the losses of challenger and champion on a partition's labelled rows, and the keys of these rows.

        Raises
        ------
        ChallengerFailedError
            If the challenger cannot predict them, or predicts values that the metric does not take.
        DomainError
            If the metric does not take a label.
        """
        champion, rollout = self.state.champion, self.state.rollout
        assert champion is not None
        assert rollout is not None
        partition = self.history.partitions[position]
        keys = partition.keys[partition.labelled]
        if not keys.size:
            return np.zeros(0), np.zeros(0), keys
        try:
            predicted = self._model(rollout.version.number).at(position)[partition.labelled]
        except TrainingError as error:
            raise ChallengerFailedError(str(error)) from error
        losses = challenger_losses(self.loop.metric, partition.label[partition.labelled], predicted)
        return losses, self._losses(champion.number, position), keys


class _PastRows(StageOnRows):
    """A stage on the rows of the history."""

    def __init__(self, replay: _Replay) -> None:
        state, loop = replay.state, replay.loop
        assert state.rollout is not None
        super().__init__(loop, state, loop.rollout.stages[state.rollout.stage])
        self.replay = replay

    def compare(self, partitions: list[str]) -> ComparedRows:
        positions = [self.replay.at[key] for key in partitions]
        parts = zip(*(self.replay.compare_losses(position) for position in positions), strict=True)
        challenger, champion, keys = map(np.concatenate, parts)
        weight = labelled_weights([self.replay.history.partitions[position] for position in positions], self.loop)
        mask = np.ones(len(keys), bool)
        if self.stage.share < 100:
            mask = sticky_share(keys, salt=self.rollout.salt, percent=self.stage.share)
        share = 1.0 if weight is None else relative_weights(weight[mask])
        return ComparedRows(challenger[mask] * share, champion[mask] * share, keys[mask], int(mask.sum()))
