"""Metrics: every value is scikit-learn's, whole, by slice and resampled; what has no value says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from airflow_mlops.core.declaration.evaluate import CLASS_METRICS, NUMBER_METRICS, SEVERAL_CLASS_METRICS, UserMetric
from airflow_mlops.core.evaluation.bootstrap_interval import MetricOnRows, Resamples
from airflow_mlops.core.evaluation.error_analysis import confusion, residuals
from airflow_mlops.core.evaluation.known_metrics import (
    METRICS,
    METRICS_OF_CLASSES,
    METRICS_OF_NUMBERS,
    UnknownMetricError,
    built_in_metric,
    metrics_of_label,
    wrap_user_metric,
)
from airflow_mlops.core.evaluation.metrics_by_slice import Slices, metric_by_slice, report_slices

RANDOM = np.random.default_rng(5)
ROWS = 400
CLASSES = (RANDOM.random(ROWS) < 0.3).astype(float)
CHANCES = np.clip(0.3 * CLASSES + 0.6 * RANDOM.random(ROWS), 0.01, 0.99)
NUMBERS = RANDOM.normal(size=ROWS) * 3 + 1000
GUESSES = NUMBERS + RANDOM.normal(size=ROWS)

OF_ONE_NUMBER = {*METRICS} - {*SEVERAL_CLASS_METRICS}
"""The metrics of one number for each row; test_several_classes holds the others to scikit-learn."""

ORACLES: dict[str, Callable[..., Any]] = {
    "accuracy": lambda y, p, w: sk.accuracy_score(y, p >= 0.5, sample_weight=w),
    "precision": lambda y, p, w: sk.precision_score(y, p >= 0.5, sample_weight=w),
    "recall": lambda y, p, w: sk.recall_score(y, p >= 0.5, sample_weight=w),
    "f1": lambda y, p, w: sk.f1_score(y, p >= 0.5, sample_weight=w),
    "roc_auc": lambda y, p, w: sk.roc_auc_score(y, p, sample_weight=w),
    "pr_auc": lambda y, p, w: sk.average_precision_score(y, p, sample_weight=w),
    "log_loss": lambda y, p, w: sk.log_loss(y, p, sample_weight=w),
    "brier": lambda y, p, w: sk.brier_score_loss(y, p, sample_weight=w),
    "mae": lambda y, p, w: sk.mean_absolute_error(y, p, sample_weight=w),
    "rmse": lambda y, p, w: sk.root_mean_squared_error(y, p, sample_weight=w),
    "r2": lambda y, p, w: sk.r2_score(y, p, sample_weight=w),
    "mape": lambda y, p, w: sk.mean_absolute_percentage_error(y, p, sample_weight=w),
    "smape": lambda y, p, w: np.average(2 * np.abs(y - p) / (np.abs(y) + np.abs(p)), weights=w),
    "rmsle": lambda y, p, w: sk.root_mean_squared_log_error(y, p, sample_weight=w),
    "mean_poisson_deviance": lambda y, p, w: sk.mean_poisson_deviance(y, p, sample_weight=w),
    "mean_gamma_deviance": lambda y, p, w: sk.mean_gamma_deviance(y, p, sample_weight=w),
    "max_error": lambda y, p, w: sk.max_error(y[w > 0], p[w > 0]),
    "p50_error": lambda y, p, w: np.quantile(np.repeat(np.abs(y - p), w.astype(int)), 0.5),
    "p90_error": lambda y, p, w: np.quantile(np.repeat(np.abs(y - p), w.astype(int)), 0.9),
    "p99_error": lambda y, p, w: np.quantile(np.repeat(np.abs(y - p), w.astype(int)), 0.99),
}


def binned_calibration(label: Any, predicted: Any, weights: Any) -> float:
    """The expected calibration error as it is defined: by bins, share times difference of means."""
    total = 0.0
    for low in np.arange(10) / 10:
        mask = (predicted >= low) & ((predicted < low + 0.1) | (low > 0.85))
        mask &= weights > 0
        if mask.any():
            between = np.average(predicted[mask], weights=weights[mask]) - np.average(
                label[mask], weights=weights[mask]
            )
            total += weights[mask].sum() / weights.sum() * abs(between)
    return total


ORACLES["calibration_error"] = binned_calibration


def rows_for(name: str) -> tuple[Any, Any]:
    return (CLASSES, CHANCES) if name in CLASS_METRICS else (NUMBERS, GUESSES)


def test_the_names_that_can_be_declared_are_the_metrics_that_there_are() -> None:
    assert {metric.name for metric in METRICS_OF_CLASSES} == {*CLASS_METRICS}
    assert {metric.name for metric in METRICS_OF_NUMBERS} == {*NUMBER_METRICS}
    assert {*ORACLES} == OF_ONE_NUMBER


@pytest.mark.parametrize("name", sorted(OF_ONE_NUMBER))
def test_a_metric_is_that_of_scikit_learn(name: str) -> None:
    label, predicted = rows_for(name)
    assert METRICS[name].value(label, predicted) == pytest.approx(ORACLES[name](label, predicted, np.ones(ROWS)))
    assert METRICS[name].unit


@pytest.mark.parametrize("name", sorted(OF_ONE_NUMBER - {"roc_auc"}))
def test_a_resample_has_the_metric_of_its_rows_counted_as_often_as_they_were_drawn(name: str) -> None:
    label, predicted = rows_for(name)
    draws = Resamples.draw(ROWS, seed=1, resamples=7)
    result = draws.values(METRICS[name], label, predicted)
    expected = [ORACLES[name](label, predicted, weights) for weights in draws.weights]
    assert result == pytest.approx(np.array(expected))


@pytest.mark.parametrize("name", sorted(OF_ONE_NUMBER))
def test_every_slice_has_the_metric_of_its_rows_alone(name: str) -> None:
    label, predicted = rows_for(name)
    column = np.array(["b", "a", "c", "d"])[RANDOM.integers(0, 4, ROWS)]
    slices = Slices.from_column(column)
    result = metric_by_slice(METRICS[name], label, predicted, slices)
    assert slices.names == ("a", "b", "c", "d")
    for value, part, rows in zip(slices.names, result, slices.rows, strict=True):
        mask = column == value
        assert rows == mask.sum()
        assert part == pytest.approx(METRICS[name].value(label[mask], predicted[mask]))


WEIGHTS = RANDOM.exponential(size=ROWS) * (RANDOM.random(ROWS) < 0.9)


def weighted_oracle(name: str, label: Any, predicted: Any, weights: Any) -> Any:
    """Return scikit-learn's or numpy's value for rows with weights."""
    if METRICS[name].quantile is None:
        return ORACLES[name](label, predicted, weights)
    errors = np.abs(label - predicted)
    return np.quantile(errors, METRICS[name].quantile, weights=weights, method="inverted_cdf")


@pytest.mark.parametrize("name", sorted(OF_ONE_NUMBER))
def test_a_metric_of_rows_with_weights_is_that_of_scikit_learn_whole_by_slice_and_resampled(name: str) -> None:
    label, predicted = rows_for(name)
    metric, expected = METRICS[name], weighted_oracle(name, label, predicted, WEIGHTS)
    assert metric.value(label, predicted, WEIGHTS) == pytest.approx(expected)
    assert metric.value(label, predicted, WEIGHTS / 1000) == pytest.approx(expected)
    column = np.array(["a", "b", "c", "d"])[RANDOM.integers(0, 4, ROWS)]
    slices = Slices.from_column(column)
    for value, part in zip(slices.names, metric_by_slice(metric, label, predicted, slices, WEIGHTS), strict=True):
        mask = column == value
        assert part == pytest.approx(weighted_oracle(name, label[mask], predicted[mask], WEIGHTS[mask]))
    draws = Resamples.draw(ROWS, seed=1, resamples=7)
    resampled = draws.values(metric, label, predicted, WEIGHTS)
    counts = [count * WEIGHTS for count in draws.weights]
    assert resampled == pytest.approx(np.array([weighted_oracle(name, label, predicted, count) for count in counts]))


@pytest.mark.parametrize("name", sorted(OF_ONE_NUMBER - {"max_error"}))
def test_rows_with_weights_have_intervals_of_values_and_of_differences(name: str) -> None:
    label, predicted = rows_for(name)
    both = {"candidate": predicted, "champion": predicted[::-1]}
    on_rows = MetricOnRows(METRICS[name], label, both, Resamples.draw(ROWS, seed=1), WEIGHTS)
    value = on_rows.value("candidate")
    interval = on_rows.interval("candidate", value)
    assert interval is not None
    assert interval.low < value < interval.high
    assert interval.method != "DeLong"
    difference = value - on_rows.value("champion")
    between = on_rows.interval_of_difference("candidate", "champion", difference)
    assert between is not None
    assert between.low < difference < between.high


def test_rows_without_any_weight_have_no_value() -> None:
    for name in sorted(OF_ONE_NUMBER - {"calibration_error"}):
        with pytest.raises(UnknownMetricError, match=name):
            METRICS[name].value(*rows_for(name), np.zeros(ROWS))


def test_a_metric_of_the_users_own_gets_the_weights_if_it_takes_them() -> None:
    def cost(label: Any, predicted: Any, weight: Any = None) -> float:
        return float(np.average(label - predicted, weights=weight))

    def blind(label: Any, predicted: Any) -> float:
        return float((label - predicted).mean())

    metric = wrap_user_metric(UserMetric(name="cost", function="a:b"), cost)
    assert metric.value(NUMBERS, GUESSES, WEIGHTS) == pytest.approx(np.average(NUMBERS - GUESSES, weights=WEIGHTS))
    assert metric.value(NUMBERS, GUESSES) == pytest.approx((NUMBERS - GUESSES).mean())
    unaware = wrap_user_metric(UserMetric(name="blind", function="a:b"), blind)
    assert unaware.value(NUMBERS, GUESSES, WEIGHTS) == pytest.approx((NUMBERS - GUESSES).mean())


@pytest.mark.parametrize("name", ["mae", "rmse", "p50_error"])
def test_the_interval_of_rows_with_weights_holds_the_truth_in_about_95_of_100_samples(name: str) -> None:
    """The weight grows with the error: the truth is the metric of the population by weight."""
    random, mask = np.random.default_rng(23), 0

    def draw(rows: int) -> tuple[Any, Any, Any]:
        predicted = random.normal(size=rows)
        return np.zeros(rows), predicted, random.exponential(size=rows) * (0.5 + np.abs(predicted))

    truth = METRICS[name].value(*draw(1_000_000))
    for number in range(300):
        label, predicted, weight = draw(400)
        draws = Resamples.draw(400, seed=number)
        on_rows = MetricOnRows(METRICS[name], label, {"candidate": predicted}, draws, weight)
        interval = on_rows.interval("candidate", on_rows.value("candidate"))
        assert interval is not None
        mask += interval.low <= truth <= interval.high
    assert 0.90 <= mask / 300 <= 0.985


@pytest.mark.parametrize("name", ["pinball_loss_p2_5", "mean_tweedie_deviance_1_5"])
def test_a_metric_with_a_number_in_its_name_has_a_unit_and_a_normal_interval(name: str) -> None:
    metric = built_in_metric(name)
    assert metric is not None
    on_rows = MetricOnRows(metric, NUMBERS, {"candidate": GUESSES}, Resamples.draw(ROWS, seed=0))
    value = on_rows.value("candidate")
    interval = on_rows.interval("candidate", value)
    assert interval is not None
    assert interval.low < value < interval.high
    assert (metric.name, interval.method, bool(metric.unit)) == (name, "normal", True)


def test_the_largest_error_has_no_interval_and_no_model_has_one_of_a_difference() -> None:
    both = {"candidate": GUESSES, "champion": NUMBERS}
    on_rows = MetricOnRows(METRICS["max_error"], NUMBERS, both, Resamples.draw(ROWS, seed=0))
    assert on_rows.interval("candidate", on_rows.value("candidate")) is None
    assert on_rows.interval_of_difference("candidate", "champion", 1.0) is None


def test_metrics_that_do_not_take_every_label_are_judged_where_they_are_declared() -> None:
    always = {"mae", "rmse", "r2", "p50_error", "p90_error", "p99_error"}
    declared = {"mape", "pinball_loss_p90", "delay_cost", "worse_by_noise"}
    assert set(metrics_of_label(classifies=False)) == always
    assert set(metrics_of_label(classifies=False, declared=declared)) == always | {"mape", "pinball_loss_p90"}


def test_a_slice_whose_labels_a_metric_does_not_take_has_no_value_and_the_others_have_theirs() -> None:
    column = np.array(["a", "b"] * 2)
    label, predicted = np.array([1.0, 0.0, 2.0, 4.0]), np.array([2.0, 3.0, 2.0, 4.0])
    values = metric_by_slice(METRICS["mape"], label, predicted, Slices.from_column(column))
    assert values[0] == pytest.approx(0.5)
    assert np.isnan(values[1])


def test_missing_values_are_a_slice_of_their_own() -> None:
    assert Slices.from_column(np.array(["a", None, "a"], dtype=object)).names == ("(missing)", "a")
    assert Slices.from_column(np.array([1.5, np.nan, np.nan])).rows.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("name", "label", "predicted", "why"),
    [
        ("precision", [0, 1], [0.1, 0.2], "no row is predicted to be of class 1"),
        ("recall", [0, 0], [0.1, 0.9], "no row is of class 1"),
        ("f1", [0, 0], [0.1, 0.2], "no row is of class 1 or predicted to be"),
        ("pr_auc", [0, 0], [0.1, 0.2], "no row is of class 1"),
        ("roc_auc", [1, 1, 1], [0.1, 0.2, 0.3], "3 rows of class 1 and 0 of class 0"),
        ("r2", [4, 4, 4], [4, 4, 5], "all labels are the same"),
        ("mae", [], [], "no rows"),
    ],
)
def test_a_metric_that_is_not_defined_on_the_rows_says_why(
    name: str, label: list[float], predicted: list[float], why: str
) -> None:
    with pytest.raises(UnknownMetricError, match=why):
        METRICS[name].value(np.array(label, float), np.array(predicted, float))


def test_r2_does_not_lose_its_digits_far_from_zero() -> None:
    far = 1e8
    assert METRICS["r2"].value(NUMBERS + far, GUESSES + far) == pytest.approx(sk.r2_score(NUMBERS, GUESSES), rel=1e-6)


BROKEN: dict[str, tuple[Callable[..., Any], str]] = {
    "divides": (lambda label, predicted: 1 / int((predicted > 5000).sum()), "raised ZeroDivisionError"),
    "nan": (lambda label, predicted: np.float64(0) / np.float64(0), "returned no finite number"),
    "infinite": (lambda label, predicted: np.inf, "returned no finite number"),
    "nothing": (lambda label, predicted: None, "and no number"),
    "text": (lambda label, predicted: "12", "returned str '12', and no number"),
    "several": (lambda label, predicted: label - predicted, "and no number"),
    "complex": (lambda label, predicted: 1j, "and no number"),
    "raises": (lambda label, predicted: label["y"], "raised IndexError"),
}


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_a_metric_of_the_users_own_that_gives_no_number_is_unknown_and_says_why(how: str) -> None:
    function, why = BROKEN[how]
    metric = wrap_user_metric(UserMetric(name="cost", function="a.b:cost", unit="EUR"), function)
    with pytest.raises(UnknownMetricError, match=why):
        metric.value(NUMBERS, GUESSES)


def test_a_metric_of_the_users_own_cannot_change_the_rows() -> None:
    def greedy(label: Any, predicted: Any) -> float:
        predicted[:] = label
        return 0.0

    before = GUESSES.copy()
    wrap_user_metric(UserMetric(name="greedy", function="a:b"), greedy).value(NUMBERS, GUESSES)
    assert (before == GUESSES).all()


@pytest.mark.parametrize(
    ("name", "value", "reference", "worse_by"),
    [
        ("mae", 11.0, 10.0, 0.1),
        ("accuracy", 0.8, 0.9, 1.0),
        ("r2", 0.5, 0.75, 1.0),
        ("roc_auc", 0.95, 0.9, -0.5),
        ("p90_error", 5.0, 10.0, -0.5),
    ],
)
def test_what_is_worse_is_so_by_a_share_of_the_loss(name: str, value: float, reference: float, worse_by: float) -> None:
    assert METRICS[name].worse_by(value, reference) == pytest.approx(worse_by)
    assert METRICS[name].is_better(value, reference) == (worse_by < 0)


def test_profit_falls_by_a_share_of_itself_and_a_loss_of_money_may_be_negative() -> None:
    profit = wrap_user_metric(UserMetric(name="profit", function="a:b", better="more"), lambda label, predicted: 0)
    cost = wrap_user_metric(UserMetric(name="cost", function="a:b"), lambda label, predicted: 0)
    assert profit.worse_by(80.0, 100.0) == pytest.approx(0.2)
    assert profit.worse_by(-80.0, -100.0) == pytest.approx(-0.2)
    assert cost.worse_by(-80.0, -100.0) == pytest.approx(0.2)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.floats(0, 1)), min_size=1, max_size=40))
def test_the_confusion_counts_every_row_once(rows: list[tuple[float, float]]) -> None:
    label, predicted = (np.array(column) for column in zip(*rows, strict=True))
    result = confusion(label, predicted)
    matrix = sk.confusion_matrix(label, predicted >= 0.5, labels=[0, 1]).ravel().tolist()
    assert list(result.values()) == matrix


def test_residuals_say_where_predictions_lie_above() -> None:
    result = residuals(np.zeros(4), np.array([1.0, 1.0, 1.0, -5.0]))
    assert (result["mean"], result["share_positive"], result["least"], result["p50"]) == (-0.5, 0.75, -5.0, 1.0)


def coverage(name: str, truth: float, samples: int, rows: int, at_most: int) -> float:
    """The share of samples whose interval holds the truth, for labels 0 and standard normal predictions."""
    random = np.random.default_rng(11)
    mask = 0
    for number in range(samples):
        predicted = random.normal(size=rows)
        draws = Resamples.draw(rows, seed=number, at_most=at_most)
        on_rows = MetricOnRows(METRICS[name], np.zeros(rows), {"candidate": predicted}, draws)
        interval = on_rows.interval("candidate", on_rows.value("candidate"))
        assert interval is not None
        mask += interval.low <= truth <= interval.high
    return mask / samples


@pytest.mark.parametrize("at_most", [400, 150])
@pytest.mark.parametrize(("name", "truth"), [("rmse", 1.0), ("p50_error", 0.67449), ("mae", 0.79788)])
def test_an_interval_of_95_percent_holds_the_truth_in_about_95_of_100_samples(
    name: str, truth: float, at_most: int
) -> None:
    assert 0.90 <= coverage(name, truth, 300, 400, at_most) <= 0.985


def positive_labels(name: str, mean: Any, random: Any) -> Any:
    """Draw labels of these means that a metric takes: exponential ones, or counts."""
    return random.poisson(mean).astype(float) if "poisson" in name else random.exponential(mean)


@pytest.mark.parametrize(
    "name",
    [
        "mape",
        "smape",
        "rmsle",
        "mean_poisson_deviance",
        "mean_gamma_deviance",
        "mean_tweedie_deviance_1_5",
        "pinball_loss_p90",
    ],
)
def test_the_interval_of_a_metric_of_positive_numbers_holds_its_truth_in_about_95_of_100_samples(name: str) -> None:
    random, mask, metric = np.random.default_rng(17), 0, built_in_metric(name)
    assert metric is not None

    def draw(rows: int) -> tuple[Any, Any]:
        mean = np.exp(random.normal(1.0, 0.3, rows))
        # A label near 0 has no mean share: labels of mape keep away from it.
        return positive_labels(name, mean, random) + (name == "mape"), mean * np.exp(random.normal(0.0, 0.2, rows))

    truth = metric.value(*draw(1_000_000))
    for number in range(300):
        label, predicted = draw(400)
        on_rows = MetricOnRows(metric, label, {"candidate": predicted}, Resamples.draw(400, seed=number))
        interval = on_rows.interval("candidate", on_rows.value("candidate"))
        assert interval is not None
        mask += interval.low <= truth <= interval.high
    assert 0.90 <= mask / 300 <= 0.985


def test_the_interval_of_a_difference_counts_that_both_models_saw_the_same_rows() -> None:
    random = np.random.default_rng(12)
    label, shared = np.zeros(500), random.normal(size=500) * 10
    candidate, champion = shared, shared * 1.01
    on_rows = MetricOnRows(
        METRICS["rmse"], label, {"candidate": candidate, "champion": champion}, Resamples.draw(500, seed=0)
    )
    value, reference = on_rows.value("candidate"), on_rows.value("champion")
    alone = on_rows.interval("candidate", value)
    between = on_rows.interval_of_difference("candidate", "champion", value - reference)
    assert between is not None
    assert alone is not None
    assert between.low < value - reference < between.high < 0
    assert (between.high - between.low) < 0.05 * (alone.high - alone.low)
    assert "bootstrap, 200 resamples of 500 rows" in between.method


def test_the_same_seed_gives_the_same_interval_and_says_how_many_rows_it_drew() -> None:
    first, again, other = (Resamples.draw(10_000, seed=seed, at_most=50) for seed in (3, 3, 4))
    assert (first.index == again.index).all()
    assert (first.sample == again.sample).all()
    assert (first.index != other.index).any()
    assert first.method == "bootstrap, 200 resamples of 50 of 10,000 rows, scaled"


def test_a_slow_metric_of_the_users_own_is_resampled_less_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_mlops.core.evaluation import bootstrap_interval

    clock = iter(np.arange(0, 1000, 0.01))
    monkeypatch.setattr(bootstrap_interval, "process_time", lambda: float(next(clock)))
    metric = wrap_user_metric(UserMetric(name="cost", function="a:b"), lambda y, p: float(np.abs(y - p).sum()))
    on_rows = MetricOnRows(metric, NUMBERS, {"candidate": GUESSES}, Resamples.draw(ROWS, seed=0))
    interval = on_rows.interval("candidate", on_rows.value("candidate"))
    assert interval is not None
    assert "51 resamples" in interval.method


def test_small_slices_have_no_metrics_and_the_largest_are_shown() -> None:
    column = np.repeat([f"small{number:02}" for number in range(50)], 8)
    column[:100] = "large"
    result = report_slices({"mae": METRICS["mae"]}, NUMBERS, (GUESSES, None), {"kind": column}, min_rows=9)["kind"]
    assert (len(result["slices"]), result["left_out"]) == (39, 0)
    large = next(entry for entry in result["slices"] if entry["value"] == "large")
    assert large["metrics"]["mae"] == pytest.approx(np.abs(NUMBERS - GUESSES)[:100].mean())
    assert {entry["verdict"] for entry in result["slices"] if entry is not large} == {"too little data"}
    assert all(entry["metrics"] == {} for entry in result["slices"] if entry is not large)
