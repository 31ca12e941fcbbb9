"""Evidently as the engine of drift: its verdict in our form, column by column, whatever a column holds."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.watch import Drift
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.watch.drift.ask_evidently import score_column
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.watch.drift.evidently_rows import (
    MOST_CATEGORIES,
    OTHER,
    ComparableColumn,
    category_names,
    comparable_column,
)
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.report.watched_week import scored_week
from tests.unit.core.toy_loop import FIELDS, toy_fields, toy_rows, week

PSI: dict[str, Any] = {"engine": "evidently", "method": "psi", "threshold": 0.2}
ROWS = 600
LOST: list[str] = []
"""Columns that the features lack from some time on."""


def odd_features(frame: pd.DataFrame) -> pd.DataFrame:
    """Return features of which, once rows say ``odd``, most hold nothing to compare, and one has moved."""
    odd, x = bool(frame["odd"].iloc[0]), frame["x"]
    made = frame[["x", "kind"]].assign(
        empty=np.nan if odd else x,
        infinite=math.inf if odd else x,
        constant=1.0 if odd else x,
        retyped="text" if odd else x,
        moved=x + 3.0 * odd,
        never=np.nan,
        when=pd.Timestamp("2013-01-01") + pd.to_timedelta(x, unit="h"),
        gone=x,
    )
    return made.drop(columns=LOST) if odd else made


def judge_last_week(
    tmp_path: Path, *, shift: float = 0.0, rows: int = ROWS, **drift: Any
) -> tuple[dict[str, Any], Workspace]:
    """Return the drift record of the last of four weeks, and the workspace."""
    weeks = {number: toy_rows(number, rows=ROWS) for number in range(3)} | {3: toy_rows(3, rows=rows, shift=shift)}
    workspace = scored_week(tmp_path, weeks, watch={"drift": {**PSI, **drift}})
    return detect_drift(workspace, week(3)), workspace


def columns_of(verdict: dict[str, Any], workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return the evidence about each column."""
    return {column["column"]: column for column in workspace.evidence.get(verdict.report)["columns"]}


def test_a_week_that_has_not_moved_is_no_alarm_and_the_record_says_by_whom(tmp_path: Path) -> None:
    verdict, workspace = judge_last_week(tmp_path)
    assert (verdict.verdict, verdict.drifted, verdict.missing, verdict.rows) == ("no alarm", (), (), ROWS)
    assert (verdict.engine, verdict.method, verdict.threshold) == ("evidently", "psi", 0.2)
    assert verdict.alarm_rate is None
    assert detect_drift(workspace, week(3)) == verdict
    assert (
        len(
            [record for record in list(workspace.ledger.records()) if getattr(record.details, "check", None) == "drift"]
        )
        == 1
    )


def test_a_week_that_has_moved_alarms_with_the_score_of_each_column(tmp_path: Path) -> None:
    verdict, workspace = judge_last_week(tmp_path, shift=1.0)
    assert (verdict.verdict, verdict.drifted) == ("alarm", ("x",))
    columns = columns_of(verdict, workspace)
    assert columns["x"]["score"] > 0.2 > columns["kind"]["score"]
    assert f"'x' scored {columns['x']['score']:.3g}" in verdict.message


def test_the_threshold_is_the_declared_one(tmp_path: Path) -> None:
    verdict, _ = judge_last_week(tmp_path, shift=1.0, threshold=100.0)
    assert verdict.verdict == "no alarm"


def test_a_method_for_numbers_leaves_categories_unjudged_and_says_so(tmp_path: Path) -> None:
    verdict, workspace = judge_last_week(tmp_path, method="ks", threshold=0.01)
    assert (verdict.verdict, list(verdict.remarks["unjudged"])) == ("no alarm", ["kind"])
    assert columns_of(verdict, workspace)["kind"]["verdict"] == "insufficient data"
    assert "of 1 others it says nothing" in verdict.message


def test_too_few_rows_are_insufficient_data(tmp_path: Path) -> None:
    verdict, _ = judge_last_week(tmp_path, rows=8, shift=5.0)
    assert (verdict.verdict, verdict.needed, verdict.rows) == ("insufficient data", 50, 8)


