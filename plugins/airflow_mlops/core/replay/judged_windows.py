"""The alarms there would have been: drift and performance of a partition beside the champion that served it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Clock, Regret, Retrain
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, DriftJudged, PerformanceJudged, WindowJudged
from airflow_mlops.core.replay.fit_history import FittedHistory, window_positions
from airflow_mlops.core.training.reference_profile import ReferenceProfile, profile_window
from airflow_mlops.core.training.row_losses import Floats, metric_value, row_losses
from airflow_mlops.core.watch.drift.detect_drift import drift_of_window
from airflow_mlops.core.watch.performance.judge_performance import HoldoutLosses, Look, ServedRows, judge_performance
from airflow_mlops.core.watch.performance.performance_verdict import MeanLoss, losses_by_slice


def listens_to_alarms(retrain: Retrain) -> bool:
    """Return whether a policy ever asks for alarms."""
    policy = retrain.policy
    return policy == "alarm" or (isinstance(policy, Clock | Regret) and policy.or_alarm)


class JudgedWindows:
    """Judges partitions as the watch does, each beside a window once for all policies.

    Parameters
    ----------
    history : FittedHistory
        The partitions.
    loop : Loop
        Says what is watched.
    """

    def __init__(self, history: FittedHistory, loop: Loop) -> None:
        self.history, self.loop = history, loop
        self._profiles: dict[int, ReferenceProfile] = {}
        self._drift: dict[tuple[int, int], DriftJudged] = {}
        self._holdouts: dict[tuple[int, str], HoldoutLosses] = {}

    def judged(self, position: int, made: int, candidate: str, champion: str, served: Floats) -> list[WindowJudged]:
        """Return the judgements that the watch would have recorded.

        Parameters
        ----------
        position, made : int
            Positions of the partition, and of the one as of which the champion was made.
        candidate : str
            The champion's candidate.
        champion : str
            Number of its version.
        served : ndarray of float, shape (n_rows,)
            What was served on the partition: the champion's predictions, and a challenger's on its share of the keys.
        """
        watch, digest = self.loop.watch, self.history.partitions[position].pin.digest
        judged: list[WindowJudged] = []
        if watch.drift is not None:
            judged.append(self._drift_of(position, made))
        if watch.performance is not None:
            judged.append(self._performance_of(position, made, candidate, served))
        return [replace(each, champion=champion, snapshot=digest) for each in judged]

    def _drift_of(self, position: int, made: int) -> DriftJudged:
        key = (position, made)
        if key not in self._drift:
            declared, partitions = self.loop.watch.drift, self.history.partitions
            assert declared is not None
            if made not in self._profiles:
                window = window_positions(self.loop, made)[0]
                frames = {partitions[each].key: partitions[each].features for each in window}
                self._profiles[made] = profile_window(frames)
            self._drift[key] = drift_of_window(self._profiles[made], partitions[position].features, declared).summary()
        return self._drift[key]

    def _performance_of(self, position: int, made: int, candidate: str, served: Floats) -> PerformanceJudged:
        declared = self.loop.watch.performance
        assert declared is not None
        rows = self._rows([position], [served])
        if rows.label.size < declared.min_rows:
            return PerformanceJudged(verdict=INSUFFICIENT_DATA, metric=declared.metric)
        judged, _ = judge_performance(declared, rows, self._holdout(made, candidate), Look(declared.alarm_rate))
        return judged

    def _holdout(self, made: int, candidate: str) -> HoldoutLosses:
        """Return what a champion lost on its holdout."""
        declared, model = self.loop.watch.performance, self.history.models[made][candidate]
        assert declared is not None
        if (made, candidate) not in self._holdouts:
            positions = window_positions(self.loop, made)[1]
            rows = self._rows(positions, [model.predictions[each] for each in positions])
            losses = row_losses(declared.metric, rows.label, rows.predicted)
            self._holdouts[made, candidate] = HoldoutLosses(
                metric_value(declared.metric, losses), MeanLoss.of(losses),
                {name: losses_by_slice(of, losses, declared.min_rows)[0] for name, of in rows.columns.items()},
            )
        return self._holdouts[made, candidate]

    def _rows(self, positions: Sequence[int], predicted: Sequence[Floats]) -> ServedRows:
        """Return labels, predictions and the columns of slices of the labelled rows of partitions."""
        declared, parts = self.loop.watch.performance, [self.history.partitions[each] for each in positions]
        assert declared is not None
        known = np.concatenate([part.labelled for part in parts])
        return ServedRows(
            np.concatenate([part.label for part in parts])[known], np.concatenate(predicted)[known],
            {name: np.concatenate([part.columns[name] for part in parts])[known] for name in declared.slices},
        )


class NoWindows(JudgedWindows):
    """For policies that listen to no alarm: nothing is judged."""

    def judged(self, position: int, made: int, candidate: str, champion: str, served: Floats) -> list[WindowJudged]:  # noqa: ARG002
        """Return nothing."""
        return []
