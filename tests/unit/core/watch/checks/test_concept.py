"""Errors row by row: a rise is found and stays found, a fall and luck are not, and river is named where it lacks."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.watch.checks import river_adwin
from airflow_mlops.core.watch.checks.check_result import CheckResult
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.concept import POINTS, LossStream, judge_stream

TERMS = CheckTerms(alarm_rate=0.01, metric="mae", worse_by=0.1)
WEEK = 1_000


def losses(seed: int, *levels: float, rows: int = WEEK) -> Floats:
    """Return losses of weeks one after another, the mean of each its level."""
    source = np.random.default_rng(seed)
    return np.concatenate([source.exponential(level, rows) for level in levels])


def judge(stream: Floats, *, rows: int = WEEK) -> CheckResult:
    weeks = np.array(["the holdout", *(f"week {number}" for number in range(1, len(stream) // rows))])
    return judge_stream(LossStream(stream, np.repeat(weeks, rows), rows), TERMS)


def test_a_rise_is_found_and_alarms_as_long_as_it_lasts() -> None:
    for later in range(3):
        result = judge(losses(1, 1.0, 1.0, 1.0, 1.6, *[1.6] * later))
        assert result.verdict == "alarm"
        assert result.numbers["since"] in {"week 2", "week 3"}
        assert result.numbers["before"] == pytest.approx(1.0, abs=0.1)
        assert result.numbers["level"] == pytest.approx(1.6, abs=0.15)


def test_a_rise_that_is_over_alarms_no_more() -> None:
    assert judge(losses(2, 1.0, 1.0, 2.0, 1.0, 1.0)).verdict == "no alarm"


def test_errors_that_fall_and_errors_that_stay_do_not_alarm() -> None:
    assert judge(losses(3, 1.0, 1.0, 0.5, 0.5)).verdict == "no alarm"
    assert sum(judge(losses(seed, *[1.0] * 8)).verdict == "alarm" for seed in range(40)) <= 1


def test_a_rise_within_what_is_allowed_is_no_alarm() -> None:
    result = judge(losses(4, *[1.0] * 5, *[1.08] * 40))
    assert result.verdict == "no alarm"


def test_many_rows_are_taken_together_and_say_the_same() -> None:
    rows = POINTS
    result = judge(losses(5, 1.0, 1.0, 1.3, rows=rows), rows=rows)
    assert (result.verdict, result.numbers["rows"]) == ("alarm", 3 * rows)
    assert result.numbers["before"] == pytest.approx(1.0, abs=0.02)
    assert result.numbers["level"] == pytest.approx(1.3, abs=0.02)


def test_losses_that_are_all_zero_are_no_alarm() -> None:
    assert judge(np.zeros(4 * WEEK)).verdict == "no alarm"


def test_without_river_the_extra_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        river_adwin.importlib.util, "find_spec", lambda name: None if name == "river" else find_spec(name)
    )
    with pytest.raises(DeclarationError, match=r"pip install 'airflow-mlops\[river\]'"):
        judge(losses(6, 1.0, 1.0))
