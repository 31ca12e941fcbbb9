"""Judge drift and performance of past partitions against the champion that a replayed policy served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from airflow_mlops.core.data.row_weights import WeightError
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Clock, Regret, Retrain
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, DriftJudged, PerformanceJudged, WindowJudged
from airflow_mlops.core.replay.fit_history import FittedHistory, window_positions
from airflow_mlops.core.replay.past_partitions import labelled_weights
from airflow_mlops.core.training.reference_profile import ReferenceProfile, profile_window
from airflow_mlops.core.training.row_losses import Floats, metric_value, row_losses
from airflow_mlops.core.watch.drift.detect_drift import drift_of_window
from airflow_mlops.core.watch.performance.judge_performance import HoldoutLosses, Look, ServedRows, judge_performance
from airflow_mlops.core.watch.performance.performance_verdict import MeanLoss, losses_by_slice


def uses_alarms(retrain: Retrain) -> bool:
    """Return whether a policy depends on alarms."""
    policy = retrain.policy
    return policy == "alarm" or (isinstance(policy, Clock | Regret) and policy.or_alarm)


class JudgedWindows:
    """Judges partitions as the watch does, and caches the drift for each training window.

    Parameters
    ----------
    history : FittedHistory
        The partitions and models.
    loop : Loop
        The declaration; its ``watch`` is judged by.
    """

    def __init__(self, history: FittedHistory, loop: Loop) -> None:
        self.history, self.loop = history, loop
        self._profiles: dict[tuple[int, ...], ReferenceProfile] = {}
        self._drift: dict[tuple[int, tuple[int, ...]], DriftJudged] = {}
        self._holdouts: dict[tuple[int, str], HoldoutLosses] = {}

    def judge(self, position: int, as_of: int, candidate: str, champion: str, served: Floats) -> list[WindowJudged]:
        """Return the records that the watch would have made.

        Parameters
        ----------
        position, as_of : int
            Positions of the partition, and of the one as of which the champion was trained.
        candidate : str
            The champion's candidate.
        champion : str
            Number of its version.
        served : ndarray of float, shape (n_rows,)
            Served predictions: the champion's, and a challenger's on its share of the keys.
        """
        watch, digest = self.loop.watch, self.history.partitions[position].pin.digest
        verdicts: list[WindowJudged] = []
        if watch.drift is not None:
            verdicts.append(self._drift_of(position, window_positions(self.loop, as_of, candidate)[0]))
        if watch.performance is not None:
            verdicts.append(self._performance_of(position, as_of, candidate, served))
        return [replace(verdict, champion=champion, snapshot=digest) for verdict in verdicts]

    def _drift_of(self, position: int, window: tuple[int, ...]) -> DriftJudged:
        key = (position, window)
        if key not in self._drift:
            declared, partitions = self.loop.watch.drift, self.history.partitions
            assert declared is not None
            if window not in self._profiles:
                frames = {partitions[at].key: partitions[at].features for at in window}
                self._profiles[window] = profile_window(frames)
            self._drift[key] = drift_of_window(
                self._profiles[window], partitions[position].features, declared
            ).summary()
        return self._drift[key]

    def _performance_of(self, position: int, as_of: int, candidate: str, served: Floats) -> PerformanceJudged:
        declared = self.loop.performance
        assert declared is not None
        label = self.history.partitions[position].label
        if np.count_nonzero(~np.isnan(label)) < declared.min_rows:
            return PerformanceJudged(verdict=INSUFFICIENT_DATA, metric=declared.metric)
        try:
            rows = self._rows([position], served[~np.isnan(label)])
        except WeightError as error:
            return PerformanceJudged(verdict=INSUFFICIENT_DATA, metric=declared.metric, message=str(error))
        verdict, _ = judge_performance(declared, rows, self._holdout(as_of, candidate), Look(declared.alarm_rate))
        return verdict

    def _holdout(self, as_of: int, candidate: str) -> HoldoutLosses:
        """Return a champion's losses on its holdout."""
        declared, model = self.loop.performance, self.history.models[as_of][candidate]
        assert declared is not None
        if (as_of, candidate) not in self._holdouts:
            positions = window_positions(self.loop, as_of)[1]
            assert model.holdout is not None
            rows = self._rows(positions, model.holdout)
            losses, weight = row_losses(declared.metric, rows.label, rows.predicted), rows.weight
            slices = rows.columns.items()
            self._holdouts[as_of, candidate] = HoldoutLosses(
                metric_value(declared.metric, losses, weight),
                MeanLoss.of(losses, weight),
                {name: losses_by_slice(values, losses, declared.min_rows, weight)[0] for name, values in slices},
            )
        return self._holdouts[as_of, candidate]

    def _rows(self, positions: Sequence[int], predicted: Floats) -> ServedRows:
        """Return labels, columns of slices and weights of the labelled rows of partitions, with their predictions."""
        declared, parts = self.loop.performance, [self.history.partitions[at] for at in positions]
        assert declared is not None
        return ServedRows(
            np.concatenate([part.label[part.labelled] for part in parts]),
            predicted,
            {name: np.concatenate([part.columns[name][part.labelled] for part in parts]) for name in declared.slices},
            labelled_weights(parts, self.loop),
        )


class NoWindows(JudgedWindows):
    """Judges nothing, for policies that do not depend on alarms."""

    def judge(self, position: int, as_of: int, candidate: str, champion: str, served: Floats) -> list[WindowJudged]:  # noqa: ARG002
        """Return an empty list."""
        return []
