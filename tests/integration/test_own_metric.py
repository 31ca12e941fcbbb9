"""A metric of the user's own compares models row by row: it selects, judges a rollout, and is watched."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.core.check_declaration import check_declaration
from airflow_mlops.core.declaration.own_types import metric_code
from airflow_mlops.core.errors import DeclarationError, GateError, MlopsError, NotReadyError, RolledBackError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.registry import judged_code
from airflow_mlops.core.registry.judged_code import MetricChangedError, require_metric_code
from airflow_mlops.core.replay.fit_history import fit_history
from airflow_mlops.core.replay.judged_windows import JudgedWindows
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.watch.checks.run_checks import run_checks
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import FIELDS, go_live, ingest, toy_loop, toy_rows, train, week

MODULE = """
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, QuantileRegressor
from sklearn.pipeline import make_pipeline


def cost(label, predicted):
    missing = label - predicted
    return np.where(missing > 0, 20 * missing, -missing)


def gain(label, predicted):
    return 12 - cost(label, predicted)


def wrong_class(label, predicted):
    chances = np.column_stack([1 - predicted, predicted]) if predicted.ndim == 1 else predicted
    return np.where(chances.argmax(axis=1) == label, 0.1, np.where(label == 1, 5.0, 1.0))


def features():
    return ColumnTransformer([("x", "passthrough", ["x"])])


def regressor(quantile):
    return make_pipeline(features(), QuantileRegressor(quantile=quantile, alpha=0, solver="highs"))


def candidates(seed):
    return {"middle": regressor(0.5), "high": regressor(0.95)}


def searched(seed):
    return {"searched": (regressor(0.5), {"quantileregressor__quantile": [0.05, 0.5, 0.95]})}


def logistic(seed):
    return {"logistic": make_pipeline(features(), LogisticRegression())}


def narrow(seed):
    return {"middle": regressor(0.5)}
"""
COST = {"name": "shortage", "function": "cost", "unit": "EUR", "each_row": True}
GAIN = {"name": "margin", "function": "gain", "unit": "EUR", "better": "more", "each_row": True}


def make_loop(folder: Path, metric: dict[str, Any], *, code: str = MODULE, **changed: Any) -> Workspace:
    """Return a loop in a folder with a module of its own name, that compares models by a metric of the module."""
    module = re.sub(r"\W", "_", f"own_{folder.name}")
    (folder / f"{module}.py").write_text(code)
    train_function = changed.pop("candidates", "candidates")
    fields: dict[str, Any] = {
        "train": {"function": f"{module}:{train_function}", "window": 2, **changed.pop("train", {})},
        "evaluate": {"metrics": [{**metric, "function": f"{module}:{metric['function']}"}]},
        "gates": [{"metric": "mae", "at_most": 50}, {"metric": metric["name"], "better_than": "dummy"}],
        "rollout": {"stages": [{"shadow": 100}, {"live": 100}], "min_rows": 20},
        "watch": {"performance": {"metric": metric["name"], "worse_by": 0.5, "slices": ["kind"], "min_rows": 20}},
        "retrain": {"alarm": {"windows": 1, "of": 2}, "cooldown": 0, "confidence": "none"},
        **changed,
    }
    rows = {week(number): toy_rows(number, rows=300) for number in range(4)}
    if "weight" in fields["train"]:
        rows = {key: frame.assign(w=np.where(frame["kind"] == "a", 3.0, 0.5)) for key, frame in rows.items()}
    workspace = in_memory_workspace(toy_loop(**fields), rows, scratch=folder, root=folder)
    check_declaration(workspace.loop, folder)
    for number in range(4):
        ingest(workspace, week(number))
    return workspace


def deliver(workspace: Workspace, number: int, rows: pd.DataFrame) -> None:
    """Deliver, publish and score a week."""
    workspace.source.frames[week(number)] = rows  # type: ignore[attr-defined]
    ingest(workspace, week(number))
    score_partition(workspace, week(number))


def module_of(workspace: Workspace) -> Path:
    """Return the module of a loop's metric."""
    return workspace.root / f"{workspace.loop.evaluate.metrics[0].function.partition(':')[0]}.py"


