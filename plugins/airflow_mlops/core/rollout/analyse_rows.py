"""What labels say of a challenger: champion and challenger predict the same rows, and their losses are compared.

Both versions predict every row, whichever of them served it, so that the comparison is a paired one: a few hundred
rows tell what a split of the traffic would need many thousands for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.data.labels.labels_of import LabelReader
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.rollout import SERVING, OnlineMetric, RolloutStage
from airflow_mlops.core.errors import GateError, TrainingError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook
from airflow_mlops.core.rollout.analysis.judge_values import judge_paired
from airflow_mlops.core.rollout.analysis_schedule import next_analysis
from airflow_mlops.core.rollout.offline_and_online import offline_and_online
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.verdict import StageVerdict, stage_verdict, too_little
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import Floats, row_losses
from airflow_mlops.core.training.window import pin_scored, read_labels, read_rows
from airflow_mlops.core.workspace import Workspace


class ChallengerFailedError(GateError):
    """The challenger raised, or predicted something that is no number."""


@dataclass(frozen=True)
class ComparedRows:
    """The losses of both versions on the same labelled rows, shape (n_labelled,), and how many rows there were.

    ``keys`` are the units of assignment of the rows.
    """

    ours: Floats
    theirs: Floats
    keys: npt.NDArray[np.object_]
    rows: int


class StageOnRows:
    """A stage to be looked at, and where its rows and predictions come from.

    Parameters
    ----------
    loop : Loop
        The declaration.
    state : LoopState
        With a rollout under way and a champion.
    stage : RolloutStage
        The stage that is open.
    """

    def __init__(self, loop: Loop, state: LoopState, stage: RolloutStage) -> None:
        assert state.rollout is not None
        self.loop, self.state, self.stage, self.rollout = loop, state, stage, state.rollout

    def compare(self, partitions: list[str]) -> ComparedRows:
        """Return the losses of both versions on the labelled rows of partitions, of the stage's share of keys."""
        raise NotImplementedError

    def judge(self, metric: OnlineMetric, found: ComparedRows, look: Look) -> MetricLook:
        """Return what a metric says at a look; here what the labels do."""
        return judge_labels(self.loop, metric, found, look)

    def offline(self, looks: list[MetricLook]) -> dict[str, Any] | None:  # noqa: ARG002
        """Return what the gate expected beside what the looks show, where that is known."""
        return None


class _ScoredRows(StageOnRows):
    """The rows are those of scored partitions, predicted by the versions of the registry."""

    def __init__(self, workspace: Workspace, state: LoopState, stage: RolloutStage) -> None:
        super().__init__(workspace.loop, state, stage)
        self.workspace = workspace

    def compare(self, partitions: list[str]) -> ComparedRows:
        return compare_rows(self.workspace, self.state, self.stage, partitions)

    def judge(self, metric: OnlineMetric, found: ComparedRows, look: Look) -> MetricLook:
        if metric.metric == "label":
            return super().judge(metric, found, look)
        from airflow_mlops.core.rollout.analysis.queried_metric import judge_query  # a driver, and HTTP

        return judge_query(self.workspace, self.state, metric, look)

    def offline(self, looks: list[MetricLook]) -> dict[str, Any] | None:
        return offline_and_online(self.workspace, self.rollout.version, looks)


def analyse_rows(workspace: Workspace, state: LoopState, stage: RolloutStage, as_of: str) -> StageVerdict:
    """Return the verdict on the stage that is open now, from partitions that were scored."""
    return rows_verdict(_ScoredRows(workspace, state, stage), as_of)


def rows_verdict(asked: StageOnRows, as_of: str) -> StageVerdict:
    """Return the verdict on a stage as of a partition.

    Without ``bake`` the newest scored partition is looked at, and at further looks those scored since; with it, those
    scored since the stage was entered. Only the keys of the stage's share count.
    """
    return _in_time(_verdict(asked, as_of), asked.state, asked.stage, as_of)


def _verdict(asked: StageOnRows, as_of: str) -> StageVerdict:
    """Return the verdict, however long the stage has taken."""
    declared, stage, rollout = asked.loop.rollout, asked.stage, asked.rollout
    partitions = partitions_to_look_at(asked.state, rollout, stage, as_of)
    if len(partitions) < max(stage.bake, 1):
        return too_little(
            f"{len(partitions)} of {max(stage.bake, 1)} partitions were scored since the stage was entered", 0
        )
    since = partitions[0]
    try:
        found = asked.compare(partitions)
    except ChallengerFailedError as error:
        return StageVerdict("fail", f"the challenger cannot predict: {error}", 0, since=since)
    labelled = int(found.ours.size)
    if labelled < declared.min_rows:
        missing = "" if labelled == found.rows else f"; {found.rows - labelled:,} of {found.rows:,} rows have no label"
        reason = f"{labelled:,} labelled rows, {declared.min_rows:,} are needed to say{missing}"
        return too_little(reason, labelled, since)
    metrics = metrics_of(asked.loop, stage)
    look = next_analysis(declared, stage, rollout, labelled, metrics=len(metrics))
    if look is None:
        return too_little(f"nothing new since the look before: {labelled:,} labelled rows", labelled, since)
    due_at = look.number / look.planned * (stage.sample or 0)
    if labelled < due_at:
        reason = f"look {look.number} of {look.planned} comes at {due_at:,.0f} labelled rows; {labelled:,} are in"
        return too_little(reason, labelled, since)
    looks = [asked.judge(metric, found, look) for metric in metrics]
    return stage_verdict(looks, look, rows=labelled, since=since, offline=asked.offline(looks))


