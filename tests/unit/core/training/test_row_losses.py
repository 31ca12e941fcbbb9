"""Metrics: the numbers of scikit-learn and scipy, and an error wherever a number would be a guess."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from airflow_mlops.core.errors import GateError, TrainingError
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import DomainError, metric_value, relative_loss, row_losses

finite = st.floats(-1e6, 1e6)
regression = st.lists(st.tuples(finite, finite), min_size=1, max_size=40)
classification = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=40)

ORACLES: dict[str, Any] = {
    "mae": oracle.mean_absolute_error,
    "rmse": oracle.root_mean_squared_error,
    "brier": lambda label, probability: oracle.brier_score_loss(label, probability, pos_label=1),
    "accuracy": lambda label, probability: oracle.accuracy_score(label, np.asarray(probability) >= 0.5),
}


def metric_of(metric: Any, rows: list[tuple[float, float]]) -> float:
    label, predicted = zip(*rows, strict=True)
    return metric_value(metric, row_losses(metric, label, predicted))


@given(regression, st.sampled_from(["mae", "rmse"]))
def test_regression_metrics_are_those_of_scikit_learn(rows: list[tuple[float, float]], metric: str) -> None:
    assert metric_of(metric, rows) == pytest.approx(ORACLES[metric](*zip(*rows, strict=True)), rel=1e-9, abs=1e-9)


@given(classification, st.sampled_from(["brier", "accuracy"]))
def test_classification_metrics_are_those_of_scikit_learn(rows: list[tuple[float, float]], metric: str) -> None:
    assert metric_of(metric, rows) == pytest.approx(ORACLES[metric](*zip(*rows, strict=True)), rel=1e-9, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(1e-9, 1 - 1e-9)), min_size=1, max_size=40))
def test_log_loss_is_that_of_scikit_learn(rows: list[tuple[float, float]]) -> None:
    label, probability = zip(*rows, strict=True)
    assert metric_of("log_loss", rows) == pytest.approx(oracle.log_loss(label, probability, labels=[0, 1]), rel=1e-7)


def test_a_certain_and_wrong_probability_costs_much_and_not_infinity() -> None:
    assert 30 < metric_of("log_loss", [(1, 0.0)]) < 40
    assert 30 < metric_of("log_loss", [(0, 1.0)]) < 40


@pytest.mark.parametrize("metric", ["mae", "rmse", "log_loss", "brier", "accuracy"])
@pytest.mark.parametrize(
    ("label", "predicted", "message"),
    [
        ([], [], "no rows with a label"),
        ([1.0, 0.0], [1.0], r"\(1,\) predictions for \(2,\) labels"),
        ([[1.0]], [[1.0]], "predictions for"),
        ([1.0, float("nan")], [1.0, 1.0], "1 of 2 labels are NaN or infinite"),
        ([1.0, 0.0], [float("nan"), float("inf")], "2 of 2 predictions are NaN or infinite"),
    ],
)
def test_what_gives_no_number_is_a_gate_error(metric: Any, label: Any, predicted: Any, message: str) -> None:
    with pytest.raises(GateError, match=f"{metric}: .*{message}"):
        row_losses(metric, label, predicted)


@given(st.sampled_from(["mae", "rmse", "log_loss", "brier"]), st.floats(0.01, 100), st.floats(-0.9, 5))
def test_a_relative_loss_is_the_share_by_which_it_is_worse(metric: Any, reference: float, share: float) -> None:
    assert relative_loss(metric, reference * (1 + share), reference) == pytest.approx(share, abs=1e-9)


def test_a_reference_without_any_loss_makes_every_loss_a_large_one_and_none_is_none() -> None:
    assert relative_loss("mae", 1.0, 0.0) > 1e6
    assert relative_loss("mae", 0.0, 0.0) == 0.0
    assert relative_loss("accuracy", 1.0, 1.0) == 0.0


class Saying:
    """A model that says what it is told to."""

    classes_ = (0, 1)

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, features: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def predict_proba(self, features: Any) -> Any:
        return self.predict(features)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ValueError("no such category"), "raised ValueError in predict: no such category"),
        ([1.0], r"shape \(1,\) for 2 rows"),
        ([[1.0], [2.0]], r"shape \(2, 1\) for 2 rows"),
        ([1.0, float("nan")], "gave 1 NaN or infinite predictions for 2 rows"),
        (["a", "b"], "raised ValueError in predict"),
        (None, "gave predictions of shape"),
    ],
)
def test_a_model_that_says_no_number_for_each_row_is_a_training_error(answer: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        predict(Saying(answer), [[1], [2]], classifies=False)  # type: ignore[arg-type]


def test_a_classifier_s_prediction_is_the_probability_of_class_1_wherever_that_stands() -> None:
    model = Saying([[0.9, 0.1], [0.2, 0.8]])
    assert predict(model, [[1], [2]], classifies=True).tolist() == [0.1, 0.8]  # type: ignore[arg-type]
    model.classes_ = (1, 0)
    assert predict(model, [[1], [2]], classifies=True).tolist() == [0.9, 0.2]  # type: ignore[arg-type]


positive = st.lists(st.tuples(st.floats(0.01, 1e4), st.floats(0.01, 1e4)), min_size=1, max_size=40)
OF_POSITIVE_NUMBERS: dict[str, Any] = {
    "mape": oracle.mean_absolute_percentage_error,
    "rmsle": oracle.root_mean_squared_log_error,
    "mean_poisson_deviance": oracle.mean_poisson_deviance,
    "mean_gamma_deviance": oracle.mean_gamma_deviance,
    **{
        f"mean_tweedie_deviance_{name}": partial(oracle.mean_tweedie_deviance, power=power)
        for name, power in (("1_1", 1.1), ("1_5", 1.5), ("1_925", 1.925))
    },
    **{
        f"pinball_loss_p{name}": partial(oracle.mean_pinball_loss, alpha=alpha)
        for name, alpha in (("0_5", 0.005), ("10", 0.1), ("50", 0.5), ("97_5", 0.975))
    },
}


@given(positive, st.sampled_from(sorted(OF_POSITIVE_NUMBERS)))
def test_metrics_of_positive_numbers_are_those_of_scikit_learn(rows: list[tuple[float, float]], metric: str) -> None:
    expected = OF_POSITIVE_NUMBERS[metric](*zip(*rows, strict=True))
    assert metric_of(metric, rows) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("metric", ["mean_poisson_deviance", "mean_tweedie_deviance_1_5", "rmsle"])
def test_a_label_of_zero_has_the_loss_that_scikit_learn_gives_it(metric: str) -> None:
    rows = [(0.0, 2.0), (3.0, 1.5)]
    assert metric_of(metric, rows) == pytest.approx(OF_POSITIVE_NUMBERS[metric](*zip(*rows, strict=True)))


def test_smape_is_that_of_makridakis_and_of_two_zeros_there_is_no_error() -> None:
    # 100 predicted as 110 and as 90: 9.52 % and 10.53 %, the example of its lack of symmetry.
    losses = row_losses("smape", [100.0, 100.0, 0.0, 0.0], [110.0, 90.0, 0.0, 5.0])
    assert losses.round(4).tolist() == [0.0952, 0.1053, 0.0, 2.0]


@pytest.mark.parametrize(
    ("metric", "label", "predicted", "message"),
    [
        ("mape", [0.0, 0.0, 4.0], [1.0, 1.0, 1.0], "mape does not take 2 of 3 labels, which are 0; leave such rows"),
        ("rmsle", [-1.0, 2.0], [1.0, 1.0], "rmsle does not take 1 of 2 labels, which are -1 or less"),
        ("rmsle", [1.0, 2.0], [1.0, -3.0], "rmsle does not take 1 of 2 predictions, which are -1 or less"),
        ("mean_poisson_deviance", [-1.0, 2.0], [1.0, 1.0], "1 of 2 labels, which are negative"),
        ("mean_poisson_deviance", [0.0, 2.0], [0.0, -1.0], "2 of 2 predictions, which are 0 or negative; give a model"),
        ("mean_gamma_deviance", [0.0, 2.0], [1.0, 1.0], "1 of 2 labels, which are 0 or negative"),
        ("mean_gamma_deviance", [1.0, 2.0], [1.0, 0.0], "1 of 2 predictions, which are 0 or negative"),
        ("mean_tweedie_deviance_1_5", [0.0, 2.0], [1.0, 0.0], "1 of 2 predictions, which are 0 or negative"),
    ],
)
def test_values_that_a_metric_does_not_take_are_counted_with_what_to_do(
    metric: str, label: list[float], predicted: list[float], message: str
) -> None:
    with pytest.raises(DomainError, match=message):
        row_losses(metric, label, predicted)
