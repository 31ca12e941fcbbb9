"""The interface of a candidate for MLflow's own tools: the columns that the model takes, and a few rows of the holdout.

The columns and types are those of the features that the model gets of the holdout, which follow from the contract. An
interface is kept only if the model gives the same predictions for the rows in these types as it does here: MLflow hands
a frame to the estimator without this package in between.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops.core.data.frame_types import nullable_columns
from airflow_mlops.core.errors import DataError, TrainingError
from airflow_mlops.core.ports.registry import InterfaceType, ModelInterface
from airflow_mlops.core.registry.own_code import load_own_model
from airflow_mlops.core.training.assemble import TrainingRequest
from airflow_mlops.core.training.fit_candidate import candidate_file
from airflow_mlops.core.training.model_input import model_input
from airflow_mlops.core.training.predict import as_fitted
from airflow_mlops.core.training.window import read_window
from airflow_mlops.core.workspace import Workspace

log = logging.getLogger(__name__)
EXAMPLE_ROWS = 5
TRIAL_ROWS = 200
"""Rows that the model must predict alike through the interface."""
_KINDS: dict[str, InterfaceType] = {"b": "boolean", "i": "long", "u": "long", "f": "double", "M": "datetime"}


def interface_of_candidate(
    workspace: Workspace, request: TrainingRequest, candidate: str, digest: str
) -> ModelInterface | None:
    """Return the interface of a candidate; None, with a line in the log, if MLflow's tools cannot predict with it.

    Raises
    ------
    RegistryError
        If the model file is not the one that was judged.
    """
    pins = request.window.holdout[-1:]  # one partition is enough for the types, and the holdout may be long
    if not pins:
        return None
    file = workspace.shared(candidate_file(workspace, request.operation, candidate))
    model = load_own_model(workspace, file, digest, request.own_code, f"candidate {candidate!r}")
    try:
        rows = read_window(workspace, pins, schema=request.schema(workspace))
    except (DataError, TrainingError) as error:
        log.warning("candidate %r is registered without a signature of MLflow: %s", candidate, error)
        return None
    interface = interface_of_model(model, rows.features.head(TRIAL_ROWS), with_example=not shows_persons(workspace))
    if interface is None:
        log.warning(
            "candidate %r is registered without a signature of MLflow: its types have none, or predict otherwise",
            candidate,
        )
    return interface


def interface_of_model(model: Any, features: pd.DataFrame, *, with_example: bool) -> ModelInterface | None:
    """Return the interface of a model by the features it gets; None if it predicts otherwise through it.

    Parameters
    ----------
    features : DataFrame, shape (n_rows, n_features)
        At least one row.
    with_example : bool
        Whether the interface may hold the first rows.
    """
    try:
        fitted = as_fitted(model, features)
    except TrainingError:
        return None
    kinds = {str(name): column_type(fitted[name]) for name in fitted.columns}
    inputs = {name: kind for name, kind in kinds.items() if kind is not None}
    if fitted.empty or len(inputs) < len(kinds):
        return None
    try:
        expected = np.asarray(model.predict(model_input(model, fitted)))
        plain = to_plain(fitted, inputs)
        agrees = np.array_equal(np.asarray(model.predict(plain)), expected)
    except Exception as error:  # an estimator may raise anything on types that it was not fitted on
        log.debug("the model does not predict through an interface: %s", error)
        return None
    output = column_type(pd.Series(expected)) if expected.ndim == 1 else None
    if not agrees or output is None:
        return None
    return ModelInterface(inputs, output, plain.head(EXAMPLE_ROWS) if with_example else None)


def column_type(column: pd.Series[Any]) -> InterfaceType | None:
    """Return the type of a column in an interface; None if MLflow has none for it.

    >>> column_type(pd.Series([1.5])), column_type(pd.Series(["a"])), column_type(pd.Series([1], dtype="Int64"))
    ('double', 'string', 'double')
    """
    if nullable_columns(column.to_frame("values")):
        return "double"  # an estimator gets floats, and NaN for null
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if isinstance(column.dtype, pd.StringDtype) or column.dtype == object:
        return "string" if all(isinstance(value, str) for value in column.dropna()) else None
    return _KINDS.get(column.dtype.kind)


def to_plain(features: pd.DataFrame, inputs: dict[str, InterfaceType]) -> pd.DataFrame:
    """Return features in the types in which MLflow hands them to an estimator."""
    return pd.DataFrame({name: plain_column(features[name], kind) for name, kind in inputs.items()})


def plain_column(column: pd.Series[Any], kind: InterfaceType) -> pd.Series[Any]:
    """Return a column in the type in which MLflow hands it to an estimator."""
    if kind == "string":
        return column.astype(object).astype("str")
    if kind == "double":
        return pd.Series(column.to_numpy(np.float64, na_value=np.nan), index=column.index)
    if kind == "datetime":
        naive = column.dt.tz_convert(None) if isinstance(column.dtype, pd.DatetimeTZDtype) else column
        return naive.astype("datetime64[ns]")
    return column


def shows_persons(workspace: Workspace) -> bool:
    """Return whether features may hold the plain value of a column that identifies or describes a person."""
    contract = workspace.contract
    if contract is None:
        return False
    seen = contract.columns.keys() - workspace.hidden - {workspace.loop.data.label}
    if workspace.loop.data.features is None:
        seen -= workspace.loop.data.key_and_time
    return any(contract.columns[name].privacy != "none" and not contract.columns[name].mask for name in seen)
