"""Trace one row: as it was published, as the model saw it, what each feature did to the prediction, what was served.

What each feature did is its Shapley value against rows of the version's own holdout, by shap's permutation
explainer: the mean prediction of those rows and the values add up to the prediction of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.data.masking import keyed_hash, mask_key
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import DataError, MlopsError, ReproductionError
from airflow_mlops.core.governance.reproduce_version import request_of, version_called
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.training.predict import as_fitted, predict
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.training.window import read_partition, read_rows
from airflow_mlops.core.workspace import Workspace

BACKGROUND = 50
"""Rows of the holdout that a row is compared with."""


@dataclass(frozen=True)
class Contribution:
    """A feature of the row and what it added to the prediction, in units of the prediction."""

    feature: str
    value: Any
    added: float


@dataclass(frozen=True)
class ExplainedRow:
    """One row on its way to a prediction.

    ``logged`` is what was recorded when its partition was scored, or None; ``used_for`` says whether the version
    was fitted or judged on the row; ``base`` is the mean prediction of the rows it is compared with.
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


def explain_row(workspace: Workspace, number: str, key: str, partition: str | None = None) -> ExplainedRow:
    """Return how a version comes to its prediction of a row.

    Parameters
    ----------
    key : str
        Key of the row as it stands in the source.
    partition : str, optional
        Where to look for it; all published partitions, the newest first, if not given.

    Raises
    ------
    ReproductionError
        If there is no such version, or no published row with that key.
    """
    version = version_called(workspace, number)
    pin, whole = _found(workspace, kept_key(workspace, key), partition)
    at = int(np.flatnonzero(whole[workspace.loop.data.key].astype(str) == kept_key(workspace, key))[0])
    model = load_version(workspace, version)
    features = as_fitted(model, FeatureMaker(workspace).make(whole, pin.partition, pin.version))
    background = _background(workspace, version, model)
    alone = features.iloc[[at]].reset_index(drop=True)
    kind = workspace.loop.classifies
    added, base = shapley_values(lambda frame: predict(model, frame, classifies=kind), alone, background)
    contributions = [
        Contribution(str(name), plain(alone[name].iloc[0]), value)
        for name, value in zip(alone.columns, added, strict=True)
    ]
    return ExplainedRow(
        key, pin.partition, pin.digest, number, _used_for(version, pin.partition),
        {str(name): plain(value) for name, value in whole.iloc[at].items()},
        float(predict(model, alone, classifies=kind)[0]), base,
        tuple(sorted(contributions, key=lambda one: -abs(one.added))), _logged(workspace, pin.partition, key),
    )  # fmt: skip


def kept_key(workspace: Workspace, key: str) -> str:
    """Return a key as the snapshots hold it: masked where the contract masks it."""
    contract, column = workspace.contract, workspace.loop.data.key
    if contract is None or not contract.columns[column].mask:
        return key
    return keyed_hash(key, mask_key(workspace.secret, column))


def shapley_values(model: Any, row: pd.DataFrame, background: pd.DataFrame) -> tuple[list[float], float]:
    """Return what each column of the one ``row`` adds to the mean prediction over ``background``, and that mean.

    Parameters
    ----------
    model : callable
        Takes a frame of shape (n_rows, n_columns) and returns predictions of shape (n_rows,).
    row : DataFrame, shape (1, n_columns)
    background : DataFrame, shape (n_background, n_columns)
    """
    import shap

    # shap works on numbers: each column is given as positions in the list of its values, text and nulls included.
    whole = pd.concat([background, row], ignore_index=True)
    codes = np.column_stack([pd.factorize(whole[name], use_na_sentinel=False)[0] for name in whole.columns])
    places = [np.unique(codes[:, at], return_index=True)[1] for at in range(codes.shape[1])]

    def of_codes(asked: Any) -> Floats:
        taken = np.asarray(asked).astype(int)
        columns = {
            name: whole[name].iloc[places[at][taken[:, at]]].reset_index(drop=True)
            for at, name in enumerate(whole.columns)
        }
        found: Floats = model(pd.DataFrame(columns))
        return found

    explainer = shap.explainers.Permutation(of_codes, shap.maskers.Independent(codes[:-1], max_samples=len(background)))
    explained = explainer(codes[-1:], max_evals=10 * (2 * codes.shape[1] + 1), silent=True)
    return [float(value) for value in explained.values[0]], float(np.ravel(explained.base_values)[0])


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if pd.isna(value):
        return None
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, int | float | str | bool) else str(value)


def _found(workspace: Workspace, kept: str, partition: str | None) -> tuple[PinnedPartition, pd.DataFrame]:
    """Return the published partition that holds a row, and its rows."""
    published = workspace.state().published
    keys = [partition] if partition is not None else published.keys()[::-1]
    column = workspace.loop.data.key
    for key in keys:
        if key not in published:
            raise ReproductionError(f"partition {key} is not published")
        version = published[key].version
        held = workspace.snapshots.read(key, version=version, columns=[column]).column(column)
        # As text the way predictions are keyed by it.
        if held.to_pandas().astype(str).eq(kept).any():
            pin = PinnedPartition(key, version, published[key].digest)
            return pin, read_partition(workspace, pin, label=False)
    where = f"partition {partition}" if partition else f"any of the {len(published)} published partitions"
    raise ReproductionError(f"no row of {workspace.loop.model} with that key in {where}")


def _background(workspace: Workspace, version: Version, model: Any) -> pd.DataFrame:
    holdout = request_of(workspace, version).window.holdout
    try:
        features = as_fitted(model, read_rows(workspace, holdout).features)
    except (DataError, MlopsError) as error:
        raise ReproductionError(f"the rows that version {version.number} was judged on: {error}") from error
    taken = np.unique(np.linspace(0, len(features) - 1, min(BACKGROUND, len(features))).round().astype(int))
    return features.iloc[taken].reset_index(drop=True)


def _used_for(version: Version, partition: str) -> str:
    window = version.details.window
    for part, words in (("fitted", "fitted on it"), ("holdout", "judged on it")):
        if partition in {pin.partition for pin in getattr(window, part)}:
            return words
    return "neither fitted nor judged on it"


def _logged(workspace: Workspace, partition: str, key: str) -> dict[str, Any] | None:
    scored = workspace.state().scored.get(partition)
    if scored is None:
        return None
    kept = kept_key(workspace, key)
    rows = workspace.predictions.read(partition, version=scored.version).to_pylist()
    return next((row for row in rows if row["key"] == kept), None)
