"""The columns of stored predictions: one number, or the most likely class and a probability of each class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.training.row_losses import Floats


def prediction_columns(
    model: str, predicted: Floats | None, rows: int, classes: tuple[str, ...] | None
) -> dict[str, pa.Array]:
    """Return the columns of the predictions of ``champion``, ``challenger`` or ``served``; nulls where it has none.

    Parameters
    ----------
    predicted : ndarray of float, shape (n_rows,) or (n_rows, n_classes), optional
    classes : tuple of str, optional
        The names of three classes or more; ``<model>_prediction`` is then the most likely one, as text, and each has a
        column ``<model>_probability_<class>``.
    """
    name = f"{model}_prediction"
    if classes is None or len(classes) < 3:
        return {name: pa.nulls(rows, pa.float64()) if predicted is None else pa.array(predicted, pa.float64())}
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


def read_columns(model: str, classes: tuple[str, ...] | None) -> list[str]:
    """Return the names of the columns that :func:`stored_predictions` reads."""
    return [f"{model}_prediction"] if classes is None or len(classes) < 3 else probability_names(model, classes)


def stored_predictions(rows: pd.DataFrame, model: str, classes: tuple[str, ...] | None) -> npt.NDArray[Any]:
    """Return stored predictions as a model gave them, shape (n_rows,) or, of three classes or more, (n_rows, n)."""
    columns = read_columns(model, classes)
    return rows[columns[0]].to_numpy() if len(columns) == 1 else rows[columns].to_numpy(np.float64)
