"""The metric before the labels: it follows the rows, agrees with NannyML's, and knows when it cannot tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.evaluation.known_metrics import METRICS
from airflow_mlops.core.evaluation.several_classes import confusion_matrix
from airflow_mlops.core.training.row_losses import Floats, metric_value, row_losses
from airflow_mlops.core.watch.checks.check_result import CheckResult
from airflow_mlops.core.watch.checks.check_terms import CheckTerms
from airflow_mlops.core.watch.checks.estimated_performance import (
    expected_classifier_losses,
    expected_regression_losses,
    judge_classes,
    judge_estimate,
)
from airflow_mlops.core.watch.checks.expected_metric import (
    Calibration,
    ClassCalibration,
    expected_losses,
    expected_roc_auc,
)
from airflow_mlops.core.watch.sampled_rows import SampledRows
from tests.unit.core.watch.checks.nannyml_figures import CLASSES, made_up_classes, made_up_three_classes

# What nannyml_figures.py printed, with NannyML 0.13.1.
NANNYML = {
    1.0: {"accuracy": 0.6875030358792914, "roc_auc": 0.7382051276622266},
    2.5: {"accuracy": 0.6875030662702227, "roc_auc": 0.7382051701015672},
}
NANNYML_THREE_CLASSES = {"accuracy": 0.6305704999695582, "roc_auc": 0.7790499175391292}  # 2.5 times overconfident
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


def test_the_estimate_of_three_overconfident_classes_is_that_of_nannyml() -> None:
    reference, window = made_up_three_classes(overconfident=2.5)
    names = list(CLASSES)
    codes = reference["y"].map(names.index).to_numpy(float)
    calibration = ClassCalibration(reference[names].to_numpy(), codes, CLASSES)
    numbers = judge_classes(calibration, window[names].to_numpy(), LOG_LOSS, CLASSES).numbers
    assert numbers["accuracy"] == pytest.approx(NANNYML_THREE_CLASSES["accuracy"], abs=1e-6)
    assert numbers["roc_auc_ovr"] == pytest.approx(NANNYML_THREE_CLASSES["roc_auc"], abs=1e-6)


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


NAMES = ("early", "on time", "late")


def several(source: np.random.Generator, rows: int, *, spread: float, overconfident: float = 1.0) -> SampledRows:
    """Return rows of a classifier of three classes; ``overconfident`` multiplies its log odds."""
    odds = source.normal(0, spread, (rows, 3))
    chance = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    label = (source.random((rows, 1)) > chance.cumsum(axis=1)).sum(axis=1).astype(float)
    predicted = np.exp(odds * overconfident)
    predicted /= predicted.sum(axis=1, keepdims=True)
    return SampledRows("w", np.arange(rows), pd.DataFrame(odds), label, lambda _rows: predicted, predicted)


@pytest.mark.parametrize("metric", ["log_loss", "brier", "accuracy"])
@pytest.mark.parametrize("overconfident", [1.0, 2.0])
def test_the_estimate_of_three_classes_is_near_what_their_labels_show(metric: str, overconfident: float) -> None:
    source = np.random.default_rng(7)
    holdout = several(source, 6_000, spread=2.0, overconfident=overconfident)
    window = several(source, 6_000, spread=0.7, overconfident=overconfident)
    calibration = ClassCalibration(holdout.predictions, holdout.label, NAMES)
    result = judge_classes(calibration, window.predictions, CheckTerms(alarm_rate=0.01, metric=metric), NAMES)  # type: ignore[arg-type]
    truth = metric_value(metric, row_losses(metric, window.label, window.predictions))  # type: ignore[arg-type]
    before = result.numbers["reference"]
    assert result.verdict == "alarm"
    assert abs(result.numbers["estimate"] - truth) < 0.12 * abs(truth - before) + 0.01
    hits = float((window.predictions.argmax(axis=1) == window.label).mean())
    assert result.numbers["accuracy"] == pytest.approx(hits, abs=0.03)
    area = METRICS["roc_auc_ovr"].value(window.label, window.predictions)
    assert result.numbers["roc_auc_ovr"] == pytest.approx(area, abs=0.03)
    assert result.report is not None
    expected = np.array(result.report["expected_confusion"]["rows"])
    seen = confusion_matrix(window.label, window.predictions, NAMES)["rows"]
    assert np.abs(expected - np.array(seen)).max() < 0.04 * 6_000


def test_the_chances_of_three_classes_add_up_to_one_and_a_class_without_labels_is_named() -> None:
    holdout = several(np.random.default_rng(8), 2_000, spread=1.5, overconfident=3.0)
    calibration = ClassCalibration(holdout.predictions, holdout.label, NAMES)
    far = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(calibration.chances(far).sum(axis=1), 1.0)
    assert calibration.chances(np.array([[0.9, 0.06, 0.04]]))[0, 0] < 0.8
    with pytest.raises(NotReadyError, match="all or none are 'late'"):
        ClassCalibration(holdout.predictions, np.minimum(holdout.label, 1.0), NAMES)


def test_rows_of_three_classes_as_before_do_not_alarm_more_often_than_stated() -> None:
    alarms = 0
    terms = CheckTerms(alarm_rate=0.05, metric="log_loss", worse_by=1e-9)
    for seed in range(60):
        source = np.random.default_rng(seed)
        holdout, window = several(source, 1_200, spread=1.5), several(source, 800, spread=1.5)
        calibration = ClassCalibration(holdout.predictions, holdout.label, NAMES)
        alarms += judge_classes(calibration, window.predictions, terms, NAMES).verdict == "alarm"
    assert alarms <= 8  # of 60 at 0.05: exceeded once in a hundred such tests
