"""A loop of counts, from its gates to its watch: metrics that do not take every number, and models that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, PoissonRegressor, QuantileRegressor
from sklearn.pipeline import make_pipeline

from airflow_mlops.core.errors import GateError, NotReadyError, TrainingError
from airflow_mlops.core.rollout.analyse_rows import ChallengerFailedError, challenger_losses
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.row_losses import DomainError
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, toy_rows, train, week

DEVIANCE = "mean_poisson_deviance"


def of_x(model: Any) -> Any:
    return make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), model)


def both(seed: int) -> dict[str, Any]:
    """Return a model of counts, and a straight line that predicts less than 0 where ``x`` is small."""
    return {"counts": of_x(PoissonRegressor(alpha=1e-6)), "line": of_x(LinearRegression())}


def line(seed: int) -> dict[str, Any]:
    return {"line": of_x(LinearRegression())}


def upper(seed: int) -> dict[str, Any]:
    """Return a model of the quantile 0.9."""
    return {"upper": of_x(QuantileRegressor(quantile=0.9, alpha=0))}


def counts(number: int, rows: int = 400) -> pd.DataFrame:
    """Return the rows of a week whose label is a count."""
    frame = toy_rows(number, rows=rows)
    return frame.assign(y=np.random.default_rng(number).poisson(np.exp(frame["x"])).astype(float))


def loop_of(tmp_path: Path, function: Any, frames: dict[str, pd.DataFrame] | None = None, **changes: Any) -> Workspace:
    """Return a loop in memory with four weeks published."""
    declared = {
        "train": {"function": f"{__name__}:{function.__name__}", "window": 2},
        "gates": [{"metric": DEVIANCE, "at_most": 2}, {"metric": DEVIANCE, "better_than": "dummy"}],
        "watch": {"performance": {"metric": DEVIANCE, "worse_by": 0.5}},
        "rollout": {"stages": [{"shadow": 100}, {"live": 100}]},
        "retrain": {"confidence": "none"},
    }
    frames = frames or {week(number): counts(number) for number in range(4)}
    workspace = in_memory_workspace(toy_loop(**{**declared, **changes}), frames, scratch=tmp_path)
    for key in frames:
        ingest(workspace, key)
    return workspace


def test_a_candidate_with_predictions_that_the_metric_does_not_take_is_left_out_by_name(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, both)
    assert go_live(workspace, week(2)) == "1"
    details = workspace.state().versions["1"].details
    assert details.candidate == "counts"
    assert set(details.metrics) == {"mae", "rmse", "r2", "p50_error", "p90_error", "p99_error", DEVIANCE}
    assert details.left_out is not None
    assert set(details.left_out) == {"line"}
    assert f"{DEVIANCE} does not take" in details.left_out["line"]
    assert "of 400 predictions, which are 0 or negative; give a model whose predictions fit" in details.left_out["line"]
    report = workspace.evidence.get(str(details.report))
    entry = next(entry for entry in report["candidates"] if entry["candidate"] == "counts")
    measured = entry["metric_reports"][DEVIANCE]
    assert measured["method"] == "normal"
    assert measured["low"] < measured["value"] < measured["high"]
    # The line of the baselines fits no better than the candidate's, and is not compared.
    assert measured["baselines"]["linear"]["value"] is None
    assert measured["baselines"]["linear"]["reason"].startswith(f"linear: {DEVIANCE} does not take")
    assert measured["baselines"]["dummy"]["candidate_is_better"]


def test_where_no_candidate_fits_the_training_fails_with_the_reason(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, line)
    with pytest.raises(TrainingError, match=f"candidate 'line': {DEVIANCE} does not take .* predictions"):
        train(workspace, week(2))
    assert list(workspace.ledger.records())[-1].kind == "training_failed"


def test_a_gate_fails_by_name_where_labels_are_none_that_its_metric_takes(tmp_path: Path) -> None:
    gates = [{"metric": "mae", "at_most": 9}, {"metric": "mape", "at_most": 1}]
    sliced = {"metric": "mape", "at_most": 1, "slices": ["kind"]}
    workspace = loop_of(tmp_path, line, gates=[*gates, sliced], watch={})
    with pytest.raises(
        GateError, match=r"mape at most 1: candidate: mape does not take \d+ of 400 labels, which are 0"
    ):
        train(workspace, week(2))
    record = list(workspace.ledger.records())[-1]
    assert record.kind == "candidate_refused"
    assert "mape where kind is a at most 1: candidate: mape does not take" in record.details.reason


def test_the_watch_judges_a_deviance_and_says_where_labels_are_none_that_it_takes(tmp_path: Path) -> None:
    frames = {week(number): counts(number) for number in range(6)}
    frames[week(5)].loc[:2, "y"] = -1.0
    workspace = loop_of(tmp_path, both, frames)
    go_live(workspace, week(3))
    for number in (4, 5):
        score_partition(workspace, week(number))
    good, odd = (measure_performance(workspace, week(number)) for number in (4, 5))
    assert (good.metric, good.verdict) == (DEVIANCE, "no alarm")
    assert good.low < good.value < good.high
    assert odd.verdict == "insufficient data"
    assert f"{DEVIANCE} does not take 3 of 400 labels, which are negative" in odd.message


def test_a_rollout_waits_where_labels_are_none_that_the_metric_takes(tmp_path: Path) -> None:
    frames = {week(number): counts(number) for number in range(6)}
    frames[week(5)].loc[:2, "y"] = -1.0
    workspace = loop_of(tmp_path, both, frames)
    go_live(workspace, week(3))
    train(workspace, week(4))
    score_partition(workspace, week(5))
    version = start_rollout(workspace, week(5))
    with pytest.raises(NotReadyError, match=rf"version 2 holds at .*: {DEVIANCE} does not take 3 of 400 labels"):
        run_rollout_step(workspace, version, 0, week(5))
    assert workspace.state().champion.number == "1"


def test_a_challenger_that_predicts_what_the_metric_does_not_take_has_failed_and_a_label_is_not_its_fault() -> None:
    label, predicted = np.array([1.0, 2.0]), np.array([1.0, -2.0])
    with pytest.raises(ChallengerFailedError, match="1 of 2 predictions"):
        challenger_losses(DEVIANCE, label, predicted)
    with pytest.raises(DomainError, match="1 of 2 labels") as error:
        challenger_losses(DEVIANCE, predicted, label)
    assert not isinstance(error.value, ChallengerFailedError)


def test_a_quantile_is_gated_watched_and_checked_by_its_own_loss(tmp_path: Path) -> None:
    metric = "pinball_loss_p90"
    frames = {week(number): toy_rows(number, rows=400) for number in range(6)}
    frames[week(5)] = toy_rows(5, rows=400, slope=4.0)
    workspace = loop_of(
        tmp_path,
        upper,
        frames,
        gates=[{"metric": metric, "at_most": 0.3}, {"metric": metric, "better_than": "linear"}],
        watch={
            "performance": {"metric": metric, "worse_by": 0.5, "slices": ["kind"]},
            "checks": ["estimated_performance", "concept"],
        },
    )
    go_live(workspace, week(3))
    verdicts = []
    for number in (4, 5):
        score_partition(workspace, week(number))
        verdicts.append(measure_performance(workspace, week(number)).verdict)
    checks = run_checks(workspace, week(4))
    assert checks["estimated_performance"].message.startswith(f"{metric} is estimated to be 0.1")
    assert verdicts == ["no alarm", "alarm"]


def test_a_champion_without_a_value_of_a_newly_declared_metric_has_nothing_to_compare_with(tmp_path: Path) -> None:
    workspace = loop_of(tmp_path, both)
    go_live(workspace, week(2))
    score_partition(workspace, week(3))
    loop = toy_loop(watch={"performance": {"metric": "rmsle"}})
    result = measure_performance(replace(workspace, loop=loop), week(3))
    assert (result.verdict, result.metric) == ("insufficient data", "rmsle")
    assert "version 1 was judged before rmsle was declared" in result.message
