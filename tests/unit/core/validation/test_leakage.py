"""A feature that is nearly the label, or known only after the event, is told; a good feature is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from airflow_mlops.core.validation.finding import Finding
from airflow_mlops.core.validation.leakage import check_leakage

ROWS = 4_000
DAY = 86_400_000_000
RANDOM = np.random.default_rng(3)
DISTANCE = RANDOM.uniform(100, 2_500, ROWS)
MINUTES = DISTANCE / 8 + RANDOM.normal(0, 8, ROWS)  # a correlation of 0.995, as of flights' distance and air time
LATE = (RANDOM.random(ROWS) < 0.2).astype(float)
START = np.sort(RANDOM.integers(0, 7 * DAY, ROWS)) + 15_700 * DAY


def moments(values: Any, zone: str | None = "UTC") -> pa.Array:
    return pa.array(values, pa.int64()).cast(pa.timestamp("us", tz=zone))


def frame(label: Any, **features: Any) -> pa.Table:
    return pa.table(
        {
            "id": [f"row {i}" for i in range(ROWS)],
            "at": moments(START),
            "distance": DISTANCE,
            "shop": RANDOM.choice(["a", "b", "c"], ROWS),
            "label": label,
            **features,
        }
    )


def check(
    table: pa.Table, hidden: frozenset[str] = frozenset(), known_ahead: frozenset[str] = frozenset()
) -> list[Finding]:
    return check_leakage(table, "critical", label="label", key="id", time="at", hidden=hidden, known_ahead=known_ahead)


def leaking_columns(table: pa.Table) -> set[str | None]:
    findings = check(table)
    assert all(finding.severity == "critical" and finding.words for finding in findings)
    return {finding.column for finding in findings if finding.verdict == "fail"}


@pytest.mark.parametrize("label", [MINUTES, LATE], ids=["regression", "classification"])
def test_good_features_pass(label: Any) -> None:
    score = label + RANDOM.normal(0, label.std(), ROWS)
    names = [f"customer {i}" for i in range(ROWS)]
    findings = check(frame(label, score=score, name=names, constant=np.ones(ROWS), nothing=pa.nulls(ROWS)))
    assert [finding.verdict for finding in findings] == ["pass"]


REGRESSION = {
    "the label itself": MINUTES,
    "the label rounded": np.round(MINUTES),
    "the label in other units, upside down": 7 - MINUTES / 60,
    "a curve of the label": np.exp(MINUTES / 40),
    "the label as text": np.round(MINUTES / 5).astype(int).astype(str),
    "the label with gaps": np.where(RANDOM.random(ROWS) < 0.5, np.nan, MINUTES),
}


@pytest.mark.parametrize("leak", REGRESSION)
def test_what_nearly_is_a_number_to_predict_is_told(leak: str) -> None:
    assert leaking_columns(frame(MINUTES, leak=REGRESSION[leak])) == {"leak"}


CLASSIFICATION = {
    "the label itself": LATE,
    "the other class": LATE == 0,
    "minutes of delay": np.where(LATE == 1, RANDOM.uniform(15, 300, ROWS), RANDOM.uniform(-20, 15, ROWS)),
    "the label in words": np.where(LATE == 1, "late", "in time"),
    "some words for each": np.char.add(np.where(LATE == 1, "late ", "ok "), RANDOM.integers(0, 9, ROWS).astype(str)),
}


@pytest.mark.parametrize("leak", CLASSIFICATION)
def test_what_nearly_is_a_class_is_told(leak: str) -> None:
    assert leaking_columns(frame(LATE, leak=CLASSIFICATION[leak])) == {"leak"}
    assert leaking_columns(frame(LATE == 1, leak=CLASSIFICATION[leak])) == {"leak"}


def test_the_key_the_time_and_hidden_columns_are_no_features() -> None:
    table = frame(MINUTES, leak=MINUTES)
    assert [finding.verdict for finding in check(table, hidden=frozenset({"leak"}))] == ["pass"]


@pytest.mark.parametrize("zone", ["UTC", None])
def test_a_time_after_the_event_is_told_and_one_before_is_not(zone: str | None) -> None:
    rows = np.arange(ROWS)
    assert leaking_columns(frame(MINUTES, closed=moments(START + 3_600_000_000, zone))) == {"closed"}
    assert leaking_columns(frame(MINUTES, booked=moments(START - 3_600_000_000, zone))) == set()
    assert leaking_columns(
        frame(MINUTES, booked=moments(np.where(rows % 500 == 0, START + DAY, START - DAY), zone))
    ) == {"booked"}
    mistyped = np.where(rows % 1000 == 0, START + 365 * DAY, START - DAY)
    assert leaking_columns(frame(MINUTES, booked=moments(mistyped, zone))) == set()


def test_a_date_is_after_the_event_from_the_next_day_on() -> None:
    days = START // DAY
    assert leaking_columns(frame(MINUTES, day=pa.array(days, pa.int32()).cast(pa.date32()))) == set()
    assert leaking_columns(frame(MINUTES, day=pa.array(days + 1, pa.int32()).cast(pa.date32()))) == {"day"}


def test_a_feature_that_is_null_exactly_where_the_label_is_was_known_with_it() -> None:
    gone = RANDOM.random(ROWS) < 0.05
    label, noise = np.where(gone, np.nan, MINUTES), RANDOM.normal(size=ROWS)
    with_nulls = pa.array(label, from_pandas=True)
    leak = pa.array(np.where(gone, np.nan, noise), from_pandas=True)
    assert leaking_columns(frame(with_nulls, leak=leak)) == {"leak"}
    other = pa.array(np.where(np.roll(gone, 1), np.nan, noise), from_pandas=True)
    assert leaking_columns(frame(with_nulls, other=other)) == set()


def test_without_labels_it_says_so_and_still_looks_at_times() -> None:
    findings = check(frame(pa.nulls(ROWS, pa.float64()), closed=moments(START + DAY)))
    assert [(finding.column, finding.verdict) for finding in findings] == [
        ("closed", "fail"),
        (None, "too little history"),
    ]


def test_few_rows_draw_no_straight_line() -> None:
    assert leaking_columns(frame(MINUTES, leak=MINUTES).slice(0, 150)) == set()


def test_a_date_or_time_that_is_known_ahead_is_no_leak() -> None:
    days = pa.array(START // DAY + 3, pa.int32()).cast(pa.date32())
    table = frame(MINUTES, due=days, planned=moments(START + DAY), closed=moments(START + DAY))
    known_ahead = frozenset({"due", "planned"})
    assert leaking_columns(table) == {"due", "planned", "closed"}
    assert [finding.column for finding in check(table, known_ahead=known_ahead)] == ["closed"]
    assert [finding.verdict for finding in check(table.drop("closed"), known_ahead=known_ahead)] == ["pass"]


def test_a_leak_states_its_measure_and_the_key_that_exempts_it() -> None:
    gone = RANDOM.random(ROWS) < 0.05
    label = pa.array(np.where(gone, np.nan, MINUTES), from_pandas=True)
    days = pa.array(START // DAY + RANDOM.integers(1, 6, ROWS), pa.int32()).cast(pa.date32())
    noise = pa.array(np.where(gone, np.nan, RANDOM.normal(size=ROWS)), from_pandas=True)
    findings = {
        str(finding.column): finding.words
        for finding in check(frame(label, due=days, closed=moments(START + 5_400_000_000), copy=MINUTES, noise=noise))
    }
    assert sorted(findings) == ["closed", "copy", "due", "noise"]
    assert "100.0% of the rows, by up to 5 days" in findings["due"]
    assert "100.0% of the rows, by up to 1.5 hours" in findings["closed"]
    assert "leaves 0.000% of the label's variance open" in findings["copy"]
    assert f"exactly the {gone.sum()} rows" in findings["noise"]
    assert {name for name, words in findings.items() if "known_ahead: true" in words} == {"due", "closed"}
    assert all("feature: false" in words for words in findings.values())


OUTAGES = {
    "a day": slice(500, 900),
    "from the middle to the end": slice(2_500, ROWS),
    "from the beginning": slice(0, 2_500),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_sensor_that_is_off_for_a_while_is_no_leak(outage: str) -> None:
    off = np.zeros(ROWS, bool)
    off[OUTAGES[outage]] = True
    shuffled = RANDOM.permutation(ROWS)
    label = MINUTES + 5_000
    values = 9_000 + RANDOM.normal(size=ROWS)
    for value in (np.nan, 0.0):
        both = frame(
            pa.array(np.where(off, value, label), from_pandas=True),
            sensor=pa.array(np.where(off, value, values), from_pandas=True),
        )
        assert leaking_columns(both.take(shuffled)) == set()


def test_one_of_several_sensors_and_several_outages_are_no_leak() -> None:
    rows = np.arange(ROWS)
    one_machine = (rows % 4 == 1) & (rows < 1_200)
    five_times = rows % 800 < 100
    for gone in (one_machine, five_times):
        label = pa.array(np.where(gone, np.nan, MINUTES), from_pandas=True)
        sensor = pa.array(np.where(gone, np.nan, RANDOM.normal(size=ROWS)), from_pandas=True)
        assert leaking_columns(frame(label, sensor=sensor)) == set()


def test_a_copy_of_the_label_is_a_leak_beside_an_outage() -> None:
    off = np.arange(ROWS) < 1_000
    label = np.where(off, 0.0, MINUTES)
    assert leaking_columns(frame(label, leak=label * 2)) == {"leak"}
