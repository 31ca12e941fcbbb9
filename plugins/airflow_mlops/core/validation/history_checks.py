"""Check the profile of a partition against the profiles of the partitions before it.

Expectations cover single values; these checks find a delivery that is unlike every partition before although each of
its rows looks good, such as a poisoned or half-broken one. A limit is the median of the earlier partitions plus or
minus six of their standard deviations, estimated robustly from the median absolute deviation. It is never closer than
a stated floor and the sampling noise of the rows, because a history that hardly moved would make every trifle an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from airflow_mlops.core.data.profiles.partition_profile import ColumnProfile, PartitionProfile
from airflow_mlops.core.declaration.data import Checks
from airflow_mlops.core.validation.finding import Finding, Verdict
from airflow_mlops.core.validation.robust_limit import NOISE, highest_usual_share, usual_range

ROWS_FLOOR = math.log(2.0)
"""Logarithm of the number of rows: half or twice the usual number is no alarm, a week of holidays has that."""
DUPLICATES_FLOOR = 0.01
"""Share of rows: below one in a hundred, equal rows cannot be distinguished from a copied file."""
LABEL_FLOOR = 0.25
"""Standard deviations of the label: over the 53 weeks of a real year the mean air time of flights moved by 0.21
standard deviations, and the share of late flights by 0.44, with a history that moved as much."""
UNSEEN_FLOOR = 0.05
"""Share of the values of a column: new shops, carriers and versions arrive one at a time. The rarer destinations of
flights move by one in a hundred."""
ONE_VALUE_FLOOR = 0.20
"""Share of the values of a column that its most frequent one may gain; the busiest airport gains three in a
hundred from one week to another."""
BY_CHANCE = 1e-6
"""Probability below which an empty or constant column is not explained by chance among few rows."""


def check_history(
    profile: PartitionProfile, earlier: Sequence[PartitionProfile], declared: Checks, *, label: str
) -> list[Finding]:
    """Return a finding for each failure, and one for each check that does not fail.

    Parameters
    ----------
    profile : PartitionProfile
        Profile of the partition.
    earlier : sequence of PartitionProfile
        Profiles of partitions published before it. A column that was counted on other bins is compared only by
        checks that do not depend on bins.
    declared : Checks
        Severities, and the number of partitions that a check needs.
    label : str
        Column to predict; it may be empty, because labels arrive later.
    """
    return [
        check_rows(profile, earlier, declared),
        check_duplicates(profile, earlier, declared),
        check_label(profile, earlier, declared, label),
        *check_columns("categories", declared, profile, earlier, judge_unseen_values),
        *check_columns("one_value", declared, profile, earlier, judge_most_frequent_value),
        *check_columns("constant", declared, profile, earlier, judge_constancy),
        *check_columns("empty", declared, profile, earlier, judge_emptiness, but=label),
    ]


def check_rows(profile: PartitionProfile, earlier: Sequence[PartitionProfile], declared: Checks) -> Finding:
    """Check the number of rows on its logarithm, so that twice as many is as far as half."""
    past = [math.log(max(before.rows, 1)) for before in earlier]
    if len(past) < declared.at_least:
        return too_little_history("row_count", declared, len(past))
    median, distance = usual_range(past, ROWS_FLOOR)
    low, high = math.exp(median - distance), math.exp(median + distance)
    words = f"{profile.rows:,} rows; the {len(past)} partitions before let expect {low:,.0f} to {high:,.0f}"
    is_usual = low <= profile.rows <= high
    limit = high if profile.rows > math.exp(median) else low
    return Finding("row_count", None, declared.row_count, to_verdict(is_usual), words, float(profile.rows), limit)


def check_duplicates(profile: PartitionProfile, earlier: Sequence[PartitionProfile], declared: Checks) -> Finding:
    """Check the share of rows that differ from another row in the key alone."""
    past = [before.duplicates / before.rows for before in earlier if before.duplicates is not None and before.rows]
    if len(past) < declared.at_least or profile.duplicates is None:
        return too_little_history("duplicates", declared, len(past))
    value = profile.duplicates / max(profile.rows, 1)
    limit = highest_usual_share(past, DUPLICATES_FLOOR, profile.rows)
    words = f"{value:.2%} of the rows repeat another one in all but the key; at most {limit:.2%} is usual"
    return Finding("duplicates", None, declared.duplicates, to_verdict(value <= limit), words, value, limit)


def check_label(
    profile: PartitionProfile, earlier: Sequence[PartitionProfile], declared: Checks, label: str
) -> Finding:
    """Check the mean of the label, which is its rate if the label is 0 or 1, or true or false."""
    moments = [label_moments(before.columns[label]) for before in earlier if label in before.columns]
    past = [moment for moment in moments if moment is not None]
    now = label_moments(profile.columns[label]) if label in profile.columns else None
    if len(past) < declared.at_least or now is None:
        has_label = label in profile.columns and profile.columns[label].values > 0
        words = "the label has no mean; " if has_label else "no row of this partition has a label; "
        reason = "" if now else words
        return too_little_history("label", declared, len(past), reason)
    mean, _, rows = now
    spread = float(np.median([deviation for _, deviation, _ in past]))
    floor = max(LABEL_FLOOR * spread, NOISE * spread / math.sqrt(rows))
    median, distance = usual_range([mean for mean, _, _ in past], floor)
    words = (
        f"the label's mean is {mean:.4g} over {rows:,} rows; the {len(past)} partitions before let expect "
        f"{median - distance:.4g} to {median + distance:.4g}"
    )
    limit = median + math.copysign(distance, mean - median)
    return Finding("label", label, declared.label, to_verdict(abs(mean - median) <= distance), words, mean, limit)


def label_moments(column: ColumnProfile) -> tuple[float, float, int] | None:
    """Return the mean, the standard deviation between bins and the number of the values.

    None without values, or if they are so large that their sum overflows.
    """
    if not column.values:
        return None
    if column.kind == "category":
        if "True" not in column.categories and "False" not in column.categories:
            return None
        positive = dict(zip(column.categories, column.counts, strict=True)).get("True", 0)
        rate = positive / column.values
        return rate, math.sqrt(rate * (1 - rate)), column.values
    counts, sums = np.array(column.counts, np.float64), np.array(column.sums, np.float64)
    filled = counts > 0
    with np.errstate(over="ignore", invalid="ignore"):
        means, mean = sums[filled] / counts[filled], float(sums.sum() / counts.sum())
        distances = np.abs(means - mean)
        widest = float(distances.max())
        # In units of the widest distance, because squares of numbers beyond 1e154 overflow.
        variance = float((counts[filled] * (distances / (widest or 1)) ** 2).sum() / counts.sum())
        deviation = widest * math.sqrt(variance)
    if not (math.isfinite(mean) and math.isfinite(deviation)):
        return None
    return mean, deviation, column.values


class Judgement(NamedTuple):
    """The outcome of a check of one column: whether it failed, its value, its limit if any, and an explanation."""

    failed: bool
    value: float
    limit: float | None
    words: str


def judge_unseen_values(now: ColumnProfile, before: Sequence[ColumnProfile]) -> Judgement | None:
    """Judge the share of values outside the categories of the bins; None if they cannot be compared."""
    past = [column.rest / column.values for column in before if column.bins == now.bins and column.values]
    if now.kind != "category" or not now.values or not past:
        return None
    value, limit = now.rest / now.values, highest_usual_share(past, UNSEEN_FLOOR, now.values)
    words = f"{value:.1%} of the values are none of the {len(now.categories)} known; at most {limit:.1%} is usual"
    return Judgement(value > limit, value, limit, words)


def judge_most_frequent_value(now: ColumnProfile, before: Sequence[ColumnProfile]) -> Judgement | None:
    """Judge the share of the most frequent value of a column of text; None if it cannot be compared."""
    past = [
        max(column.counts) / column.values
        for column in before
        if column.bins == now.bins and column.values and column.counts
    ]
    if now.kind != "category" or not now.values or not now.counts or not past:
        return None
    value, limit = max(now.counts) / now.values, highest_usual_share(past, ONE_VALUE_FLOOR, now.values)
    name = now.categories[now.counts.index(max(now.counts))]
    words = f"{name!r} is {value:.1%} of the values; at most {limit:.1%} of one value is usual"
    return Judgement(value > limit, value, limit, words)


def judge_constancy(now: ColumnProfile, before: Sequence[ColumnProfile]) -> Judgement | None:
    """Judge whether a column that always varied holds a single value; None if it did not always vary."""
    past = [column for column in before if column.values]
    if not now.values or not past or not all(column.varies for column in past):
        return None
    # The fullest bin holds at least the most frequent value, so chance is never underestimated.
    fullest = max(max((*column.counts, column.rest)) / column.values for column in past)
    by_chance = now.values * math.log(fullest) > math.log(BY_CHANCE)
    words = f"all {now.values:,} values are the same; in each of the {len(past)} partitions before they varied"
    return Judgement(not now.varies and not by_chance, float(now.values), None, words)


def judge_emptiness(now: ColumnProfile, before: Sequence[ColumnProfile]) -> Judgement | None:
    """Judge whether a column that always held values holds none; None if it was empty before."""
    shares = [1 - column.values / row_count(column) for column in before if row_count(column)]
    if not shares or max(shares) == 1 or not row_count(now):
        return None
    by_chance = max(shares) > 0 and row_count(now) * math.log(max(shares)) > math.log(BY_CHANCE)
    words = (
        f"none of the {row_count(now):,} rows holds a value; in the {len(shares)} partitions before at most "
        f"{max(shares):.1%} of the rows held none"
    )
    return Judgement(now.values == 0 and not by_chance, 1 - now.values / row_count(now), None, words)


def row_count(column: ColumnProfile) -> int:
    """Return the number of rows of a column."""
    return column.values + column.nulls + column.nan + column.infinite


Judge = Callable[[ColumnProfile, Sequence[ColumnProfile]], Judgement | None]


def check_columns(
    check: str,
    declared: Checks,
    profile: PartitionProfile,
    earlier: Sequence[PartitionProfile],
    judge: Judge,
    *,
    but: str | None = None,
) -> Iterator[Finding]:
    """Yield a finding for each column that fails, or a single finding if none does."""
    if len(earlier) < declared.at_least:
        yield too_little_history(check, declared, len(earlier))
        return
    severity = getattr(declared, check)
    judgements: list[Judgement] = []
    for name, column in profile.columns.items():
        before = [past.columns[name] for past in earlier if name in past.columns]
        judgement = judge(column, before) if len(before) >= declared.at_least and name != but else None
        if judgement is None:
            continue
        judgements.append(judgement)
        if judgement.failed:
            words = f"{name}: {judgement.words}"
            yield Finding(check, name, severity, "fail", words, judgement.value, judgement.limit)
    if not any(judgement.failed for judgement in judgements):
        words = f"none of {len(judgements)} columns is unlike the {len(earlier)} partitions before"
        yield Finding(check, None, severity, "pass", words)


def to_verdict(is_usual: bool) -> Verdict:
    """Return the verdict of a value that is, or is not, within its limit."""
    return "pass" if is_usual else "fail"


def too_little_history(check: str, declared: Checks, partitions: int, reason: str = "") -> Finding:
    """Return the finding of a check with fewer partitions than it needs."""
    words = f"{reason}{partitions} partitions of history can be compared, {declared.at_least} are needed"
    return Finding(check, None, getattr(declared, check), "too little history", words)
