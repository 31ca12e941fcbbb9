"""The champion's predictions against those of its reference."""

from __future__ import annotations

import numpy as np

from airflow_mlops.core.training.row_losses import Floats
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.predictions import judge_predictions

TERMS = CheckTerms(alarm_rate=0.01)


def draw_predictions(seed: int, count: int, rows: int = 2_000) -> list[Floats]:
    source = np.random.default_rng(seed)
    return [source.normal(size=rows) for _ in range(count)]


def test_predictions_that_move_alarm_and_those_that_do_not_do_not() -> None:
    fitted, (holdout, window) = draw_predictions(1, 6), draw_predictions(2, 2)
    assert judge_predictions(fitted, [holdout], window, TERMS).verdict == "no alarm"
    moved = judge_predictions(fitted, [holdout], window + 0.5, TERMS)
    assert moved.verdict == "alarm"
    assert "their mean is 0.5" in moved.message


def test_a_model_that_knows_its_own_rows_too_well_is_held_against_its_holdout_alone() -> None:
    fitted, (holdout, window) = draw_predictions(3, 6), draw_predictions(4, 2)
    too_sure = [2.0 * part for part in fitted]
    result = judge_predictions(too_sure, [holdout], window, TERMS)
    assert result.verdict != "alarm"
    assert result.numbers["reference_windows"] == 1
    assert judge_predictions(too_sure, [holdout], window + 0.5, TERMS).verdict == "alarm"


def test_eight_predictions_and_constant_ones_are_no_alarm() -> None:
    fitted, (holdout,) = draw_predictions(5, 6), draw_predictions(6, 1)
    assert judge_predictions(fitted, [holdout], holdout[:8], TERMS).verdict == "insufficient data"
    same = [np.zeros(500)] * 4
    assert judge_predictions(same, [np.zeros(500)], np.zeros(500), TERMS).verdict != "alarm"


def test_a_classifier_that_says_one_thing_of_every_row_alarms() -> None:
    source = np.random.default_rng(7)
    fitted = [source.random(2_000) for _ in range(6)]
    assert judge_predictions(fitted, [source.random(2_000)], np.full(2_000, 0.5), TERMS).verdict == "alarm"
