"""Several windows and several candidates: the loop decides as its replay says, and regret knows the best of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from airflow_mlops.core.dry_run.fit_trial import try_fit
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.ledger.training_details import CandidateRefused, RetrainDecided
from airflow_mlops.core.ledger.watch_details import DriftJudged
from airflow_mlops.core.replay.compare_policies import PolicyComparison
from airflow_mlops.core.replay.compare_windows import compare_windows, restrict_history
from airflow_mlops.core.replay.fit_history import FittedHistory, fit_history
from airflow_mlops.core.replay.judged_windows import JudgedWindows
from airflow_mlops.core.replay.past_holdout import PastHoldout
from airflow_mlops.core.replay.past_partitions import past_partitions
from airflow_mlops.core.replay.replay_report import report_replay
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import assemble_training
from airflow_mlops.core.training.fit_candidate import candidate_file, fit_request_of
from airflow_mlops.core.watch import fresh_model
from airflow_mlops.core.watch.measure_regret import measure_regret
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.hooks.sagemaker_training import job_name
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import FIELDS, go_live, ingest, toy_loop, toy_rows, train, week
from tests.unit.core.watch.living_toy import live, loop_of_slopes

SLOPES = [2.0] * 5 + [4.0] * 9
CONTRACT = """
contract: toy
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time, zone: none, nullable: false}
  x: {type: float}
  kind: {type: category}
  y: {type: float}
"""
RETRAIN: dict[str, Any] = {"policy": {"regret": 0.1}, "cooldown": 0, "budget": 50}
LIVE = {"stages": [{"live": 100}]}
WATCHED: dict[str, Any] = {"performance": {"metric": "mae", "worse_by": 0.3}, "drift": {"alarm_rate": 0.01}}


def two(seed: int) -> dict[str, Any]:
    """Return the mean of the labels, which is right where nothing depends on x, and a straight line."""
    of_x = ColumnTransformer([("x", "passthrough", ["x"])])
    return {"line": make_pipeline(of_x, LinearRegression()), "mean": DummyRegressor()}


def trees(seed: int) -> Any:
    """Return boosted trees, which take categories as they are."""
    return HistGradientBoostingRegressor(max_iter=40, min_samples_leaf=5, random_state=seed)


def loop(tmp_path: Path, slopes: list[float], window: Any, function: str = "candidates", **changes: Any) -> Workspace:
    module = __name__ if function == "two" else "tests.unit.core.toy_loop"
    section = {"function": f"{module}:{function}", "window": window}
    changes = {"retrain": RETRAIN, "gates": [{"metric": "mae", "at_most": 99}], "rollout": LIVE, **changes}
    return loop_of_slopes(tmp_path, slopes, rows=200, train=section, **changes)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a loop of two windows that was lived through."""
    workspace = loop(tmp_path_factory.mktemp("lived"), SLOPES, [2, "all"], watch=WATCHED)
    live(workspace, len(SLOPES))
    return workspace


@pytest.fixture(scope="module")
def history(lived: Workspace) -> FittedHistory:
    """Return all models of these weeks."""
    return fit_history(lived, past_partitions(lived), processes=1)


def assert_lived_as_replayed(workspace: Workspace, history: FittedHistory) -> None:
    """Assert that decisions, regrets, promotions and served metrics of a loop are those of its replay."""
    replayed = PolicyComparison(history).replay("declared")
    keys = [partition.key for partition in history.partitions]
    decided = list(workspace.ledger.records(RetrainDecided))
    assert [
        (record.partition, record.details.trigger, record.details.retrain, record.details.cause) for record in decided
    ] == [
        (decision["partition"], decision["trigger"], decision["retrain"], decision["cause"])
        for decision in replayed.decisions
    ]
    for record, decision in zip(decided, replayed.decisions, strict=True):
        if record.details.cause == "regret":
            assert record.details.numbers["windows"] == pytest.approx(decision["numbers"]["windows"], rel=1e-9)
    assert [keys[at] for at in replayed.promoted] == [key.partition("|")[0] for key in workspace.state().promotions]
    for position, loss in replayed.losses.items():
        judged = workspace.state().performance.get(keys[position])
        if judged is not None and judged.value is not None:
            assert loss == pytest.approx(judged.value, rel=1e-12)


def test_a_loop_of_two_windows_decides_as_its_replay_says(lived: Workspace, history: FittedHistory) -> None:
    assert_lived_as_replayed(lived, history)
    names = [version.details.candidate for version in lived.state().versions.values()]
    assert set(names) == {"line@2", "line@all"}


def test_drift_is_judged_against_the_window_of_the_version_in_loop_and_replay(
    lived: Workspace, history: FittedHistory
) -> None:
    windows, state = JudgedWindows(history, lived.loop), lived.state()
    places = {partition.key: place for place, partition in enumerate(history.partitions)}
    compared = set()
    for key, judged in state.drift.items():
        version = state.versions[str(judged.champion)]
        candidate, as_of = version.details.candidate, places[version.partition]
        served = history.models[as_of][candidate].predictions[places[key]]
        drift = next(
            verdict
            for verdict in windows.judge(places[key], as_of, candidate, version.number, served)
            if isinstance(verdict, DriftJudged)
        )
        assert (drift.verdict, drift.message, drift.numbers) == (judged.verdict, judged.message, judged.numbers)
        compared.add(candidate)
    assert compared == {"line@2", "line@all"}


