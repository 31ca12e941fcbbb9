"""Hold a partition against the loop's own history: what came before says what may come.

Expectations say what values are good; these checks say what is unlike every partition before, which is how
a poisoned or half-broken delivery shows whose every row looks fine. A limit is the median of the earlier
partitions, plus or minus six of their own standard deviations (told robustly, from the median absolute
deviation), but never closer than a stated floor and the noise of so few rows: history that hardly moved
would else make an alarm of every trifle.

Nothing here reads rows: the checks are functions of profiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from airflow_mlops.core.data.profiles.partition_profile import ColumnProfile, PartitionProfile
from airflow_mlops.core.declaration.data import Checks
from airflow_mlops.core.validation.finding import Finding, Verdict
from airflow_mlops.core.validation.robust_limit import NOISE, highest_share, usual

ROWS_FLOOR = math.log(2.0)
"""Half or twice the usual rows is no alarm by itself: the week of a holiday is that."""
DUPLICATES_FLOOR = 0.01
"""Share of rows: below one in a hundred, rows that happen to be equal are told from a copied file by nobody."""
LABEL_FLOOR = 0.25
"""Standard deviations of the label: over the 53 weeks of a real year the mean air time of flights moved by 0.21
of them, and the share of late ones by 0.44, with a history that moved as much."""
UNSEEN_FLOOR = 0.05
"""Share of the values of a column: new shops, carriers and versions come by ones. Flights' rarer destinations
move by one in a hundred."""
ONE_VALUE_FLOOR = 0.20
"""Share of the values of a column that its most frequent one may gain; the busiest airport gains three in a
hundred from one week to another."""
BY_CHANCE = 1e-6
"""Probability below which a column that holds nothing, or one value, is not so because the rows are few."""


def check_history(
    profile: PartitionProfile, earlier: Sequence[PartitionProfile], declared: Checks, *, label: str
) -> list[Finding]:
    """Return what the checks say: every failure, and one finding for each check without any.

    Parameters
    ----------
    profile : PartitionProfile
        Of the partition to judge.
    earlier : sequence of PartitionProfile
        Of the partitions published before it, none of them later. A column that was counted on other bins
        is compared only where bins do not matter.
    declared : Checks
        Severities, and the partitions of history below which nothing is said.
    label : str
        Column to predict. It may be empty: labels arrive later.
    """
    whole = [
        check_rows(profile, earlier, declared),
        check_duplicates(profile, earlier, declared),
        check_label(profile, earlier, declared, label),
    ]
    return [
        *whole,
        *over_columns("categories", declared, profile, earlier, unseen_values),
        *over_columns("one_value", declared, profile, earlier, one_value),
        *over_columns("constant", declared, profile, earlier, became_constant),
        *over_columns("empty", declared, profile, earlier, became_empty, but=label),
    ]


def check_rows(profile: PartitionProfile, earlier: Sequence[PartitionProfile], declared: Checks) -> Finding:
    """Judge the number of rows, on its logarithm: twice as many is as far as half."""
    past = [math.log(max(before.rows, 1)) for before in earlier]
    if len(past) < declared.at_least:
        return too_little("row_count", declared, len(past))
    middle, allowed = usual(past, ROWS_FLOOR)
    low, high = math.exp(middle - allowed), math.exp(middle + allowed)
    words = f"{profile.rows:,} rows; the {len(past)} partitions before let expect {low:,.0f} to {high:,.0f}"
    within = low <= profile.rows <= high
    limit = high if profile.rows > math.exp(middle) else low
    return Finding("row_count", None, declared.row_count, passed(within), words, float(profile.rows), limit)


def check_duplicates(profile: PartitionProfile, earlier: Sequence[PartitionProfile], declared: Checks) -> Finding:
    """Judge the share of rows that differ from another in nothing but the key."""
    past = [before.duplicates / before.rows for before in earlier if before.duplicates is not None and before.rows]
    if len(past) < declared.at_least or profile.duplicates is None:
        return too_little("duplicates", declared, len(past))
    value = profile.duplicates / max(profile.rows, 1)
    limit = highest_share(past, DUPLICATES_FLOOR, profile.rows)
    words = f"{value:.2%} of the rows repeat another one in all but the key; at most {limit:.2%} is usual"
    return Finding("duplicates", None, declared.duplicates, passed(value <= limit), words, value, limit)


def check_label(
    profile: PartitionProfile, earlier: Sequence[PartitionProfile], declared: Checks, label: str
) -> Finding:
    """Judge the mean of the label; of a label that is 0 or 1, or true or false, that is its rate."""
    past = [moments(before.columns[label]) for before in earlier if label in before.columns]
    known = [moment for moment in past if moment is not None]
    now = moments(profile.columns[label]) if label in profile.columns else None
    if len(known) < declared.at_least or now is None:
        return too_little("label", declared, len(known), "" if now else "no row of this partition has a label; ")
    value, _, rows = now
    spread = float(np.median([deviation for _, deviation, _ in known]))
    middle, allowed = usual([mean for mean, _, _ in known], max(LABEL_FLOOR * spread, NOISE * spread / math.sqrt(rows)))
    words = (
        f"the label's mean is {value:.4g} over {rows:,} rows; the {len(known)} partitions before let expect "
        f"{middle - allowed:.4g} to {middle + allowed:.4g}"
    )
    limit = middle + math.copysign(allowed, value - middle)
    return Finding("label", label, declared.label, passed(abs(value - middle) <= allowed), words, value, limit)


def moments(column: ColumnProfile) -> tuple[float, float, int] | None:
    """Return mean, standard deviation between bins and number of the values; None where there are none.

    None too where the values are so large that their sum is no number.
    """
    if not column.values:
        return None
    if column.kind == "category":
        if "True" not in column.categories and "False" not in column.categories:
            return None
        true = dict(zip(column.categories, column.counts, strict=True)).get("True", 0)
        rate = true / column.values
        return rate, math.sqrt(rate * (1 - rate)), column.values
    counts, sums = np.array(column.counts, np.float64), np.array(column.sums, np.float64)
    held = counts > 0
    with np.errstate(over="ignore", invalid="ignore"):
        means, mean = sums[held] / counts[held], float(sums.sum() / counts.sum())
        away = np.abs(means - mean)
        widest = float(away.max())
        # Measured by the widest, because the squares of numbers beyond 1e154 are none.
        deviation = widest * math.sqrt(float((counts[held] * (away / (widest or 1)) ** 2).sum() / counts.sum()))
    if not (math.isfinite(mean) and math.isfinite(deviation)):
        return None
    return mean, deviation, column.values


def unseen_values(now: ColumnProfile, before: Sequence[ColumnProfile]) -> tuple[bool, float, float | None, str] | None:
    """Judge the share of values that are none of the categories that the bins name."""
    past = [column.rest / column.values for column in before if column.bins == now.bins and column.values]
    if now.kind != "category" or not now.values or not past:
        return None
    value, limit = now.rest / now.values, highest_share(past, UNSEEN_FLOOR, now.values)
    words = f"{value:.1%} of the values are none of the {len(now.categories)} known; at most {limit:.1%} is usual"
    return value > limit, value, limit, words


def one_value(now: ColumnProfile, before: Sequence[ColumnProfile]) -> tuple[bool, float, float | None, str] | None:
    """Judge the share of the most frequent value of a column of text."""
    past = [
        max(column.counts) / column.values
        for column in before
        if column.bins == now.bins and column.values and column.counts
    ]
    if now.kind != "category" or not now.values or not now.counts or not past:
        return None
    value, limit = max(now.counts) / now.values, highest_share(past, ONE_VALUE_FLOOR, now.values)
    name = now.categories[now.counts.index(max(now.counts))]
    words = f"{name!r} is {value:.1%} of the values; at most {limit:.1%} of one value is usual"
    return value > limit, value, limit, words


def became_constant(
    now: ColumnProfile, before: Sequence[ColumnProfile]
) -> tuple[bool, float, float | None, str] | None:
    """Judge whether a column that always varied holds one value."""
    past = [column for column in before if column.values]
    if not now.values or not past or not all(column.varies for column in past):
        return None
    # The fullest bin holds at least the most frequent value, so chance is never put too low.
    fullest = max(max((*column.counts, column.rest)) / column.values for column in past)
    by_chance = now.values * math.log(fullest) > math.log(BY_CHANCE)
    words = f"all {now.values:,} values are the same; in each of the {len(past)} partitions before they varied"
    return not now.varies and not by_chance, float(now.values), None, words


def became_empty(now: ColumnProfile, before: Sequence[ColumnProfile]) -> tuple[bool, float, float | None, str] | None:
    """Judge whether a column that always held values holds none."""
    shares = [1 - column.values / size(column) for column in before if size(column)]
    if not shares or max(shares) == 1 or not size(now):
        return None
    by_chance = max(shares) > 0 and size(now) * math.log(max(shares)) > math.log(BY_CHANCE)
    words = (
        f"none of the {size(now):,} rows holds a value; in the {len(shares)} partitions before at most "
        f"{max(shares):.1%} of the rows held none"
    )
    return now.values == 0 and not by_chance, 1 - now.values / size(now), None, words


def size(column: ColumnProfile) -> int:
    """Return the rows that a column was counted over."""
    return column.values + column.nulls + column.nan + column.infinite


Judge = Callable[[ColumnProfile, Sequence[ColumnProfile]], tuple[bool, float, float | None, str] | None]


def over_columns(
    check: str,
    declared: Checks,
    profile: PartitionProfile,
    earlier: Sequence[PartitionProfile],
    judge: Judge,
    *,
    but: str | None = None,
) -> Iterator[Finding]:
    """Yield a finding for each column that fails, or one that says that none does."""
    if len(earlier) < declared.at_least:
        yield too_little(check, declared, len(earlier))
        return
    judged = failed = 0
    for name, column in profile.columns.items():
        before = [one.columns[name] for one in earlier if name in one.columns]
        outcome = judge(column, before) if len(before) >= declared.at_least and name != but else None
        judged += outcome is not None
        if outcome is not None and outcome[0]:
            failed += 1
            _, value, limit, words = outcome
            yield Finding(check, name, getattr(declared, check), "fail", f"{name}: {words}", value, limit)
    if not failed:
        words = f"none of {judged} columns is unlike the {len(earlier)} partitions before"
        yield Finding(check, None, getattr(declared, check), "pass", words)


def passed(within: bool) -> Verdict:
    """Return the verdict of a value that is, or is not, within its limit."""
    return "pass" if within else "fail"


def too_little(check: str, declared: Checks, partitions: int, why: str = "") -> Finding:
    """Return the finding of a check that has nothing to compare with."""
    words = f"{why}{partitions} partitions of history can be compared, {declared.at_least} are needed"
    return Finding(check, None, getattr(declared, check), "too little history", words)
