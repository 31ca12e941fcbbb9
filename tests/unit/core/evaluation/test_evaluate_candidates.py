"""Evaluating candidates: what the report holds, and bad input that leaves the champion where it was."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from airflow_mlops.core.errors import GateError, MlopsError, TrainingError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates, require_gates
from airflow_mlops.core.evaluation.evaluation_report import CandidateEntry, EvaluationReport, MetricEntry
from airflow_mlops.core.evaluation.gate_report import gate_table
from airflow_mlops.core.evaluation.register_candidate import register_candidate
from airflow_mlops.core.registry.model_file import save_model
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.training.assemble import TrainingRequest, assemble_training
from airflow_mlops.core.training.fit_candidate import candidate_file, fit_candidate
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, week

ROWS = 300


def classes(seed: int) -> Any:
    """Return one unfitted classifier."""
    return make_pipeline(ColumnTransformer([("x", "passthrough", ["x"])]), LogisticRegression())


def breaks(label: Any, predicted: Any) -> float:
    """Divide by zero, as a cost for each sold item does in a week without sales."""
    return float(np.abs(label - predicted).sum()) / int((label > 1e9).sum())


def not_a_number(label: Any, predicted: Any) -> float:
    return float(np.log(-1.0))


def euros(label: Any, predicted: Any) -> float:
    """Return the cost of the errors: two euros for each unit."""
    return float(2 * np.abs(label - predicted).mean())


def with_champion(frames: dict[str, pd.DataFrame], tmp_path: Path, **changes: Any) -> Workspace:
    """Return a workspace with a champion from the first three weeks, and the fourth ingested."""
    workspace = in_memory_workspace(
        toy_loop(
            **{"retrain": {"cooldown": 0, "confidence": "none"}, "rollout": {"stages": [{"live": 100}]}, **changes}
        ),
        frames,
        scratch=tmp_path,
    )
    for number in range(3):
        ingest(workspace, week(number))
    request, fits = fit_all(workspace, week(2))
    register_candidate(workspace, request, evaluate_candidates(workspace, request, fits))
    run_rollout_step(workspace, start_rollout(workspace, week(2)), 0, week(2))
    ingest(workspace, week(3))
    return workspace


def weeks(**changes: Any) -> dict[str, pd.DataFrame]:
    return {week(number): toy_rows(number, rows=ROWS, **changes) for number in range(8)}


def as_classes(frames: dict[str, pd.DataFrame], *, one_class_from: int = 99) -> dict[str, pd.DataFrame]:
    """Return weeks whose label is 1 where it was above 0; from a week on only rows of class 1."""
    return {
        key: rows.assign(y=np.where(number >= one_class_from, 1, rows["y"] > 0).astype(int))
        for number, (key, rows) in enumerate(frames.items())
    }


def fit_all(workspace: Workspace, key: str) -> tuple[TrainingRequest, list[dict[str, Any]]]:
    decide_and_record(workspace, key, trigger="person")
    request = assemble_training(workspace, key)
    return request, [fit_candidate(workspace, request, name) for name in request.candidates]


def fit_of_model(workspace: Workspace, request: TrainingRequest, model: Any, name: str) -> dict[str, Any]:
    """Return the fit of a model that stands where the candidate's file is looked for."""
    path = candidate_file(workspace, request.operation, name)
    return {"candidate": name, "digest": save_model(model, path), "fit_seconds": 0.0, "rows": 1}


def report_of(workspace: Workspace, evaluated: dict[str, Any]) -> Any:
    return workspace.evidence.get(evaluated["report"])


def refused_reason(workspace: Workspace) -> str:
    record = [
        record for record in list(workspace.ledger.records()) if record.kind in ("candidate_refused", "training_failed")
    ][-1]
    return str(record.details.reason)


def assert_champion_stays(workspace: Workspace, reason: str) -> None:
    state = workspace.state()
    assert state.champion is not None
    assert (state.champion.number, state.candidate, state.open_decision) == ("1", None, None)
    assert reason in refused_reason(workspace)