def numbers_of(workspace: Workspace, label: Any, predicted: Any) -> np.ndarray[Any, Any]:
    """Return the number of each row, computed apart from the project."""
    missing = np.asarray(label) - np.asarray(predicted)
    cost = np.where(missing > 0, 20 * missing, -missing)
    return cost if workspace.loop.metric == "shortage" else 12 - cost


def served(workspace: Workspace, number: int) -> pd.DataFrame:
    """Return the served predictions of a week with their labels."""
    rows = workspace.snapshots.read(week(number)).to_pandas().drop(columns="kind")
    predictions = workspace.predictions.read(week(number)).to_pandas()
    return predictions.merge(rows, left_on="key", right_on="id")


@pytest.mark.parametrize("metric", [COST, GAIN], ids=["less", "more"])
def test_it_selects_judges_a_rollout_and_makes_the_watch_retrain(tmp_path: Path, metric: dict[str, Any]) -> None:
    workspace = make_loop(tmp_path, metric)
    name = metric["name"]
    go_live(workspace, week(2))
    first = workspace.state().versions["1"]
    assert first.details.candidate == "high"
    report = workspace.evidence.get(str(first.details.report))
    by_name = {each["candidate"]: each for each in report["candidates"]}
    assert by_name["middle"]["metrics"]["mae"] < by_name["high"]["metrics"]["mae"]
    assert report["metric"] == name
    interval = by_name["high"]["metric_reports"][name]
    assert interval["low"] < interval["value"] < interval["high"]

    score_partition(workspace, week(3))
    calm = measure_performance(workspace, week(3))
    rows = served(workspace, 3)
    assert calm.value == pytest.approx(numbers_of(workspace, rows["y"], rows["served_prediction"]).mean())
    assert calm.low is not None
    assert calm.high is not None
    assert calm.low < calm.value < calm.high
    assert (calm.verdict, calm.metric, calm.reference) == ("no alarm", name, first.details.metrics[name])

    deliver(workspace, 4, toy_rows(4, rows=300, slope=6))
    worse = measure_performance(workspace, week(4))
    assert worse.verdict == "alarm", worse.message
    assert worse.worse_by is not None
    assert worse.worse_by > 0.5
    assert any(alarm.startswith("kind=") for alarm in worse.alarmed)
    decision = decide_and_record(workspace, week(4), trigger="watch").details
    assert (decision.retrain, decision.cause) == (True, "alarm: performance")
    assert name in decision.reason

    for number in (5, 6):
        deliver(workspace, number, toy_rows(number, rows=300, slope=6))
    assert train(workspace, week(6)) == "2"
    start_rollout(workspace, week(6))
    run_rollout_step(workspace, "2", 0, week(6))
    state = workspace.state()
    assert state.rollout is not None
    look = state.rollout.looks[-1].details
    assert look.verdict == "pass"
    assert look.offline is not None
    assert (look.offline["metric"], look.offline["agree"]) == (name, True)
    assert np.sign(look.offline["expected"]) == (-1 if metric is COST else 1)
    run_rollout_step(workspace, "2", 1, week(6))
    assert workspace.state().champion.number == "2"  # type: ignore[union-attr]
    assert reproduce_version(workspace, "2").verdict == "identical"


def test_a_challenger_that_is_worse_by_it_alone_goes_back(tmp_path: Path) -> None:
    workspace = make_loop(tmp_path, GAIN)
    go_live(workspace, week(2))
    module = module_of(workspace).stem
    narrow = replace(
        workspace,
        loop=workspace.loop.model_copy(
            update={"train": workspace.loop.train.model_copy(update={"function": f"{module}:narrow"})}
        ),
    )
    score_partition(narrow, week(3))
    assert train(narrow, week(3)) == "2"
    start_rollout(narrow, week(3))
    with pytest.raises(RolledBackError, match="worse"):
        run_rollout_step(narrow, "2", 0, week(3))


