"""The verdict on a metric: its rates are those that are stated, over whole windows, slices and looks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.watch import Performance
from airflow_mlops.core.training.row_losses import metric_value, row_losses
from airflow_mlops.core.watch.performance.judge_performance import HoldoutLosses, Look, ServedRows, judge_performance
from airflow_mlops.core.watch.performance.performance_verdict import (
    MeanLoss,
    against_limit,
    judge_slices,
    losses_by_slice,
    reject_by_holm,
)

WORSE_BY = 0.1
RATE = 0.025


def errors(source: np.random.Generator, rows: int, scale: float, metric: MetricName = "mae") -> np.ndarray:
    """Return the losses of rows whose predictions miss by a normal error of a size."""
    return row_losses(metric, np.zeros(rows), source.normal(scale=scale, size=rows))


def verdicts(metric: MetricName, scale: float, rows: int, windows: int = 2_000) -> dict[str, float]:
    """Return the share of each verdict where the holdout's errors have size 1 and the window's another."""
    source, outcomes = np.random.default_rng(7), []
    for _ in range(windows):
        now, then = errors(source, rows, scale, metric), errors(source, rows, 1.0, metric)
        against = against_limit(metric, MeanLoss.of(now), MeanLoss.of(then), WORSE_BY)
        outcomes.append(against.verdict(RATE, RATE))
    return {verdict: outcomes.count(verdict) / windows for verdict in ("alarm", "no alarm", "insufficient data")}


@pytest.mark.parametrize("metric", ["mae", "rmse"])
@pytest.mark.parametrize("rows", [100, 1_000])
def test_at_the_limit_the_stated_share_of_windows_alarms_and_nobody_can_tell_the_others(
    metric: MetricName, rows: int
) -> None:
    shares = verdicts(metric, 1 + WORSE_BY, rows)
    assert 0.2 * RATE <= shares["alarm"] <= 1.5 * RATE
    assert shares["insufficient data"] > 0.9


def test_a_model_that_has_not_changed_never_alarms_and_is_told_so_given_rows_enough() -> None:
    few, many = verdicts("mae", 1.0, 100), verdicts("mae", 1.0, 5_000, windows=300)
    assert few["alarm"] < 0.01
    assert few["insufficient data"] > 0.5
    assert many == {
        "alarm": 0.0,
        "no alarm": pytest.approx(1.0, abs=0.03),
        "insufficient data": pytest.approx(0, abs=0.03),
    }


def test_a_metric_well_beyond_the_limit_alarms() -> None:
    assert verdicts("mae", 1.3, 1_000, windows=300)["alarm"] > 0.9


def test_the_rows_that_would_tell_do_tell() -> None:
    against = against_limit("mae", MeanLoss(100, 1.15, 0.08), MeanLoss(100_000, 1.0, 0.001), WORSE_BY)
    assert against.verdict(RATE, RATE) == "insufficient data"
    needed = against.needed(RATE)
    assert needed is not None
    more = against_limit("mae", MeanLoss(needed, 1.15, 0.08 * (100 / needed) ** 0.5), MeanLoss(1, 1.0, 0.001), WORSE_BY)
    assert more.verdict(RATE, RATE) == "alarm"
    fewer = against_limit(
        "mae", MeanLoss(1, 1.15, 0.08 * (100 / (needed - 99)) ** 0.5), MeanLoss(1, 1.0, 0.001), WORSE_BY
    )
    assert fewer.verdict(RATE, RATE) == "insufficient data"


def test_where_the_holdout_itself_is_too_small_no_number_of_rows_would_tell() -> None:
    against = against_limit("mae", MeanLoss(100, 1.15, 0.08), MeanLoss(50, 1.0, 0.1), WORSE_BY)
    assert against.needed(RATE) is None
    assert against_limit("mae", MeanLoss(100, 1.1, 0.08), MeanLoss(50, 1.0, 0.0), WORSE_BY).needed(RATE) is None


def test_losses_that_are_all_the_same_are_beyond_or_within_for_sure() -> None:
    exact = MeanLoss(100, 1.0, 0.0)
    assert against_limit("mae", MeanLoss.of(np.full(100, 1.2)), exact, WORSE_BY).verdict(RATE, RATE) == "alarm"
    assert against_limit("mae", MeanLoss.of(np.full(100, 1.0)), exact, WORSE_BY).verdict(RATE, RATE) == "no alarm"
    assert against_limit("mae", MeanLoss.of(np.full(100, 1.2)), exact, WORSE_BY).verdict(0.0, RATE) != "alarm"


@pytest.mark.parametrize("metric", ["mae", "rmse", "accuracy", "brier", "log_loss"])
def test_the_metric_of_a_mean_loss_is_the_metric_and_lies_in_its_interval(metric: MetricName) -> None:
    source = np.random.default_rng(1)
    losses = row_losses(metric, source.integers(0, 2, 500).astype(float), source.uniform(0.05, 0.95, 500))
    value, low, high = MeanLoss.of(losses).metric(metric)
    assert value == pytest.approx(metric_value(metric, losses))
    assert low < value < high


def test_holm_never_rejects_less_than_bonferroni_and_keeps_the_order() -> None:
    for ranks in itertools.product([0.001, 0.012, 0.02, 0.3], repeat=4):
        rejections = reject_by_holm(ranks, 0.05)
        assert all(rejected or p > 0.05 / 4 for rejected, p in zip(rejections, ranks, strict=True))
        smallest_kept = min((p for rejected, p in zip(rejections, ranks, strict=True) if not rejected), default=1.0)
        assert all(p <= smallest_kept for rejected, p in zip(rejections, ranks, strict=True) if rejected)
    assert reject_by_holm([], 0.05) == []
    assert reject_by_holm([0.0, 0.0], 0.0) == [False, False]


def test_many_slices_together_alarm_no_more_often_than_stated() -> None:
    source, alarms, windows, slices = np.random.default_rng(3), 0, 400, 20
    column = np.repeat([f"s{number}" for number in range(slices)], 150)
    for _ in range(windows):
        now, _ = losses_by_slice(column, errors(source, column.size, 1 + WORSE_BY), 100)
        then, _ = losses_by_slice(column, errors(source, column.size, 1.0), 100)
        slice_verdicts = judge_slices(
            "mae", {"c": now}, {"c": then}, worse_by=WORSE_BY, alarm_rate=0.05, within_rate=0.05
        )
        alarms += any(verdict.verdict == "alarm" for verdict in slice_verdicts)
    assert alarms / windows <= 0.075


def test_slices_are_counted_as_they_would_be_one_by_one() -> None:
    source = np.random.default_rng(2)
    column, losses = source.choice(["a", "b", "rare"], 1_000, p=[0.6, 0.39, 0.01]), source.exponential(size=1_000)
    means, small = losses_by_slice(column, losses, 50)
    assert small == 1
    assert means.keys() == {"a", "b"}
    for name, loss in means.items():
        mean = MeanLoss.of(losses[column == name])
        assert (loss.rows, loss.mean, loss.error) == pytest.approx((mean.rows, mean.mean, mean.error))


PLACES = np.repeat(["a", "b", "c", "d", "e", "f"], 1_000)


def judge_look(look: Look, *, scale: float = 1.0, bad: float = 1.0) -> dict[str, Any]:
    """Judge a look at 6,000 rows, of which those of ``b`` miss by ``bad`` and the others by ``scale``."""
    source = np.random.default_rng(5)
    missed = source.normal(size=PLACES.size) * np.where(PLACES == "b", bad, scale)
    then = losses_by_slice(PLACES, errors(source, PLACES.size, 1.0), 100)[0]
    reference = HoldoutLosses(0.798, MeanLoss(6_000, 0.798, 0.008), {"place": then})
    rows = ServedRows(np.zeros(PLACES.size), missed, {"place": PLACES})
    return judge_performance(Performance(metric="mae", slices=("place",)), rows, reference, look)[0]


def test_one_bad_slice_alarms_where_the_whole_does_not() -> None:
    verdict = judge_look(Look(RATE), bad=1.4)
    assert (verdict.verdict, verdict.alarmed) == ("alarm", ("place=b",))
    assert verdict.worse_by < WORSE_BY
    assert "beyond it: place=b" in verdict.message
    assert verdict.slices["worst"][0]["slice"] == "b"
    assert judge_look(Look(RATE)).verdict == "no alarm"


def test_a_historical_look_raises_no_alarm_and_keeps_its_numbers() -> None:
    verdict = judge_look(Look(RATE, historical=True), scale=2.0, bad=2.0)
    assert verdict.verdict == "no alarm"
    assert verdict.worse_by > 0.9


def test_an_alarm_stands_while_it_is_worse_than_allowed_and_no_longer() -> None:
    for historical in (True, False):
        standing = Look(0.0, historical=historical, alarmed=("place=b", "whole"))
        assert judge_look(standing, bad=1.4).alarmed == ("place=b",)
        assert judge_look(standing, scale=1.4).alarmed == ("whole",)
        assert judge_look(standing).verdict == "no alarm"


def test_a_look_with_nothing_left_to_spend_raises_no_alarm_of_its_own() -> None:
    assert judge_look(Look(0.0), scale=3.0, bad=3.0).verdict == "insufficient data"


def test_losses_beyond_all_numbers_are_no_verdict() -> None:
    rows = ServedRows(np.array([0.0, 1e200] * 100), np.zeros(200))
    verdict, report = judge_performance(
        Performance(metric="rmse"), rows, HoldoutLosses(1.0, MeanLoss(200, 1.0, 0.1)), Look(RATE)
    )
    assert (verdict.verdict, report) == ("insufficient data", None)
    assert "beyond what can be added up" in verdict.message
