"""Check for leakage: a feature that nearly equals the label, or that is known only after the event to predict.

A model with such a feature is good in every evaluation and useless in serving, so the check comes before any fit. It
needs a uniform sample of a partition, and no history.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from airflow_mlops.core.data.label_classes import encode_labels
from airflow_mlops.core.data.profiles.column_bins import Floats
from airflow_mlops.core.data.profiles.profile_rows import category_text
from airflow_mlops.core.declaration.arrow_types import column_kind, is_time
from airflow_mlops.core.declaration.data import Severity
from airflow_mlops.core.validation.finding import Finding

MIN_UNEXPLAINED = 0.002
"""Smallest share of the label's variance that a feature must leave unexplained. The flown distance leaves 2 % of a
flight's air time unexplained, a copy with rounded minutes less than 0.1 %."""
MAX_AREA = 0.995
"""Area under the ROC curve, in either direction, from which a feature separates the classes by itself."""
LATER_SHARE = 0.001
"""Largest share of rows with a time after the event: clocks and typists err."""
LATER_ROWS = 5
"""Rows below which times after the event count as mistyped."""
MIN_ROWS = 200
"""Rows with both values that a verdict needs: few points are correlated by chance."""
MIN_OF_CLASS = 20
"""Rows of the rarer class, or of nulls, that a verdict needs."""
MIN_OF_CATEGORY = 5
"""Rows of a category that the mean of its labels needs."""
COMPARED_ROWS = 10_000
"""Rows on which likeness is measured, enough to distinguish 0.998 of the variance from 0.99."""
ROWS_OF_RUN = 5
"""Mean length of runs of nulls, in the order of time, from which nulls are an outage; single nulls make runs of 1."""

Positions = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def check_leakage(
    sample: pa.Table,
    severity: Severity,
    *,
    label: str,
    key: str,
    time: str,
    hidden: frozenset[str] = frozenset(),
    known_ahead: frozenset[str] = frozenset(),
    classes: tuple[str, ...] | None = None,
) -> list[Finding]:
    """Return a finding for each leak of each feature, or a single finding without a leak.

    Parameters
    ----------
    sample : pyarrow.Table
        A uniform sample of the partition in random order, shape (n_rows, n_columns).
    severity : str
        The declared severity of a leak.
    label, key, time : str
        Columns that are no features.
    hidden : frozenset of str
        Further columns that a model never sees.
    known_ahead : frozenset of str
        Dates and times that are known when a prediction is made, wherever they lie: they cannot leak.
    classes : tuple of str, optional
        The declared classes of the label; of three or more, each is compared with the others.
    """
    if label not in sample.column_names:  # labels come later from a source of their own
        sample = sample.append_column(label, pa.nulls(sample.num_rows, pa.float64()))
    features = [name for name in sample.column_names if name not in {label, key, time, *hidden, *known_ahead}]
    order = time_order(sample.column(time))
    findings = [
        Finding("leakage", name, severity, "fail", f"{name} {words} ({remedy(sample.column(name))})", value, limit)
        for name in features
        for value, limit, words in [
            *find_later_times(sample.column(name), sample.column(time)),
            *find_shared_nulls(sample.column(name), sample.column(label), order),
        ]
    ]
    compared = sample.slice(0, COMPARED_ROWS)
    order = time_order(compared.column(time))
    targets = label_targets(compared.column(label), classes)
    rows = int(np.isfinite(targets[0]).sum()) if targets else 0
    if rows < MIN_ROWS:
        words = f"{rows:,} rows of the sample have a label, {MIN_ROWS} are needed to look for features like it"
        return [*findings, Finding("leakage", None, severity, "too little history", words)]
    for name in features:
        leaks = (find_likeness(compared.column(name), target, order) for target in targets)
        leak = next((leak for leak in leaks if leak is not None), None)
        if leak is not None:
            value, limit, words = leak
            words = f"{name} {words} ({remedy(compared.column(name))})"
            findings.append(Finding("leakage", name, severity, "fail", words, value, limit))
    words = f"none of {len(features)} features nearly is the label or is known only after the event"
    return findings or [Finding("leakage", None, severity, "pass", words)]