def test_a_search_compares_its_trials_by_it(tmp_path: Path) -> None:
    for metric, folder in ((COST, "less"), (GAIN, "more")):
        place = tmp_path / folder
        place.mkdir()
        limits = {"limits": {"minutes": 5}} if metric is GAIN else {}  # in a process of its own
        workspace = make_loop(place, metric, candidates="searched", train=limits)
        train(workspace, week(2))
        version = workspace.state().versions["1"]
        assert version.details.best_params == {"quantileregressor__quantile": 0.95}
        report = workspace.evidence.get(str(version.details.report))
        search = report["candidates"][0]["search"]
        assert (search["metric"], report["request"]["search"]["own_metric"][1]) == (
            metric["name"],
            metric.get("better", "less"),
        )
        best, worst = (choose(trial["score"] for trial in search["trials"]) for choose in (min, max))
        assert search["best_score"] == (best if metric is COST else worst)


def test_rows_count_by_their_weight(tmp_path: Path) -> None:
    workspace = make_loop(tmp_path, COST, train={"weight": "w"}, candidates="narrow")
    go_live(workspace, week(2))
    score_partition(workspace, week(3))
    rows = served(workspace, 3)
    weight = rows["w"]
    numbers = numbers_of(workspace, rows["y"], rows["served_prediction"])
    assert measure_performance(workspace, week(3)).value == pytest.approx(np.average(numbers, weights=weight))


@pytest.mark.parametrize("classes", [["no", "yes"], ["low", "middle", "high"]], ids=["two", "three"])
def test_it_compares_models_of_classes(tmp_path: Path, classes: list[str]) -> None:
    metric = {"name": "mistake", "function": "wrong_class", "each_row": True}
    (tmp_path / "contract.yaml").write_text(
        "contract: rows\nkey: id\ntime: at\ncolumns:\n"
        "  id: {type: text, nullable: false}\n  at: {type: time, zone: none, nullable: false}\n"
        "  x: {type: float}\n  kind: {type: category}\n  y: {type: text}\n"
    )
    module = "own_classes_" + str(len(classes))
    (tmp_path / f"{module}.py").write_text(MODULE)
    edges = [0.0] if len(classes) == 2 else [-1.0, 1.0]
    frames = {}
    for number in range(4):
        frame = toy_rows(number, rows=300)
        frames[week(number)] = frame.assign(y=[classes[code] for code in np.digitize(frame["y"], edges)])
    loop = toy_loop(
        data={**FIELDS["data"], "contract": "contract.yaml", "classes": classes},
        train={"function": f"{module}:logistic", "window": 2},
        evaluate={"metrics": [{**metric, "function": f"{module}:wrong_class"}]},
        gates=[{"metric": "log_loss", "at_most": 2}],
        rollout={"stages": [{"shadow": 100}, {"live": 100}]},
        watch={
            "performance": {"metric": "mistake", "worse_by": 0.5},
            "checks": ["estimated_performance", "importance", "concept"],
        },
    )
    workspace = in_memory_workspace(loop, frames, scratch=tmp_path, root=tmp_path)
    check_declaration(loop, tmp_path)
    for number in range(4):
        ingest(workspace, week(number))
    go_live(workspace, week(2))
    score_partition(workspace, week(3))
    rows = served(workspace, 3)
    if len(classes) == 2:
        right = np.where(rows["served_prediction"] >= 0.5, classes[1], classes[0]) == rows["y"]
    else:
        right = (rows["served_prediction"] == rows["y"]).to_numpy()
    expected = np.where(right, 0.1, np.where(rows["y"] == classes[1], 5.0, 1.0)).mean()
    judged = measure_performance(workspace, week(3))
    assert judged.value == pytest.approx(expected)
    results = run_checks(workspace, week(3))
    assert {name: result.message for name, result in results.items() if result.failed} == {}
    assert results["estimated_performance"].numbers["estimate"] == pytest.approx(expected, rel=0.4)


