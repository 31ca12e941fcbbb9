"""Gates: nothing passes on a guess, and every verdict carries its numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops.core.declaration.evaluate import Gate
from airflow_mlops.core.errors import GateError
from airflow_mlops.core.evaluation.gates import GateReport, Holdout, evaluate_gates, gates_pass


def judge(
    gate: dict[str, Any], candidate: list[float], champion: list[float] | None = None, **columns: list[str]
) -> list[GateReport]:
    """Return the reports of one gate on rows whose labels are all 0."""
    rows = np.array(candidate, float)
    holdout = Holdout(
        np.zeros(len(rows)),
        rows,
        None if champion is None else np.array(champion, float),
        {name: np.array(values) for name, values in columns.items()},
    )
    return evaluate_gates([Gate(**gate)], holdout)


@pytest.mark.parametrize(
    ("gate", "verdict"),
    [
        ({"metric": "mae", "at_most": 2.0}, "pass"),
        ({"metric": "mae", "at_most": 1.999}, "fail"),
        ({"metric": "rmse", "at_most": 2.3}, "pass"),
        ({"metric": "accuracy", "at_least": 0.0}, "pass"),
        ({"metric": "accuracy", "at_least": 0.01}, "fail"),
    ],
)
def test_an_absolute_gate_compares_the_metric_with_its_limit(gate: dict[str, Any], verdict: str) -> None:
    (report,) = judge(gate, [1.0, 3.0])
    assert (report.verdict, report.rows) == (verdict, 2)
    assert "2 rows" in report.reason


def test_on_the_first_run_a_relative_gate_passes_and_says_that_absolute_gates_decide() -> None:
    (report,) = judge({"metric": "mae", "no_worse_than_champion_by": 0.1}, [1.0, 3.0])
    assert (report.verdict, report.value) == ("pass", None)
    assert "there is no champion yet; absolute gates decide" in report.reason


@pytest.mark.parametrize(("candidate", "verdict"), [(10.0, "pass"), (11.0, "pass"), (11.01, "fail"), (1.0, "pass")])
def test_a_relative_gate_compares_with_the_champion_on_the_same_rows(candidate: float, verdict: str) -> None:
    (report,) = judge({"metric": "mae", "no_worse_than_champion_by": 0.1}, [candidate] * 4, [10.0] * 4)
    assert report.verdict == verdict
    assert report.value == pytest.approx(candidate / 10 - 1)
    assert report.low is not None
    assert "on the same 4 rows" in report.reason


def test_a_relative_gate_on_accuracy_compares_the_errors() -> None:
    gate = {"metric": "accuracy", "no_worse_than_champion_by": 0.5}
    # One wrong of four against two wrong of four is twice as many errors.
    assert judge(gate, [1, 1, 0, 0], [1, 0, 0, 0])[0].verdict == "fail"
    assert judge(gate, [1, 0, 0, 0], [1, 1, 0, 0])[0].verdict == "pass"


def test_slices_are_judged_one_by_one_and_a_small_one_is_never_passed() -> None:
    reports = judge(
        {"metric": "mae", "slices": ["kind", "place"], "at_most": 2, "min_rows": 2},
        [1, 1, 5, 5, 0],
        kind=["a", "a", "b", "b", "c"],
        place=["x"] * 5,
    )
    assert [(report.gate, report.verdict) for report in reports] == [
        ("mae where kind is a at most 2", "pass"),
        ("mae where kind is b at most 2", "fail"),
        ("mae where kind is c at most 2", "too little data"),
        ("mae where place is x at most 2", "fail"),
    ]
    small = reports[2]
    assert (small.value, small.rows) == (None, 1)
    assert "1 rows, 2 are needed to say" in small.reason


@given(st.integers(1, 30), st.integers(1, 30))
def test_no_slice_below_min_rows_ever_passes(rows: int, min_rows: int) -> None:
    (report,) = judge(
        {"metric": "mae", "slices": ["kind"], "at_most": 9, "min_rows": min_rows}, [0] * rows, kind=["a"] * rows
    )
    assert report.verdict == ("pass" if rows >= min_rows else "too little data")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("who", ["candidate", "champion", "label"])
def test_a_nan_anywhere_is_a_gate_error_and_no_verdict(bad: float, who: str) -> None:
    columns = {"label": np.zeros(2), "candidate": np.zeros(2), "champion": np.zeros(2)}
    columns[who] = np.array([0.0, bad])
    with pytest.raises(GateError, match="NaN or infinite"):
        evaluate_gates([Gate(metric="mae", no_worse_than_champion_by=0.1)], Holdout(**columns, columns={}))


def test_an_empty_holdout_is_a_gate_error() -> None:
    with pytest.raises(GateError, match="no rows with a label"):
        judge({"metric": "mae", "at_most": 1}, [])


def report_of(verdict: Any) -> GateReport:
    return GateReport("g", verdict, None, 1.0, 1, "r")


@given(st.lists(st.sampled_from(["pass", "fail", "too little data"]), max_size=6))
def test_a_candidate_passes_when_nothing_failed_and_something_passed(verdicts: list[str]) -> None:
    assert gates_pass([report_of(verdict) for verdict in verdicts]) == ("pass" in verdicts and "fail" not in verdicts)


def test_a_report_is_json() -> None:
    (report,) = judge({"metric": "mae", "no_worse_than_champion_by": 0.1}, [1.0, 2.0], [1.0, 1.0])
    assert report.to_dict()["verdict"] == "fail"
    assert set(report.to_dict()) >= {"gate", "verdict", "value", "limit", "rows", "reason", "low", "high"}
