"""Analyse a challenger on labels: champion and challenger predict the same rows, and their losses are compared.

Both versions predict every row, whichever of them served it, so the comparison is paired: a few hundred rows show what
a split of the traffic would need many thousands for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from airflow_mlops.core.data.input_schema import InputSchema, UnseenValueError, refused_columns, version_schema
from airflow_mlops.core.data.labels.labels_of import LabelReader
from airflow_mlops.core.data.row_weights import WeightError, row_weights
from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.rollout import SERVING, OnlineMetric, RolloutStage
from airflow_mlops.core.errors import GateError, TrainingError
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout
from airflow_mlops.core.registry.judged_code import MetricChangedError, require_metric_code
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.rollout.analysis.judge_metric import Look, MetricLook
from airflow_mlops.core.rollout.analysis.judge_values import judge_paired
from airflow_mlops.core.rollout.analysis_schedule import next_analysis
from airflow_mlops.core.rollout.offline_and_online import offline_and_online
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.verdict import StageVerdict, insufficient_data, stage_verdict
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import DomainError, Floats, row_losses
from airflow_mlops.core.training.window import ModelRows, pin_scored, read_labels, read_rows
from airflow_mlops.core.workspace import Workspace


class ChallengerFailedError(GateError):
    """The challenger raised, or predicted something that is no number."""


@dataclass(frozen=True)
class ComparedRows:
    """The losses of both versions on the same labelled rows, shape (n_labelled,), and how many rows there were.

    Where rows have weights, each loss is multiplied by the weight of its row relative to the mean weight.

    ``keys`` are the units of assignment of the labelled rows, ``rows`` counts the rows without a label too.
    """

    challenger_losses: Floats
    champion_losses: Floats
    keys: npt.NDArray[np.object_]
    rows: int


class StageOnRows:
    """The open stage of a rollout, and the source of the rows and predictions that it is judged on.

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

    def judge(self, metric: OnlineMetric, compared: ComparedRows, look: Look) -> MetricLook:
        """Return the result of a metric at a planned analysis; here from the labels."""
        return judge_labels(self.loop, metric, compared, look)

    def offline(self, looks: list[MetricLook]) -> dict[str, Any] | None:  # noqa: ARG002
        """Return the difference that the gate expected beside the observed one; None where one is not known."""
        return None


class _ScoredRows(StageOnRows):
    """The rows are those of scored partitions, predicted by the versions of the registry."""

    def __init__(self, workspace: Workspace, state: LoopState, stage: RolloutStage) -> None:
        super().__init__(workspace.loop, state, stage)
        self.workspace = workspace

    def compare(self, partitions: list[str]) -> ComparedRows:
        return compare_rows(self.workspace, self.state, self.stage, partitions)

    def judge(self, metric: OnlineMetric, compared: ComparedRows, look: Look) -> MetricLook:
        if metric.metric == "label":
            return super().judge(metric, compared, look)
        from airflow_mlops.core.rollout.analysis.queried_metric import judge_query  # a driver, and HTTP

        return judge_query(self.workspace, self.state, metric, look)

    def offline(self, looks: list[MetricLook]) -> dict[str, Any] | None:
        return offline_and_online(self.workspace, self.rollout.version, looks)


def analyse_rows(workspace: Workspace, state: LoopState, stage: RolloutStage, as_of: str) -> StageVerdict:
    """Return the verdict on the stage that is open now, from partitions that were scored."""
    return rows_verdict(_ScoredRows(workspace, state, stage), as_of)


def rows_verdict(source: StageOnRows, as_of: str) -> StageVerdict:
    """Return the verdict on a stage as of a partition.

    Without ``bake`` the first analysis takes the newest scored partition, and later ones those scored since; with it,
    every analysis takes those scored since the stage was entered. Only the keys of the stage's share count.
    """
    return _fail_if_overdue(_verdict(source, as_of), source.state, source.stage, as_of)