EVERYTHING: dict[str, Any] = {
    "gates": [
        {"metric": "mae", "at_most": 5},
        {"metric": "mae", "no_worse_than_champion_by": 0.5},
        {"metric": "mae", "better_than": "dummy"},
        {"metric": "mae", "slices": ["kind"], "at_most": 5, "min_rows": 20},
        {"metric": "p90_error", "at_most": 9},
        {"metric": "euros", "at_most": 9},
        {"metric": "group_error_difference", "group": "kind", "at_most": 3, "min_rows": 20},
        {"metric": "worse_by_noise", "at_most": 2},
        {"metric": "batch_latency", "at_most": 1},
        {"metric": "model_memory", "no_worse_than_champion_by": 0.5},
        {"metric": "importance_stability", "at_least": -1},
    ],
    "evaluate": {
        "metrics": [{"name": "euros", "function": f"{__name__}:euros", "unit": "EUR"}],
        "slices": ["kind"],
        "groups": ["kind"],
        "min_rows": 20,
    },
}


def test_the_report_holds_everything_that_its_page_says_and_nothing_that_is_no_number(tmp_path: Path) -> None:
    workspace = with_champion(weeks(), tmp_path, **EVERYTHING)
    request, fits = fit_all(workspace, week(3))
    evaluated = evaluate_candidates(workspace, request, fits)
    assert set(evaluated) >= {
        "candidate",
        "digest",
        "metrics",
        "gates",
        "passed",
        "champion",
        "report",
        "fit_seconds",
        "rows",
    }
    assert "metric_reports" not in evaluated
    report = report_of(workspace, evaluated)
    assert set(report) == set(EvaluationReport.__annotations__)
    (entry,) = report["candidates"]
    assert set(entry) >= set(CandidateEntry.__annotations__) - {"error", "recalled"}
    for metric in entry["metric_reports"].values():
        assert set(metric) == set(MetricEntry.__annotations__)
    json.dumps(report, allow_nan=False)
    mae = entry["metric_reports"]["mae"]
    assert mae["low"] < mae["value"] < mae["high"]
    assert mae["champion"]["interval"]["low"] < mae["champion"]["difference"] < mae["champion"]["interval"]["high"]
    assert set(mae["baselines"]) == {"dummy", "linear"}
    assert entry["metric_reports"]["euros"]["unit"] == "EUR"
    assert entry["metrics"]["euros"] == pytest.approx(2 * entry["metrics"]["mae"])
    assert [entry["value"] for entry in entry["slices"]["kind"]["slices"]] == ["a", "b", "c"]
    assert set(entry["fairness"]["kind"]) == {
        "group_error_difference",
        "group_error_ratio",
        "group_prediction_difference",
    }
    assert set(entry["robustness"]) == {"noise", "missing_values", "swapped_categories", "out_of_range"}
    assert set(entry["cost"]) == {"candidate", "champion", "how"}
    assert entry["cost"]["champion"]["model_bytes"] > 0
    assert entry["importance"]["permutation"]["x"] > 0.5
    assert entry["importance"]["permutation"]["kind"] == 0
    assert "2 features in common" in entry["importance"]["stability"]["reason"]
    assert (report["champion"], report["first_run"]) == ("1", False)
    verdicts = {gate["gate"]: gate["verdict"] for gate in entry["gates"]}
    assert verdicts.pop("importance_stability at least -1") == "too little data"
    assert set(verdicts.values()) == {"pass"}, gate_table(entry["gates"])
    require_gates(workspace, request, evaluated)


def test_the_first_run_is_stated_and_relative_gates_say_that_they_do_not_decide(tmp_path: Path) -> None:
    workspace = in_memory_workspace(toy_loop(**EVERYTHING), weeks(), scratch=tmp_path)
    for number in range(3):
        ingest(workspace, week(number))
    request, fits = fit_all(workspace, week(2))
    evaluated = evaluate_candidates(workspace, request, fits)
    report = report_of(workspace, evaluated)
    assert (report["first_run"], report["champion"], evaluated["champion"]) == (True, None, None)
    relative = [gate for gate in evaluated["gates"] if "champion" in gate["gate"] or "stability" in gate["gate"]]
    assert len(relative) == 3
    assert all("there is no champion yet" in gate["reason"] for gate in relative)


