"""Leakage: a feature that nearly is the label, or that is known only after the event it should foretell.

A model that sees such a feature is good in every evaluation and useless once it serves, so this is looked
for before any model is fitted. The checks look at a uniform sample of a partition, and need no history.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.profiles.column_bins import Floats
from airflow_mlops.core.data.profiles.profile_rows import category_text
from airflow_mlops.core.declaration.arrow_types import column_kind
from airflow_mlops.core.declaration.data import Severity
from airflow_mlops.core.validation.finding import Finding

UNEXPLAINED = 0.002
"""Share of the label's variance that a feature may at least leave open; the flown distance leaves 2 % of a
flight's air time, a copy with rounded minutes less than 0.1 %."""
SEPARATES = 0.995
"""Area under the ROC curve, either way round, beyond which a feature tells the classes apart by itself."""
LATER_SHARE = 0.001
"""Share of rows whose time may lie after the event before the column is told: clocks and typists err."""
LATER_ROWS = 5
"""Rows below which a time after the event is a mistyped year rather than a column of the aftermath."""
MIN_ROWS = 200
"""Rows with both values below which nothing is said: chance draws straight lines through few points."""
MIN_OF_CLASS = 20
"""Rows of the rarer class, or of nulls, below which nothing is said."""
MIN_OF_CATEGORY = 5
"""Rows of a category below which it says nothing about the others of its kind."""
LOOKED_AT = 10_000
"""Rows that likeness is measured on; so many tell 0.998 of the variance from 0.99 beyond doubt."""


def check_leakage(
    sample: pa.Table, severity: Severity, *, label: str, key: str, time: str, hidden: frozenset[str] = frozenset()
) -> list[Finding]:
    """Return one finding for each feature that leaks and each way it does, or one that says that none does.

    Parameters
    ----------
    sample : pyarrow.Table
        Rows of the partition, each as likely as any other, in no order that means anything.
    severity : str
        What a leak is declared to be.
    label, key, time : str
        Columns that are no features.
    hidden : frozenset of str
        Further columns that a model never sees.
    """
    if label not in sample.column_names:  # it comes from a source of its own, later
        sample = sample.append_column(label, pa.nulls(sample.num_rows, pa.float64()))
    features = [name for name in sample.column_names if name not in {label, key, time, *hidden}]
    found = [
        Finding("leakage", name, severity, "fail", f"{name} {words}", value, limit)
        for name in features
        for value, limit, words in [
            *later_than_the_event(sample.column(name), sample.column(time)),
            *known_with_the_label(sample.column(name), sample.column(label)),
        ]
    ]
    few = sample.slice(0, LOOKED_AT)
    target = numbers(few.column(label))
    rows = 0 if target is None else int(np.isfinite(target).sum())
    if target is None or rows < MIN_ROWS:
        words = f"{rows:,} rows of the sample have a label, {MIN_ROWS} are needed to look for features like it"
        return [*found, Finding("leakage", None, severity, "too little history", words)]
    for name in features:
        likeness = like_the_label(few.column(name), target)
        if likeness is not None:
            value, limit, words = likeness
            found.append(Finding("leakage", name, severity, "fail", f"{name} {words}", value, limit))
    words = f"none of {len(features)} features nearly is the label or is known only after the event"
    return found or [Finding("leakage", None, severity, "pass", words)]


def later_than_the_event(column: pa.ChunkedArray, time: pa.ChunkedArray) -> list[tuple[float, float, str]]:
    """Return a leak where a date or time lies after the row's own time in more than one row of a thousand."""
    kind = column_kind(column.type)
    if kind not in ("date", "time") or column_kind(time.type) not in ("date", "time"):
        return []
    # Of a date and a time the days are compared: within a day nobody knows which was first.
    days = "date" in (kind, column_kind(time.type))
    first, second = moments_of(column, days=days), moments_of(time, days=days)
    known = ~(np.isnan(first) | np.isnan(second))
    later = int((first[known] > second[known]).sum())
    share = later / max(int(known.sum()), 1)
    if later < LATER_ROWS or share <= LATER_SHARE:
        return []
    words = (
        f"lies after the row's time in {share:.1%} of the rows, so it is not known when a prediction is made; "
        "take it out, or declare it in the contract as feature: false"
    )
    return [(share, LATER_SHARE, words)]