def _verdict(source: StageOnRows, as_of: str) -> StageVerdict:
    """Return the verdict, without regard to ``max_wait``."""
    declared, stage, rollout = source.loop.rollout, source.stage, source.rollout
    partitions = partitions_to_analyse(source.state, rollout, stage, as_of)
    if len(partitions) < max(stage.bake, 1):
        return insufficient_data(
            f"{len(partitions)} of {max(stage.bake, 1)} partitions were scored since the stage was entered", 0
        )
    since = partitions[0]
    try:
        compared = source.compare(partitions)
    except ChallengerFailedError as error:
        return StageVerdict("fail", f"the challenger cannot predict: {error}", 0, since=since)
    except (DomainError, WeightError, MetricChangedError) as error:
        return insufficient_data(str(error), 0, since)
    labelled = int(compared.challenger_losses.size)
    if labelled < declared.min_rows:
        unlabelled = compared.rows - labelled
        missing = f"; {unlabelled:,} of {compared.rows:,} rows have no label" if unlabelled else ""
        reason = f"{labelled:,} labelled rows, {declared.min_rows:,} are needed to say{missing}"
        return insufficient_data(reason, labelled, since)
    metrics = metrics_of(source.loop, stage)
    look = next_analysis(declared, stage, rollout, labelled, metrics=len(metrics))
    if look is None:
        return insufficient_data(f"nothing new since the look before: {labelled:,} labelled rows", labelled, since)
    due_at = look.number / look.planned * (stage.sample or 0)
    if labelled < due_at:
        reason = f"look {look.number} of {look.planned} comes at {due_at:,.0f} labelled rows; {labelled:,} are in"
        return insufficient_data(reason, labelled, since)
    looks = [source.judge(metric, compared, look) for metric in metrics]
    return stage_verdict(looks, look, rows=labelled, since=since, offline=source.offline(looks))


