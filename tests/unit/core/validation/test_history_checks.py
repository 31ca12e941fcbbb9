"""Each check is silent on partitions like those before, and tells the one fault that was planted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from airflow_mlops.core.data.duplicate_keys import KeySpool
from airflow_mlops.core.data.profiles.partition_profile import PartitionProfile
from airflow_mlops.core.data.profiles.profile_rows import ProfileBins, Profiler, profile_bins
from airflow_mlops.core.data.row_hash import hash_rows
from airflow_mlops.core.declaration.data import Checks
from airflow_mlops.core.validation.finding import Finding
from airflow_mlops.core.validation.history_checks import check_history

Columns = dict[str, Any]
ROWS = 1_000


def week(number: int, rows: int = ROWS) -> Columns:
    """Return a week of orders, not quite like the others."""
    random = np.random.default_rng(number)
    return {
        "id": np.arange(rows),
        "placed": random.random(rows),
        "shop": random.choice([f"shop {i}" for i in range(20)], rows),
        "amount": random.lognormal(3, 1, rows),
        "express": random.random(rows) < 0.3,
        "note": [None if blank else "call first" for blank in random.random(rows) < 0.9],
        "late": (random.random(rows) < 0.2 + 0.02 * np.sin(number)).astype(int),
    }


def profile_of(columns: Columns, bins: ProfileBins) -> PartitionProfile:
    profiler = Profiler(bins)
    with KeySpool() as rest:
        for batch in pa.table(columns).to_batches():
            profiler.update(batch)
            hashed = hash_rows(batch, key="id")
            assert hashed.rest is not None
            rest.add(hashed.rest)
        return profiler.profile(duplicates=rest.surplus())


BINS = profile_bins(pa.table(week(0)).drop_columns(["id"]))
HISTORY = [profile_of(week(number), BINS) for number in range(12)]


def check(columns: Columns, history: list[PartitionProfile] = HISTORY, **declared: Any) -> list[Finding]:
    return check_history(profile_of(columns, BINS), history, Checks(**declared), label="late")


def failed_checks(findings: list[Finding]) -> set[tuple[str, str | None]]:
    return {(finding.check, finding.column) for finding in findings if finding.verdict == "fail"}


@pytest.mark.parametrize("number", range(12, 42))
def test_a_week_like_those_before_passes_every_check(number: int) -> None:
    findings = check(week(number))
    assert failed_checks(findings) == set()
    assert {finding.verdict for finding in findings} == {"pass"}
    assert [finding.check for finding in findings] == [
        "row_count",
        "duplicates",
        "label",
        "categories",
        "one_value",
        "constant",
        "empty",
    ]


def no_third(columns: Columns) -> Columns:
    return {name: values[: ROWS // 3] for name, values in columns.items()}


def with_copied_rows(columns: Columns) -> Columns:
    twice = {name: np.concatenate([values, values[:30]]) for name, values in columns.items()}
    return twice | {"id": np.arange(ROWS + 30)}


def with_column(name: str, change: Callable[[Any], Any]) -> Callable[[Columns], Columns]:
    return lambda columns: columns | {name: change(columns[name])}


def mostly(value: str) -> Callable[[Any], Any]:
    return lambda old: np.where(np.arange(len(old)) % 10 < 4, value, old)


EMPTY = {("empty", "amount")}
PLANTED = {
    "a third of the rows": (no_third, {("row_count", None)}),
    "rows copied under new keys": (with_copied_rows, {("duplicates", None)}),
    "a label that is flipped": (with_column("late", lambda old: 1 - old), {("label", "late")}),
    "shops never seen": (with_column("shop", mostly("shop 77")), {("categories", "shop")}),
    "one shop with four orders in ten": (with_column("shop", mostly("shop 3")), {("one_value", "shop")}),
    "one amount throughout": (with_column("amount", lambda old: np.full(len(old), 9.5)), {("constant", "amount")}),
    "no amount throughout": (with_column("amount", lambda old: pa.nulls(len(old), pa.float64())), EMPTY),
    "amounts that are no numbers": (with_column("amount", lambda old: np.full(len(old), np.nan)), EMPTY),
    "one class of the label": (
        with_column("late", lambda old: np.zeros(len(old), int)),
        {("label", "late"), ("constant", "late")},
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_told_and_nothing_else(fault: str) -> None:
    plant, expected = PLANTED[fault]
    findings = check(plant(week(50)))
    assert failed_checks(findings) == expected
    for finding in findings:
        if finding.verdict == "fail":
            assert finding.severity == getattr(Checks(), finding.check)
            assert finding.words


def test_the_severity_is_the_declared_one() -> None:
    findings = check(no_third(week(50)), row_count="critical")
    assert [finding.severity for finding in findings if finding.verdict == "fail"] == ["critical"]


def test_too_few_partitions_before_are_said_and_never_a_failure() -> None:
    findings = check(no_third(week(50)), HISTORY[:5])
    assert {finding.verdict for finding in findings} == {"too little history"}
    assert "5 partitions of history can be compared, 6 are needed" in findings[0].words
    assert failed_checks(check(no_third(week(50)), HISTORY[:5], at_least=5)) == {("row_count", None)}


def test_a_label_that_has_not_arrived_is_no_fault() -> None:
    findings = check(with_column("late", lambda old: pa.nulls(len(old), pa.int64()))(week(50)))
    assert failed_checks(findings) == set()
    assert [finding.verdict for finding in findings if finding.check == "label"] == ["too little history"]


def test_a_few_rows_are_not_taken_for_an_empty_or_constant_column() -> None:
    # nine notes of ten are null and the tenth is one text, so five rows without any are nothing
    few = {name: values[:5] for name, values in week(50).items()} | {"note": pa.nulls(5, pa.string())}
    assert failed_checks(check(few)) <= {("row_count", None), ("constant", "express")}
    assert ("empty", "note") in failed_checks(check(week(50) | {"note": pa.nulls(ROWS, pa.string())}))


def test_a_column_that_was_constant_or_empty_once_may_be_again() -> None:
    history = [*HISTORY, profile_of(week(13) | {"amount": np.full(ROWS, 9.5)}, BINS)]
    assert failed_checks(check(week(50) | {"amount": np.full(ROWS, 9.5)}, history)) == set()
    history = [*HISTORY, profile_of(week(13) | {"amount": pa.nulls(ROWS, pa.float64())}, BINS)]
    assert failed_checks(check(week(50) | {"amount": pa.nulls(ROWS, pa.float64())}, history)) == set()


def test_a_rate_of_true_and_false_is_judged_like_one_of_1_and_0() -> None:
    def profile_with_rate(number: int, share: float) -> PartitionProfile:
        columns = week(number) | {"late": np.random.default_rng(number).random(ROWS) < share}
        return profile_of(columns, bins)

    bins = profile_bins(pa.table(week(0) | {"late": [True, False] * (ROWS // 2)}).drop_columns(["id"]))
    history = [profile_with_rate(number, 0.2) for number in range(8)]
    assert failed_checks(check_history(profile_with_rate(9, 0.2), history, Checks(), label="late")) == set()
    assert failed_checks(check_history(profile_with_rate(9, 0.6), history, Checks(), label="late")) == {
        ("label", "late")
    }


def test_categories_that_were_counted_on_other_bins_are_not_compared() -> None:
    other = profile_bins(pa.table(week(0) | {"shop": ["elsewhere"] * ROWS}).drop_columns(["id"]))
    findings = check_history(profile_of(week(50), other), HISTORY, Checks(), label="late")
    assert failed_checks(findings) == set()


def test_rows_that_repeat_as_often_as_ever_are_no_fault() -> None:
    history = [profile_of(with_copied_rows(week(number)), BINS) for number in range(8)]
    assert failed_checks(check(with_copied_rows(week(50)), history)) == set()