def test_a_history_of_one_window_is_the_one_that_would_have_been_fitted(
    tmp_path: Path, lived: Workspace, history: FittedHistory
) -> None:
    for window in (2, "all"):
        alone = restrict_history(history, window)
        declared = replace(lived, loop=alone.loop)
        fitted = fit_history(declared, past_partitions(declared), processes=1, as_of={4, 9})
        for as_of in (4, 9):
            assert alone.models[as_of].keys() == fitted.models[as_of].keys() == {"line"}
            predictions = alone.models[as_of]["line"].predictions
            assert predictions.keys() == fitted.models[as_of]["line"].predictions.keys()
            for position, predicted in fitted.models[as_of]["line"].predictions.items():
                assert (predictions[position] == predicted).all()


def test_the_report_says_whether_window_or_policy_mattered(history: FittedHistory) -> None:
    comparison = PolicyComparison(history)
    report = report_replay(comparison, ["declared", "never", "nightly"], split=week(8))
    table = report.windows
    assert table is not None
    assert list(table.rows) == ["2", "all", "declared"]
    assert table.rows["declared"]["nightly"] == 1.0
    assert table.rows["declared"]["never"] == 0.0
    # After the slope has changed, a line of two partitions knows the new one and that of the whole history does not.
    assert table.rows["2"]["nightly"] > table.rows["all"]["nightly"] + 0.2
    declared = [row["declared"] for row in table.rows.values()]
    assert table.by_window == pytest.approx(100 * (max(declared) - min(declared)))
    lines = table.lines()
    assert lines[0].split() == ["window", "declared", "nightly", "clock:4", "never"]
    assert lines[2].startswith("all partitions")
    assert lines[-1] == (
        f"the window mattered by {table.by_window:.0f} points, the policy by {table.by_policy:.0f} points"
    )
    assert report.to_dict()["windows"]["rows"] == table.rows


def test_of_a_single_window_there_is_no_table_and_no_other_document(history: FittedHistory) -> None:
    comparison = PolicyComparison(restrict_history(history, 2))
    assert compare_windows(comparison, comparison.after_first, len(SLOPES)) is None
    assert "windows" not in report_replay(comparison, ["never"], split=week(8)).to_dict()


def test_regret_is_that_against_another_candidate_where_the_gain_comes_from_it(tmp_path: Path) -> None:
    # Before the sixth week nothing depends on x, so the mean is chosen; a fresh mean would never be better than it.
    slopes = [0.0] * 5 + [3.0] * 6
    workspace = loop(tmp_path, slopes, 2, "two")
    live(workspace, len(slopes))
    state = workspace.state()
    assert state.versions["1"].details.candidate == "mean"
    of_first = [measured for measured in state.regret.values() if measured.champion == "1"]
    moved = max(of_first, key=lambda measured: measured.regret)
    assert moved.regret > 0.5
    assert moved.fresh_candidate == "line"
    assert ", line, has" in moved.message
    assert state.champion is not None
    assert state.champion.details.candidate == "line"
    assert_lived_as_replayed(workspace, fit_history(workspace, past_partitions(workspace), processes=1))


def test_the_candidates_of_a_judged_training_are_not_fitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = loop(tmp_path, [2.0] * 4 + [5.0] * 3, [1, "all"])
    live(workspace, 4)
    strict = loop(tmp_path, [], [1, "all"], gates=[{"metric": "mae", "at_most": 0.01}]).loop
    workspace = replace(workspace, loop=strict)
    ingest(workspace, week(4))
    ingest(workspace, week(5))
    with pytest.raises(Exception, match="does not pass"):
        train(workspace, week(5))
    refusal = next(iter(workspace.ledger.records(CandidateRefused))).details
    assert refusal.by_window is not None
    assert set(refusal.by_window) == {"1", "all"}
    assert refusal.by_window["1"] == refusal.loss_change < refusal.by_window["all"]
    ingest(workspace, week(6))
    score_partition(workspace, week(6))
    fits: list[str] = []
    fitted = fresh_model.run_fit

    def noting(workspace: Workspace, request: Any, *arguments: Any, **named: Any) -> Any:
        fits.append(request.candidate)
        return fitted(workspace, request, *arguments, **named)

    monkeypatch.setattr(fresh_model, "run_fit", noting)
    kept = measure_regret(workspace, week(6))
    assert (kept.fresh_candidate, fits) == ("line@1", [])
    assert kept.regret > 0.5

    # A file that does not verify is not taken: the best candidate alone is fitted again.
    report = workspace.evidence.get(str(refusal.report))
    file = candidate_file(workspace, report["request"]["operation"], "line@1")
    file.write_bytes(b"other bytes")
    state = workspace.state()
    window = fresh_model.TrainingWindow.from_dict(report["request"]["window"])
    again = fresh_model.fresh_model(workspace, state.versions["1"], window, week(5))
    assert again is not None
    assert (again.candidate, fits) == ("line@1", ["line@1"])
    assert again.model[-1].coef_ == pytest.approx([5.0], abs=0.3)


