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


def drawn(seed: int, rows: int = ROWS) -> pd.DataFrame:
    """Return a number, a skewed number, a number with nulls, a category and a truth value."""
    source = np.random.default_rng([3, seed])
    gaps = source.normal(size=rows)
    gaps[source.random(rows) < 0.05] = np.nan
    return pd.DataFrame({
        "amount": source.lognormal(size=rows), "gaps": gaps, "kind": source.choice(["a", "b", "c", None], rows),
        "new_customer": source.random(rows) < 0.3, "size": source.normal(size=rows),
    })  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> ReferenceProfile:
    return profile_window({f"p{number}": drawn(number) for number in range(8)})


def judged(reference: ReferenceProfile, frame: pd.DataFrame, **kwargs: Any) -> WindowJudgement:
    limits = {"alarm_rate": 0.01, "min_effect": 0.1, **kwargs}
    found = judge_window(reference, observe_features(frame, reference.bins), **limits)
    json.dumps([found.summary().to_json(), found.details()], allow_nan=False)
    return found


def test_a_calm_window_says_so_with_its_numbers(reference: ReferenceProfile) -> None:
    found = judged(reference, drawn(100))
    assert (found.verdict, found.drifted, found.missing, found.findings) == ("no alarm", [], [], ())
    assert found.message.startswith("2,000 rows against 16,000: none of 5 columns moved")
    assert sorted(found.distances) == ["amount", "gaps", "kind", "new_customer", "size"]
    assert sorted(found.distances["amount"]) == ["jensen_shannon", "ks", "psi", "wasserstein"]
    assert sorted(found.distances["kind"]) == ["jensen_shannon", "psi"]


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
    frame = BROKEN[what](drawn(101))
    found = judged(reference, frame)
    assert found.verdict == "alarm"
    assert "'gaps'" in found.message
    assert (found.drifted, found.missing) == (([], ["gaps"]) if what == "missing" else (["gaps"], []))
    frame["size"] += 1.0
    worse = judged(reference, frame)
    assert worse.drifted == sorted({"size", *found.drifted})
    assert {one.column for one in worse.judged.columns} >= {"amount", "kind", "new_customer", "size"}


@pytest.mark.parametrize(
    ("what", "finding"),
    [("missing", "missing"), ("empty", "empty"), ("infinite", "infinite"), ("constant", "constant"),
     ("retyped", "retyped"), ("times", "retyped")],
)  # fmt: skip
def test_what_is_wrong_is_called_by_its_name(reference: ReferenceProfile, what: str, finding: Any) -> None:
    found = judged(reference, BROKEN[what](drawn(101)))
    assert found.that_are(finding) == ["gaps"]
    assert [one.what for one in found.findings] == [finding]


def test_weeks_that_hide_a_shift_are_said_to_and_where_they_hide_it_everywhere_nobody_can_tell() -> None:
    source = np.random.default_rng(5)
    windows = {
        f"p{number}": drawn(number).assign(size=source.normal(source.normal(), size=ROWS)) for number in range(8)
    }
    found = judged(profile_window(windows), drawn(100))
    assert (found.verdict, found.summary().remarks["blind"]) == ("no alarm", ("size",))
    assert found.message.endswith("differ by so much that 1 of 5 columns could not be seen to move by 0.1")
    alone = {key: frame[["size"]] for key, frame in windows.items()}
    nobody = judged(profile_window(alone), drawn(100)[["size"]])
    assert nobody.verdict == "insufficient data"
    assert nobody.message.endswith("1 of 1 columns could not be seen to move by 0.1")


def test_a_new_column_and_a_few_infinities_are_told_of_and_are_no_alarm(reference: ReferenceProfile) -> None:
    frame = drawn(102).assign(unheard_of=1.0)
    frame.loc[:2, "amount"] = np.inf
    found = judged(reference, frame)
    assert found.verdict == "no alarm"
    assert found.summary().remarks["new"] == ("unheard_of",)
    assert found.summary().remarks["infinite"] == ("amount",)


def test_many_nulls_infinities_and_unseen_categories_are_drift_of_their_columns(reference: ReferenceProfile) -> None:
    frame = drawn(103)
    frame.loc[:300, "size"] = np.nan
    frame.loc[:300, "amount"] = -np.inf
    frame.loc[:300, "kind"] = "never seen"
    found = judged(reference, frame)
    assert found.drifted == ["amount", "kind", "size"]
    assert [column.distance for column in found.judged.columns if column.drifted] == pytest.approx([0.15] * 3, abs=0.02)