def label_targets(column: pa.ChunkedArray, classes: tuple[str, ...] | None) -> list[Floats]:
    """Return the targets that features are compared with, each of shape (n_rows,) with NaN for null.

    It is the label itself, or whether it is of a class, for each of three classes or more; empty for text without
    declared classes.
    """
    if classes is None:
        target = to_floats(column)
        return [] if target is None else [target]
    codes = encode_labels(column.to_pandas(), classes)
    if len(classes) == 2:
        return [codes]
    return [np.where(np.isnan(codes), np.nan, codes == code) for code in range(len(classes))]


def remedy(column: pa.ChunkedArray) -> str:
    """Return the advice on a leaking column, by its type: the key of the contract that exempts it."""
    if is_time(column.type):
        return (
            "declare it in the contract as known_ahead: true if it is known when a prediction is made, otherwise as "
            "feature: false"
        )
    return "take it out, or declare it in the contract as feature: false"


def time_order(time: pa.ChunkedArray) -> Positions:
    """Return the positions of the rows in the order of their time, shape (n_rows,); as they are if it is no time."""
    if not is_time(time.type):
        return np.arange(len(time))
    return np.argsort(epoch_values(time, days=False), kind="stable")


def find_later_times(column: pa.ChunkedArray, time: pa.ChunkedArray) -> list[tuple[float, float, str]]:
    """Return a leak if a date or time lies after the time of the row in more than one row of a thousand."""
    if not (is_time(column.type) and is_time(time.type)):
        return []
    # A date and a time are compared by their days: their order within a day is unknown.
    days = "date" in (column_kind(column.type), column_kind(time.type))
    first, second = epoch_values(column, days=days), epoch_values(time, days=days)
    present = ~(np.isnan(first) | np.isnan(second))
    # The text is kept in the ledger, from which nothing is erased: it states a distance, and no value of a row.
    ahead = first[present] - second[present]
    later = int((ahead > 0).sum())
    share = later / max(int(present.sum()), 1)
    if later < LATER_ROWS or share <= LATER_SHARE:
        return []
    words = (
        f"lies after the row's time in {share:.1%} of the rows, by up to {distance(float(ahead.max()), days=days)}, so "
        "it may be unknown when a prediction is made"
    )
    return [(share, LATER_SHARE, words)]


def distance(value: float, *, days: bool) -> str:
    """Return a distance in time, in days or microseconds, in words.

    >>> distance(3.0, days=True), distance(5.4e9, days=False), distance(90e6, days=False)
    ('3 days', '1.5 hours', '1.5 minutes')
    """
    seconds = value * 86_400 if days else value / 1e6
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if days or seconds >= length:
            return f"{seconds / length:.4g} {unit}"
    return f"{seconds:.4g} seconds"


def find_shared_nulls(
    column: pa.ChunkedArray, label: pa.ChunkedArray, order: Positions
) -> list[tuple[float, float, str]]:
    """Return a leak if a feature is null in exactly the rows in which the label is null, and not only for a while."""
    feature, target = (np.asarray(pc.is_null(values).to_numpy()) for values in (column, label))
    nulls = int(target.sum())
    if not MIN_OF_CLASS <= nulls <= len(target) - MIN_OF_CLASS or not np.array_equal(feature, target):
        return []
    if is_outage(target[order]):
        return []
    words = f"is null in exactly the {nulls:,} rows of the sample in which the label is, so it arrives with the label"
    return [(1.0, 1.0, words)]


def is_outage(nulls: Flags) -> bool:
    """Return whether nulls, in the order of time, come in long runs, or all in one half of the time.

    Both make it an outage, which takes several columns at once. Nulls of single rows, spread over the partition, do
    neither: 20 of them lie in one half by chance once in 25,000 times.
    """
    positions = np.flatnonzero(nulls)
    runs = 1 + int((np.diff(positions) > 1).sum())
    rarer = min(len(positions), len(nulls) - len(positions))
    span = int(positions[-1] - positions[0]) + 1
    return runs * ROWS_OF_RUN <= rarer or 2 * span <= len(nulls)


def outside_standstill(x: Floats, y: Floats) -> Flags:
    """Return which rows, in the order of time, lie in no run of rows in which both values stand still.

    A sensor that is off gives a feature and a label of zero for hours; two clouds of points correlate perfectly.
    """
    changes = np.flatnonzero((np.diff(x) != 0) | (np.diff(y) != 0)) + 1
    lengths = np.diff(np.concatenate([[0], changes, [len(x)]]))
    return np.repeat(lengths < MIN_OF_CLASS, lengths)


