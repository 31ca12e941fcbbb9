"""Measurements of a model beside its metrics: fairness, robustness, cost, importance, baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fairlearn
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from airflow_mlops.core.declaration.evaluate import (
    CLASS_FAIRNESS,
    NUMBER_FAIRNESS,
    PERTURBATIONS,
    Gate,
    Robustness,
)
from airflow_mlops.core.errors import TrainingError
from airflow_mlops.core.evaluation.feature_importance import importance_stability, permutation_importance
from airflow_mlops.core.evaluation.gates import Holdout, evaluate_gates, gates_pass
from airflow_mlops.core.evaluation.group_fairness import measure_fairness
from airflow_mlops.core.evaluation.measurement_gates import CandidateMeasurements
from airflow_mlops.core.evaluation.perturbations import measure_robustness
from airflow_mlops.core.evaluation.prediction_cost import PredictionCost, count_bytes, measure_costs
from airflow_mlops.core.evaluation.shap_values import mean_absolute_shap
from airflow_mlops.core.evaluation.simple_baselines import FITTED_ROWS, fit_baselines
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.window import ModelRows

RANDOM = np.random.default_rng(2)
ROWS = 900
GROUPS = np.array(["north", "south", "west"])[RANDOM.integers(0, 3, ROWS)]
LABEL = (RANDOM.random(ROWS) < 0.4).astype(float)
CHANCE = np.clip(0.35 * LABEL + 0.6 * RANDOM.random(ROWS) + 0.15 * (GROUPS == "west"), 0, 1)
FEATURES = pd.DataFrame(
    {
        "x": RANDOM.normal(size=ROWS),
        "z": RANDOM.normal(size=ROWS) * 5,
        "count": RANDOM.integers(0, 9, ROWS),
        "kind": RANDOM.choice(["a", "b", "c"], ROWS),
    }
)
NUMBER = (
    3 * FEATURES["x"] + FEATURES["kind"].map({"a": 0.0, "b": 2.0, "c": 4.0}) + RANDOM.normal(size=ROWS) * 0.1
).to_numpy()


def linear(*, imputes: bool = True) -> Any:
    numbers = SimpleImputer() if imputes else "passthrough"
    columns = make_column_transformer(
        (numbers, ["x", "z", "count"]), (OneHotEncoder(handle_unknown="ignore"), ["kind"])
    )
    return make_pipeline(columns, LinearRegression()).fit(FEATURES, NUMBER)


def predict_with(model: Any) -> Any:
    return lambda rows: predict(model, rows, classifies=False)


@pytest.mark.parametrize("measure", CLASS_FAIRNESS)
def test_a_measure_of_fairness_is_that_of_fairlearn_on_the_rows(measure: str) -> None:
    results = measure_fairness(LABEL, CHANCE, GROUPS, "region", classifies=True, min_rows=50)[measure]
    expected = getattr(fairlearn, measure)(LABEL.astype(int), CHANCE >= 0.5, sensitive_features=GROUPS)
    assert results.value == pytest.approx(expected)
    assert results.low is not None
    assert results.high is not None
    assert results.low < results.high
    assert (results.rows, dict(results.too_small)) == (ROWS, {})
    assert sum(group["rows"] for group in results.by_group.values()) == ROWS


@pytest.mark.parametrize("measure", NUMBER_FAIRNESS)
def test_groups_of_a_regression_are_compared_by_error_and_mean_prediction(measure: str) -> None:
    predicted = NUMBER + RANDOM.normal(size=ROWS) * (1 + (GROUPS == "west"))
    results = measure_fairness(NUMBER, predicted, GROUPS, "region", classifies=False, min_rows=50)[measure]
    values = [
        np.abs(NUMBER - predicted)[name == GROUPS].mean() if "error" in measure else predicted[name == GROUPS].mean()
        for name in np.unique(GROUPS)
    ]
    expected = min(values) / max(values) if measure.endswith("ratio") else max(values) - min(values)
    assert results.value == pytest.approx(expected)


def test_a_group_with_few_rows_or_none_is_left_out_and_named() -> None:
    groups = GROUPS.copy().astype(object)
    groups[:5] = "east"
    results = measure_fairness(
        LABEL, CHANCE, groups, "region", classifies=True, min_rows=50, expected=["north", "gone", "east"]
    )
    for report in results.values():
        assert dict(report.too_small) == {"east": 5, "gone": 0}
        assert set(report.by_group) == {"north", "south", "west"}


def test_equalized_odds_leave_out_a_group_without_both_classes() -> None:
    label = np.where(GROUPS == "west", 1.0, LABEL)
    results = measure_fairness(label, CHANCE, GROUPS, "region", classifies=True, min_rows=50)
    assert set(results["equalized_odds_difference"].by_group) == {"north", "south"}
    assert set(results["demographic_parity_difference"].by_group) == {"north", "south", "west"}


CLASSES = ("early", "late", "on time")
CODES = np.random.default_rng(4).integers(0, 3, ROWS).astype(float)
CHANCES = np.random.default_rng(5).dirichlet(np.ones(3), ROWS)
CHANCES[(GROUPS == "west") & (CODES == 1), 1] += 1  # the west is rightly called late more often than others are


@pytest.mark.parametrize("measure", CLASS_FAIRNESS)
def test_of_three_classes_a_measure_is_that_of_the_class_on_which_the_groups_differ_most(measure: str) -> None:
    report = measure_fairness(CODES, CHANCES, GROUPS, "region", classifies=True, min_rows=50, classes=CLASSES)[measure]
    chosen = CHANCES.argmax(axis=1)
    by_class = {
        name: getattr(fairlearn, measure)(code == CODES, chosen == code, sensitive_features=GROUPS)
        for code, name in enumerate(CLASSES)
    }
    worst = (min if measure.endswith("ratio") else max)(by_class.values())
    assert report.by_class == pytest.approx(by_class)
    assert report.value == pytest.approx(worst)
    assert report.of_class == "late"
    assert report.low is not None
    assert report.high is not None
    assert report.low <= worst <= report.high
    assert sum(group["rows"] for group in report.by_group.values()) == ROWS


def test_a_group_that_never_has_a_class_is_left_out_for_that_class_and_passes_no_gate() -> None:
    codes = np.where((GROUPS == "north") & (CODES == 2), 0.0, CODES)
    reports = measure_fairness(codes, CHANCES, GROUPS, "region", classifies=True, min_rows=50, classes=CLASSES)
    north = int((GROUPS == "north").sum())
    assert reports["equalized_odds_difference"].too_small == {"north for the class on time": north}
    assert reports["demographic_parity_difference"].too_small == {}
    gate = Gate(metric="equalized_odds_difference", group="region", at_most=1.0)
    holdout = Holdout(codes, CHANCES, None, {"region": GROUPS}, classes=CLASSES)
    measured, unknown = evaluate_gates([gate], holdout)
    assert measured.verdict == "pass"
    assert measured.reason.endswith("for the class late")
    assert unknown.verdict == "too little data"
    assert unknown.reason.endswith(f"of north for the class on time: its {north} rows are all or none of one class")


@pytest.mark.parametrize("measure", ["demographic_parity", "equalized_odds"])
def test_a_class_that_is_never_predicted_treats_all_groups_alike(measure: str) -> None:
    reports = measure_fairness(LABEL, np.zeros(ROWS), GROUPS, "region", classifies=True, min_rows=50)
    assert (reports[f"{measure}_ratio"].value, reports[f"{measure}_difference"].value) == (1.0, 0.0)


def test_a_regression_without_errors_treats_all_groups_alike() -> None:
    reports = measure_fairness(NUMBER, NUMBER, GROUPS, "region", classifies=False, min_rows=50)
    ratio, difference = reports["group_error_ratio"], reports["group_error_difference"]
    assert (ratio.value, ratio.low, ratio.high, difference.value) == (1.0, 1.0, 1.0, 0.0)


def test_a_rate_that_is_0_in_every_group_does_not_hide_one_that_differs() -> None:
    never_wrongly = np.where(LABEL > 0.5, CHANCE, 0.0)
    report = measure_fairness(LABEL, never_wrongly, GROUPS, "region", classifies=True, min_rows=50)
    rates = [group["true_positive_rate"] for group in report["equalized_odds_ratio"].by_group.values()]
    assert report["equalized_odds_ratio"].value == pytest.approx(min(rates) / max(rates))


def test_of_three_classes_a_measure_without_two_groups_of_enough_rows_has_no_value() -> None:
    report = measure_fairness(CODES, CHANCES, GROUPS, "region", classifies=True, min_rows=ROWS, classes=CLASSES)[
        "equalized_odds_ratio"
    ]
    assert (report.value, report.low, report.of_class) == (None, None, None)
    assert set(report.too_small) == {"north", "south", "west"}
    assert "0 groups have the 900 rows" in str(report.reason)


def judge(
    gate: dict[str, Any], measurements: CandidateMeasurements | None = None, **fields: Any
) -> list[tuple[str, str]]:
    holdout = Holdout(LABEL, CHANCE, fields.pop("champion", None), {"region": GROUPS}, **fields)
    reports = evaluate_gates([Gate(**gate)], holdout, measurements)
    assert all(report.reason.startswith(report.gate) for report in reports)
    return [(report.verdict, report.reason) for report in reports]


FAIR = {"metric": "demographic_parity_difference", "group": "region"}


def test_a_gate_on_fairness_holds_the_measure_against_its_limit() -> None:
    assert [verdict for verdict, _ in judge({**FAIR, "at_most": 0.9})] == ["pass"]
    ((verdict, reason),) = judge({**FAIR, "at_most": 0.001})
    assert verdict == "fail"
    assert "over 3 groups on 900 rows" in reason


def test_a_group_with_no_rows_is_never_passed() -> None:
    results = judge({**FAIR, "at_most": 0.9}, expected_groups={"region": ["north", "gone"]})
    assert results[0][0] == "pass"
    assert results[1] == (
        "too little data",
        "demographic_parity_difference of region at most 0.9, of gone: 0 rows, 100 are needed to say",
    )
    nothing = judge({**FAIR, "at_most": 0.9, "min_rows": 5000})
    assert {verdict for verdict, _ in nothing} == {"too little data"}
    assert not gates_pass(
        evaluate_gates([Gate(**FAIR, at_most=0.9, min_rows=5000)], Holdout(LABEL, CHANCE, None, {"region": GROUPS}))
    )


def test_each_disturbance_says_how_much_worse_the_metric_became() -> None:
    results = measure_robustness(predict_with(linear()), FEATURES, NUMBER, "mae", Robustness(), seed=0)
    assert set(results) == {*PERTURBATIONS}
    for report in results.values():
        assert report.worse_by is not None
        assert report.worse_by > 0
        assert report.verdict == "beyond tolerance"
        assert "undisturbed" in report.reason
    again = measure_robustness(predict_with(linear()), FEATURES, NUMBER, "mae", Robustness(), seed=0)
    assert {name: report.to_dict() for name, report in results.items()} == {
        name: report.to_dict() for name, report in again.items()
    }
    tolerant = measure_robustness(predict_with(linear()), FEATURES, NUMBER, "mae", Robustness(tolerance=1e6), seed=0)
    assert {report.verdict for report in tolerant.values()} == {"within tolerance"}


def test_a_disturbance_touches_only_the_columns_of_its_kind() -> None:
    frames: list[pd.DataFrame] = []

    def watching(rows: pd.DataFrame) -> Any:
        frames.append(rows)
        return np.zeros(len(rows))

    measure_robustness(watching, FEATURES, NUMBER, "mae", Robustness(rows=400), seed=0)
    before, noise, missing, swapped, beyond = frames
    assert len(before) == 400
    assert (noise["kind"] == before["kind"]).all()
    assert (noise["z"] - before["z"]).std() == pytest.approx(0.1 * before["z"].std(), rel=0.2)
    assert 0.05 < missing["x"].isna().mean() < 0.15
    assert 0.05 < missing["kind"].isna().mean() < 0.15
    assert (swapped[["x", "z", "count"]] == before[["x", "z", "count"]]).all(axis=None)
    assert 0 < (swapped["kind"] != before["kind"]).mean() < 0.15
    outside = (beyond["x"] > before["x"].max()) | (beyond["x"] < before["x"].min())
    assert 0.05 < outside.mean() < 0.15


def test_a_model_that_raises_on_missing_values_has_been_found_out_and_has_not_crashed() -> None:
    results = measure_robustness(predict_with(linear(imputes=False)), FEATURES, NUMBER, "mae", Robustness(), seed=0)
    report = results["missing_values"]
    assert (report.verdict, report.worse_by) == ("cannot predict", None)
    assert "Input X contains NaN" in report.reason
    assert results["noise"].worse_by is not None
    ((verdict, reason),) = judge(
        {"metric": "worse_by_missing_values", "at_most": 9}, CandidateMeasurements(robustness=results)
    )
    assert verdict == "fail"
    assert "Input X contains NaN" in reason


def test_what_was_not_measured_fails_and_what_cannot_be_is_too_little_data() -> None:
    gate = {"metric": "worse_by_swapped_categories", "at_most": 9}
    assert judge(gate)[0][0] == "fail"
    numbers = FEATURES[["x", "z"]]
    results = measure_robustness(lambda rows: np.zeros(len(rows)), numbers, NUMBER, "mae", Robustness(), seed=0)
    assert judge(gate, CandidateMeasurements(robustness=results))[0][0] == "too little data"
    assert measure_robustness(predict_with(linear()), FEATURES, NUMBER, "mae", Robustness(rows=0), seed=0) == {}


def test_costs_are_measured_for_both_models_and_memory_is_the_same_each_time() -> None:
    small, large = linear(), HistGradientBoostingRegressor(max_iter=40).fit(FEATURES[["x", "z"]], NUMBER)
    models = {"candidate": small, "champion": large}
    results = measure_costs(
        {name: predict_with(model) for name, model in models.items()},
        models,
        {"candidate": 10, "champion": None},
        FEATURES,
    )
    for cost in results.values():
        assert 0 < cost.batch_latency < cost.row_latency < 5
    assert results["champion"].model_memory > results["candidate"].model_memory
    assert count_bytes(large) == results["champion"].model_memory


def test_memory_counts_what_a_compiled_tree_holds_and_each_array_once() -> None:
    few, large_model = (
        RandomForestClassifier(trees, random_state=0).fit(FEATURES[["x", "z"]], LABEL) for trees in (5, 50)
    )
    assert count_bytes(large_model) > 8 * count_bytes(few)
    array = np.zeros(10_000)
    assert count_bytes([array, array]) < 1.1 * array.nbytes


RANKED, REVERSED = {"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 3.0, "b": 2.0, "c": 1.0}
COSTS = {"candidate": PredictionCost(2e-6, 2e-3, 200, 1000), "champion": PredictionCost(1e-6, 2e-3, 100, 1000)}


@pytest.mark.parametrize(
    ("gate", "measurements", "verdict", "why"),
    [
        ({"metric": "batch_latency", "at_most": 1e-5}, CandidateMeasurements(costs=COSTS), "pass", "2e-06"),
        ({"metric": "row_latency", "at_most": 1e-5}, CandidateMeasurements(costs=COSTS), "fail", "0.002"),
        ({"metric": "model_bytes", "at_most": 5}, CandidateMeasurements(), "fail", "not measured"),
        (
            {"metric": "model_bytes", "no_worse_than_champion_by": 0.5},
            CandidateMeasurements(costs=COSTS, has_champion=True),
            "fail",
            "200 against 100, +100.0%",
        ),
        (
            {"metric": "model_memory", "no_worse_than_champion_by": 0},
            CandidateMeasurements(costs=COSTS, has_champion=True),
            "pass",
            "+0.0%",
        ),
        (
            {"metric": "model_memory", "no_worse_than_champion_by": 0},
            CandidateMeasurements(costs={"candidate": COSTS["candidate"]}, has_champion=True),
            "fail",
            "champion is not known",
        ),
        (
            {"metric": "model_memory", "no_worse_than_champion_by": 0},
            CandidateMeasurements(costs=COSTS),
            "pass",
            "there is no champion yet",
        ),
        (
            {"metric": "importance_stability", "at_least": 0.5},
            CandidateMeasurements(),
            "pass",
            "there is no champion yet",
        ),
        (
            {"metric": "importance_stability", "at_least": 0.5},
            CandidateMeasurements(has_champion=True),
            "fail",
            "the champion cannot predict",
        ),
        (
            {"metric": "importance_stability", "at_least": 0.5},
            CandidateMeasurements(
                stability=importance_stability({"a": 1, "b": 2}, {"a": 1, "b": 2}), has_champion=True
            ),
            "too little data",
            "2 features in common",
        ),
        (
            {"metric": "importance_stability", "at_least": 0.5},
            CandidateMeasurements(stability=importance_stability(RANKED, REVERSED), has_champion=True),
            "fail",
            "-1.00",
        ),
    ],
)
def test_gates_on_measurements(
    gate: dict[str, Any], measurements: CandidateMeasurements, verdict: str, why: str
) -> None:
    ((actual, reason),) = judge(gate, measurements)
    assert actual == verdict
    assert why in reason


def test_importance_finds_the_feature_that_the_label_is_made_of_in_terms_of_the_columns_given() -> None:
    results = permutation_importance(predict_with(linear()), FEATURES, NUMBER, "mae", seed=0)
    assert list(results) == ["x", "z", "count", "kind"]
    assert sorted(results, key=lambda name: -results[name])[:2] == ["x", "kind"]
    assert abs(results["z"]) < 0.05
    alone = (
        np.abs(NUMBER - predict_with(linear())(FEATURES.assign(x=RANDOM.permutation(FEATURES["x"].to_numpy())))).mean()
        - np.abs(NUMBER - predict_with(linear())(FEATURES)).mean()
    )
    assert results["x"] == pytest.approx(alone, rel=0.15)


def test_importance_keeps_the_types_of_the_columns() -> None:
    rows = FEATURES.assign(kind=FEATURES["kind"].astype("category"), flag=FEATURES["x"] > 0)
    frames: list[pd.DataFrame] = []

    def record(rows_given: pd.DataFrame) -> Any:
        frames.append(rows_given)
        return np.zeros(len(rows_given))

    permutation_importance(record, rows, NUMBER, "mae", seed=0)
    assert frames[0].dtypes.to_dict() == rows.dtypes.to_dict()


def test_rankings_that_cannot_be_told_apart_have_no_stability() -> None:
    flat = importance_stability(dict.fromkeys("abc", 0.0), {"a": 1.0, "b": 2.0, "c": 3.0})
    assert (flat.value, flat.features) == (None, 3)
    assert "leans on all features alike" in flat.reason


@pytest.mark.parametrize(
    ("last", "explainer"),
    [(HistGradientBoostingRegressor(max_iter=20), "tree"), (Ridge(), "linear"), (KNeighborsRegressor(), "permutation")],
)
def test_shap_finds_the_feature_that_the_label_is_made_of(last: Any, explainer: str) -> None:
    columns = make_column_transformer((OrdinalEncoder(), ["kind"]), remainder="passthrough")
    model = make_pipeline(columns, last).fit(FEATURES, NUMBER)
    results = mean_absolute_shap(model, predict_with(model), FEATURES, seed=0)
    assert (results["explainer"], results["reason"]) == (explainer, None)
    assert next(iter(results["values"])) == "x"
    assert results["values"]["x"] > 5 * results["values"]["count"]


@pytest.mark.parametrize(
    ("last", "explainer"),
    [
        (HistGradientBoostingClassifier(max_iter=20), "tree"),
        (RandomForestClassifier(n_estimators=20, random_state=0), "tree"),
        (GradientBoostingClassifier(n_estimators=10), "permutation"),
        (LogisticRegression(max_iter=1_000), "linear"),
    ],
)
def test_shap_of_three_classes_has_the_values_of_each(last: Any, explainer: str) -> None:
    columns = make_column_transformer((OrdinalEncoder(), ["kind"]), remainder="passthrough")
    model = make_pipeline(columns, last).fit(FEATURES, np.digitize(NUMBER, [0.0, 4.0]))
    names = ("low", "middle", "high")
    results = mean_absolute_shap(model, model.predict_proba, FEATURES, seed=0, classes=names)
    assert (results["explainer"], results["reason"]) == (explainer, None)
    assert list(results["by_class"]) == list(names)
    for name in ("low", "high"):  # a straight line tells the class in the middle by the other two
        assert results["by_class"][name]["x"] > 3 * results["by_class"][name]["count"]
    mean = np.mean([results["by_class"][name]["x"] for name in names])
    assert results["values"]["x"] == pytest.approx(mean)


def test_shap_of_a_model_that_cannot_be_explained_says_why() -> None:
    class Strange:
        def predict(self, rows: Any) -> Any:
            raise ValueError("not today")

    model = Strange()
    results = mean_absolute_shap(model, predict_with(model), FEATURES, seed=0)
    assert results["values"] == {}
    assert "not today" in results["reason"]


def rows_of(features: pd.DataFrame, label: Any) -> ModelRows:
    return ModelRows(pd.DataFrame({"y": label}), features)


def test_the_baselines_are_the_mean_and_a_straight_line() -> None:
    results = fit_baselines(rows_of(FEATURES[:600], NUMBER[:600]), "y", FEATURES[600:], classifies=False)
    assert results.predictions["dummy"] == pytest.approx(np.full(300, NUMBER[:600].mean()))
    assert np.abs(results.predictions["linear"] - NUMBER[600:]).mean() < 0.2
    assert results.to_dict()["fitted_rows"] == 600
    assert f"at most {FITTED_ROWS:,}" in results.to_dict()["fitted_on"]


def test_the_baselines_of_a_classifier_are_its_rate_and_a_logistic_line() -> None:
    label = (NUMBER > 2).astype(float)
    features = FEATURES.assign(x=FEATURES["x"].where(FEATURES["x"] > -1), nothing=np.nan, at=pd.Timestamp("2013-01-01"))
    results = fit_baselines(rows_of(features[:600], label[:600]), "y", features[600:], classifies=True)
    assert results.predictions["dummy"] == pytest.approx(np.full(300, label[:600].mean()))
    assert ((results.predictions["linear"] > 0.5) == (label[600:] > 0.5)).mean() > 0.75


def test_a_baseline_that_cannot_be_fitted_is_missing_with_its_reason_and_a_gate_on_it_fails() -> None:
    results = fit_baselines(rows_of(FEATURES[:600], np.ones(600)), "y", FEATURES[600:], classifies=True)
    assert list(results.predictions) == ["dummy"]
    assert "linear baseline cannot be had" in results.reasons["linear"]
    ((verdict, reason),) = judge({"metric": "log_loss", "better_than": "linear"}, missing_baselines=results.reasons)
    assert verdict == "fail"
    assert "cannot be had" in reason


@pytest.mark.parametrize(("baseline", "verdict"), [(np.full(ROWS, 0.4), "pass"), (LABEL, "fail"), (CHANCE, "fail")])
def test_a_candidate_must_be_strictly_better_than_the_baseline(baseline: Any, verdict: str) -> None:
    ((actual, reason),) = judge({"metric": "brier", "better_than": "dummy"}, baselines={"dummy": baseline})
    assert actual == verdict
    assert "on the same 900 rows" in reason


def test_a_champion_that_cannot_predict_passes_nobody() -> None:
    gate = {"metric": "brier", "no_worse_than_champion_by": 1}
    ((verdict, reason),) = judge(gate, champion_failed="the champion, version 4, cannot predict the holdout")
    assert verdict == "fail"
    assert "version 4" in reason


def test_a_model_that_is_not_fitted_says_so() -> None:
    for classifies, model in ((False, LinearRegression()), (True, LogisticRegression())):
        with pytest.raises(TrainingError, match="the model is not fitted"):
            predict(model, FEATURES[["x"]], classifies=classifies)