@pytest.mark.parametrize("rows", [1, 8, 49])
def test_of_a_few_rows_only_what_needs_no_statistics_is_said(reference: ReferenceProfile, rows: int) -> None:
    frame = drawn(104, rows)
    calm = judged(reference, frame)
    assert (calm.verdict, calm.judged.needed) == ("insufficient data", 50)
    assert calm.message.endswith("needs 50")
    assert judged(reference, frame.assign(size=frame["size"] + 9)).verdict == "insufficient data"
    assert judged(reference, frame.drop(columns="size")).missing == ["size"]
    assert judged(reference, frame.drop(columns="size")).verdict == "alarm"
    assert judged(reference, frame.assign(size=frame["size"].astype(str))).drifted == ["size"]
    empty = judged(reference, frame.assign(size=np.nan, kind=None))
    # One row without a value is soon met with, where a quarter of the rows are so; a number that always was, is not.
    assert empty.that_are("empty") == ["kind", "size"]
    assert empty.drifted == (["size"] if rows == 1 else ["kind", "size"])


def test_no_rows_are_insufficient_data_whatever_their_columns(reference: ReferenceProfile) -> None:
    for frame in (drawn(105)[:0], pd.DataFrame({"size": []}), pd.DataFrame()):
        found = judged(reference, frame)
        assert (found.verdict, found.rows) == ("insufficient data", 0)


def test_a_column_that_was_empty_in_a_window_of_the_reference_may_be_so_again() -> None:
    windows = {f"p{number}": drawn(number) for number in range(8)}
    windows["p3"]["size"] = np.nan
    found = judged(profile_window(windows), drawn(106).assign(size=np.nan))
    assert found.that_are("empty") == ["size"]
    assert not any(one.alarms for one in found.findings)


def test_a_reference_that_held_nothing_is_no_ground_for_an_alarm_by_a_finding() -> None:
    nothing = profile_window({"a": pd.DataFrame({"x": [np.nan] * 100})})
    again = judged(nothing, pd.DataFrame({"x": [np.nan] * 100}))
    assert again.findings[0].what == "empty"
    assert again.verdict != "alarm"
    assert judged(nothing, pd.DataFrame({"x": np.arange(100.0)})).drifted == ["x"]


def test_a_reference_of_one_partition_judges(reference: ReferenceProfile) -> None:
    one = profile_window({"p0": drawn(0, 8_000)})
    assert judged(one, drawn(107)).verdict == "no alarm"
    frame = drawn(107)
    assert judged(one, frame.assign(size=frame["size"] + 0.5)).drifted == ["size"]


def test_a_profile_of_other_bins_is_a_finding_and_the_other_columns_are_judged(reference: ReferenceProfile) -> None:
    frame = drawn(108)
    frame["size"] += 1.0
    profiler = Profiler(profile_bins(pa.table({"gaps": frame["gaps"].to_numpy()})))
    profiler.update(pa.RecordBatch.from_pydict({"gaps": frame["gaps"].to_numpy()}))
    observed = observe_features(frame, reference.bins)
    columns = {**observed.profile.columns, "gaps": profiler.profile().columns["gaps"]}
    mixed = ObservedRows(replace(observed.profile, columns=columns))
    found = judge_window(reference, mixed, alarm_rate=0.01, min_effect=0.1)
    assert found.that_are("other bins") == ["gaps"]
    assert found.drifted == ["size"]
    assert "gaps" not in found.distances


def test_a_version_of_an_earlier_release_is_judged_on_its_counts() -> None:
    profile = ReferenceProfile.from_dict(OLD)
    frame = pd.DataFrame({"x": [0.5] * 100, "t": pd.to_datetime(["2013-01-06"] * 100)})
    found = judged(profile, frame)
    assert found.that_are("retyped") == ["t"]
    assert not any(one.alarms for one in found.findings if one.what == "retyped")
    assert found.drifted == ["x"]
    assert "wasserstein" not in found.distances["x"]
    assert "ks" in found.distances["x"]


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
        {"a": drawn(0).rename(columns={"size": name}), "b": drawn(1).rename(columns={"size": name})}
    )
    frame = drawn(109).rename(columns={"size": name})
    frame[name] += 1.0
    assert judged(strange, frame).drifted == [name]
    assert judged(reference, frame).missing == ["size"]
