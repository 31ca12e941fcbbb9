"""Explain one row: its published values, its features, their contributions, and the prediction that was served.

The contribution of a feature is its Shapley value against rows of the version's own holdout, by shap's permutation
explainer: the mean prediction of those rows and the values add up to the prediction of the row. Of three classes or
more the prediction that is explained is the probability of the class that the version predicts for the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.data.frame_types import frame_of
from airflow_mlops.core.data.input_schema import version_schema
from airflow_mlops.core.data.key_text import require_whole_key, stored_key
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import DataError, MlopsError, ReproductionError
from airflow_mlops.core.governance.reproduce_version import find_version, request_of
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import as_fitted, predict
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.window import read_partition, read_rows
from airflow_mlops.core.workspace import Workspace

BACKGROUND = 50
"""Number of holdout rows that a row is compared with."""


@dataclass(frozen=True)
class Contribution:
    """A feature of the row and what it added to the prediction, in units of the prediction."""

    feature: str
    value: Any
    added: float


@dataclass(frozen=True)
class ExplainedRow:
    """A row, its prediction, and the contribution of each feature to it.

    ``logged`` is what was recorded when its partition was scored, or None; ``used_for`` says whether the version
    was fitted or judged on the row; ``base`` is the mean prediction of the rows it is compared with.
    ``predicted_class`` is the class whose probability the prediction is, of three classes or more.
    """

    key: str
    partition: str
    snapshot: str
    version: str
    used_for: str
    row: dict[str, Any]
    prediction: float
    base: float
    contributions: tuple[Contribution, ...]
    logged: dict[str, Any] | None
    predicted_class: str | None = None


def explain_row(workspace: Workspace, number: str, key: str, partition: str | None = None) -> ExplainedRow:
    """Return the contributions of the features of one row to the prediction of a version.

    Parameters
    ----------
    key : str
        Key of the row as it stands in the source; of several columns, their values with ``+`` between them.
    partition : str, optional
        Where to look for it; all published partitions, the newest first, if not given.

    Raises
    ------
    ReproductionError
        If there is no such version, or no published row with that key.
    DataError
        If the key has more or fewer parts than the key of the loop has columns.
    """
    if workspace.loop.train.quantiles:
        raise ReproductionError(
            f"{workspace.loop.model}: train.quantiles declares several, and a row is explained for one number only"
        )
    version = find_version(workspace, number)
    require_whole_key(workspace, key)
    pin, rows = _find_row(workspace, stored_key(workspace, key), partition)
    position = int(np.flatnonzero(rows[workspace.loop.data.key].astype(str) == stored_key(workspace, key))[0])
    model = load_version(workspace, version)
    maker = FeatureMaker(workspace, version_schema(workspace, version))
    features = as_fitted(model, maker.make(rows, pin.partition, pin.version))
    background = _background(workspace, version, model)
    row = features.iloc[[position]].reset_index(drop=True)
    loop = workspace.loop
    predicted = predict(model, row, classifies=loop.classifies)[0]
    code = int(np.argmax(predicted)) if loop.several_classes else None

    def predict_one(frame: pd.DataFrame) -> Floats:
        predictions = predict(model, frame, classifies=loop.classifies)
        return predictions if code is None else predictions[:, code]

    values, base = shapley_values(predict_one, row, background)
    contributions = [
        Contribution(str(name), plain(row[name].iloc[0]), value)
        for name, value in zip(row.columns, values, strict=True)
    ]
    return ExplainedRow(
        key,
        pin.partition,
        pin.digest,
        number,
        _used_for(version, pin.partition),
        {str(name): plain(value) for name, value in rows.iloc[position].items()},
        float(predicted if code is None else predicted[code]),
        base,
        tuple(sorted(contributions, key=lambda contribution: -abs(contribution.added))),
        _logged_prediction(workspace, pin.partition, key),
        None if code is None else (loop.class_names or ())[code],
    )


def shapley_values(model: Any, row: pd.DataFrame, background: pd.DataFrame) -> tuple[list[float], float]:
    """Return the Shapley value of each column of ``row``, and the mean prediction over ``background``.

    Parameters
    ----------
    model : callable
        Takes a frame of shape (n_rows, n_columns) and returns predictions of shape (n_rows,).
    row : DataFrame, shape (1, n_columns)
    background : DataFrame, shape (n_background, n_columns)
    """
    import shap

    # shap works on numbers: each column is given as positions in the list of its values, text and nulls included.
    frame = pd.concat([background, row], ignore_index=True)
    codes = np.column_stack([pd.factorize(frame[name], use_na_sentinel=False)[0] for name in frame.columns])
    first_rows = [np.unique(codes[:, column], return_index=True)[1] for column in range(codes.shape[1])]

    def predict_codes(matrix: Any) -> Floats:
        positions = np.asarray(matrix).astype(int)
        columns = {
            name: frame[name].iloc[first_rows[column][positions[:, column]]].reset_index(drop=True)
            for column, name in enumerate(frame.columns)
        }
        predictions: Floats = model(pd.DataFrame(columns))
        return predictions

    explainer = shap.explainers.Permutation(
        predict_codes, shap.maskers.Independent(codes[:-1], max_samples=len(background))
    )
    explained = explainer(codes[-1:], max_evals=10 * (2 * codes.shape[1] + 1), silent=True)
    return [float(value) for value in explained.values[0]], float(np.ravel(explained.base_values)[0])


def plain(value: Any) -> Any:
    """Return a value as a JSON value; text for what JSON has no type for."""
    if pd.isna(value):
        return None
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, int | float | str | bool) else str(value)


def _find_row(workspace: Workspace, row_key: str, partition: str | None) -> tuple[PinnedPartition, pd.DataFrame]:
    """Return the published partition that has a row with this key, and all rows of the partition."""
    published = workspace.state().published
    keys = [partition] if partition is not None else published.keys()[::-1]
    column = workspace.loop.data.key
    for key in keys:
        if key not in published:
            raise ReproductionError(f"partition {key} is not published")
        version = published[key].version
        column_values = frame_of(workspace.snapshots.read(key, version=version, columns=[column]), (column,))[column]
        # As text the way predictions are keyed by it.
        if column_values.astype(str).eq(row_key).any():
            pin = PinnedPartition(key, version, published[key].digest)
            return pin, read_partition(workspace, pin, label=False)
    where = f"partition {partition}" if partition else f"any of the {len(published)} published partitions"
    raise ReproductionError(f"no row of {workspace.loop.model} with that key in {where}")


def _background(workspace: Workspace, version: Version, model: Any) -> pd.DataFrame:
    holdout = request_of(workspace, version).window.holdout
    try:
        features = as_fitted(model, read_rows(workspace, holdout, schema=version_schema(workspace, version)).features)
    except (DataError, MlopsError) as error:
        raise ReproductionError(f"the rows that version {version.number} was judged on: {error}") from error
    positions = np.unique(np.linspace(0, len(features) - 1, min(BACKGROUND, len(features))).round().astype(int))
    return features.iloc[positions].reset_index(drop=True)


def _used_for(version: Version, partition: str) -> str:
    window = version.details.window
    for part, words in (("fitted", "fitted on it"), ("holdout", "judged on it")):
        if partition in {pin.partition for pin in getattr(window, part)}:
            return words
    return "neither fitted nor judged on it"


def _logged_prediction(workspace: Workspace, partition: str, key: str) -> dict[str, Any] | None:
    scored = workspace.state().scored.get(partition)
    if scored is None:
        return None
    row_key = stored_key(workspace, key)
    rows = workspace.predictions.read(partition, version=scored.version).to_pylist()
    return next((row for row in rows if row["key"] == row_key), None)
