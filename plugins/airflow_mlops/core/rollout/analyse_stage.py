"""Look at a stage: champion and challenger predict the same rows, and the labels say who is better."""

from __future__ import annotations

import numpy as np
import pandas as pd

from airflow_mlops.core.errors import GateError, TrainingError
from airflow_mlops.core.evaluation.metrics import Floats, row_losses
from airflow_mlops.core.evaluation.paired import paired_difference
from airflow_mlops.core.evaluation.predict import predict
from airflow_mlops.core.governance.state import LoopState, OpenRollout
from airflow_mlops.core.loop import RolloutStage
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.verdict import StageVerdict, judge_stage
from airflow_mlops.core.training.window import ModelRows, PinnedPartition, read_rows
from airflow_mlops.core.workspace import Workspace


def analyse_stage(workspace: Workspace, state: LoopState, stage: RolloutStage, as_of: str) -> StageVerdict:
    """Return the verdict on the stage that is open now, from the newest scored partitions.

    Without ``bake`` the newest partition is looked at, with it those scored since the stage was entered.
    Only the keys of the stage's share are looked at.
    """
    rollout, champion = state.rollout, state.champion
    assert rollout is not None
    if champion is None:
        return StageVerdict("pass", "there is no champion yet to be worse than", 0)
    partitions = partitions_to_look_at(state, rollout, stage, as_of)
    if len(partitions) < max(stage.bake, 1):
        reason = f"{len(partitions)} of {max(stage.bake, 1)} partitions were scored since the stage was entered"
        return StageVerdict("inconclusive", reason, 0)
    rows = rows_of(workspace, state, partitions)
    if stage.share < 100:
        served = sticky_share(rows.rows[workspace.loop.data.key], salt=salt_of(rollout), percent=stage.share)
        rows = rows.where(served)
    features, label = rows.features, rows.rows[workspace.loop.data.label].to_numpy(float)
    kind = workspace.loop.classifies
    try:
        theirs = predict(load_version(workspace, champion), features, classifies=kind)
        ours = predict_challenger(workspace, rollout, features)
        labelled = ~np.isnan(label)
        if int(labelled.sum()) < 2:
            return StageVerdict("inconclusive", f"{int(labelled.sum())} of {len(features):,} rows have a label", 0)
        metric = workspace.loop.metric
        difference = paired_difference(
            row_losses(metric, label[labelled], ours[labelled]),
            row_losses(metric, label[labelled], theirs[labelled]),
        )
    except ChallengerFailedError as error:
        return StageVerdict("fail", f"the challenger cannot predict: {error}", len(features))
    declared = workspace.loop.rollout
    return judge_stage(difference, margin=declared.margin, min_rows=declared.min_rows)


class ChallengerFailedError(GateError):
    """The challenger raised, or predicted something that is no number."""


def predict_challenger(workspace: Workspace, rollout: OpenRollout, features: pd.DataFrame) -> Floats:
    """Return the challenger's predictions; its own failure is told apart from the champion's."""
    model = load_version(workspace, rollout.version)
    try:
        return predict(model, features, classifies=workspace.loop.classifies)
    except TrainingError as error:
        raise ChallengerFailedError(str(error)) from error


def partitions_to_look_at(state: LoopState, rollout: OpenRollout, stage: RolloutStage, as_of: str) -> list[str]:
    """Return the scored partitions that a look at a stage takes in."""
    known = sorted(key for key in state.scored if key <= as_of)
    if stage.bake == 0:
        return known[-1:]
    return [key for key in known if key > rollout.entered]


def rows_of(workspace: Workspace, state: LoopState, partitions: list[str]) -> ModelRows:
    """Return the rows of scored partitions and their features, in the snapshot version that was scored."""
    pins = [
        PinnedPartition(key, int(state.scored[key]["snapshot_version"]), str(state.scored[key]["snapshot"]))
        for key in partitions
    ]
    return read_rows(workspace, pins)


def salt_of(rollout: OpenRollout) -> str:
    """Return what names a rollout in the sticky split."""
    return f"rollout-{rollout.version.number}"
