"""The check ``label_rate``: how many rows have a label, and what the labels are like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.core.data.labels.take_labels import take_labels
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.checks.check_result import CheckResult
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.label_rate import LabelCounts, check_label_rate, judge_label_rate
from airflow_mlops.core.watch.checks.watched_window import WatchedWindow
from tests.unit.core.later_labels import arrive, deliver, labels_by_key, weeks, with_champion
from tests.unit.core.toy_loop import toy_rows, week
from tests.unit.core.watch.checks.watched_loop import scored_loop

TERMS = CheckTerms(alarm_rate=0.02, min_effect=0.1)


def draw_labels(source: np.random.Generator, *, rate: float, share: float = 0.9, rows: int = 2_000) -> LabelCounts:
    """Return the labels of a partition of classes of which some have not come."""
    labels = (source.random(rows) < rate).astype(float)
    return LabelCounts.of(np.where(source.random(rows) < share, labels, np.nan))


def judge(*, rate: float = 0.02, share: float = 0.9, rows: int = 2_000) -> CheckResult:
    """Judge a window against a reference with labels for 90 % of its rows, 2 % of them of class 1."""
    source = np.random.default_rng(4)
    past = [draw_labels(source, rate=0.02) for _ in range(8)]
    return judge_label_rate(past, draw_labels(source, rate=rate, share=share, rows=rows), TERMS)


def test_labels_as_usual_alarm_no_more_often_than_stated() -> None:
    source, alarms = np.random.default_rng(8), 0
    for _ in range(300):
        past = [draw_labels(source, rate=0.3) for _ in range(8)]
        loose = CheckTerms(alarm_rate=0.05, min_effect=0.0)
        alarms += judge_label_rate(past, draw_labels(source, rate=0.3), loose).verdict == "alarm"
    assert alarms / 300 <= 0.075


def test_a_rare_class_that_became_three_times_as_frequent_alarms() -> None:
    result = judge(rate=0.06)
    assert result.verdict == "alarm"
    assert "usually 0.0" in result.message
    assert judge().verdict == "no alarm"


def test_fewer_labels_than_usual_alarm() -> None:
    result = judge(share=0.6)
    assert result.verdict == "alarm"
    assert result.numbers["share"]["value"] == pytest.approx(0.6, abs=0.05)


def test_a_few_rows_are_no_verdict() -> None:
    assert judge(rows=40).verdict == "insufficient data"


def test_where_no_label_has_come_nothing_is_said_of_them() -> None:
    result = judge(share=0.0)
    assert (result.verdict, result.message) == ("insufficient data", "none of 2,000 rows has a label")
    with pytest.raises(NotReadyError, match="no labelled row"):
        judge_label_rate([LabelCounts.of(np.full(9, np.nan))], LabelCounts.of(np.ones(9)), TERMS)


def test_labels_that_are_infinite_are_none_and_constant_ones_have_no_deviation() -> None:
    assert LabelCounts.of(np.array([1.0, np.inf, np.nan, 3.0])) == LabelCounts(4, 2, 2.0, 1.0)
    same = [LabelCounts.of(np.ones(200))] * 3
    assert judge_label_rate(same, LabelCounts.of(np.ones(200)), TERMS).verdict == "no alarm"
    assert judge_label_rate(same, LabelCounts.of(np.zeros(200)), TERMS).verdict == "alarm"


def test_the_labels_of_a_scored_partition_are_held_against_those_of_the_training_window(tmp_path: Path) -> None:
    moved = toy_rows(3, rows=400).assign(y=lambda rows: rows["y"] + 2.0)
    workspace = scored_loop(tmp_path, changed={3: moved})
    result = check_label_rate(WatchedWindow(workspace, week(3)), TERMS)
    assert result.verdict == "alarm"
    assert (result.numbers["rows"], result.numbers["labelled"]) == (400, 400)


def test_labels_that_may_still_come_are_waited_for_and_judged_when_they_are_in(tmp_path: Path) -> None:
    rows: dict[str, pd.DataFrame] = weeks(6, rows=400)
    workspace = with_champion(tmp_path, rows)
    arrive(workspace, 4, rows=rows)
    score_partition(workspace, week(4))
    result = check_label_rate(WatchedWindow(workspace, week(4)), TERMS)
    assert result.verdict == "insufficient data"
    assert "may still come" in result.message
    half = dict(list(labels_by_key(rows[week(4)]).items())[:200])
    deliver(workspace, week(5), half)
    take_labels(workspace, week(5))
    late = check_label_rate(WatchedWindow(workspace, week(4), week(5)), TERMS)
    assert late.verdict == "alarm"
    assert late.message.startswith("200 of 400 rows have a label, 50.0% and usually 100.0%")