def nan_everywhere() -> LinearRegression:
    model = LinearRegression().fit(pd.DataFrame({"x": [0.0, 1.0]}), [0.0, 1.0])
    model.coef_ = np.array([np.nan])
    return model


def two_columns() -> LinearRegression:
    return LinearRegression().fit(pd.DataFrame({"x": [0.0, 1.0]}), [[0.0, 1.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nan_everywhere(), "the model gave 300 NaN or infinite predictions for 300 rows"),
        (two_columns(), "the model gave predictions of shape (300, 2) for 300 rows"),
        (LinearRegression(), "the model is not fitted"),
    ],
    ids=["nan", "shape", "unfitted"],
)
def test_a_model_that_cannot_predict_fails_the_training_and_the_champion_stays(
    tmp_path: Path, model: Any, reason: str
) -> None:
    workspace = with_champion(weeks(), tmp_path)
    request, _ = fit_all(workspace, week(3))
    bad = fit_of_model(workspace, request, model, "bad")
    with pytest.raises(TrainingError) as raised:
        evaluate_candidates(workspace, request, [bad])
    assert f"candidate 'bad': {reason}" in str(raised.value)
    assert_champion_stays(workspace, reason)


def test_a_candidate_that_cannot_predict_does_not_stop_the_others(tmp_path: Path) -> None:
    workspace = with_champion(weeks(), tmp_path)
    request, fits = fit_all(workspace, week(3))
    evaluated = evaluate_candidates(
        workspace, request, [fit_of_model(workspace, request, nan_everywhere(), "bad"), *fits]
    )
    assert (evaluated["candidate"], evaluated["passed"]) == ("line", True)
    bad = report_of(workspace, evaluated)["candidates"][0]
    assert (bad["candidate"], bad["passed"]) == ("bad", False)
    assert "NaN" in bad["error"]


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("breaks", "raised ZeroDivisionError: float division by zero"),
        ("not_a_number", "returned no finite number"),
        ("is_not_there", "cannot be imported: AttributeError"),
    ],
)
def test_a_metric_that_divides_by_zero_fails_a_gate_and_is_unknown_where_none_asks(
    tmp_path: Path, function: str, why: str
) -> None:
    cost = {"name": "cost_per_sale", "function": f"{__name__}:{function}", "unit": "EUR"}
    gates = [{"metric": "mae", "at_most": 5}]
    workspace = with_champion(weeks(), tmp_path, evaluate={"metrics": [cost]}, gates=gates)
    request, fits = fit_all(workspace, week(3))
    evaluated = evaluate_candidates(workspace, request, fits)
    unknown = report_of(workspace, evaluated)["candidates"][0]["metric_reports"]["cost_per_sale"]
    assert (evaluated["passed"], unknown["value"]) == (True, None)
    assert why in unknown["reason"]
    assert "cost_per_sale" not in evaluated["metrics"]

    gated = replace(
        workspace, loop=toy_loop(evaluate={"metrics": [cost]}, gates=[*gates, {"metric": cost["name"], "at_most": 9}])
    )
    evaluated = evaluate_candidates(gated, request, fits)
    with pytest.raises(GateError, match="cost_per_sale at most 9: "):
        require_gates(gated, request, evaluated)
    assert_champion_stays(workspace, why)


def test_nothing_is_registered_past_a_gate_that_was_not_asked(tmp_path: Path) -> None:
    """In Airflow somebody can mark the task that asks the gates as a success."""
    workspace = with_champion(weeks(), tmp_path, gates=[{"metric": "mae", "at_most": 5}])
    request, fits = fit_all(workspace, week(3))
    strict = replace(workspace, loop=toy_loop(gates=[{"metric": "mae", "at_most": 0.01}]))
    evaluated = evaluate_candidates(strict, request, fits)
    with pytest.raises(GateError, match=r"mae at most 0.01: "):
        register_candidate(strict, request, evaluated)
    assert [version.number for version in workspace.registry.all_versions()] == ["1"]
    assert_champion_stays(workspace, "mae at most 0.01: ")


CLASSES: dict[str, Any] = {
    "train": {"function": f"{__name__}:classes", "window": 2},
    "gates": [
        {"metric": "log_loss", "at_most": 9},
        {"metric": "roc_auc", "at_least": 0.5},
        {"metric": "equalized_odds_difference", "group": "kind", "at_most": 1, "min_rows": 20},
    ],
}