def test_columns_that_hold_nothing_to_compare_stop_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weeks = {number: toy_rows(number, rows=ROWS).assign(odd=int(number == 3)) for number in range(4)}
    data = {**FIELDS["data"], "features": f"{__name__}:odd_features"}
    workspace = scored_week(tmp_path, weeks, data=data, watch={"drift": PSI})
    monkeypatch.setattr(sys.modules[__name__], "LOST", ["gone"])  # a model refuses to score without it
    verdict = detect_drift(workspace, week(3))
    assert verdict.verdict == "alarm"
    assert verdict.missing == ("gone",)
    assert {"empty", "infinite", "moved", "retyped"} <= set(verdict.drifted)
    assert "never" in verdict.remarks["unjudged"]
    columns = columns_of(verdict, workspace)
    assert columns["moved"]["verdict"] == "alarm"
    assert [columns[name]["verdict"] for name in ("x", "kind", "when")] == ["no alarm"] * 3


def test_a_column_at_which_evidently_raises_is_told_and_no_other_is_stopped() -> None:
    broken = ComparableColumn("number", pd.Series([1.0]), pd.Series(["text"]))
    reason = score_column(broken, "psi", 0.2)
    assert isinstance(reason, str)
    assert reason.startswith("Evidently raised ")


@pytest.mark.parametrize(
    ("reference", "window", "why"),
    [
        ([math.nan] * 60, [1.0] * 60, "in the training window"),
        ([1.0] * 60, [math.inf, -math.inf] * 30, "in the window"),
        ([1.0] * 60, ["a"] * 60, "other kinds"),
        ([None] * 60, ["a"] * 60, "in the training window"),
        ([], [1.0], ""),
    ],
)
def test_what_cannot_be_compared_is_told(reference: list[Any], window: list[Any], why: str) -> None:
    column = comparable_column(pd.Series(reference, dtype=None if reference else float), pd.Series(window))
    assert isinstance(column, str)
    assert why in column


def test_of_very_many_categories_the_rare_ones_are_counted_together() -> None:
    values = pd.Series([f"<{number}>" for number in range(3_000) for _ in range(1 + (number < 60))])
    column = comparable_column(values, values)
    assert isinstance(column, ComparableColumn)
    assert column.current.nunique() == MOST_CATEGORIES + 1
    assert int((column.current == OTHER).sum()) == len(values) - 2 * MOST_CATEGORIES


def test_no_two_categories_get_one_name_and_no_name_holds_anything_but_letters() -> None:
    names = category_names(pd.Series(["a<b", "a>b", "a_b", OTHER, "v1_a", "", "é", "\x00"]))
    assert len(set(names.values())) == len(names) == 8
    assert all(name.isascii() and name.replace("_", "a").isalnum() for name in names.values())
    assert OTHER not in names.values()


@pytest.mark.parametrize(
    ("drift", "why"),
    [
        ({"engine": "evidently"}, "both stated"),
        ({"engine": "evidently", "method": "psi"}, "both stated"),
        ({"engine": "evidently", "threshold": 0.1}, "both stated"),
        ({"method": "psi"}, "method belong"),
        ({"threshold": 0.1, "method": "psi"}, "method and threshold belong"),
        ({"engine": "evidently", "method": "guess", "threshold": 0.1}, "method"),
        ({"engine": "evidently", "method": "psi", "threshold": 0.0}, "threshold"),
        ({"engine": "nannyml"}, "engine"),
    ],
)
def test_an_engine_that_is_half_declared_is_refused(drift: dict[str, Any], why: str) -> None:
    with pytest.raises(DeclarationError, match=why):
        Loop(**toy_fields(watch={"drift": drift}))


def test_by_default_drift_is_calibrated() -> None:
    assert Drift().engine == "calibrated"


def test_without_evidently_the_verdict_is_refused_with_the_name_of_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_mlops.core.watch.drift.evidently_extra.find_spec", lambda name: None)
    with pytest.raises(DeclarationError, match=r"airflow-mlops\[evidently\]"):
        judge_last_week(tmp_path)