def test_checks_before_labels_follow_a_gain_as_they_follow_a_cost(tmp_path: Path) -> None:
    workspace = make_loop(
        tmp_path,
        GAIN,
        watch={
            "performance": {"metric": "margin", "worse_by": 0.2},
            "checks": ["estimated_performance", "importance", "concept"],
        },
    )
    go_live(workspace, week(2))
    score_partition(workspace, week(3))
    results = run_checks(workspace, week(3))
    assert {name: result.message for name, result in results.items() if result.failed} == {}
    judged = measure_performance(workspace, week(3))
    assert results["estimated_performance"].numbers["estimate"] == pytest.approx(judged.value, rel=0.2)
    assert results["concept"].numbers["level"] > 0
    for number in range(4, 8):
        deliver(workspace, number, toy_rows(number, rows=300, slope=5))
    assert run_checks(workspace, week(7))["concept"].verdict == "alarm"


def test_a_replay_judges_its_windows_by_it(tmp_path: Path) -> None:
    workspace = make_loop(tmp_path, GAIN)
    go_live(workspace, week(2))
    score_partition(workspace, week(3))
    history = fit_history(workspace, past_partitions(workspace), processes=1)
    windows = JudgedWindows(history, workspace.loop)
    model = history.models[2]["high"]
    (verdict,) = [each for each in windows.judge(3, 2, "high", "1", model.predictions[3]) if hasattr(each, "metric")]
    assert verdict.value == pytest.approx(measure_performance(workspace, week(3)).value, rel=1e-6)


def test_other_code_is_not_compared_by_the_watch_nor_by_a_rollout(tmp_path: Path) -> None:
    workspace = make_loop(tmp_path, COST)
    go_live(workspace, week(2))
    score_partition(workspace, week(3))
    recorded = workspace.state().versions["1"].details.metric_code
    assert recorded is not None
    module = module_of(workspace)
    assert set(recorded) == {module.stem, f"{module.stem}:cost"}
    assert train(workspace, week(3)) == "2"
    module.write_text(MODULE.replace("20 *", "30 *"))
    judged = measure_performance(workspace, week(3))
    assert judged.verdict == "insufficient data"
    assert judged.message is not None
    assert f"version 1 was judged by shortage of other code: '{module.stem}' had the digest" in judged.message
    assert "train again" in judged.message
    start_rollout(workspace, week(3))
    with pytest.raises(NotReadyError, match="version 2 was judged by shortage of other code"):
        run_rollout_step(workspace, "2", 0, week(3))
    with pytest.raises(MetricChangedError, match=r"this process has imported .*; start it again"):
        require_metric_code(workspace, metric_code(workspace.loop.metric, workspace.root), "version 3")


def test_a_new_version_is_judged_by_the_new_code_once_a_process_has_imported_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_loop(tmp_path, COST)
    go_live(workspace, week(2))
    module = module_of(workspace)
    module.write_text(MODULE + "\n# other code\n")
    with pytest.raises(MlopsError, match="start it again"):
        train(workspace, week(2))
    monkeypatch.setattr(judged_code, "_VERIFIED", {})  # another process
    assert train(workspace, week(3)) == "2"


def test_a_champion_that_was_judged_before_the_metric_compared_models_is_not_compared(tmp_path: Path) -> None:
    gates = [{"metric": "shortage", "at_most": 50}, {"metric": "mae", "at_most": 50}]
    workspace = make_loop(tmp_path, COST, watch={}, gates=gates)
    go_live(workspace, week(2))
    details = workspace.state().versions["1"].details
    assert details.candidate == "high"
    with pytest.raises(MetricChangedError, match="version 1 was judged before shortage compared models"):
        require_metric_code(workspace, None, "version 1")
    require_metric_code(workspace, details.metric_code, "version 1")


BROKEN = {
    "raises": ("    return 1 / int((predicted > 9e9).sum())", "raised ZeroDivisionError"),
    "nan": ("    return np.full(len(label), np.nan)", "is NaN or infinite on 300 of 300 rows"),
    "one_number": ("    return 1.0", r"of the shape \(\) for 300 rows; return one number for each row"),
    "two_columns": ("    return np.ones((len(label), 2))", r"of the shape \(300, 2\) for 300 rows"),
    "text": ("    return np.full(len(label), 'dear')", "an array of <U4"),
}


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_a_function_that_cannot_judge_rows_leaves_every_candidate_out_and_says_why(tmp_path: Path, how: str) -> None:
    body, why = BROKEN[how]
    code = MODULE.replace("def cost(", "def unused(", 1) + f"\n\ndef cost(label, predicted):\n{body}\n"
    workspace = make_loop(tmp_path, COST, code=code)
    with pytest.raises(MlopsError, match=f"candidate 'high': shortage.*{why}"):
        train(workspace, week(2))
    assert workspace.state().champion is None
    assert workspace.state().open_decision_by(week(3)) is None