def test_a_holdout_of_one_class_passes_no_gate_that_needs_both(tmp_path: Path) -> None:
    workspace = with_champion(as_classes(weeks(), one_class_from=3), tmp_path, **CLASSES)
    request, fits = fit_all(workspace, week(3))
    evaluated = evaluate_candidates(workspace, request, fits)
    entry = report_of(workspace, evaluated)["candidates"][0]
    verdicts = {gate["gate"].split(" ")[0]: gate["verdict"] for gate in entry["gates"]}
    assert verdicts == {"log_loss": "pass", "roc_auc": "fail", "equalized_odds_difference": "too little data"}
    assert "300 rows of class 1 and 0 of class 0" in entry["metric_reports"]["roc_auc"]["reason"]
    assert entry["confusion"]["true_negatives"] == 0
    with pytest.raises(GateError, match="300 rows of class 1 and 0 of class 0; two of each are needed"):
        require_gates(workspace, request, evaluated)
    assert_champion_stays(workspace, "two of each are needed")


def test_a_classifier_is_judged_by_every_metric_of_classes(tmp_path: Path) -> None:
    workspace = with_champion(as_classes(weeks()), tmp_path, **CLASSES)
    request, fits = fit_all(workspace, week(3))
    evaluated = evaluate_candidates(workspace, request, fits)
    assert set(evaluated["metrics"]) == {
        "accuracy",
        "precision",
        "recall",
        "f1",
        "roc_auc",
        "pr_auc",
        "log_loss",
        "brier",
        "calibration_error",
    }
    entry = report_of(workspace, evaluated)["candidates"][0]
    assert sum(entry["confusion"].values()) == ROWS
    assert entry["metric_reports"]["roc_auc"]["method"] == "DeLong"
    assert "bootstrap" in entry["metric_reports"]["f1"]["method"]
    assert evaluated["passed"]


def test_a_group_with_no_rows_in_the_holdout_has_too_little_data_and_is_named(tmp_path: Path) -> None:
    frames = weeks()
    frames[week(3)] = frames[week(3)][frames[week(3)]["kind"] != "c"]
    gates = [
        {"metric": "mae", "at_most": 5},
        {"metric": "group_error_difference", "group": "kind", "at_most": 3, "min_rows": 20},
    ]
    workspace = with_champion(frames, tmp_path, gates=gates)
    request, fits = fit_all(workspace, week(3))
    evaluated = evaluate_candidates(workspace, request, fits)
    gone = next(gate for gate in evaluated["gates"] if gate["gate"].endswith("of c"))
    assert (gone["verdict"], gone["rows"]) == ("too little data", 0)
    assert "0 rows, 20 are needed to say" in gone["reason"]
    assert "too little data" in gate_table(evaluated["gates"])
    require_gates(workspace, request, evaluated)


def test_fairness_of_one_group_alone_passes_nobody(tmp_path: Path) -> None:
    frames = weeks()
    frames[week(3)] = frames[week(3)].assign(kind="a")
    gates = [{"metric": "group_error_difference", "group": "kind", "at_most": 3, "min_rows": 20}]
    workspace = with_champion(frames, tmp_path, gates=gates)
    request, fits = fit_all(workspace, week(3))
    evaluated = evaluate_candidates(workspace, request, fits)
    with pytest.raises(GateError, match="no gate had enough data to pass"):
        require_gates(workspace, request, evaluated)
    assert_champion_stays(workspace, "no gate had enough data to pass")


