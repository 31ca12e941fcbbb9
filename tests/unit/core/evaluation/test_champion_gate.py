"""A candidate takes the champion's place on evidence: better with a stated confidence, or no worse than a margin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_mlops.core.declaration.evaluate import Gate
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.retrain import Retrain
from airflow_mlops.core.errors import DeclarationError, GateError
from airflow_mlops.core.evaluation.gate_report import GateReport
from airflow_mlops.core.evaluation.gates import Holdout, evaluate_gates
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import go_live, ingest, toy_loop, toy_rows, train, week

BETTER: dict[str, Any] = {"metric": "mae", "better_than": "champion", "confidence": 0.8}


def judge(gate: dict[str, Any], candidate: Any, champion: Any = None, label: Any = None) -> GateReport:
    """Return the report of one gate; the label is 0 unless given, so a prediction is its error."""
    predicted = np.asarray(candidate, float)
    truth = np.zeros(len(predicted)) if label is None else np.asarray(label, float)
    holdout = Holdout(truth, predicted, None if champion is None else np.asarray(champion, float), {})
    (report,) = evaluate_gates([Gate(**gate)], holdout)
    return report


def errors(seed: int, mean: float, rows: int = 200) -> Any:
    return np.abs(np.random.default_rng(seed).normal(mean, 1.0, rows))


def test_a_clear_lead_passes_and_a_tie_does_not() -> None:
    champion = errors(0, 2.0)
    assert judge(BETTER, champion - 0.1, champion).verdict == "pass"
    assert judge(BETTER, champion, champion).verdict == "fail"
    assert judge(BETTER, champion + 0.1, champion).verdict == "fail"


def test_a_lead_within_its_error_passes_by_value_and_not_with_confidence() -> None:
    champion = errors(0, 2.0)
    candidate = champion + np.random.default_rng(1).normal(-0.02, 1.0, 200)
    by_value = judge({"metric": "mae", "better_than": "champion"}, candidate, champion)
    assert (by_value.verdict, by_value.value is not None and by_value.value < 0) == ("pass", True)
    report = judge(BETTER, candidate, champion)
    assert report.verdict == "fail"
    assert report.reason.endswith("at worst with 80% confidence")
    assert report.gate == "mae better than the champion's, with 80% confidence"


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_a_candidate_that_is_no_better_passes_as_seldom_as_the_confidence_says(confidence: float) -> None:
    tries, rows = 600, 150
    passed = 0
    for seed in range(tries):
        random = np.random.default_rng(seed)
        pair = np.abs(random.normal(2.0, 1.0, (2, rows)))
        passed += judge({**BETTER, "confidence": confidence}, *pair).verdict == "pass"
    error = 3 * np.sqrt(confidence * (1 - confidence) / tries)
    assert passed / tries == pytest.approx(1 - confidence, abs=error)


@pytest.mark.parametrize(("allowed", "verdict"), [(0.05, "fail"), (0.5, "pass")])
def test_a_margin_holds_with_confidence_only_if_its_bound_does(allowed: float, verdict: str) -> None:
    champion = np.full(200, 2.0)
    candidate = champion + np.tile([1.05, -0.95], 100)  # 2.5 % worse, give or take 3.5 %
    gate = {"metric": "mae", "no_worse_than_champion_by": allowed}
    assert judge(gate, candidate, champion).verdict == "pass"
    assert judge({**gate, "confidence": 0.95}, candidate, champion).verdict == verdict


def test_a_metric_whose_larger_values_are_better_is_bounded_from_below() -> None:
    label = np.tile([0.0, 1.0], 100)
    half, most = np.where(np.arange(200) % 4 < 2, label, 1 - label), label.copy()
    most[:10] = 1 - most[:10]
    gate = {"metric": "accuracy", "better_than": "champion", "confidence": 0.9}
    assert judge(gate, most, half, label).verdict == "pass"
    assert judge(gate, half, most, label).verdict == "fail"


def test_one_row_has_no_interval_so_nothing_is_shown_with_confidence() -> None:
    report = judge(BETTER, [1.0], [2.0])
    assert report.verdict == "fail"
    assert "no interval is known with 80% confidence" in report.reason


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({"metric": "mae", "at_most": 1, "confidence": 0.9}, "confidence goes with"),
        ({"metric": "mae", "better_than": "dummy", "confidence": 0.9}, "confidence goes with"),
        ({"metric": "model_bytes", "no_worse_than_champion_by": 0.1, "confidence": 0.9}, "metrics of rows"),
        ({**BETTER, "confidence": 1.0}, "less than 1"),
        ({**BETTER, "confidence": 0.4}, "greater than or equal to 0.5"),
    ],
)
def test_a_confidence_that_means_nothing_is_refused(gate: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        toy_loop(gates=[gate])


def gates_of(loop: Loop, *, compared: bool = True) -> list[str]:
    return [str(gate.better_than or gate.no_worse_than_champion_by) for gate in loop.gates_in_force(compared=compared)]


def test_the_default_asks_for_a_better_candidate_unless_a_gate_compares_or_there_is_nothing_to_compare() -> None:
    plain, margin = toy_loop(), toy_loop(gates=[{"metric": "mae", "no_worse_than_champion_by": 0.1}])
    assert gates_of(plain) == ["None", "champion"]
    assert plain.gates_in_force(compared=True)[-1].confidence == 0.8
    assert gates_of(plain, compared=False) == ["None"]
    assert gates_of(margin) == ["0.1"]
    assert gates_of(toy_loop(retrain={"confidence": "none"})) == ["None"]


def two_trainings(tmp_path: Path, slopes: list[float], **retrain: Any) -> Workspace:
    """Return a loop whose champion is of the first three weeks, after a second training as of the last week."""
    frames = {week(number): toy_rows(number, slope=slope) for number, slope in enumerate(slopes)}
    loop = toy_loop(rollout={"stages": [{"live": 100}]}, retrain={"cooldown": 0, **retrain})
    workspace = in_memory_workspace(loop, frames, scratch=tmp_path)
    for number in range(3):
        ingest(workspace, week(number))
    go_live(workspace, week(2))
    for number in range(3, len(slopes)):
        ingest(workspace, week(number))
    return workspace


def test_a_retrain_that_lowers_nothing_is_refused_with_its_figures(tmp_path: Path) -> None:
    workspace = two_trainings(tmp_path, [2, 2, 2, 6, 2])  # a week that was like none of the others spoils the window
    with pytest.raises(GateError, match=r"mae better than the champion's, with 80% confidence: .* the same 120 rows"):
        train(workspace, week(4))
    champion = workspace.state().champion
    assert champion is not None
    assert champion.number == "1"


def test_a_retrain_that_helps_is_a_version_and_so_is_any_without_the_default(tmp_path: Path) -> None:
    assert train(two_trainings(tmp_path / "moved", [2, 2, 2, 4, 4, 4]), week(5)) == "2"
    assert train(two_trainings(tmp_path / "any", [2, 2, 2, 6, 2], confidence="none"), week(4)) == "2"


def test_a_regret_policy_has_a_pace_of_its_own_that_limits_do_not_set() -> None:
    by_regret, declared = Retrain(policy={"regret": 0.1}), Retrain(policy={"regret": 0.1}, cooldown=3, budget=5)
    assert (by_regret.cooldown, by_regret.budget) == (1, 26)
    assert (declared.cooldown, declared.budget) == (3, 5)
    assert (Retrain().cooldown, Retrain().budget) == (2, 13)
