"""Metrics of three classes or more: every value is scikit-learn's, whole, by slice and resampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from airflow_mlops.core.declaration.evaluate import ROW_CLASS_METRICS, SEVERAL_CLASS_METRICS
from airflow_mlops.core.errors import GateError
from airflow_mlops.core.evaluation.bootstrap_interval import MetricOnRows, Resamples
from airflow_mlops.core.evaluation.known_metrics import METRICS, UnknownMetricError, metrics_of_label
from airflow_mlops.core.evaluation.metrics_by_slice import Slices, metric_by_slice
from airflow_mlops.core.evaluation.several_classes import confusion_matrix
from airflow_mlops.core.training.row_losses import row_losses

RANDOM = np.random.default_rng(11)
ROWS, CODES = 600, np.arange(4)
LABEL = RANDOM.choice(4, ROWS, p=[0.5, 0.3, 0.15, 0.05]).astype(float)
LOGITS = RANDOM.normal(size=(ROWS, 4)) + 1.5 * (LABEL[:, None] == CODES)
CHANCES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def averaged(function: Callable[..., Any], average: str) -> Callable[[Any, Any], float]:
    return lambda y, p: function(y, p.argmax(axis=1), average=average, zero_division=0)


ORACLES: dict[str, Callable[[Any, Any], float]] = {
    "log_loss": lambda y, p: sk.log_loss(y, p, labels=CODES),
    "brier": lambda y, p: sk.brier_score_loss(y, p, labels=CODES),
    "accuracy": lambda y, p: sk.accuracy_score(y, p.argmax(axis=1)),
    "balanced_accuracy": lambda y, p: sk.balanced_accuracy_score(y, p.argmax(axis=1)),
    "roc_auc_ovr": lambda y, p: sk.roc_auc_score(y, p, multi_class="ovr", average="macro"),
    "top_2_accuracy": lambda y, p: sk.top_k_accuracy_score(y, p, k=2, labels=CODES),
    "cohen_kappa": lambda y, p: sk.cohen_kappa_score(y, p.argmax(axis=1)),
    **{
        f"{name}_{average}": averaged(function, average)
        for name, function in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score))
        for average in ("macro", "micro", "weighted")
    },
}


def guo(label: Any, chances: Any) -> float:
    """The expected calibration error of Guo et al. 2017, equations 2 to 4, bin by bin."""
    confidence, hit, total = chances.max(axis=1), chances.argmax(axis=1) == label, 0.0
    for low in np.arange(10) / 10:
        mask = (confidence >= low) & ((confidence < low + 0.1) | (low > 0.85))
        if mask.any():
            total += mask.mean() * abs(hit[mask].mean() - confidence[mask].mean())
    return total


ORACLES["expected_calibration_error"] = guo


def test_every_metric_of_several_classes_has_an_oracle() -> None:
    assert set(ORACLES) == {*ROW_CLASS_METRICS, *SEVERAL_CLASS_METRICS}
    assert set(metrics_of_label(classifies=True, several=True)) == set(ORACLES)


@pytest.mark.parametrize("name", ORACLES)
def test_a_value_is_that_of_scikit_learn(name: str) -> None:
    assert METRICS[name].value(LABEL, CHANCES) == pytest.approx(ORACLES[name](LABEL, CHANCES), abs=1e-12)


@pytest.mark.parametrize("name", ORACLES)
def test_each_slice_has_the_value_of_its_rows(name: str) -> None:
    column = np.array(["a", "b", "c"])[RANDOM.choice(3, ROWS)]
    values = metric_by_slice(METRICS[name], LABEL, CHANCES, Slices.from_column(column))
    for value, part in zip(values, "abc", strict=True):
        mask = column == part
        assert value == pytest.approx(ORACLES[name](LABEL[mask], CHANCES[mask]), abs=1e-12)


@pytest.mark.parametrize("name", ORACLES)
def test_resamples_have_the_values_of_their_rows_and_give_an_interval(name: str) -> None:
    draws = Resamples.draw(ROWS, seed=3)
    on_rows = MetricOnRows(METRICS[name], LABEL, {"candidate": CHANCES, "champion": CHANCES[::-1]}, draws)
    value = on_rows.value("candidate")
    interval = on_rows.interval("candidate", value)
    assert interval is not None
    assert interval.low < value < interval.high
    difference = value - on_rows.value("champion")
    of_difference = on_rows.interval_of_difference("candidate", "champion", difference)
    assert of_difference is not None
    assert of_difference.low < difference < of_difference.high
    resampled = draws.values(METRICS[name], LABEL, CHANCES)[:5]
    for got, rows in zip(resampled, draws.index, strict=False):
        assert got == pytest.approx(ORACLES[name](LABEL[rows], CHANCES[rows]), abs=1e-12)


@pytest.mark.parametrize("name", ORACLES)
def test_a_weight_counts_as_so_many_copies_of_its_row(name: str) -> None:
    copies = RANDOM.integers(0, 4, ROWS)
    expected = ORACLES[name](np.repeat(LABEL, copies), np.repeat(CHANCES, copies, axis=0))
    assert METRICS[name].value(LABEL, CHANCES, copies.astype(float)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in ORACLES if name != "roc_auc_ovr"])
def test_a_class_without_rows_or_predictions_counts_as_in_scikit_learn(name: str) -> None:
    keep = LABEL != 3
    label, chances = LABEL[keep], CHANCES[keep].copy()
    chances[:, 3] = 0
    chances /= chances.sum(axis=1, keepdims=True)
    assert METRICS[name].value(label, chances) == pytest.approx(ORACLES[name](label, chances), abs=1e-12)


def test_the_area_is_unknown_without_rows_of_a_class() -> None:
    keep = LABEL != 3
    with pytest.raises(UnknownMetricError, match="a class has no row"):
        METRICS["roc_auc_ovr"].value(LABEL[keep], CHANCES[keep])


def test_kappa_is_unknown_where_chance_leaves_nothing() -> None:
    with pytest.raises(UnknownMetricError, match="all rows are of one class"):
        METRICS["cohen_kappa"].value(np.zeros(5), np.tile([0.7, 0.2, 0.1], (5, 1)))


def test_the_confusion_matrix_is_that_of_scikit_learn() -> None:
    matrix = confusion_matrix(LABEL, CHANCES, ("a", "b", "c", "d"))
    assert matrix["rows"] == sk.confusion_matrix(LABEL, CHANCES.argmax(axis=1)).tolist()


def test_a_label_beyond_the_classes_of_the_predictions_is_refused() -> None:
    with pytest.raises(GateError, match="none of the 4 classes"):
        row_losses("log_loss", [0.0, 4.0], CHANCES[:2])