def test_a_challenger_whose_rows_have_no_number_goes_back_and_a_function_that_raises_waits(tmp_path: Path) -> None:
    code = f"""{MODULE}

def picky(label, predicted):
    return np.where(label > 20, np.nan, cost(label, predicted))


def strict(label, predicted):
    assert label.max() < 20
    return cost(label, predicted)
"""
    for function, error, why in (
        ("picky", RolledBackError, "shortage is NaN or infinite on 1 of 300 rows"),
        ("strict", NotReadyError, "strict raised AssertionError"),
    ):
        folder = tmp_path / function
        folder.mkdir()
        workspace = make_loop(folder, {**COST, "function": function}, code=code)
        go_live(workspace, week(2))
        assert train(workspace, week(3)) == "2"
        frame = toy_rows(4, rows=300)
        frame.loc[0, "y"] = 25.0
        deliver(workspace, 4, frame)
        judged = measure_performance(workspace, week(4))
        assert (judged.verdict, why in str(judged.message)) == ("insufficient data", True)
        start_rollout(workspace, week(4))
        with pytest.raises(error, match=why):
            run_rollout_step(workspace, "2", 0, week(4))


def test_the_wrong_direction_selects_the_other_candidate(tmp_path: Path) -> None:
    workspace = make_loop(
        tmp_path,
        {**COST, "better": "more"},
        gates=[{"metric": "mae", "at_most": 50}, {"metric": "shortage", "at_least": 0}],
    )
    train(workspace, week(2))
    assert workspace.state().versions["1"].details.candidate == "middle"


def test_one_number_for_all_rows_is_refused_where_rows_are_compared(tmp_path: Path) -> None:
    metric = {"name": "total", "function": "own:total"}
    with pytest.raises(DeclarationError, match=r"watch.performance.metric: total gives one number .* each_row: true"):
        toy_loop(evaluate={"metrics": [metric]}, watch={"performance": {"metric": "total"}})
    loop = toy_loop(
        evaluate={"metrics": [metric]}, gates=[{"metric": "total", "at_most": 1}, {"metric": "r2", "at_least": 0}]
    )
    assert loop.metric == "mae"
    named = toy_loop(
        evaluate={"metrics": [{**metric, "each_row": True}]},
        gates=[{"metric": "r2", "at_least": 0}, {"metric": "total", "at_most": 1}, {"metric": "mae", "at_most": 5}],
    )
    assert named.metric == "total"
    with pytest.raises(DeclarationError, match=r"no such metric of single rows; did you mean 'total'"):
        toy_loop(evaluate={"metrics": [{**metric, "each_row": True}]}, watch={"performance": {"metric": "totals"}})


def test_a_request_without_an_own_metric_has_no_new_key(tmp_path: Path) -> None:
    rows = {week(number): toy_rows(number) for number in range(4)}
    workspace = in_memory_workspace(toy_loop(), rows, scratch=tmp_path)
    for number in range(4):
        ingest(workspace, week(number))
    train(workspace, week(2))
    version = workspace.state().versions["1"]
    request = workspace.evidence.get(str(version.details.report))["request"]
    assert "metric_code" not in request
    assert version.details.metric_code is None
    assert "metric_code" not in json.dumps([each.details.to_json() for each in workspace.ledger.records()])


def test_code_that_changes_between_the_request_and_the_judgement_refuses_the_training(tmp_path: Path) -> None:
    workspace = make_loop(tmp_path, COST)
    decide_and_record(workspace, week(2), trigger="person")
    request = assemble_training(workspace, week(2))
    fits = [fit_candidate(workspace, request, name) for name in request.candidates]
    module_of(workspace).write_text(MODULE + "\n# other code\n")
    with pytest.raises(GateError, match="the training was judged by shortage of other code"):
        evaluate_candidates(workspace, request, fits)
