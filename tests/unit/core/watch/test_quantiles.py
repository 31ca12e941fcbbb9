"""A loop of several quantiles, from its declaration to its watch: one version, a model of each, and none crosses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, QuantileRegressor
from sklearn.metrics import mean_absolute_error, mean_pinball_loss
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from airflow_mlops.core.declaration.quantiles import join_models, quantiles_of
from airflow_mlops.core.errors import DeclarationError, GateError, NotReadyError, ReproductionError, TrainingError
from airflow_mlops.core.evaluation.bootstrap_interval import MetricOnRows, Resamples
from airflow_mlops.core.evaluation.known_metrics import METRICS, UnknownMetricError, built_in_metric
from airflow_mlops.core.governance.explain_row import explain_row
from airflow_mlops.core.governance.model_card import model_card
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.registry.recorded_classes import ClassesChangedError
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.analyse_rows import compare_rows
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.child_step import ChildStep
from airflow_mlops.core.training.fit_candidate import fit_candidate, fit_request_of, run_fit
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.row_losses import row_losses
from airflow_mlops.core.training.weighted_fit import fit_quantiles
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.watch.training_serving_skew import replay_rows
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, toy_rows, train, week

HOUSE = Path(__file__).resolve().parents[4]
QUANTILES = [0.05, 0.5, 0.95]
PINBALL = "pinball_loss_p5_p50_p95"
CHECKS = {"label_rate": "their mean is", "multivariate": "with an AUC of", "reconstruction": "with a mean error of"}


def of_x(model: Any) -> Any:
    return make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), model)


def lines(seed: int, quantile: float) -> Any:
    """Return a line of a quantile."""
    return {"lines": of_x(QuantileRegressor(quantile=quantile, alpha=0))}


def trees(seed: int, quantile: float) -> Any:
    """Return trees of a quantile, beside what cannot be used."""
    boosting = GradientBoostingRegressor(loss="quantile", alpha=quantile, n_estimators=20, random_state=seed)
    return {"trees": of_x(boosting), "classes": of_x(LogisticRegression())}


def with_neighbours(seed: int, quantile: float) -> Any:
    """Return a line of a quantile, and a model whose fit takes no weights."""
    return {**lines(seed, quantile), "neighbours": of_x(KNeighborsRegressor())}


def other_names(seed: int, quantile: float) -> Any:
    return {f"model{quantile:g}": of_x(QuantileRegressor(quantile=quantile))}


def searched(seed: int, quantile: float) -> Any:
    return of_x(QuantileRegressor(quantile=quantile)), {"quantileregressor__alpha": [0.1, 1.0]}


def loop_of(tmp_path: Path, function: Any = lines, weeks: dict[str, pd.DataFrame] | None = None, **changes: Any) -> Any:
    """Return a loop in memory with its weeks published."""
    frames = weeks or {week(number): toy_rows(number, rows=400) for number in range(6)}
    declared = {
        "gates": [
            {"metric": PINBALL, "better_than": "dummy"},
            {"metric": "coverage", "at_least": 0.8},
            {"metric": "interval_width", "at_most": 5},
        ],
        "watch": {"performance": {"metric": PINBALL, "worse_by": 0.5}},
        "rollout": {"stages": [{"shadow": 100}, {"live": 100}]},
        **changes,
    }
    fit = {"function": f"{__name__}:{function.__name__}", "window": 2, "quantiles": QUANTILES}
    loop = toy_loop(**{**declared, "train": {**fit, **changes.get("train", {})}})
    workspace = in_memory_workspace(loop, frames, scratch=tmp_path / "scratch", root=tmp_path)
    for key in frames:
        ingest(workspace, key)
    return workspace


def expected_lines(weeks: tuple[int, ...], rows: pd.DataFrame) -> Any:
    """Return the predictions of a line of each quantile that is fitted on weeks."""
    frame = pd.concat([toy_rows(number, rows=400) for number in weeks])
    models = [QuantileRegressor(quantile=quantile, alpha=0).fit(frame[["x"]], frame["y"]) for quantile in QUANTILES]
    return np.sort(np.column_stack([model.predict(rows[["x"]]) for model in models]), axis=1)


def test_a_candidate_is_one_model_of_each_quantile_and_judged_by_all_of_them(tmp_path: Path) -> None:
    workspace: Workspace = loop_of(tmp_path)
    assert workspace.loop.metric == PINBALL
    go_live(workspace, week(2))
    version = workspace.state().versions["1"]
    held_out = toy_rows(2, rows=400)
    predicted, label = expected_lines((0, 1), held_out), held_out["y"]
    losses = [
        mean_pinball_loss(label, column, alpha=quantile)
        for column, quantile in zip(predicted.T, QUANTILES, strict=True)
    ]
    metrics = version.details.metrics
    assert metrics[PINBALL] == pytest.approx(np.mean(losses))
    assert metrics["coverage"] == pytest.approx(((label >= predicted[:, 0]) & (label <= predicted[:, 2])).mean())
    assert metrics["interval_width"] == pytest.approx((predicted[:, 2] - predicted[:, 0]).mean())
    assert metrics["mae"] == pytest.approx(mean_absolute_error(label, predicted[:, 1]))
    report = workspace.evidence.get(str(version.details.report))
    assert report["request"]["quantiles"] == QUANTILES
    reports = report["candidates"][0]["metric_reports"]
    for name in (PINBALL, "coverage", "interval_width"):
        assert reports[name]["low"] < reports[name]["value"] < reports[name]["high"]
        assert set(reports[name]["baselines"]) == {"dummy", "linear"}
    assert 0.85 < reports["coverage"]["baselines"]["linear"]["value"] < 0.95
    # Whoever reads the version with scikit-learn alone gets the middle quantile as its prediction.
    model = load_version(workspace, version)
    assert quantiles_of(model) == tuple(QUANTILES)
    assert model.predict(held_out[["kind", "x"]]) == pytest.approx(predicted[:, 1])
    card = str(model_card(workspace, "1").to_dict())
    assert "the quantiles 0.05, 0.5, 0.95 of" in card


def test_the_table_of_predictions_has_a_column_of_each_quantile_and_they_never_cross(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, trees)
    go_live(workspace, week(2))
    scored = score_partition(workspace, week(3))
    table = workspace.predictions.read(week(3), version=scored.version).to_pandas()
    columns = [f"served_quantile_{quantile}" for quantile in ("0.05", "0.5", "0.95")]
    served = table[columns].to_numpy()
    assert (np.diff(served, axis=1) >= 0).all()
    assert table["served_prediction"].tolist() == served[:, 1].tolist()
    assert table["champion_quantile_0.95"].tolist() == served[:, 2].tolist()
    assert table["challenger_quantile_0.95"].isna().all()
    details = workspace.state().versions["1"].details
    assert details.left_out is not None
    assert "LogisticRegression is a classifier" in details.left_out["classes"]


def test_models_that_cross_are_put_in_order() -> None:
    rows = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    label = np.array([1.0, 2.0, 3.0])
    parts = {0.1: QuantileRegressor(quantile=0.9, alpha=0), 0.9: QuantileRegressor(quantile=0.1, alpha=10.0)}
    model = fit_quantiles(join_models(parts), rows, label, None)
    raw, ordered = model.transform(rows), predict(model, rows, classifies=False)
    assert (np.diff(raw, axis=1) < 0).any()
    assert (np.diff(ordered, axis=1) >= 0).all()
    assert np.sort(raw, axis=1).tolist() == ordered.tolist()


@given(st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 4), min_size=1, max_size=20))
def test_the_order_raises_the_loss_of_no_row(rows: list[tuple[float, ...]]) -> None:
    values = np.array(rows)
    raw = row_losses(PINBALL, values[:, 0], values[:, 1:])
    ordered = row_losses(PINBALL, values[:, 0], np.sort(values[:, 1:], axis=1))
    assert (ordered <= raw + 1e-9).all()


def test_a_metric_of_one_number_takes_the_middle_quantile_alone() -> None:
    label, predicted = np.array([1.0, 2.0]), np.array([[-1.0, 1.0, 2.0], [-2.0, 3.0, 9.0]])
    for metric in ("mean_poisson_deviance", "mean_tweedie_deviance_1_5", "rmsle", "mae"):
        assert row_losses(metric, label, predicted).tolist() == row_losses(metric, label, predicted[:, 1]).tolist()


def test_the_watch_and_a_rollout_judge_all_quantiles(tmp_path: Path) -> None:
    frames = {week(number): toy_rows(number, rows=400) for number in range(6)}
    frames[week(5)] = toy_rows(5, rows=400, slope=4.0)
    watch = {"performance": {"metric": PINBALL, "worse_by": 0.5}, "checks": list(CHECKS)}
    workspace = loop_of(tmp_path, weeks=frames, watch=watch)
    go_live(workspace, week(2))
    for number in (3, 5):
        score_partition(workspace, week(number))
    good, moved = (measure_performance(workspace, week(number)) for number in (3, 5))
    rows = frames[week(3)]
    predicted = expected_lines((0, 1), rows)
    assert good.value == pytest.approx(row_losses(PINBALL, rows["y"], predicted).mean())
    assert (good.verdict, moved.verdict) == ("no alarm", "alarm")
    checks = run_checks(workspace, week(3))
    assert all(words in checks[name].message for name, words in CHECKS.items())
    train(workspace, week(3))
    version = start_rollout(workspace, week(3))
    compared = compare_rows(workspace, workspace.state(), workspace.loop.rollout.stages[0], [week(3)])
    assert compared.champion_losses.mean() == pytest.approx(good.value)
    assert compared.challenger_losses.shape == compared.champion_losses.shape == (400,)
    score_partition(workspace, week(4))
    run_rollout_step(workspace, version, 0, week(4))
    assert version == "2"


def test_regret_is_measured_against_a_fresh_model_of_the_same_quantiles(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, retrain={"policy": {"regret": 0.2}, "cooldown": 0, "budget": 50})
    go_live(workspace, week(2))
    score_partition(workspace, week(4))
    regret, rows = measure_regret(workspace, week(4)), toy_rows(4, rows=400)
    assert regret.metric == PINBALL
    assert regret.champion_value == pytest.approx(row_losses(PINBALL, rows["y"], expected_lines((0, 1), rows)).mean())
    assert regret.fresh_value == pytest.approx(row_losses(PINBALL, rows["y"], expected_lines((1, 2), rows)).mean())


def test_a_version_is_made_again_and_fitted_in_another_process_with_its_quantiles(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path)
    decide_and_record(workspace, week(2), trigger="person")
    request = assemble_training(workspace, week(2))
    here = fit_candidate(workspace, request, "lines")
    fit = fit_request_of(workspace, request, "lines", tmp_path / "t" / "model.skops")
    there = run_fit(workspace, replace(fit, root=str(HOUSE)), ChildStep())
    assert there.digest == here["digest"]
    other = loop_of(
        tmp_path / "b", train={"quantiles": [0.1, 0.5, 0.9]}, gates=[{"metric": "mae", "at_most": 9}], watch={}
    )
    decide_and_record(other, week(2), trigger="person")
    assert assemble_training(other, week(2)).operation != request.operation
    again = loop_of(tmp_path / "c")
    train(again, week(2))
    assert reproduce_version(again, "1").verdict == "identical"


def test_rows_with_weights_are_fitted_by_them_in_pipelines_too(tmp_path: Path) -> None:
    frames = {week(number): toy_rows(number, rows=400) for number in range(4)}
    frames = {key: rows.assign(w=np.where(rows["y"] > rows["x"] * 2, 9.0, 1.0)) for key, rows in frames.items()}
    workspace = loop_of(
        tmp_path, with_neighbours, frames, train={"weight": "w"}, gates=[{"metric": PINBALL, "at_most": 9}]
    )
    train(workspace, week(2))
    version = workspace.state().versions["1"]
    model = load_version(workspace, version)
    rows = pd.concat([frames[week(0)], frames[week(1)]])
    expected = QuantileRegressor(quantile=0.05, alpha=0).fit(rows[["x"]], rows["y"], sample_weight=rows["w"])
    assert model.estimators_[0][-1].intercept_ == pytest.approx(expected.intercept_, abs=1e-6)
    assert "takes no weights of rows" in version.details.left_out["neighbours"]


def test_a_champion_of_other_quantiles_predicts_nothing(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path)
    go_live(workspace, week(2))
    for quantiles, listed in (([0.1, 0.9], "0.1, 0.9"), ([], "none")):
        loop = toy_loop(train={"function": f"{__name__}:lines", "window": 2, "quantiles": quantiles})
        with pytest.raises(ClassesChangedError, match=f"the quantiles 0.05, 0.5, 0.95, .* declares {listed}"):
            load_version(replace(workspace, loop=loop), workspace.state().versions["1"])


@pytest.mark.parametrize(
    ("function", "message"),
    [(other_names, "gives other names of candidates for one quantile"), (searched, "'model' has a search space")],
)
def test_candidates_that_are_not_the_same_for_each_quantile_fail_the_training(
    function: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=message):
        train(loop_of(tmp_path, function), week(2))


FIT = {"function": f"{__name__}:lines", "window": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {**FIT, "quantiles": [0.5]}}, "train: quantiles are two or more rising numbers"),
        ({"train": {**FIT, "quantiles": [0.9, 0.1]}}, "two or more rising numbers"),
        ({"train": {**FIT, "quantiles": [0.0, 0.5]}}, "two or more rising numbers"),
        ({"train": {**FIT, "quantiles": [0.5, 1.0]}}, "two or more rising numbers"),
        (
            {"train": FIT, "gates": [{"metric": "coverage", "at_least": 0.9}]},
            r"gates\[0\].metric: coverage is of a model",
        ),
        ({"train": FIT, "watch": {"performance": {"metric": PINBALL}}}, "watch.performance.metric: .* of a model of"),
        ({"gates": [{"metric": "pinball_loss_p90", "at_most": 1}]}, f"is of other quantiles .*; use {PINBALL}"),
        ({"gates": [{"metric": "accuracy", "at_least": 0.9}]}, "train.quantiles: quantiles are of numbers"),
        ({"rollout": {"target": "sagemaker"}}, "rollout.target: sagemaker serves one number .* declares 3; use batch"),
        ({"watch": {"checks": ["importance", "label_rate"]}}, "watch.checks: importance: needs one number"),
        ({"evaluate": {"groups": ["kind"]}}, "evaluate.groups: fairness is measured"),
        ({"evaluate": {"shap": True}}, "evaluate.shap: SHAP values are computed"),
        (
            {"gates": [{"metric": "group_error_difference", "group": "kind", "at_most": 1}]},
            "gates: fairness is measured",
        ),
    ],
)
def test_what_does_not_go_with_quantiles_is_refused_by_its_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        toy_loop(**{"train": {**FIT, "quantiles": QUANTILES}, **changes})


def test_what_needs_one_number_refuses_when_it_is_called(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path)
    go_live(workspace, week(2))
    with pytest.raises(ReproductionError, match="declares several"):
        explain_row(workspace, "1", "2-0")
    with pytest.raises(NotReadyError, match="declares several"):
        replay_rows(workspace)


def test_a_gate_on_the_coverage_fails_a_candidate_whose_intervals_are_too_narrow(tmp_path: Path) -> None:
    gates = [{"metric": "coverage", "at_least": 0.99}]
    with pytest.raises(GateError, match=r"coverage at least 0.99: 0\.\d+ on 400 rows, 95% interval"):
        train(loop_of(tmp_path, gates=gates), week(2))


def test_metrics_of_intervals_need_several_predictions_of_a_row_and_the_pinball_loss_as_many_as_it_names() -> None:
    label, one = np.array([1.0, 2.0]), np.array([1.5, 1.5])
    both = np.column_stack([one - 1, one + 1])
    for name in ("coverage", "interval_width"):
        metric = built_in_metric(name)
        assert metric is not None
        with pytest.raises(UnknownMetricError, match="predicts one number, and no interval"):
            metric.value(label, one)
    with pytest.raises(GateError, match="2 predictions of a row for 3 quantiles"):
        row_losses(PINBALL, label, both)
    assert METRICS["max_error"].value(label, both) == pytest.approx(1.5)  # of the middle one, here the upper


@pytest.mark.parametrize("name", ["coverage", "interval_width", PINBALL])
def test_the_interval_of_a_metric_of_quantiles_holds_its_truth_in_about_95_of_100_samples(name: str) -> None:
    random, mask, metric = np.random.default_rng(29), 0, built_in_metric(name)
    assert metric is not None

    def draw(rows: int) -> tuple[Any, Any]:
        middle, width = random.normal(size=rows), random.exponential(size=rows) + 1
        return middle + random.normal(size=rows), np.column_stack([middle - width, middle, middle + width])

    truth = metric.value(*draw(500_000))
    for number in range(300):
        label, predicted = draw(400)
        on_rows = MetricOnRows(metric, label, {"candidate": predicted}, Resamples.draw(400, seed=number))
        interval = on_rows.interval("candidate", on_rows.value("candidate"))
        assert interval is not None
        mask += interval.low <= truth <= interval.high
    assert 0.90 <= mask / 300 <= 0.985