def find_likeness(column: pa.ChunkedArray, target: Floats, order: Positions) -> tuple[float, float, str] | None:
    """Return a leak if a feature predicts the label nearly perfectly: the value, its limit and an explanation."""
    feature = to_floats(column)
    if feature is None:
        feature = cross_fitted_means(category_text(column.combine_chunks()), target)
    feature, target = feature[order], target[order]
    present = np.isfinite(feature) & np.isfinite(target)
    x, y = feature[present], target[present]
    is_binary = set(np.unique(y)) <= {0.0, 1.0}
    if not is_binary:
        moving = outside_standstill(x, y)
        x, y = x[moving], y[moving]
    if len(y) < MIN_ROWS or x.min() == x.max() or y.min() == y.max():
        return None
    return compare_with_class(x, y) if is_binary else compare_with_number(x, y)


def compare_with_class(x: Floats, y: Floats) -> tuple[float, float, str] | None:
    """Return a leak if a feature separates a label of 0 and 1."""
    if min((y == 0).sum(), (y == 1).sum()) < MIN_OF_CLASS:
        return None
    area = roc_area(x, y == 1)
    if max(area, 1 - area) < MAX_AREA:
        return None
    return area, MAX_AREA, f"tells the classes apart by itself: area under the ROC curve {area:.4f}"


def compare_with_number(x: Floats, y: Floats) -> tuple[float, float, str] | None:
    """Return a leak if a line or a monotone curve of a feature is nearly the label."""
    # Ranks find a monotone curve of the label, such as its logarithm.
    unexplained = 1 - max(squared_correlation(x, y), squared_correlation(ranks(x), ranks(y)))
    if unexplained > MIN_UNEXPLAINED:
        return None
    return unexplained, MIN_UNEXPLAINED, f"leaves {unexplained:.3%} of the label's variance open"


def to_floats(column: pa.ChunkedArray) -> Floats | None:
    """Return the values of a column as floats, shape (n_rows,), NaN for null; None for a column of text."""
    if pa.types.is_boolean(column.type):
        return np.asarray(column.cast(pa.int8()).cast(pa.float64()).to_numpy(), np.float64)
    kind = column_kind(column.type)
    if kind == "category":
        return None
    if kind == "number":
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    return epoch_values(column, days=False)


def epoch_values(column: pa.ChunkedArray, *, days: bool) -> Floats:
    """Return dates or times as microseconds, or as whole days, since 1970, shape (n_rows,), NaN for null."""
    micros = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
    values = np.asarray(micros.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    return np.floor(values / 86_400e6) if days else values


def cross_fitted_means(texts: pa.Array, target: Floats) -> Floats:
    """Return the mean label of the same text in the other half of the rows, shape (n_rows,), NaN for rare texts.

    Two halves, so that a text of one row alone, such as a name, does not predict its own label.
    """
    codes = np.asarray(texts.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
    usable = np.isfinite(target) & (codes >= 0)
    even = np.arange(len(codes)) % 2 == 0
    predicted = np.full(len(codes), np.nan)
    for half in (even, ~even):
        fitted, predicting = half & usable, ~half & (codes >= 0)
        if not fitted.any():
            continue
        count = np.bincount(codes[fitted], minlength=codes.max() + 1)
        total = np.bincount(codes[fitted], target[fitted], minlength=codes.max() + 1)
        means = np.full(len(count), np.nan)
        enough = count >= MIN_OF_CATEGORY
        means[enough] = total[enough] / count[enough]
        predicted[predicting] = means[codes[predicting]]
    # A column in which most texts are rare is prose or a name, and not a category.
    return predicted if np.isfinite(predicted).sum() >= usable.sum() / 2 else np.full(len(codes), np.nan)


def squared_correlation(x: Floats, y: Floats) -> float:
    """Return the squared correlation of two samples of shape (n,); 0 if it is undefined."""
    with np.errstate(all="ignore"):
        a, b = x - x.mean(), y - y.mean()
        value = float((a @ b) ** 2 / ((a @ a) * (b @ b)))
    return value if np.isfinite(value) else 0.0


def ranks(values: Floats) -> Floats:
    """Return the rank of each value, from 1, shape (n,); ties share their mean rank."""
    return np.asarray(pd.Series(values).rank(), np.float64)


def roc_area(x: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve of ``x`` for the class ``positive``, both shape (n,); ties count half."""
    count = int(positive.sum())
    total = float(ranks(x)[positive].sum())
    return (total - count * (count + 1) / 2) / (count * (len(x) - count))
