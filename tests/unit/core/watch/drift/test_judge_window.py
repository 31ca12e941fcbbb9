"""A window of whatever input is judged: what is wrong with a column is a finding, and stops no other column."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from airflow_mlops.core.data.profiles.observe_rows import ObservedRows, RowObserver
from airflow_mlops.core.data.profiles.profile_rows import Profiler, profile_bins
from airflow_mlops.core.training.reference_profile import ReferenceProfile, observe_features, profile_window
from airflow_mlops.core.watch.drift.judge_window import WindowJudgement, judge_window
from airflow_mlops.testing.peak_memory import forget_peak, peak_mb
from tests.unit.core.training.test_reference_profile import OLD

ROWS = 2_000


def draw_rows(seed: int, rows: int = ROWS) -> pd.DataFrame:
    """Return a number, a skewed number, a number with nulls, a category and a truth value."""
    source = np.random.default_rng([3, seed])
    gaps = source.normal(size=rows)
    gaps[source.random(rows) < 0.05] = np.nan
    return pd.DataFrame(
        {
            "amount": source.lognormal(size=rows),
            "gaps": gaps,
            "kind": source.choice(["a", "b", "c", None], rows),
            "new_customer": source.random(rows) < 0.3,
            "size": source.normal(size=rows),
        }
    )


@pytest.fixture(scope="module")
def reference() -> ReferenceProfile:
    return profile_window({f"p{number}": draw_rows(number) for number in range(8)})


def judge(reference: ReferenceProfile, frame: pd.DataFrame, **kwargs: Any) -> WindowJudgement:
    limits = {"alarm_rate": 0.01, "min_effect": 0.1, **kwargs}
    verdict = judge_window(reference, observe_features(frame, reference.bins), **limits)
    json.dumps([verdict.summary().to_json(), verdict.details()], allow_nan=False)
    return verdict


def test_a_calm_window_says_so_with_its_numbers(reference: ReferenceProfile) -> None:
    verdict = judge(reference, draw_rows(100))
    assert (verdict.verdict, verdict.drifted, verdict.missing, verdict.findings) == ("no alarm", [], [], ())
    assert verdict.message.startswith("2,000 rows against 16,000: none of 5 columns moved")
    assert sorted(verdict.distances) == ["amount", "gaps", "kind", "new_customer", "size"]
    assert sorted(verdict.distances["amount"]) == ["jensen_shannon", "ks", "psi", "wasserstein"]
    assert sorted(verdict.distances["kind"]) == ["jensen_shannon", "psi"]


BROKEN: dict[str, Any] = {
    "missing": lambda frame: frame.drop(columns="gaps"),
    "empty": lambda frame: frame.assign(gaps=np.nan),
    "empty object": lambda frame: frame.assign(gaps=pd.Series([None] * len(frame), dtype="object")),
    "infinite": lambda frame: frame.assign(gaps=np.inf),
    "constant": lambda frame: frame.assign(gaps=0.25),
    "retyped": lambda frame: frame.assign(gaps=frame["gaps"].astype(str)),
    "mixed": lambda frame: frame.assign(gaps=pd.Series([*frame["gaps"][1:], "broken"], dtype="object")),
    "times": lambda frame: frame.assign(gaps=pd.Timestamp("2013-01-06")),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_column_alarms_by_its_name_and_the_others_are_judged(reference: ReferenceProfile, what: str) -> None:
    frame = BROKEN[what](draw_rows(101))
    verdict = judge(reference, frame)
    assert verdict.verdict == "alarm"
    assert "'gaps'" in verdict.message
    assert (verdict.drifted, verdict.missing) == (([], ["gaps"]) if what == "missing" else (["gaps"], []))
    frame["size"] += 1.0
    worse = judge(reference, frame)
    assert worse.drifted == sorted({"size", *verdict.drifted})
    assert {column.column for column in worse.judged.columns} >= {"amount", "kind", "new_customer", "size"}


@pytest.mark.parametrize(
    ("what", "finding"),
    [
        ("missing", "missing"),
        ("empty", "empty"),
        ("infinite", "infinite"),
        ("constant", "constant"),
        ("retyped", "retyped"),
        ("times", "retyped"),
    ],
)
def test_what_is_wrong_is_called_by_its_name(reference: ReferenceProfile, what: str, finding: Any) -> None:
    verdict = judge(reference, BROKEN[what](draw_rows(101)))
    assert verdict.columns_with(finding) == ["gaps"]
    assert [column.what for column in verdict.findings] == [finding]


def test_weeks_that_hide_a_shift_are_said_to_and_where_they_hide_it_everywhere_nobody_can_tell() -> None:
    source = np.random.default_rng(5)
    windows = {
        f"p{number}": draw_rows(number).assign(size=source.normal(source.normal(), size=ROWS)) for number in range(8)
    }
    verdict = judge(profile_window(windows), draw_rows(100))
    assert (verdict.verdict, verdict.summary().remarks["blind"]) == ("no alarm", ("size",))
    assert verdict.message.endswith("differ by so much that 1 of 5 columns could not be seen to move by 0.1")
    alone = {key: frame[["size"]] for key, frame in windows.items()}
    nobody = judge(profile_window(alone), draw_rows(100)[["size"]])
    assert nobody.verdict == "insufficient data"
    assert nobody.message.endswith("1 of 1 columns could not be seen to move by 0.1")


def test_a_new_column_and_a_few_infinities_are_told_of_and_are_no_alarm(reference: ReferenceProfile) -> None:
    frame = draw_rows(102).assign(unheard_of=1.0)
    frame.loc[:2, "amount"] = np.inf
    verdict = judge(reference, frame)
    assert verdict.verdict == "no alarm"
    assert verdict.summary().remarks["new"] == ("unheard_of",)
    assert verdict.summary().remarks["infinite"] == ("amount",)


def test_many_nulls_infinities_and_unseen_categories_are_drift_of_their_columns(reference: ReferenceProfile) -> None:
    frame = draw_rows(103)
    frame.loc[:300, "size"] = np.nan
    frame.loc[:300, "amount"] = -np.inf
    frame.loc[:300, "kind"] = "never seen"
    verdict = judge(reference, frame)
    assert verdict.drifted == ["amount", "kind", "size"]
    assert [column.distance for column in verdict.judged.columns if column.drifted] == pytest.approx(
        [0.15] * 3, abs=0.02
    )


@pytest.mark.parametrize("rows", [1, 8, 49])
def test_of_a_few_rows_only_what_needs_no_statistics_is_said(reference: ReferenceProfile, rows: int) -> None:
    frame = draw_rows(104, rows)
    calm = judge(reference, frame)
    assert (calm.verdict, calm.judged.needed) == ("insufficient data", 50)
    assert calm.message.endswith("needs 50")
    assert judge(reference, frame.assign(size=frame["size"] + 9)).verdict == "insufficient data"
    assert judge(reference, frame.drop(columns="size")).missing == ["size"]
    assert judge(reference, frame.drop(columns="size")).verdict == "alarm"
    assert judge(reference, frame.assign(size=frame["size"].astype(str))).drifted == ["size"]
    empty = judge(reference, frame.assign(size=np.nan, kind=None))
    # One row without a value is soon met with, where a quarter of the rows are so; a number that always was, is not.
    assert empty.columns_with("empty") == ["kind", "size"]
    assert empty.drifted == (["size"] if rows == 1 else ["kind", "size"])


def test_no_rows_are_insufficient_data_whatever_their_columns(reference: ReferenceProfile) -> None:
    for frame in (draw_rows(105)[:0], pd.DataFrame({"size": []}), pd.DataFrame()):
        verdict = judge(reference, frame)
        assert (verdict.verdict, verdict.rows) == ("insufficient data", 0)


def test_a_column_that_was_empty_in_a_window_of_the_reference_may_be_so_again() -> None:
    windows = {f"p{number}": draw_rows(number) for number in range(8)}
    windows["p3"]["size"] = np.nan
    verdict = judge(profile_window(windows), draw_rows(106).assign(size=np.nan))
    assert verdict.columns_with("empty") == ["size"]
    assert not any(column.alarms for column in verdict.findings)


def test_a_reference_that_held_nothing_is_no_ground_for_an_alarm_by_a_finding() -> None:
    nothing = profile_window({"a": pd.DataFrame({"x": [np.nan] * 100})})
    again = judge(nothing, pd.DataFrame({"x": [np.nan] * 100}))
    assert again.findings[0].what == "empty"
    assert again.verdict != "alarm"
    assert judge(nothing, pd.DataFrame({"x": np.arange(100.0)})).drifted == ["x"]


def test_a_reference_of_one_partition_finds_gross_shifts_and_says_what_it_lacks() -> None:
    profile, frame = profile_window({"p0": draw_rows(0, 8_000)}), draw_rows(107)
    for shift in (0.0, 0.5):
        verdict = judge(profile, frame.assign(size=frame["size"] + shift))
        assert verdict.verdict == "insufficient data"
        assert "one reference window says nothing of how windows differ" in verdict.message
        assert verdict.message.endswith("train on 6 windows or more")
    assert judge(profile, frame.assign(size=frame["size"] + 4.0)).drifted == ["size"]


def test_a_profile_of_other_bins_is_a_finding_and_the_other_columns_are_judged(reference: ReferenceProfile) -> None:
    frame = draw_rows(108)
    frame["size"] += 1.0
    profiler = Profiler(profile_bins(pa.table({"gaps": frame["gaps"].to_numpy()})))
    profiler.update(pa.RecordBatch.from_pydict({"gaps": frame["gaps"].to_numpy()}))
    observed = observe_features(frame, reference.bins)
    columns = {**observed.profile.columns, "gaps": profiler.profile().columns["gaps"]}
    mixed = ObservedRows(replace(observed.profile, columns=columns))
    verdict = judge_window(reference, mixed, alarm_rate=0.01, min_effect=0.1)
    assert verdict.columns_with("other bins") == ["gaps"]
    assert verdict.drifted == ["size"]
    assert "gaps" not in verdict.distances


def test_a_version_of_an_earlier_release_is_judged_on_its_counts() -> None:
    profile = ReferenceProfile.from_dict(OLD)
    frame = pd.DataFrame({"x": [0.5] * 100, "t": pd.to_datetime(["2013-01-06"] * 100)})
    verdict = judge(profile, frame)
    assert verdict.columns_with("retyped") == ["t"]
    assert not any(column.alarms for column in verdict.findings if column.what == "retyped")
    assert verdict.drifted == ["x"]
    assert "wasserstein" not in verdict.distances["x"]
    assert "ks" in verdict.distances["x"]


def test_ten_million_categories_take_no_more_memory_than_a_batch_of_them() -> None:
    bins = profile_bins(pa.table({"id": pa.array(np.arange(50_000)).cast(pa.string())}))
    observer = RowObserver(bins, pa.schema([("id", pa.string())]))
    for start in range(0, 10_000_000, 100_000):
        ids = pa.array(np.arange(start, start + 100_000)).cast(pa.string())
        observer.update(pa.RecordBatch.from_arrays([ids], ["id"]))
        if start == 1_000_000:
            forget_peak()
            before = peak_mb()
    column = observer.result().profile.columns["id"]
    assert column.values == 10_000_000
    assert len(column.counts) == 50
    assert peak_mb() - before < 20  # over nine million texts


def test_a_hostile_name_stays_a_name(reference: ReferenceProfile) -> None:
    name = "<img src=x onerror=alert(1)>'; DROP TABLE rows; --"
    strange = profile_window(
        {"a": draw_rows(0).rename(columns={"size": name}), "b": draw_rows(1).rename(columns={"size": name})}
    )
    frame = draw_rows(109).rename(columns={"size": name})
    frame[name] += 1.0
    assert judge(strange, frame).drifted == [name]
    assert judge(reference, frame).missing == ["size"]