def test_evidence_about_other_rows_another_model_or_other_verdicts_fails(tmp_path: Path) -> None:
    workspace = with_champion(weeks(), tmp_path)
    request, fits = fit_all(workspace, week(3))
    evaluated = evaluate_candidates(workspace, request, fits)
    report = report_of(workspace, evaluated)
    (pin,) = request.window.holdout
    other = replace(request, window=replace(request.window, holdout=(replace(pin, digest="0" * 64),)))
    forged = {**report, "candidates": [{**report["candidates"][0], "gates": []}]}
    cases: list[tuple[TrainingRequest, dict[str, Any], str]] = [
        (other, evaluated, "it is about the holdout 2013-01-27"),
        (replace(request, operation="another"), evaluated, "it is about the request"),
        (request, {**evaluated, "digest": "f" * 64}, "another model file"),
        (request, {**evaluated, "report": workspace.evidence.put(forged)}, "its gates say something else"),
        (request, {**evaluated, "report": workspace.evidence.put({"old": 1})}, "about the holdout none"),
    ]
    for request_to_check, handed_over, reason in cases:
        with pytest.raises(GateError, match="the evidence is stale") as raised:
            require_gates(workspace, request_to_check, handed_over)
        assert reason in str(raised.value)
    assert_champion_stays(workspace, "the evidence is stale")


def test_looks_at_one_holdout_are_counted_over_trainings_and_candidates(tmp_path: Path) -> None:
    workspace = with_champion(weeks(), tmp_path, gates=[{"metric": "mae", "at_most": 5}])
    looks = []
    for seed in range(3):
        strict = replace(
            workspace,
            loop=toy_loop(
                gates=[{"metric": "mae", "at_most": 0.01}],
                retrain={"cooldown": 0},
                train={"function": f"{__name__}:seeded", "window": 2, "seed": seed},
            ),
        )
        request, fits = fit_all(strict, week(3))
        evaluated = evaluate_candidates(strict, request, fits)
        again = evaluate_candidates(strict, request, fits)
        assert report_of(strict, again)["looks"] == report_of(strict, evaluated)["looks"]
        looks.append(report_of(strict, evaluated)["looks"])
        with pytest.raises(GateError):
            require_gates(strict, request, evaluated)
    assert [(look["trainings"], look["candidates"]) for look in looks] == [(0, 0), (1, 2), (2, 4)]
    assert looks[0]["words"] == "no candidate was judged on these partitions before"
    assert looks[2]["partitions"] == [week(3)]
    assert "4 candidates of 2 trainings were judged before" in looks[2]["words"]


def seeded(seed: int) -> dict[str, Any]:
    """Return two unfitted lines, whatever the seed."""
    columns = ColumnTransformer([("x", "passthrough", ["x"])])
    return {"first": make_pipeline(columns, LinearRegression()), "second": make_pipeline(columns, LinearRegression())}


def test_a_champion_that_cannot_predict_any_more_is_stated_and_absolute_gates_decide(tmp_path: Path) -> None:
    frames = weeks()
    gates = [{"metric": "mae", "at_most": 5}]
    workspace = with_champion(frames, tmp_path, gates=gates)
    request, fits = fit_all(workspace, week(3))
    from airflow_mlops.core.evaluation import evaluation_context

    real = evaluation_context.load_version
    try:
        evaluation_context.load_version = lambda *_: LinearRegression()
        evaluated = evaluate_candidates(workspace, request, fits)
    finally:
        evaluation_context.load_version = real
    report = report_of(workspace, evaluated)
    assert evaluated["passed"]
    assert (report["first_run"], report["champion"]) == (False, "1")
    assert "the champion, version 1, cannot predict the holdout: the model is not fitted" in report["champion_failed"]


def test_a_slice_by_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    workspace = with_champion(weeks(), tmp_path)
    request, fits = fit_all(workspace, week(3))
    sliced = replace(workspace, loop=toy_loop(evaluate={"slices": ["region"]}))
    with pytest.raises(MlopsError, match="slices by 'region'; the data has no such column"):
        evaluate_candidates(sliced, request, fits)
    assert_champion_stays(workspace, "'region'")


def test_shap_is_computed_only_where_it_is_declared(tmp_path: Path) -> None:
    workspace = with_champion(weeks(), tmp_path)
    request, fits = fit_all(workspace, week(3))
    assert report_of(workspace, evaluate_candidates(workspace, request, fits))["candidates"][0]["shap"] is None
    declared = replace(workspace, loop=toy_loop(evaluate={"shap": True}))
    shap = report_of(workspace, evaluate_candidates(declared, request, fits))["candidates"][0]["shap"]
    assert (shap["explainer"], list(shap["values"])) == ("linear", ["x"])
    assert math.isfinite(shap["values"]["x"])