def metrics_of(loop: Loop, stage: RolloutStage) -> tuple[OnlineMetric, ...]:
    """Return what a stage is judged by: where the challenger answers nobody, nothing that its answers bring about."""
    declared = loop.rollout
    if stage.kind in SERVING:
        return declared.effective_metrics
    found = tuple(metric for metric in declared.effective_metrics if metric.metric not in ("kpi", "prometheus"))
    return found or declared.default_metrics


def compare_rows(
    workspace: Workspace, state: LoopState, stage: RolloutStage, partitions: list[str], as_of: str | None = None
) -> ComparedRows:
    """Return the losses of both versions on the labelled rows of scored partitions, of the stage's share of keys.

    Parameters
    ----------
    as_of : str, optional
        Up to which delivery labels count, where they come from a source of their own; up to the newest by default.

    Raises
    ------
    ChallengerFailedError
        If the challenger cannot predict them.
    """
    rollout, champion, loop = state.rollout, state.champion, workspace.loop
    assert rollout is not None
    assert champion is not None
    rows = read_rows(workspace, [pin_scored(state, key, as_of) for key in partitions])
    if stage.share < 100:
        rows = rows.where(sticky_share(rows.rows[loop.data.key], salt=rollout.salt, percent=stage.share))
    features, label = rows.features, rows.rows[loop.data.label].to_numpy(float)
    theirs = predict(load_version(workspace, champion), features, classifies=loop.classifies)
    ours = predict_challenger(workspace, rollout, features)
    known = ~np.isnan(label)
    keys = rows.rows[loop.data.key].to_numpy(object)[known]
    if not known.any():
        return ComparedRows(np.zeros(0), np.zeros(0), keys, len(features))
    return ComparedRows(
        row_losses(loop.metric, label[known], ours[known]), row_losses(loop.metric, label[known], theirs[known]),
        keys, len(features),
    )  # fmt: skip


def predict_challenger(workspace: Workspace, rollout: OpenRollout, features: pd.DataFrame) -> Floats:
    """Return the challenger's predictions; its own failure is told apart from the champion's."""
    model = load_version(workspace, rollout.version)
    try:
        return predict(model, features, classifies=workspace.loop.classifies)
    except TrainingError as error:
        raise ChallengerFailedError(str(error)) from error


def partitions_to_look_at(state: LoopState, rollout: OpenRollout, stage: RolloutStage, as_of: str) -> list[str]:
    """Return the scored partitions that a look at a stage takes in, oldest first."""
    known = state.scored.keys(until=as_of)
    if stage.bake > 0:
        return [key for key in known if key > rollout.entered]
    first = next((look.details.since for look in rollout.looks if look.details.since), None)
    return known[-1:] if first is None else [key for key in known if key >= first]


def labelled_rows(workspace: Workspace, state: LoopState, stage: RolloutStage, partitions: list[str]) -> int:
    """Return how many rows of scored partitions, of the stage's share of keys, have a label; reads no other columns."""
    rollout, found, labels = state.rollout, 0, LabelReader(workspace)
    assert rollout is not None
    for key in partitions:
        rows = read_labels(workspace, pin_scored(state, key), labels=labels)
        known = rows["label"].notna().to_numpy(bool)
        if stage.share < 100:
            known = known & sticky_share(rows["key"], salt=rollout.salt, percent=stage.share)
        found += int(known.sum())
    return found


def judge_labels(loop: Loop, metric: OnlineMetric, found: ComparedRows, look: Look) -> MetricLook:
    """Return what the labels say at a look."""
    margin = loop.rollout.margin if metric.worse_by is None else metric.worse_by
    return judge_paired(found.ours, found.theirs, look, margin=margin, units=found.keys, metric=metric.display_name)


def partitions_since(state: LoopState, rollout: OpenRollout, as_of: str) -> int:
    """Return how many partitions were scored since the open stage was entered."""
    return state.scored.count(after=rollout.entered, until=as_of)


def _in_time(verdict: StageVerdict, state: LoopState, stage: RolloutStage, as_of: str) -> StageVerdict:
    """Return that a stage has failed which is undecided after the time it may take."""
    assert state.rollout is not None
    waited = partitions_since(state, state.rollout, as_of)
    if verdict.verdict != "inconclusive" or stage.max_wait is None or waited < stage.max_wait:
        return verdict
    reason = f"undecided after {waited} partitions, max_wait is {stage.max_wait}: {verdict.reason}"
    return replace(verdict, verdict="fail", reason=reason)
