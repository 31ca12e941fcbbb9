"""The declaration of gates and evaluation: valid and invalid combinations of its keys."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from airflow_mlops.core.declaration.evaluate import GATE_METRICS, Evaluate, Gate
from airflow_mlops.core.errors import DeclarationError
from tests.unit.core.toy_loop import toy_loop


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metric": "mae"}, "needs exactly one of"),
        ({"metric": "mae", "at_most": 1, "better_than": "dummy"}, "needs exactly one of"),
        ({"metric": "mae", "better_than": "rival"}, "'dummy', 'linear' or 'champion'"),
        ({"metric": "MAE", "at_most": 1}, "should match pattern"),
        ({"metric": "mae", "better_than": "dummy", "slices": ("kind",)}, "slices go with at_most or at_least"),
        ({"metric": "model_bytes", "at_most": 1, "slices": ("kind",)}, "which model_bytes is not"),
        ({"metric": "model_bytes", "better_than": "dummy"}, "which model_bytes is not"),
        ({"metric": "importance_stability", "no_worse_than_champion_by": 1}, "goes with at_most or at_least"),
        ({"metric": "worse_by_noise", "no_worse_than_champion_by": 1}, "goes with at_most or at_least"),
        ({"metric": "group_error_difference", "at_most": 1}, "a measure of fairness needs it"),
        ({"metric": "mae", "at_most": 1, "group": "kind"}, "group goes with a measure of fairness"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Gate(**fields)


def test_a_gate_on_an_unknown_metric_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(DeclarationError, match=r"no such metric \(value 'maee'\); did you mean 'mae'"):
        toy_loop(gates=[{"metric": "maee", "at_most": 1}])


@pytest.mark.parametrize(
    "name",
    [
        "pinball_loss",
        "pinball_loss_p0",
        "pinball_loss_p05",
        "pinball_loss_p100",
        "pinball_loss_p5_0",
        "pinball_loss_p0_0",
        "mean_tweedie_deviance",
        "mean_tweedie_deviance_1",
        "mean_tweedie_deviance_2_5",
    ],
)
def test_a_metric_whose_name_carries_no_number_that_it_takes_is_refused_with_an_example(name: str) -> None:
    hint = "did you mean '(pinball_loss_p90|mean_tweedie_deviance_1_5)'"
    with pytest.raises(DeclarationError, match=rf"gates\[0\].metric: no such metric .*{hint}"):
        toy_loop(gates=[{"metric": name, "at_most": 1}])
    with pytest.raises(DeclarationError, match=rf"watch.performance.metric: no such metric .*{hint}"):
        toy_loop(watch={"performance": {"metric": name}})


def test_a_watched_metric_has_to_be_one_of_single_rows() -> None:
    with pytest.raises(DeclarationError, match=r"no such metric of single rows; valid metrics: accuracy, .*mae, mape"):
        toy_loop(watch={"performance": {"metric": "r2"}})
    assert toy_loop(watch={"performance": {"metric": "pinball_loss_p97_5"}}).metric == "pinball_loss_p97_5"


def test_a_metric_of_the_users_own_cannot_be_called_as_one_that_carries_a_number() -> None:
    with pytest.raises(ValidationError, match="choose another name"):
        Evaluate(metrics=({**COST, "name": "pinball_loss_p7"},))


COST = {"name": "lost_revenue", "function": "shop.cost:lost", "unit": "EUR"}


def test_a_metric_of_the_users_own_may_be_gated_by_its_name() -> None:
    gates = [{"metric": "lost_revenue", "at_most": 100}, {"metric": "mae", "at_most": 5}]
    loop = toy_loop(gates=gates, evaluate={"metrics": [COST]})
    assert (loop.classifies, loop.metric) == (False, "mae")
    with pytest.raises(DeclarationError, match="no such metric"):
        toy_loop(gates=gates)


@pytest.mark.parametrize("name", [*GATE_METRICS, "loss"])
def test_a_metric_of_the_users_own_cannot_take_a_name_that_is_taken(name: str) -> None:
    with pytest.raises(ValidationError, match="choose another name"):
        Evaluate(metrics=({**COST, "name": name},))


def test_two_metrics_of_the_users_own_cannot_have_one_name() -> None:
    with pytest.raises(ValidationError, match="two metrics have the same name"):
        Evaluate(metrics=(COST, COST))


@pytest.mark.parametrize(
    ("metrics", "classifies", "metric"),
    [
        (["f1"], True, "log_loss"),
        (["demographic_parity_ratio"], True, "log_loss"),
        (["brier", "accuracy"], True, "brier"),
        (["p90_error"], False, "mae"),
        (["r2", "rmse"], False, "rmse"),
        (["max_error", "pinball_loss_p90", "mae"], False, "pinball_loss_p90"),
        (["mean_tweedie_deviance_1_5"], False, "mean_tweedie_deviance_1_5"),
        (["mean_gamma_deviance"], False, "mean_gamma_deviance"),
        (["worse_by_noise", "model_bytes", "calibration_error"], True, "log_loss"),
    ],
)
def test_the_gates_tell_the_kind_of_the_label_and_models_are_compared_by_a_mean_over_rows(
    metrics: list[str], classifies: bool, metric: str
) -> None:
    gates = [{"metric": name, "at_most": 1, **({"group": "kind"} if "parity" in name else {})} for name in metrics]
    loop = toy_loop(gates=gates)
    assert (loop.classifies, loop.metric) == (classifies, metric)


def test_gates_that_do_not_tell_the_kind_of_the_label_are_refused() -> None:
    with pytest.raises(DeclarationError, match="no metric says whether the label is a class or a number"):
        toy_loop(gates=[{"metric": "worse_by_noise", "at_most": 1}])
    with pytest.raises(DeclarationError, match="mixes metrics of classification and regression: f1, r2"):
        toy_loop(gates=[{"metric": "r2", "at_least": 0}, {"metric": "f1", "at_least": 0}])
