"""The regret that is estimated where labels are late, beside the one that the labels then give."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.core.declaration.evaluate import MetricName
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.training.row_losses import Floats, metric_value, relative_loss, row_losses
from airflow_mlops.core.watch.estimated_regret import EstimatedRegret, estimate_regret, expected_model_losses
from airflow_mlops.core.watch.sampled_rows import SampledRows
from tests.unit.core.toy_loop import toy_loop

Predict = Callable[[pd.DataFrame], Floats]
CLASSES = {"gates": [{"metric": "log_loss", "at_most": 9}]}


def chance(slope: float) -> Predict:
    """Return a model of two classes that knows a slope."""
    return lambda rows: np.asarray(1 / (1 + np.exp(-slope * rows["x"])), float)


def line(slope: float) -> Predict:
    """Return a model of a number that knows a slope."""
    return lambda rows: np.asarray(slope * rows["x"], float)


def sampled(
    seed: int, label: Callable[[pd.DataFrame, np.random.Generator], Floats], predict: Predict, shift: float
) -> SampledRows:
    """Return rows with their labels, as a model predicts them."""
    source = np.random.default_rng(seed)
    features = pd.DataFrame({"x": source.normal(shift, size=2_000)})
    return SampledRows("2013-01-06", features.index.to_numpy(), features, label(features, source), predict)


def both(
    loop: Loop, models: tuple[Predict, Predict], label: Callable[..., Floats], seed: int, shift: float
) -> tuple[EstimatedRegret, float]:
    """Return the estimated regret of two models on a shifted partition, and the one that its labels give."""
    metric: MetricName = loop.metric
    losses, values = [], []
    for model in models:
        rows = sampled(seed + 1, label, model, shift)
        losses.append(expected_model_losses(loop, sampled(seed, label, model, 0.0), rows))
        values.append(metric_value(metric, row_losses(metric, rows.label, rows.predictions)))
    return estimate_regret(metric, *losses), relative_loss(metric, *values)


def classes_of(slope: float) -> Callable[..., Floats]:
    return lambda rows, source: (source.random(len(rows)) < chance(slope)(rows)).astype(float)


def numbers_of(slope: float) -> Callable[..., Floats]:
    return lambda rows, source: np.asarray(slope * rows["x"] + source.normal(size=len(rows)), float)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_of_two_classes_the_estimate_holds_what_labels_say_later(shift: float) -> None:
    held = []
    for seed in range(20):
        estimate, truth = both(toy_loop(**CLASSES), (chance(-1.0), chance(2.0)), classes_of(2.0), 2 * seed, shift)
        assert estimate.regret == pytest.approx(truth, rel=0.25)
        held.append(estimate.low <= truth <= estimate.high)
    assert sum(held) >= 14


def test_of_a_number_the_estimate_grows_with_the_rows_on_which_the_champion_is_wrong() -> None:
    by_shift = {shift: both(toy_loop(), (line(1.0), line(2.0)), numbers_of(2.0), 4, shift) for shift in (0.0, 1.0)}
    for estimate, truth in by_shift.values():
        assert estimate.regret == pytest.approx(truth, rel=0.3)
    assert by_shift[1.0][0].regret > 1.5 * by_shift[0.0][0].regret > 0.1


def test_of_equal_models_there_is_no_regret_to_expect() -> None:
    estimate, _ = both(toy_loop(**CLASSES), (chance(2.0), chance(2.0)), classes_of(2.0), 3, 0.5)
    assert (estimate.regret, estimate.low, estimate.high) == (0.0, 0.0, 0.0)


def test_a_holdout_of_one_class_calibrates_nothing() -> None:
    with pytest.raises(NotReadyError, match="of one class"):
        both(toy_loop(**CLASSES), (chance(1.0), chance(2.0)), lambda rows, _: np.ones(len(rows)), 3, 0.0)
