"""Measure performance: the served predictions of a partition against the labels that have arrived.

Where labels come from a source of their own, a window is judged anew whenever labels of its rows have come or were
corrected. Each look at a window spends a part of its alarm rate: half of what is left, and all of it once no more
labels may come, so that many looks alarm no more often than one. An alarm stands until a later look finds the metric
within its limit. A window that had its verdict, and for which no further labels were due, is historical: a later
verdict on it is recorded, and raises no alarm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.data.frame_types import frame_of
from airflow_mlops.core.data.input_schema import version_schema
from airflow_mlops.core.data.label_classes import count_unknown_labels
from airflow_mlops.core.data.labels.labels_of import digest_of_labels
from airflow_mlops.core.data.labels.open_labels import earliest_labelled_partition
from airflow_mlops.core.data.row_weights import WeightError, row_weights
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.watch import Performance
from airflow_mlops.core.errors import MlopsError, NotReadyError
from airflow_mlops.core.ledger.data_details import PredictionsPublished
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.watch_details import INSUFFICIENT_DATA, PerformanceJudged
from airflow_mlops.core.ports.spans import note_version
from airflow_mlops.core.registry.judged_code import MetricChangedError, require_metric_code
from airflow_mlops.core.training.prediction_columns import stored_predictions
from airflow_mlops.core.training.window import ModelRows, pin_scored, read_partition
from airflow_mlops.core.watch.performance.holdout_losses import columns_of, reference_loss, reference_slices
from airflow_mlops.core.watch.performance.judge_performance import HoldoutLosses, Look, ServedRows, judge_performance
from airflow_mlops.core.workspace import Workspace


def measure_performance(workspace: Workspace, partition: str, *, as_of: str | None = None) -> PerformanceJudged:
    """Judge the metric of a scored partition against the champion's holdout, record the verdict and return it.

    ``verdict`` is ``alarm``, ``no alarm`` or ``insufficient data``. A partition older than the newest
    one decided on is ``historical``: recorded, never alarming.

    Parameters
    ----------
    as_of : str, optional
        Up to which delivery labels count, where they come from a source of their own: the partition by default, and
        never less than what it was judged as of before.

    Raises
    ------
    NotReadyError
        If nothing was scored, or no performance is declared.
    """
    declared = workspace.loop.performance
    if declared is None:
        raise NotReadyError("no performance is declared to be watched")
    state = workspace.state(as_of=partition)
    scored = state.require_scored(partition)
    note_version(scored.champion)
    previous = state.performance.get(partition)
    if previous is not None and previous.snapshot != scored.snapshot:
        previous = None
    as_of = max(as_of or partition, partition, (previous and previous.as_of) or partition)
    if as_of > partition:
        state = workspace.state(as_of=as_of)
    judgement = _Judgement(workspace, declared, state, partition, as_of, previous)
    if previous is not None and previous.labels == judgement.labels and workspace.keeps(previous):
        return previous
    details = judgement.judge()
    suffix = f":{judgement.number - 1}:{judgement.labels}" if previous is not None else ""
    suffix += ":in order" if workspace.in_order else ""
    operation = f"performance:{partition}:{scored.publication}{suffix}"
    evidence = tuple(digest for digest in (details.report, details.holdout_slices) if digest)
    return workspace.record_fact(workspace.draft(details, operation, partition, evidence=evidence)).details


def rejudge_performance(workspace: Workspace, as_of: str) -> list[tuple[str, PerformanceJudged]]:
    """Judge every window again whose labels have changed by ``as_of``.

    A window that was judged as of a later tick is judged as of that one again.

    Returns
    -------
    list of (str, PerformanceJudged)
        Each partition that was judged, and its new verdict.
    """
    if workspace.loop.data.labels is None or workspace.loop.watch.performance is None:
        return []
    state, verdicts = workspace.state(), []
    for partition, previous in state.performance.items(until=as_of):
        until = max(as_of, previous.as_of or partition)
        if partition in state.scored and digest_of_labels(state.labels, partition, until) != previous.labels:
            verdicts.append((partition, measure_performance(workspace, partition, as_of=until)))
    return verdicts


def labelled_predictions(
    workspace: Workspace, partition: str, scored: PredictionsPublished, *, as_of: str | None = None
) -> pd.DataFrame:
    """Return the served predictions of a partition's labelled rows, with their labels.

    Parameters
    ----------
    as_of : str, optional
        Up to which delivery labels count, where they come from a source of their own; the partition by default.
    """
    state = workspace.state(as_of=as_of or partition)
    rows = read_partition(workspace, pin_scored(state, partition, scored=scored), label=True)
    return _match_predictions(workspace, rows, partition, scored).drop(columns="row")


def _match_predictions(
    workspace: Workspace, rows: pd.DataFrame, partition: str, scored: PredictionsPublished
) -> pd.DataFrame:
    """Return the predictions of the labelled rows with their label, and in ``row`` the place of each in ``rows``."""
    data = workspace.loop.data
    labels = rows[[data.key, data.label]].assign(row=np.arange(len(rows))).dropna()
    labels = labels.rename(columns={data.key: "key", data.label: "label"}).astype({"key": str})
    predictions = frame_of(workspace.predictions.read(partition, version=scored.version))
    return predictions.merge(labels, on="key", validate="one_to_one")


@dataclass(frozen=True)
class _Judgement:
    """One judgement of a window; ``previous`` is the last one of the same rows, None at the first."""

    workspace: Workspace
    declared: Performance
    state: LoopState
    partition: str
    as_of: str
    previous: PerformanceJudged | None

    @property
    def has_label_source(self) -> bool:
        """True if labels come from a source of their own."""
        return self.workspace.loop.data.labels is not None

    @cached_property
    def labels(self) -> str:
        """Digest of the labels of this look; empty where labels come with the rows, or none has come."""
        return digest_of_labels(self.state.labels, self.partition, self.as_of) if self.has_label_source else ""

    @cached_property
    def number(self) -> int:
        """Number of this judgement of the window, from 1."""
        return 1 if self.previous is None else self.previous.judgement + 1

    @property
    def spent(self) -> float:
        """The alarm rate that earlier judgements have used up."""
        return 0.0 if self.previous is None else self.previous.spent

    @cached_property
    def oldest_open(self) -> str:
        """The oldest partition that a delivery of this tick may label."""
        return earliest_labelled_partition(self.workspace.loop, self.as_of) if self.has_label_source else self.as_of

    @cached_property
    def historical(self) -> bool:
        """True if this look may raise no alarm; see the module."""
        previous = self.previous
        if self.workspace.in_order:
            return False
        if (previous is not None and previous.historical) or self.workspace.state().is_historical(self.as_of):
            return True
        return self.partition < self.oldest_open and previous is not None and previous.value is not None

    @cached_property
    def rate(self) -> float:
        """The alarm rate of this look; one that raises no alarm spends nothing."""
        if self.historical:
            return self.declared.alarm_rate
        left = max(self.declared.alarm_rate - self.spent, 0.0)
        return left if self.partition <= self.oldest_open else left / 2

    @cached_property
    def version(self) -> Version:
        """The champion that scored the window."""
        return self.state.versions[self.state.scored[self.partition].champion]

    def judge(self) -> PerformanceJudged:
        """Judge the window and return the details of its record; verdicts on slices are kept as evidence."""
        scored = self.state.scored[self.partition]
        rows = read_partition(self.workspace, pin_scored(self.state, self.partition, self.as_of), label=True)
        frame = _match_predictions(self.workspace, rows, self.partition, scored)
        enough = len(frame) >= self.declared.min_rows
        details = self._judge_metric(rows, frame) if enough else self._too_few(len(frame), len(rows))
        details = self._mention_unknown(details, scored)
        if self.has_label_source:
            uses = enough and details.value is not None and not self.historical
            spent = self.spent + (self.rate if uses else 0.0)
            details = replace(details, as_of=self.as_of, labels=self.labels, judgement=self.number, spent=spent)
        return replace(
            details,
            metric=self.declared.metric,
            rows=len(frame),
            scored=len(rows),
            snapshot=scored.snapshot,
            champion=scored.champion,
            # An alarm that stands was raised when the window was not historical yet.
            historical=self.historical and not details.alarms,
        )

    def _mention_unknown(self, details: PerformanceJudged, scored: PredictionsPublished) -> PerformanceJudged:
        """Return the details with the number of rows whose own label is none of the declared classes, if any."""
        unknown = count_unknown_labels(self.workspace, self.partition, scored.snapshot_version)
        if not unknown:
            return details
        words = f"{unknown:,} rows are left out: their label is none of the declared classes"
        return replace(details, message=f"{details.message}; {words}")

    def _too_few(self, labelled: int, rows: int) -> PerformanceJudged:
        needed = self.declared.min_rows
        message = f"{labelled:,} of {rows:,} rows have a label, {needed:,} are needed"
        return PerformanceJudged(verdict=INSUFFICIENT_DATA, message=message, needed=needed)

    def _judge_metric(self, rows: pd.DataFrame, frame: pd.DataFrame) -> PerformanceJudged:
        """Judge the labelled rows and return the details of the record."""
        metric = self.declared.metric
        value = self.version.details.metrics.get(metric)
        if value is None:
            number = self.version.number
            message = f"version {number} was judged before {metric} was declared; the next champion will have a value"
            return PerformanceJudged(verdict=INSUFFICIENT_DATA, message=message)
        try:
            require_metric_code(self.workspace, self.version.details.metric_code, f"version {self.version.number}")
        except MetricChangedError as error:
            return PerformanceJudged(verdict=INSUFFICIENT_DATA, message=str(error))
        reference = HoldoutLosses(value, reference_loss(self.workspace, self.version, metric))
        columns, slice_digest, no_slices = {}, None, None
        if self.declared.slices:
            try:
                slice_digest, slices = reference_slices(self.workspace, self.state, self.version, self.declared)
                reference = HoldoutLosses(value, reference.whole, slices)
                columns = self._columns(rows)
            except MlopsError as error:
                slice_digest, no_slices = None, f"no slice can be judged: {error}"
        positions = frame["row"].to_numpy()
        try:
            weight = row_weights(rows.iloc[positions], self.workspace.loop.train.weight)
        except WeightError as error:
            return PerformanceJudged(verdict=INSUFFICIENT_DATA, message=str(error))
        served = ServedRows(
            frame["label"].to_numpy(float),
            stored_predictions(frame, "served", self.workspace.loop.class_names, self.workspace.loop.train.quantiles),
            {name: values[positions] for name, values in columns.items()},
            weight,
        )
        alarmed = () if self.previous is None else self.previous.alarmed
        details, report = judge_performance(self.declared, served, reference, Look(self.rate, self.historical, alarmed))
        digest = None
        if report is not None:
            place = {"partition": self.partition, "champion": self.version.number, "as_of": self.as_of}
            digest = self.workspace.evidence.put({**place, **report})
        return replace(details, report=digest, holdout_slices=slice_digest, no_slices=no_slices)

    def _columns(self, rows: pd.DataFrame) -> dict[str, Any]:
        """Return the columns of the declared slices, from the rows or from their features."""
        features = pd.DataFrame(index=rows.index)
        if not set(self.declared.slices) <= set(rows.columns):
            pin = pin_scored(self.state, self.partition)
            maker = FeatureMaker(self.workspace, version_schema(self.workspace, self.version))
            features = maker.make(rows, pin.partition, pin.version)
        return columns_of(ModelRows(rows, features), self.declared.slices)
