"""Weights of rows, from the declaration to the watch: no feature, in every fit and in every metric."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import RandomForestRegressor, StackingRegressor, VotingRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from airflow_mlops.core.check_declaration import check_declaration
from airflow_mlops.core.data.row_weights import WeightError, fit_weights, row_weights
from airflow_mlops.core.errors import DataError, DeclarationError, MlopsError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ports.fit_rows import FitRows
from airflow_mlops.core.registry.load import load_version
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.analyse_rows import compare_rows
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import TrainingRequest, assemble_training
from airflow_mlops.core.training.child_step import ChildStep
from airflow_mlops.core.training.fit_candidate import fit_candidate, fit_request_of, run_fit
from airflow_mlops.core.training.predict import predict
from airflow_mlops.core.training.weighted_fit import fit_arguments, weight_parameter
from airflow_mlops.core.training.window import read_window
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import candidates, go_live, ingest, toy_loop, toy_rows, train, week


def searched(seed: int) -> dict[str, Any]:
    """Return a line whose strength of regularisation is searched."""
    return {"line": (candidates(seed)["line"].set_params(linearregression=Ridge()), SPACE)}


HOUSE = Path(__file__).resolve().parents[4]
SPACE = {"linearregression__alpha": [1e-3, 1e4]}


def with_neighbours(seed: int) -> dict[str, Any]:
    """Return a straight line, and a model whose fit takes no weights."""
    columns = ColumnTransformer([("x", "passthrough", ["x"])])
    return {**candidates(seed), "neighbours": make_pipeline(columns, KNeighborsRegressor())}


def two_worlds(number: int, rows: int = 300) -> pd.DataFrame:
    """Return a week half of whose rows have the slope 2 and much weight, and half the slope -2 and little."""
    frame = toy_rows(number, rows=rows)
    heavy = np.arange(rows) % 2 == 0
    return frame.assign(y=frame["y"] - np.where(heavy, 0.0, 4 * frame["x"]), w=np.where(heavy, 9.0, 0.5))


def loop_of(
    tmp_path: Path, frames: dict[str, pd.DataFrame] | None = None, function: Any = candidates, **changes: Any
) -> Workspace:
    """Return a loop in memory whose rows have weights, with its weeks published."""
    declared = {"function": f"{function.__module__}:{function.__name__}", "window": 2, "weight": "w"}
    settings = {"gates": [{"metric": "mae", "at_most": 9}, {"metric": "rmse", "at_most": 9}], **changes}
    loop = toy_loop(**{**settings, "train": {**declared, **changes.get("train", {})}})
    frames = frames or {week(number): two_worlds(number) for number in range(6)}
    workspace = in_memory_workspace(loop, frames, scratch=tmp_path / "scratch", root=tmp_path)
    for key in frames:
        ingest(workspace, key)
    return workspace


def request_of(workspace: Workspace, key: str) -> TrainingRequest:
    decide_and_record(workspace, key, trigger="person")
    return assemble_training(workspace, key)


def slope(model: Any) -> float:
    return float(model[-1].coef_[0])


def test_a_model_is_fitted_judged_and_recorded_by_the_weights_and_does_not_see_them(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, evaluate={"slices": ["kind"], "min_rows": 20})
    train(workspace, week(2))
    version = workspace.state().versions["1"]
    model = load_version(workspace, version)
    rows = pd.concat([two_worlds(number) for number in (0, 1)])
    expected = LinearRegression().fit(rows[["x"]], rows["y"], sample_weight=rows["w"])
    assert slope(model) == pytest.approx(expected.coef_[0])
    assert slope(model) > 1.5
    assert version.details.hidden == ("w",)
    assert list(model.feature_names_in_) == ["kind", "x"]
    held_out = two_worlds(2)
    predicted = expected.predict(held_out[["x"]])
    weighted = mean_absolute_error(held_out["y"], predicted, sample_weight=held_out["w"])
    assert version.details.metrics["mae"] == pytest.approx(weighted)
    assert version.details.metrics["mae"] < 0.8 * mean_absolute_error(held_out["y"], predicted)
    rmse = root_mean_squared_error(held_out["y"], predicted, sample_weight=held_out["w"])
    assert version.details.metrics["rmse"] == pytest.approx(rmse)
    report = workspace.evidence.get(str(version.details.report))
    assert report["request"]["weights"] == {"column": "w"}
    entry = report["candidates"][0]
    assert entry["loss"] == pytest.approx(weighted)
    for name in ("mae", "rmse"):
        measured = entry["metric_reports"][name]
        assert measured["low"] < measured["value"] < measured["high"]
    mean = np.average(rows["y"], weights=rows["w"])
    dummy = mean_absolute_error(held_out["y"], np.full(len(held_out), mean), sample_weight=held_out["w"])
    assert entry["metric_reports"]["mae"]["baselines"]["dummy"]["value"] == pytest.approx(dummy)
    by_kind = {part["value"]: part["metrics"]["mae"] for part in entry["slices"]["kind"]["slices"]}
    mask = held_out["kind"] == "a"
    part = mean_absolute_error(held_out["y"][mask], predicted[mask], sample_weight=held_out["w"][mask])
    assert by_kind["a"] == pytest.approx(part)


def test_weights_are_part_of_what_a_model_is_made_from(tmp_path: Path) -> None:
    operations = {
        request_of(loop_of(tmp_path / name, train=changes), week(2)).operation
        for name, changes in (
            ("a", {}),
            ("b", {"weight": None}),
            ("c", {"half_life_days": 7.0}),
            ("d", {"weight": None, "half_life_days": 7.0}),
        )
    }
    assert len(operations) == 4
    request = request_of(loop_of(tmp_path / "e", train={"weight": None}), week(2))
    assert "weights" not in request.to_dict()
    assert TrainingRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request


def test_a_version_is_made_again_with_its_own_weights_whatever_is_declared_by_now(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, train={"half_life_days": 3.5})
    train(workspace, week(2))
    changed = toy_loop(train={**workspace.loop.train.model_dump(), "weight": None, "half_life_days": None})
    reproduction = reproduce_version(replace(workspace, loop=changed), "1")
    assert reproduction.verdict == "identical"


def test_a_row_counts_half_after_its_half_life(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, train={"weight": None, "half_life_days": 3.5})
    request = request_of(workspace, week(2))
    fit_candidate(workspace, request, "line")
    rows = pd.concat([two_worlds(number) for number in (0, 1)])
    # The second week of the window is seven days younger than the first: two half-lives.
    expected = LinearRegression().fit(rows[["x"]], rows["y"], sample_weight=np.repeat([0.25, 1.0], 300))
    evaluated = evaluate_candidates(workspace, request, [fit_candidate(workspace, request, "line")])
    held_out = two_worlds(2)
    # The rows of the holdout are all of one age, and count once.
    value = mean_absolute_error(held_out["y"], expected.predict(held_out[["x"]]))
    assert evaluated["metrics"]["mae"] == pytest.approx(value)


def test_weights_and_half_life_multiply() -> None:
    rows = pd.DataFrame({"at": pd.to_datetime(["2013-01-01", "2013-01-03", "2013-01-05"]), "w": [4.0, 4.0, 1.0]})
    assert fit_weights(rows, {"column": "w", "half_life_days": 2.0}, "at") == pytest.approx([1.0, 2.0, 1.0])
    assert fit_weights(rows, {"half_life_days": 2.0}, "at") == pytest.approx([0.25, 0.5, 1.0])
    assert fit_weights(rows, None, "at") is None
    assert row_weights(rows, None) is None
    with pytest.raises(WeightError, match="1 of 3 rows have no 'at'"):
        fit_weights(rows.assign(at=[pd.NaT, *rows["at"][1:]]), {"half_life_days": 2.0}, "at")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, None, None], "the weight 'w' of 2 of 3 rows is null"),
        ([1.0, -1.0, 2.0], "the weight 'w' of 1 of 3 rows is negative"),
        ([1.0, np.inf, 2.0], "the weight 'w' of 1 of 3 rows is infinite"),
        ([0.0, 0.0, 0.0], "the weight 'w' of all 3 rows is 0"),
        (["a", "b", "c"], "the weight 'w' must be a number"),
    ],
)
def test_a_weight_that_is_none_is_counted_by_name(values: list[Any], message: str) -> None:
    with pytest.raises(WeightError, match=message):
        row_weights(pd.DataFrame({"w": values}), "w")
    with pytest.raises(WeightError, match="the rows have no column 'v'; they have w"):
        row_weights(pd.DataFrame({"w": values}), "v")


def test_a_training_whose_window_has_such_a_weight_fails_before_any_fit_and_the_record_says_why(tmp_path: Path) -> None:
    frames = {week(number): two_worlds(number) for number in range(4)}
    frames[week(1)].loc[:3, "w"] = -1.0
    workspace = loop_of(tmp_path, frames)
    with pytest.raises(DataError, match="the weight 'w' of 4 of 600 rows is negative"):
        request_of(workspace, week(2))
    record = list(workspace.ledger.records())[-1]
    assert record.kind == "training_failed"
    assert "correct it in the source" in record.details.reason


def test_a_holdout_with_such_a_weight_refuses_the_training(tmp_path: Path) -> None:
    frames = {week(number): two_worlds(number) for number in range(4)}
    frames[week(2)].loc[:3, "w"] = None
    workspace = loop_of(tmp_path, frames)
    with pytest.raises(DataError, match="the weight 'w' of 4 of 300 rows is null"):
        train(workspace, week(2))


def test_a_candidate_whose_fit_takes_no_weights_is_left_out_by_name(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, function=with_neighbours)
    train(workspace, week(2))
    details = workspace.state().versions["1"].details
    assert details.candidate == "line"
    assert details.left_out is not None
    assert "the fit of KNeighborsRegressor takes no weights of rows" in details.left_out["neighbours"]
    unweighted = loop_of(tmp_path / "b", function=with_neighbours, train={"weight": None})
    assert request_of(unweighted, week(2)).candidates == ("line", "neighbours")


@pytest.mark.parametrize(
    ("estimator", "parameter"),
    [
        (LinearRegression(), "sample_weight"),
        (make_pipeline(StandardScaler(), Ridge()), "ridge__sample_weight"),
        (make_pipeline(StandardScaler(), make_pipeline(Ridge())), "pipeline__ridge__sample_weight"),
        (TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1), "sample_weight"),
        (VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(5)), ("c", "drop")]), "sample_weight"),
        (StackingRegressor([("a", Ridge()), ("b", LinearRegression())]), "sample_weight"),
        (VotingRegressor([("a", Ridge()), ("b", KNeighborsRegressor())]), None),
        (make_pipeline(StandardScaler(), KNeighborsRegressor()), None),
        (make_pipeline(KNeighborsRegressor()), None),
    ],
)
def test_the_parameter_that_takes_the_weights_is_that_of_the_last_step_and_the_fit_takes_it(
    estimator: Any, parameter: str | None
) -> None:
    assert weight_parameter(estimator) == parameter
    random = np.random.default_rng(0)
    features, label = random.normal(size=(40, 2)), random.random(40)
    arguments = fit_arguments(estimator, random.random(40))
    assert set(arguments) == ({parameter} - {None})
    assert estimator.fit(features, label, **arguments).predict(features).shape == (40,)


def test_a_search_compares_by_the_weights(tmp_path: Path) -> None:
    """Strong regularisation gives slope 0: the best for all rows alike, and not for those with much weight."""
    workspace = loop_of(tmp_path, function=searched, train={"search": {"candidates": 2}})
    request = request_of(workspace, week(2))
    result = fit_candidate(workspace, request, "line")
    assert result["best_params"] == {"linearregression__alpha": 0.001}
    assert result["search"]["best_score"] < 2.0


def test_rows_go_to_another_process_with_their_weights(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path)
    request = request_of(workspace, week(2))
    here = fit_candidate(workspace, request, "line")
    fit = fit_request_of(workspace, request, "line", tmp_path / "there" / "model.skops")
    there = run_fit(workspace, replace(fit, root=str(HOUSE)), ChildStep())
    assert there.digest == here["digest"]
    rows = FitRows(pd.DataFrame({"x": [1.0, 2.0]}), np.array([1.0, 2.0]), None, np.array([0.5, 2.0]))
    rows.write(tmp_path / "rows.parquet")
    read = FitRows.read(tmp_path / "rows.parquet")
    assert read.weight is not None
    assert (read.weight.tolist(), read.moment, list(read.features)) == ([0.5, 2.0], None, ["x"])


def test_the_watch_and_a_rollout_count_rows_by_their_weights(tmp_path: Path) -> None:
    changes = {
        "watch": {"performance": {"metric": "mae", "worse_by": 0.5, "slices": ["kind"], "min_rows": 20}},
        "rollout": {"stages": [{"shadow": 100}, {"live": 100}]},
    }
    frames = {week(number): two_worlds(number) for number in range(6)}
    frames[week(5)].loc[:1, "w"] = None
    workspace = loop_of(tmp_path, frames, **changes)
    go_live(workspace, week(2))
    for number in (3, 5):
        score_partition(workspace, week(number))
    good, odd = (measure_performance(workspace, week(number)) for number in (3, 5))
    model = load_version(workspace, workspace.state().versions["1"])
    rows = two_worlds(3)
    predicted = model.predict(rows[["kind", "x"]])
    assert good.value == pytest.approx(mean_absolute_error(rows["y"], predicted, sample_weight=rows["w"]))
    assert good.verdict == "no alarm"
    mask = rows["kind"] == "a"
    part = mean_absolute_error(rows["y"][mask], predicted[mask], sample_weight=rows["w"][mask])
    worst = {entry["slice"]: entry["value"] for entry in good.slices["worst"]}
    assert worst["a"] == pytest.approx(part)
    assert (odd.verdict, "the weight 'w' of 2 of 300 rows is null" in odd.message) == ("insufficient data", True)

    train(workspace, week(3))
    start_rollout(workspace, week(3))
    state = workspace.state()
    compared = compare_rows(workspace, state, workspace.loop.rollout.stages[0], [week(3)])
    assert compared.champion_losses.mean() == pytest.approx(good.value)
    with pytest.raises(MlopsError, match="the weight 'w' of 2 of 300 rows is null"):
        run_rollout_step(workspace, "2", 0, week(5))


def test_regret_is_measured_against_a_fresh_model_with_the_same_weights(tmp_path: Path) -> None:
    changes = {
        "retrain": {"policy": {"regret": 0.2}, "cooldown": 0, "budget": 50},
        "rollout": {"stages": [{"shadow": 100}, {"live": 100}]},
    }
    workspace = loop_of(tmp_path, **changes)
    go_live(workspace, week(2))
    score_partition(workspace, week(4))
    rows, fresh = two_worlds(4), pd.concat([two_worlds(number) for number in (1, 2)])
    model = LinearRegression().fit(fresh[["x"]], fresh["y"], sample_weight=fresh["w"])
    expected = mean_absolute_error(rows["y"], model.predict(rows[["x"]]))
    assert measure_regret(workspace, week(4)).fresh_value == pytest.approx(expected)


def test_a_weight_that_is_something_else_already_or_no_number_of_the_contract_is_refused(tmp_path: Path) -> None:
    for taken in ("id", "at", "y"):
        with pytest.raises(DeclarationError, match=f"train.weight: '{taken}' is the key, the time or the label"):
            toy_loop(train={"function": f"{__name__}:searched", "weight": taken})
    (tmp_path / "contract.yaml").write_text(
        "contract: toy\nkey: id\ntime: at\ncolumns:\n  id: {type: text}\n  at: {type: time}\n  x: {type: float}\n"
        "  y: {type: float}\n  kind: {type: text}\n"
    )
    data = {**toy_loop().to_dict()["data"], "contract": "contract.yaml"}
    for name, message in (("xx", "has no column 'xx'; did you mean 'x'"), ("kind", "'kind' is of type text")):
        loop = toy_loop(data=data, train={"function": f"{__name__}:searched", "weight": name})
        with pytest.raises(DeclarationError, match=f"train.weight: .*{message}"):
            check_declaration(loop, tmp_path)


def test_a_row_to_predict_needs_no_weight(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path)
    train(workspace, week(2))
    version = workspace.state().versions["1"]
    holdout = read_window(workspace, version.details.window.holdout)
    assert "w" not in holdout.features
    assert "w" in holdout.rows
    assert predict(load_version(workspace, version), holdout.features, classifies=False).shape == (300,)
