"""The drift of a partition is recorded once, with its numbers and the sentence that a person reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.data.user_features import FeatureMaker
from airflow_mlops.core.errors import NotReadyError, TrainingError
from airflow_mlops.core.retrain.retrain_policy import alarms_of
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.drift.detect_drift import detect_drift
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, toy_rows, week

WATCH: dict[str, Any] = {"drift": {"alarm_rate": 0.01, "min_effect": 0.1}}
ROWS = 1_500


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a loop whose version 1 serves as of week 3."""
    rows = {week(number): toy_rows(number, rows=ROWS) for number in range(4)}
    features = in_memory_workspace(toy_loop(watch=WATCH), rows, scratch=tmp_path)
    for number in range(4):
        ingest(features, week(number))
    go_live(features, week(3))
    return features


def score_week(workspace: Workspace, rows: Any) -> str:
    """Take week 4 in, score it, and return its key."""
    workspace.source.frames[week(4)] = rows  # type: ignore[attr-defined]
    ingest(workspace, week(4))
    score_partition(workspace, week(4))
    return week(4)


def test_a_calm_partition_is_recorded_with_what_was_said_of_it(workspace: Workspace) -> None:
    key = score_week(workspace, toy_rows(4, rows=ROWS))
    verdict = detect_drift(workspace, key)
    assert (verdict.verdict, verdict.drifted, verdict.missing) == ("no alarm", (), ())
    assert verdict.message.startswith("1,500 rows against 3,000: none of 2 columns moved")
    assert 50 < verdict.needed < 1_500
    report = workspace.evidence.get(verdict.report)
    assert [column["column"] for column in report["columns"]] == ["kind", "x"]
    assert sum(report["counts"]["x"]) == ROWS
    before = workspace.state().sequence
    assert detect_drift(workspace, key) == verdict
    assert workspace.state().sequence == before


def test_a_shift_alarms_and_the_decision_hears_of_its_column(workspace: Workspace) -> None:
    key = score_week(workspace, toy_rows(4, rows=ROWS, shift=1.0))
    verdict = detect_drift(workspace, key)
    assert (verdict.verdict, verdict.drifted) == ("alarm", ("x",))
    assert "'x' moved by" in verdict.message
    assert alarms_of(workspace.state(), key) == ["drift: x"]


def test_few_rows_are_insufficient_data_with_the_number_that_would_do(workspace: Workspace) -> None:
    verdict = detect_drift(workspace, score_week(workspace, toy_rows(4, rows=120)))
    assert verdict.verdict == "insufficient data"
    assert verdict.message == f"120 rows against 3,000: a shift of 0.1 needs {verdict.needed:,}"


def test_features_that_cannot_be_made_are_insufficient_data_with_the_reason(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = score_week(workspace, toy_rows(4))

    def broken(*_: Any) -> Any:
        raise TrainingError("features.py:add raised KeyError: 'x'")

    monkeypatch.setattr(FeatureMaker, "make", broken)
    verdict = detect_drift(workspace, key)
    assert verdict.verdict == "insufficient data"
    assert verdict.message == "the features cannot be made: features.py:add raised KeyError: 'x'"
    assert alarms_of(workspace.state(), key) == []


def test_a_partition_that_was_not_scored_is_not_ready(workspace: Workspace) -> None:
    with pytest.raises(NotReadyError, match="was not scored"):
        detect_drift(workspace, week(3))