def metrics_of(loop: Loop, stage: RolloutStage) -> tuple[OnlineMetric, ...]:
    """Return the metrics of a stage; ``kpi`` and ``prometheus`` only if the challenger answers requests."""
    declared = loop.rollout
    if stage.kind in SERVING:
        return declared.effective_metrics
    metrics = tuple(metric for metric in declared.effective_metrics if metric.metric not in ("kpi", "prometheus"))
    return metrics or declared.default_metrics


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
        If the challenger cannot predict them, or predicts values that the metric does not take.
    DomainError
        If the metric does not take a label, or a prediction of the champion.
    WeightError
        If a row has no weight that can be used.
    MetricChangedError
        If the user's metric that compares models has changed since the challenger was judged.
    """
    rollout, champion, loop = state.rollout, state.champion, workspace.loop
    assert rollout is not None
    assert champion is not None
    require_metric_code(workspace, rollout.version.details.metric_code, f"version {rollout.version.number}")
    pins = [pin_scored(state, key, as_of) for key in partitions]

    def rows_in(schema: InputSchema) -> ModelRows:
        rows = read_rows(workspace, pins, schema=schema)
        if stage.share == 100:
            return rows
        return rows.where(sticky_share(rows.rows[loop.data.key], salt=rollout.salt, percent=stage.share))

    schema = version_schema(workspace, champion)
    rows = rows_in(schema)
    features, label = rows.features, rows.rows[loop.data.label].to_numpy(float)
    champion_predictions = predict(load_version(workspace, champion), features, classifies=loop.classifies)
    own_features = challenger_features(
        workspace, rollout, rows.rows, (schema, lambda: features), lambda other: rows_in(other).features
    )
    challenger_predictions = predict_challenger(workspace, rollout, own_features)
    labelled = ~np.isnan(label)
    keys = rows.rows[loop.data.key].to_numpy(object)[labelled]
    if not labelled.any():
        return ComparedRows(np.zeros(0), np.zeros(0), keys, len(features))
    weight = row_weights(rows.rows[labelled], loop.train.weight)
    share = 1.0 if weight is None else relative_weights(weight)
    return ComparedRows(
        challenger_losses(loop.metric, label[labelled], challenger_predictions[labelled]) * share,
        row_losses(loop.metric, label[labelled], champion_predictions[labelled]) * share,
        keys,
        len(features),
    )


def relative_weights(weight: Floats) -> Floats:
    """Return weights relative to their mean: of losses times these, the plain mean is the weighted one."""
    return weight / weight.mean() if weight.any() else weight


def challenger_losses(metric: MetricName, label: Floats, predicted: Floats) -> Floats:
    """Return the loss of each row of a challenger.

    Raises
    ------
    ChallengerFailedError
        If it predicts values that the metric does not take.
    DomainError
        If labels are such values.
    """
    try:
        return row_losses(metric, label, predicted)
    except DomainError as error:
        if error.values == "prediction":
            raise ChallengerFailedError(str(error)) from error
        raise


def challenger_features(
    workspace: Workspace,
    rollout: OpenRollout,
    rows: pd.DataFrame,
    champion: tuple[InputSchema, Callable[[], pd.DataFrame]],
    make: Callable[[InputSchema], pd.DataFrame],
) -> pd.DataFrame:
    """Return the features of rows in the input schema of the challenger.

    Parameters
    ----------
    champion : tuple of InputSchema and callable
        The champion's input schema and its features, which are the challenger's if the schemas are equal.
    make : callable
        Function from an input schema to the features of the rows.

    Raises
    ------
    ChallengerFailedError
        If the features cannot be made, or the contract refuses a value that the challenger has not seen.
    """
    schema = version_schema(workspace, rollout.version)
    try:
        schema.refuse_unseen(rows, refused_columns(workspace), number=rollout.version.number)
        return champion[1]() if schema == champion[0] else make(schema)
    except (UnseenValueError, TrainingError) as error:
        raise ChallengerFailedError(str(error)) from error


def predict_challenger(workspace: Workspace, rollout: OpenRollout, features: pd.DataFrame) -> Floats:
    """Return the challenger's predictions.

    Raises
    ------
    ChallengerFailedError
        If the challenger cannot predict, so that its failure is not taken for the champion's.
    """
    try:
        model = load_version(workspace, rollout.version)
        return predict(model, features, classifies=workspace.loop.classifies)
    except TrainingError as error:
        raise ChallengerFailedError(str(error)) from error


def partitions_to_analyse(state: LoopState, rollout: OpenRollout, stage: RolloutStage, as_of: str) -> list[str]:
    """Return the scored partitions that an analysis of a stage uses, oldest first."""
    scored = state.scored.keys(until=as_of)
    if stage.bake > 0:
        return [key for key in scored if key > rollout.entered]
    first = next((look.details.since for look in rollout.looks if look.details.since), None)
    return scored[-1:] if first is None else [key for key in scored if key >= first]


def count_labelled_rows(workspace: Workspace, state: LoopState, stage: RolloutStage, partitions: list[str]) -> int:
    """Count the labelled rows of scored partitions, of the stage's share of keys; reads no other columns."""
    rollout, count, labels = state.rollout, 0, LabelReader(workspace)
    assert rollout is not None
    for key in partitions:
        rows = read_labels(workspace, pin_scored(state, key), labels=labels)
        mask = rows["label"].notna().to_numpy(bool)
        if stage.share < 100:
            mask = mask & sticky_share(rows["key"], salt=rollout.salt, percent=stage.share)
        count += int(mask.sum())
    return count


def judge_labels(loop: Loop, metric: OnlineMetric, compared: ComparedRows, look: Look) -> MetricLook:
    """Return the result of a metric at a planned analysis, from the losses on labelled rows."""
    margin = loop.rollout.margin if metric.worse_by is None else metric.worse_by
    return judge_paired(
        compared.challenger_losses,
        compared.champion_losses,
        look,
        margin=margin,
        units=compared.keys,
        metric=metric.display_name,
    )


def count_partitions_since(state: LoopState, rollout: OpenRollout, as_of: str) -> int:
    """Count the partitions that were scored since the open stage was entered."""
    return state.scored.count(after=rollout.entered, until=as_of)


def _fail_if_overdue(verdict: StageVerdict, state: LoopState, stage: RolloutStage, as_of: str) -> StageVerdict:
    """Return the verdict; a failure if it is inconclusive and ``max_wait`` has passed."""
    assert state.rollout is not None
    waited = count_partitions_since(state, state.rollout, as_of)
    if verdict.verdict != "inconclusive" or stage.max_wait is None or waited < stage.max_wait:
        return verdict
    reason = f"undecided after {waited} partitions, max_wait is {stage.max_wait}: {verdict.reason}"
    return replace(verdict, verdict="fail", reason=reason)
