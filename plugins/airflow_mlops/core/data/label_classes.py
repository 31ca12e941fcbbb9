"""The codes of labels that are classes: integers from 0, in the order of the declared classes.

Snapshots and deliveries keep labels as they arrived; labels are encoded where they are read. A label that is none of
the classes gets no code: its row counts as one without a label, and the number of such rows is logged.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from airflow_mlops.core.workspace import Workspace

log = logging.getLogger(__name__)


def class_text(value: Any) -> str:
    """Return the name of the class that a value of the data stands for.

    >>> class_text("late"), class_text(3), class_text(3.0), class_text(2.5)
    ('late', '3', '3', '2.5')
    """
    is_whole = isinstance(value, float | np.floating) and np.isfinite(value) and float(value).is_integer()
    return str(int(value)) if is_whole else str(value)


def encode_labels(labels: Any, classes: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return the code of each label, shape (n_rows,); NaN for null and for what is none of the classes.

    >>> encode_labels(["late", None, "early", "lost"], ("early", "late")).tolist()
    [1.0, nan, 0.0, nan]
    """
    positions, values = pd.factorize(pd.Series(labels))
    codes = pd.Index(classes, dtype=object).get_indexer(pd.Index([class_text(value) for value in values], dtype=object))
    # The last place is that of null, which factorize gives the position -1.
    by_position = np.append(np.where(codes < 0, np.nan, codes), np.nan).astype(np.float64)
    return by_position[positions]


def encode_column(frame: pd.DataFrame, column: str, classes: tuple[str, ...] | None, where: str) -> pd.DataFrame:
    """Return rows with the codes of their labels, as they are where no classes are declared or the label is missing.

    Parameters
    ----------
    where : str
        Place of the rows, for the warning about labels that are none of the classes.
    """
    if classes is None or column not in frame.columns:
        return frame
    codes = encode_labels(frame[column], classes)
    unknown = np.isnan(codes) & frame[column].notna().to_numpy(bool)
    if unknown.any():
        log.warning("%s: %s", where, unknown_sentence(int(unknown.sum()), column, classes, frame[column][unknown]))
    return frame.assign(**{column: codes})


def unknown_sentence(count: int, column: str, classes: tuple[str, ...], values: pd.Series[Any]) -> str:
    """Return how many rows have a label that is none of the classes, and what becomes of them."""
    first = class_text(values.iloc[0])
    shown = first if len(first) <= 60 else f"{first[:60]}…"
    return (
        f"{count:,} rows have a label {column!r} that is none of the classes {', '.join(classes)}, such as {shown!r}; "
        "they count as rows without a label"
    )


def count_unknown_labels(workspace: Workspace, partition: str, version: int) -> int:
    """Return the number of rows of a snapshot whose own label is none of the declared classes."""
    data, classes = workspace.loop.data, workspace.loop.class_names
    if classes is None:
        return 0
    if data.label not in workspace.snapshots.batches(partition, version=version).schema.names:
        return 0
    column = workspace.snapshots.read(partition, version=version, columns=[data.label])[data.label].to_pandas()
    return int(np.count_nonzero(np.isnan(encode_labels(column, classes)) & column.notna().to_numpy(bool)))


def encode_delivered(labels: pa.ChunkedArray, classes: tuple[str, ...] | None) -> npt.NDArray[np.float64]:
    """Return the labels of a stored delivery as floats, shape (n_rows,): the codes of classes, or the numbers."""
    if classes is None or pa.types.is_floating(labels.type):
        return np.asarray(labels.to_numpy(), np.float64)
    return encode_labels(labels.to_pylist(), classes)
