"""The columns of stored predictions: one number, the most likely class and a probability of each, or quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.declaration.quantiles import part_names
from airflow_mlops.core.training.row_losses import Floats, middle


def prediction_columns(
    model: str,
    predicted: Floats | None,
    rows: int,
    classes: tuple[str, ...] | None,
    quantiles: tuple[float, ...] = (),
) -> dict[str, pa.Array]:
    """Return the columns of the predictions of ``champion``, ``challenger`` or ``served``; nulls where it has none.

    Parameters
    ----------
    predicted : ndarray of float, shape (n_rows,) or (n_rows, n_classes), optional
    classes : tuple of str, optional
        The names of three classes or more; ``<model>_prediction`` is then the most likely one, as text, and each has a
        column ``<model>_probability_<class>``.
    quantiles : tuple of float
        The quantiles of a model of several; each has a column ``<model>_quantile_<quantile>``, and
        ``<model>_prediction`` is the middle one.
    """
    name = f"{model}_prediction"
    if classes is None or len(classes) < 3:
        numbers = {name: None if predicted is None else middle(predicted)}
        for place, column in enumerate(quantile_names(model, quantiles)):
            numbers[column] = None if predicted is None else np.ascontiguousarray(predicted[:, place])
        return {
            column: pa.nulls(rows, pa.float64()) if values is None else pa.array(values, pa.float64())
            for column, values in numbers.items()
        }
    if predicted is None:
        columns = {name: pa.nulls(rows, pa.string())}
        return columns | {column: pa.nulls(rows, pa.float64()) for column in probability_names(model, classes)}
    names = pa.array(classes, pa.string())
    columns = {name: names.take(pa.array(predicted.argmax(axis=1)))}
    probabilities = zip(probability_names(model, classes), np.ascontiguousarray(predicted.T), strict=True)
    return columns | {column: pa.array(values, pa.float64()) for column, values in probabilities}


def probability_names(model: str, classes: tuple[str, ...]) -> list[str]:
    """Return the names of the columns of probabilities."""
    return [f"{model}_probability_{name}" for name in classes]


def quantile_names(model: str, quantiles: tuple[float, ...]) -> list[str]:
    """Return the names of the columns of quantiles."""
    return [f"{model}_{name}" for name in part_names(quantiles)]


def read_columns(model: str, classes: tuple[str, ...] | None, quantiles: tuple[float, ...] = ()) -> list[str]:
    """Return the names of the columns that :func:`stored_predictions` reads."""
    if quantiles:
        return quantile_names(model, quantiles)
    return [f"{model}_prediction"] if classes is None or len(classes) < 3 else probability_names(model, classes)


def stored_predictions(
    rows: pd.DataFrame, model: str, classes: tuple[str, ...] | None, quantiles: tuple[float, ...] = ()
) -> npt.NDArray[Any]:
    """Return stored predictions as a model gave them, shape (n_rows,), or (n_rows, n) of classes or quantiles."""
    columns = read_columns(model, classes, quantiles)
    return rows[columns[0]].to_numpy() if len(columns) == 1 else rows[columns].to_numpy(np.float64)