def test_a_single_candidate_is_fitted_once_and_no_holdout_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = loop(tmp_path, [2.0] * 6, 2)
    live(workspace, 4)
    for number in (4, 5):
        ingest(workspace, week(number))
    score_partition(workspace, week(5))
    monkeypatch.setattr(fresh_model, "read_window", None)
    measured = measure_regret(workspace, week(5))
    assert measured.regret is not None
    assert measured.fresh_candidate is None
    assert "fresh_candidate" not in measured.stored()


def test_three_refused_retrains_say_what_each_window_had(tmp_path: Path) -> None:
    slopes = [2.0] * 3 + [2.15] * 11
    retrain = {"policy": {"regret": 0.01}, "cooldown": 0, "confidence": 0.999}
    workspace = loop(tmp_path, slopes, [2, "all"], retrain=retrain)
    live(workspace, len(slopes))
    reasons = [
        record.details.reason
        for record in workspace.ledger.records(RetrainDecided)
        if record.details.cause == "escalated"
    ]
    refusals = [record.details for record in workspace.ledger.records(CandidateRefused)]
    by_window = refusals[2].by_window
    assert by_window is not None
    assert f"(on the last holdout of 2 partitions {by_window['2']:+.1%}, of all partitions" in reasons[0]
    assert_lived_as_replayed(workspace, fit_history(workspace, past_partitions(workspace), processes=1))


def test_a_training_is_asked_for_only_once_the_shortest_window_is_there(tmp_path: Path) -> None:
    workspace = loop(tmp_path, [2.0] * 5, [2, 4, "all"])
    live(workspace, 3)
    assert workspace.state().versions["1"].details.candidate == "line@all"


def test_a_version_has_the_levels_of_its_own_window(tmp_path: Path) -> None:
    (tmp_path / "contract.yaml").write_text(CONTRACT)
    frames = {week(number): toy_rows(number, slope=2.0 if number < 3 else 6.0) for number in range(6)}
    for number in (3, 4):
        frames[week(number)]["kind"] = frames[week(number)]["kind"].replace("c", "d")
    declared = toy_loop(
        data={**FIELDS["data"], "contract": "contract.yaml"},
        train={"function": f"{__name__}:trees", "window": [1, "all"]},
        rollout=LIVE,
    )
    workspace = in_memory_workspace(declared, frames, scratch=tmp_path / "scratch", root=tmp_path)
    for key in frames:
        ingest(workspace, key)
    go_live(workspace, week(4))
    version = workspace.state().versions["1"]
    assert version.details.candidate == "model@1"
    assert version.details.levels == {"kind": ("a", "b", "d")}
    report = workspace.evidence.get(str(version.details.report))
    assert report["request"]["windows"]["all"]["levels"] == {"kind": ["a", "b", "c", "d"]}
    assert [entry.get("error") for entry in report["candidates"]] == [None, None]
    assert reproduce_version(workspace, "1").verdict == "identical"
    # Of the holdout and of a scored partition, c is no level of the version: it is null there, and in a replay.
    score_partition(workspace, week(5))
    history = fit_history(workspace, past_partitions(workspace), processes=1, as_of={4})
    served = workspace.predictions.read(week(5)).to_pydict()
    expected = dict(zip(history.partitions[5].keys, history.models[4]["model@1"].predictions[5], strict=True))
    assert dict(zip(served["key"], served["champion_prediction"], strict=True)) == pytest.approx(expected, rel=1e-12)
    losses = {entry["candidate"]: entry["loss"] for entry in report["candidates"]}
    assert PastHoldout(history, history.loop, 4).usable[0] == pytest.approx(losses, rel=1e-12)


def test_fits_on_several_windows_are_jobs_of_their_own(tmp_path: Path) -> None:
    workspace = loop(tmp_path, [2.0] * 4, [1, "all"])
    for number in range(4):
        ingest(workspace, week(number))
    decide_and_record(workspace, week(3), trigger="person")
    request = assemble_training(workspace, week(3))
    fits = [fit_request_of(workspace, request, name, tmp_path / "model.skops") for name in request.candidates]
    names = [job_name(replace(fit, attempt="1")) for fit in fits]
    assert [name.rpartition("-")[0] for name in names] == ["mlops-toy-line-1", "mlops-toy-line-all"]
    assert len({name.rpartition("-")[2] for name in names}) == 2


def test_a_trial_of_one_partition_fits_each_candidate_once(tmp_path: Path) -> None:
    workspace = loop(tmp_path, [2.0] * 2, [4, 13, "all"], "two")
    ingest(workspace, week(1))
    trials = try_fit(workspace, week(1), lambda _: None)
    assert {name: trial.kept for name, trial in trials.items()} == {"line": True, "mean": True}
