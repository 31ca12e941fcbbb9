"""The metric before the labels: it follows the rows, agrees with NannyML's, and knows when it cannot tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.evaluation.known_metrics import METRICS
from airflow_mlops.core.training.row_losses import Floats, row_losses
from airflow_mlops.core.watch.checks.check_result import CheckResult
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.estimated_performance import (
    expected_classifier_losses,
    expected_regression_losses,
    judge_estimate,
)
from airflow_mlops.core.watch.checks.expected_metric import Calibration, expected_losses, expected_roc_auc
from airflow_mlops.core.watch.sampled_rows import SampledRows
from tests.unit.core.watch.checks.nannyml_figures import made_up_classes

# What nannyml_figures.py printed, with NannyML 0.13.1.
NANNYML = {
    1.0: {"accuracy": 0.6875030358792914, "roc_auc": 0.7382051276622266},
    2.5: {"accuracy": 0.6875030662702227, "roc_auc": 0.7382051701015672},
}
LOG_LOSS = CheckTerms(alarm_rate=0.01, metric="log_loss")
STRICT = CheckTerms(alarm_rate=0.01, metric="log_loss", worse_by=0.03)


def classes(source: np.random.Generator, rows: int, *, spread: float) -> SampledRows:
    """Return rows of a calibrated classifier; the smaller the spread of the log odds, the harder they are."""
    odds = source.normal(0, spread, rows)
    predicted = 1 / (1 + np.exp(-odds))
    label = (source.random(rows) < predicted).astype(float)
    return SampledRows("w", np.arange(rows), pd.DataFrame({"x": odds}), label, lambda _rows: predicted, predicted)


def numbers(source: np.random.Generator, rows: int, *, middle: float, noise: float = 1.0) -> SampledRows:
    """Return rows of a regression whose errors grow with ``x``, and with ``noise`` for no reason in the rows."""
    x = source.normal(middle, 1.0, rows)
    predicted = 3 * x
    label = predicted + source.normal(size=rows) * np.exp(x / 2) * noise
    frame = pd.DataFrame({"x": x, "kind": source.choice(["a", "b"], rows)})
    return SampledRows("w", np.arange(rows), frame, label, lambda _rows: predicted, predicted)


def judged_classes(holdout: SampledRows, window: SampledRows, terms: CheckTerms = LOG_LOSS) -> CheckResult:
    return judge_estimate(
        expected_classifier_losses(Calibration(holdout.predictions, holdout.label), window.predictions, terms.metric),
        terms,
    )


def chances(reference: pd.DataFrame, predicted: Floats) -> Floats:
    return Calibration(reference["p"].to_numpy(), reference["y"].to_numpy(float)).chances(predicted)


def test_the_estimate_of_overconfident_probabilities_is_that_of_nannyml() -> None:
    reference, window = made_up_classes(overconfident=2.5)
    predicted = window["p"].to_numpy()
    chance = chances(reference, predicted)
    assert 1 - expected_losses("accuracy", predicted, chance).mean() == pytest.approx(
        NANNYML[2.5]["accuracy"], abs=1e-6
    )
    assert expected_roc_auc(predicted, chance) == pytest.approx(NANNYML[2.5]["roc_auc"], abs=1e-6)


def test_probabilities_that_are_calibrated_already_stand_for_themselves_and_come_as_near_to_the_truth() -> None:
    reference, window = made_up_classes(overconfident=1.0)
    predicted, label = window["p"].to_numpy(), window["y"].to_numpy(float)
    chance = chances(reference, predicted)
    assert (chance == predicted).all()
    truth = {name: METRICS[name].value(label, predicted) for name in ("accuracy", "roc_auc")}
    estimates = {
        "accuracy": 1 - float(expected_losses("accuracy", predicted, chance).mean()),
        "roc_auc": expected_roc_auc(predicted, chance),
    }
    for name, value in truth.items():
        assert abs(estimates[name] - value) <= abs(NANNYML[1.0][name] - value) + 0.002


@pytest.mark.parametrize("metric", ["log_loss", "brier", "accuracy"])
def test_the_estimate_follows_rows_that_are_harder_before_their_labels_are_known(metric: str) -> None:
    source = np.random.default_rng(1)
    holdout, window = classes(source, 6_000, spread=2.0), classes(source, 6_000, spread=0.8)
    terms = CheckTerms(alarm_rate=0.01, metric=metric)  # type: ignore[arg-type]
    result = judged_classes(holdout, window, terms)
    truth = float(row_losses(terms.metric, window.label, window.predictions).mean())
    estimate = result.numbers["estimate"]
    assert result.verdict == "alarm"
    assert (1 - estimate if metric == "accuracy" else estimate) == pytest.approx(truth, abs=0.02)


def test_rows_that_lie_no_worse_than_they_may_do_not_alarm_more_often_than_stated() -> None:
    alarms = 0
    for seed in range(100):
        source = np.random.default_rng(seed)
        holdout, window = classes(source, 1_500, spread=1.5), classes(source, 1_000, spread=1.5)
        terms = CheckTerms(alarm_rate=0.05, metric="log_loss", worse_by=1e-9)  # anything worse would be too much
        alarms += judged_classes(holdout, window, terms).verdict == "alarm"
    assert alarms <= 10  # of 100 at 0.05: exceeded once in a hundred such tests


def test_few_rows_are_insufficient_and_say_how_many_would_do() -> None:
    source = np.random.default_rng(2)
    holdout, window = classes(source, 60_000, spread=1.5), classes(source, 100, spread=1.5)
    result = judged_classes(holdout, window, STRICT)
    assert result.verdict == "insufficient data"
    enough = classes(source, 2 * result.numbers["needed"], spread=1.5)
    assert judged_classes(holdout, enough, STRICT).verdict == "no alarm"


def test_a_holdout_that_is_too_small_for_the_limit_is_named_as_what_lacks() -> None:
    source = np.random.default_rng(3)
    result = judged_classes(classes(source, 150, spread=1.5), classes(source, 50_000, spread=1.5), STRICT)
    assert (result.verdict, result.numbers["needed"]) == ("insufficient data", None)
    assert "the holdout has too few rows" in result.message


def test_a_holdout_of_one_class_calibrates_nothing() -> None:
    with pytest.raises(NotReadyError, match="of one class"):
        Calibration(np.array([0.2, 0.7, 0.9]), np.ones(3))


def test_errors_of_a_regression_are_learned_from_its_rows() -> None:
    source = np.random.default_rng(4)
    holdout, window = numbers(source, 6_000, middle=0.0), numbers(source, 4_000, middle=0.7)
    terms = CheckTerms(alarm_rate=0.01, metric="mae")
    result = judge_estimate(expected_regression_losses(holdout, window, "mae"), terms)
    truth = float(np.abs(window.label - window.predictions).mean())
    before = result.numbers["reference"]
    assert result.verdict == "alarm"
    assert abs(result.numbers["estimate"] - truth) < 0.25 * (truth - before)


def test_errors_that_grow_without_anything_in_the_rows_are_not_foreseen() -> None:
    source = np.random.default_rng(5)
    holdout, window = numbers(source, 6_000, middle=0.0), numbers(source, 4_000, middle=0.0, noise=2.0)
    result = judge_estimate(expected_regression_losses(holdout, window, "mae"), CheckTerms(alarm_rate=0.01))
    assert result.verdict == "no alarm"
    assert result.numbers["estimate"] < 0.6 * float(np.abs(window.label - window.predictions).mean())


def test_rows_as_before_do_not_alarm_whatever_the_trees_have_learned() -> None:
    for seed in range(4):
        source = np.random.default_rng(seed)
        losses = expected_regression_losses(numbers(source, 800, middle=0.0), numbers(source, 800, middle=0.0), "rmse")
        result = judge_estimate(losses, CheckTerms(alarm_rate=0.01, metric="rmse"))
        assert result.verdict != "alarm"
        assert abs(result.numbers["worse_by"]) < 0.1