def known_with_the_label(column: pa.ChunkedArray, label: pa.ChunkedArray) -> list[tuple[float, float, str]]:
    """Return a leak where a feature is null in exactly the rows in which the label is."""
    feature, target = (np.asarray(pc.is_null(of).to_numpy()) for of in (column, label))
    nulls = int(target.sum())
    if not MIN_OF_CLASS <= nulls <= len(target) - MIN_OF_CLASS or not np.array_equal(feature, target):
        return []
    words = (
        f"is null in exactly the {nulls:,} rows of the sample in which the label is, so it arrives with the label; "
        "take it out, or declare it in the contract as feature: false"
    )
    return [(1.0, 1.0, words)]


def like_the_label(column: pa.ChunkedArray, target: Floats) -> tuple[float, float, str] | None:
    """Return how like the label a feature is, where it is too like it."""
    feature = numbers(column)
    if feature is None:
        feature = foretold(category_text(column.combine_chunks()), target)
    known = np.isfinite(feature) & np.isfinite(target)
    x, y = feature[known], target[known]
    if len(y) < MIN_ROWS or x.min() == x.max() or y.min() == y.max():
        return None
    remedy = "take it out, or declare it in the contract as feature: false"
    if set(np.unique(y)) <= {0.0, 1.0}:
        if min((y == 0).sum(), (y == 1).sum()) < MIN_OF_CLASS:
            return None
        area = separation(x, y == 1)
        if max(area, 1 - area) < SEPARATES:
            return None
        return area, SEPARATES, f"tells the classes apart by itself (area under the ROC curve {area:.4f}); {remedy}"
    unexplained = 1 - max(explained(x, y), explained(ranks(x), ranks(y)))
    if unexplained > UNEXPLAINED:
        return None
    return unexplained, UNEXPLAINED, f"leaves {unexplained:.3%} of the label's variance open; {remedy}"


def numbers(column: pa.ChunkedArray) -> Floats | None:
    """Return the values of a column as floats, shape (n_rows,), NaN for null; None for a column of text."""
    if pa.types.is_boolean(column.type):
        return np.asarray(column.cast(pa.int8()).cast(pa.float64()).to_numpy(), np.float64)
    kind = column_kind(column.type)
    if kind == "category":
        return None
    if kind == "number":
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    return moments_of(column, days=False)


def moments_of(column: pa.ChunkedArray, *, days: bool) -> Floats:
    """Return dates or times as microseconds or as whole days since 1970, NaN for null."""
    micros = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    values = np.asarray(micros.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    return np.floor(values / 86_400e6) if days else values


def foretold(texts: pa.Array, target: Floats) -> Floats:
    """Return the label's mean over the other half's rows with the same text, NaN where they are too few.

    Halves, so that a text that stands in one row alone, as a name does, cannot foretell its own label.
    """
    codes = np.asarray(texts.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
    usable = np.isfinite(target) & (codes >= 0)
    even = np.arange(len(codes)) % 2 == 0
    found = np.full(len(codes), np.nan)
    for fitted in (even, ~even):
        on, of = fitted & usable, ~fitted & (codes >= 0)
        if not on.any():
            continue
        count = np.bincount(codes[on], minlength=codes.max() + 1)
        total = np.bincount(codes[on], target[on], minlength=codes.max() + 1)
        means = np.full(len(count), np.nan)
        enough = count >= MIN_OF_CATEGORY
        means[enough] = total[enough] / count[enough]
        found[of] = means[codes[of]]
    # What most rows have no category for is no column of categories.
    return found if np.isfinite(found).sum() >= usable.sum() / 2 else np.full(len(codes), np.nan)


def explained(x: Floats, y: Floats) -> float:
    """Return the squared correlation of two samples, 0 where it is not defined."""
    with np.errstate(all="ignore"):
        a, b = x - x.mean(), y - y.mean()
        value = float((a @ b) ** 2 / ((a @ a) * (b @ b)))
    return value if np.isfinite(value) else 0.0


def ranks(values: Floats) -> Floats:
    """Return the rank of each value, from 1; equal values share their mean rank."""
    return np.asarray(pd.Series(values).rank(), np.float64)


def separation(x: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve of ``x`` for the class ``positive``, ties counted half."""
    ones = int(positive.sum())
    total = float(ranks(x)[positive].sum())
    return (total - ones * (ones + 1) / 2) / (ones * (len(x) - ones))
