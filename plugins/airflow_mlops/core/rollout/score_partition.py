"""Score a partition: the champion, and a challenger under way, predict the same rows without labels.

The sticky share of the stage that was open before the partition decides which model serves a row. A version that was
taken back since predicts nothing any more. The label column is not read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.input_schema import InputSchema, refused_columns, version_schema
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.rollout import SERVING
from airflow_mlops.core.errors import NotReadyError, TrainingError
from airflow_mlops.core.ledger.data_details import PredictionsPublished
from airflow_mlops.core.ledger.state_machine import StateMachine, Version
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.ports.batch_predictor import BatchPredictor, RowsToScore
from airflow_mlops.core.ports.spans import note_version, span
from airflow_mlops.core.rollout.analyse_rows import ChallengerFailedError, challenger_features
from airflow_mlops.core.rollout.serving_state import require_champion
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.rollout.worker_predictor import predictor_of
from airflow_mlops.core.training.decision_threshold import decide
from airflow_mlops.core.training.prediction_columns import prediction_columns
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.window import read_partition
from airflow_mlops.core.workspace import Workspace

log = logging.getLogger(__name__)


def score_partition(
    workspace: Workspace, partition: str, predictor: BatchPredictor | None = None
) -> PredictionsPublished:
    """Predict the rows of a partition with the models that serve as of it; return the recorded details.

    A partition is scored once for each content: a repetition returns the first record.

    Parameters
    ----------
    predictor : BatchPredictor, optional
        The port that predicts; by default the one of the declaration.

    Raises
    ------
    TransformUnderWayError
        If jobs predict the rows elsewhere, and the ``predictor`` does not wait.
    NotReadyError
        If the partition is not published, or there is no champion from before it.
    UnseenValueError
        If a row has a value that is none of the champion's levels, and the contract says ``unseen: error``.
    """
    now = workspace.state(as_of=partition)
    snapshot = now.published.get(partition)
    if snapshot is None:
        raise NotReadyError(f"partition {partition} is not published")
    previous = now.scored.get(partition)
    if previous is not None and previous.snapshot == snapshot.digest:
        return previous
    then = require_champion(workspace, partition)
    assert then.champion is not None
    note_version(then.champion.number)
    pin = PinnedPartition(partition, snapshot.version, snapshot.digest)
    rows = read_partition(workspace, pin, label=False)
    unseen = count_unseen(workspace, then, rows, partition)
    predictor = predictor_of(workspace) if predictor is None else predictor
    publication = snapshot.publication or 1
    scored = predict_versions(workspace, then, rows, pin, predictor, publication=publication)
    version = workspace.predictions.write(partition, scored)
    served = scored.column("served_version").value_counts().to_pylist()
    details = PredictionsPublished(
        version=version,
        digest=content_digest(scored),
        rows=scored.num_rows,
        publication=publication,
        snapshot=snapshot.digest,
        snapshot_version=snapshot.version,
        champion=then.champion.number,
        challenger=then.rollout.version.number if then.rollout else None,
        served={str(item["values"]): item["counts"] for item in served},
        unseen=unseen or None,
    )
    draft = workspace.draft(details, f"predictions:{partition}:{publication}", partition)
    recorded = workspace.record_fact(draft).details
    predictor.finish()
    return recorded


def count_unseen(workspace: Workspace, state: StateMachine, rows: pd.DataFrame, partition: str) -> dict[str, Any]:
    """Return the numbers of rows with an unseen value by version and column, and log a warning about each.

    Raises
    ------
    UnseenValueError
        If the contract refuses such values, and the champion has not seen one.
    """
    counts: dict[str, Any] = {}
    assert state.champion is not None
    for version in (state.champion, state.rollout.version if state.rollout else None):
        if version is None:
            continue
        schema = version_schema(workspace, version)
        if version is state.champion:
            where = f"partition {partition} cannot be scored"
            schema.refuse_unseen(rows, refused_columns(workspace), number=version.number, where=where)
        unseen = schema.unseen(rows)
        if unseen:
            counts[version.number] = unseen
            columns = ", ".join(f"{name!r} in {count:,} rows" for name, count in unseen.items())
            log.warning(
                "partition %s: version %s has not seen the value of column %s; it is null for the model",
                partition,
                version.number,
                columns,
            )
    return counts


def corrected_partitions(workspace: Workspace, before: str) -> list[str]:
    """Return the older partitions that were scored, and republished with other content since."""
    state = workspace.state()
    published = {key: state.published.get(key) for key in state.republished.keys(before=before)}
    return [
        key
        for key, snapshot in published.items()
        if snapshot is not None and key in state.scored and state.scored[key].snapshot != snapshot.digest
    ]


def predict_both(
    workspace: Workspace,
    state: StateMachine,
    rows: pd.DataFrame,
    pin: PinnedPartition,
    predictor: BatchPredictor,
    *,
    publication: int,
) -> tuple[Floats, Floats | None]:
    """Return the predictions of the champion and of the challenger, if there is one that can predict.

    Both are begun before one is waited for. While a challenger fails the champion serves every row, and the next look
    at the stage sees the same failure and rolls back.
    """
    champion, rollout = state.champion, state.rollout
    assert champion is not None

    def make(schema: InputSchema) -> pd.DataFrame:
        return FeatureMaker(workspace, schema).make(rows, pin.partition, pin.version)

    def rows_to_score(features: Callable[[], pd.DataFrame]) -> RowsToScore:
        keys = rows[workspace.loop.data.key].astype(str).tolist()
        return RowsToScore(pin.partition, pin.digest, publication, keys, features)

    schema = version_schema(workspace, champion)
    champion_features = cache(lambda: make(schema))
    of_champion = rows_to_score(champion_features)
    predictor.start(champion, of_champion)
    if rollout is None:
        return predictor.predict(champion, of_champion), None
    of_challenger = rows_to_score(
        lambda: challenger_features(workspace, rollout, rows, (schema, champion_features), make)
    )
    failed = False
    try:
        predictor.start(rollout.version, of_challenger)
    except (ChallengerFailedError, TrainingError):
        failed = True
    of_both: tuple[Floats, Floats | None] = (predictor.predict(champion, of_champion), None)
    if failed:
        return of_both
    try:
        return of_both[0], predictor.predict(rollout.version, of_challenger)
    except (ChallengerFailedError, TrainingError):
        return of_both


@span("score")
def predict_versions(
    workspace: Workspace,
    state: StateMachine,
    rows: pd.DataFrame,
    pin: PinnedPartition,
    predictor: BatchPredictor,
    *,
    publication: int = 1,
) -> pa.Table:
    """Return a table with the predictions of champion and challenger, and the served one, for each row.

    With three classes or more a prediction is the most likely class, beside the probability of each; of several
    quantiles it is the middle one, beside each of them.
    """
    loop, champion, rollout = workspace.loop, state.champion, state.rollout
    assert champion is not None
    champion_predictions, challenger_predictions = predict_both(
        workspace, state, rows, pin, predictor, publication=publication
    )
    count = len(rows)
    by_challenger = np.zeros(count, bool)
    if rollout is not None and challenger_predictions is not None and rollout.kind in SERVING:
        by_challenger = sticky_share(rows[loop.data.key].tolist(), salt=rollout.salt, percent=rollout.share)
    challenger = rollout.version.number if rollout is not None and challenger_predictions is not None else None
    both = pa.array([champion.number, challenger], pa.string())
    challenging = (rollout.version if rollout else None, challenger_predictions)
    return pa.table(
        {
            "key": pa.array(rows[loop.data.key].astype(str)),
            "champion_version": pa.repeat(both[0], count),
            **prediction_columns("champion", champion_predictions, count, loop.class_names, loop.train.quantiles),
            "challenger_version": pa.repeat(both[1], count),
            **prediction_columns("challenger", challenger_predictions, count, loop.class_names, loop.train.quantiles),
            "served_version": both.take(pa.array(by_challenger.astype(np.int8))),
            **prediction_columns(
                "served",
                np.where(
                    by_challenger if champion_predictions.ndim == 1 else by_challenger[:, None],
                    champion_predictions if challenger_predictions is None else challenger_predictions,
                    champion_predictions,
                ),
                count,
                loop.class_names,
                loop.train.quantiles,
            ),
            **class_columns(loop, (champion, champion_predictions), challenging, by_challenger),
        }
    )


def class_columns(
    loop: Loop, champion: tuple[Version, Floats], challenger: tuple[Version | None, Floats | None], by_challenger: Any
) -> dict[str, pa.Array]:
    """Return the classes that versions and their thresholds decide, as text; no columns where none is declared.

    Parameters
    ----------
    champion, challenger : tuple of a version and its probabilities, shape (n_rows,)
        None of a challenger that predicts nothing.
    by_challenger : ndarray of bool, shape (n_rows,)
        Whether the challenger serves the row.
    """
    if loop.train.threshold is None:
        return {}
    names, count = pa.array(loop.class_names or ("0", "1"), pa.string()), by_challenger.size
    codes: list[Any] = [
        None
        if version is None or chances is None
        else decide(chances, float(version.details.best_params.get("threshold", 0.5))).astype(np.int8)
        for version, chances in (champion, challenger)
    ]
    served = codes[0] if codes[1] is None else np.where(by_challenger, codes[1], codes[0])
    return {
        f"{model}_class": pa.nulls(count, pa.string()) if decided is None else names.take(pa.array(decided))
        for model, decided in (("champion", codes[0]), ("challenger", codes[1]), ("served", served))
    }
