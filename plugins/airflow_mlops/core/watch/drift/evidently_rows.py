"""The rows that Evidently compares: a sample of a window and of its champion's training window, column by column.

Evidently keeps rows in memory, stops a whole report at one column that holds nothing, and writes names of columns and
values of categories into a script. So it sees at most ``MOST_ROWS`` rows of each side, the same for the same snapshots;
one column at a time, its values finite or null; and its categories under names that we give them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from airflow_mlops.core.data.input_schema import version_schema
from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.state_machine import Version
from airflow_mlops.core.ledger.training_details import PinnedPartition
from airflow_mlops.core.training.window import read_partition
from airflow_mlops.core.watch.sampled_rows import sample_positions, spread_evenly
from airflow_mlops.core.workspace import Workspace

MOST_ROWS = 20_000
MOST_PARTITIONS = 12
MOST_CATEGORIES = 50
OTHER = "other"


@dataclass(frozen=True)
class ComparableColumn:
    """A column in the form in which Evidently compares it.

    Parameters
    ----------
    kind : str
        ``number`` or ``category``.
    reference, current : Series
        Values of both sides, none of them null, at least one each.
    values : mapping of str to str
        The category that each safe name stands for.
    """

    kind: str
    reference: pd.Series
    current: pd.Series
    values: Mapping[str, str] = field(default_factory=dict)


def window_features(workspace: Workspace, pin: PinnedPartition, champion: Version) -> pd.DataFrame:
    """Return the features of a partition as the champion saw them, at most ``MOST_ROWS`` rows."""
    rows = read_partition(workspace, pin, label=False)
    maker = FeatureMaker(workspace, version_schema(workspace, champion))
    features = maker.make(rows, pin.partition, pin.version)
    return features.iloc[sample_positions(len(features), MOST_ROWS, pin.digest)].reset_index(drop=True)


def reference_features(workspace: Workspace, champion: Version) -> pd.DataFrame:
    """Return features of the champion's training window, at most ``MOST_ROWS`` rows of ``MOST_PARTITIONS`` partitions.

    Raises
    ------
    DataError
        If no partition of it can be read any more.
    """
    pins = spread_evenly(champion.details.window.fitted, MOST_PARTITIONS)
    maker, frames, unreadable = FeatureMaker(workspace, version_schema(workspace, champion)), [], []
    for pin in pins:
        try:
            features = maker.make(read_partition(workspace, pin, label=False), pin.partition, pin.version)
        except DataError as error:
            unreadable.append(str(error))
            continue
        frames.append(features.iloc[sample_positions(len(features), MOST_ROWS // len(pins), pin.digest)])
    if not frames:
        raise DataError(f"no partition that version {champion.number} was fitted on can be read: {unreadable[:3]}")
    return pd.concat(frames, ignore_index=True)


def comparable_column(reference: pd.Series, current: pd.Series) -> ComparableColumn | str:
    """Return a column in the form in which Evidently compares it, or the reason why it cannot be compared."""
    kinds = {kind_of(reference), kind_of(current)}
    if len(kinds) > 1:
        return "holds other kinds of values than it did"
    if kinds == {"number"}:
        before, now = numbers(reference), numbers(current)
    else:
        before, now = reference.dropna().astype(str), current.dropna().astype(str)
    for side, side_name in ((before, "the training window"), (now, "the window")):
        if side.empty:
            return f"holds no value that could be compared in {side_name}"
    if kinds == {"number"}:
        return ComparableColumn("number", before, now)
    names = category_names(pd.concat([before, now], ignore_index=True))
    values = {name: value for value, name in names.items()}
    return ComparableColumn("category", before.map(names).fillna(OTHER), now.map(names).fillna(OTHER), values)


def kind_of(column: pd.Series) -> str:
    """Return ``number`` or ``category``; a time is a number, and a truth value a category."""
    if pd.api.types.is_bool_dtype(column):
        return "category"
    return "number" if pd.api.types.is_numeric_dtype(column) or is_time(column) else "category"


def is_time(column: pd.Series) -> bool:
    """Return whether a column holds times."""
    return pd.api.types.is_datetime64_any_dtype(column)


def numbers(column: pd.Series) -> pd.Series:
    """Return the finite numbers of a column; times as seconds."""
    if is_time(column):
        times = column.dropna()
        return pd.Series(times.to_numpy("datetime64[ns]").astype(np.int64) / 1e9)
    values = column.to_numpy(np.float64, na_value=np.nan)
    return pd.Series(values[np.isfinite(values)])


def category_names(values: pd.Series) -> dict[str, str]:
    """Return a safe name for each of the most frequent values of a category; the others are ``OTHER``.

    >>> category_names(pd.Series(["<b>", "<b>", "JFK"]))
    {'<b>': 'v1__b_', 'JFK': 'v2_JFK'}
    """
    counts = values.value_counts()
    frequent = sorted(counts.index, key=lambda value: (-int(counts[value]), value))[:MOST_CATEGORIES]
    return {value: safe_name("v", number, value) for number, value in enumerate(frequent, start=1)}


def safe_name(letter: str, number: int, name: str) -> str:
    """Return a name of letters, digits and underscores only, unique for each number.

    >>> safe_name("c", 7, "air_time"), safe_name("c", 8, "<img src=x onerror=steal()>")
    ('c7_air_time', 'c8__img_src_x_onerror_steal___')
    """
    return f"{letter}{number}_" + re.sub(r"[^A-Za-z0-9_]", "_", name)[:40]
