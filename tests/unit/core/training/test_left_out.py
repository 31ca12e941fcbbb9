"""One candidate that cannot be used does not close a training, and who looks at the training sees why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from airflow_mlops.core.errors import DataError, GateError, TrainingError
from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
from airflow_mlops.core.governance.model_card import model_card
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.training.assemble import TrainingRequest, assemble_training
from airflow_mlops.core.training.fit_candidate import fit_candidate
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week

LEFT_OUT = {
    "breaking": "candidate 'breaking' raised ZeroDivisionError in fit: 240 rows are too many",
    "deaf": "candidate 'deaf' gives no usable predictions",
    "groups": "KMeans is a clusterer, and the declared metrics judge numbers",
    "late": "the model holds types that are not trusted for loading",
    "strange": "types that are not trusted for loading: tests.unit.core.toy_loop.Strange",
}


def published(
    tmp_path: Path, function: str, *, frames: dict[str, pd.DataFrame] | None = None, **loop: Any
) -> Workspace:
    """Return a loop in memory whose candidates a function of the toy loop gives, with four weeks published."""
    declared = {"function": f"tests.unit.core.toy_loop:{function}", "window": 2}
    frames = frames or {week(number): toy_rows(number) for number in range(4)}
    workspace = in_memory_workspace(toy_loop(train=declared, **loop), frames, scratch=tmp_path / "s", root=tmp_path)
    for key in frames:
        ingest(workspace, key)
    return workspace


def reasons_match(reasons: dict[str, str] | None) -> bool:
    """Return whether there is the expected reason for each candidate that is left out."""
    assert reasons is not None
    assert set(reasons) == set(LEFT_OUT)
    return all(words in reasons[name] for name, words in LEFT_OUT.items())


def test_the_others_go_on_and_record_report_and_card_say_who_was_left_out(tmp_path: Path) -> None:
    workspace = published(tmp_path, "several")
    assert train(workspace, week(3)) == "1"
    details = workspace.state().versions["1"].details
    assert details.candidate == "line"
    assert reasons_match(details.left_out)
    report = workspace.evidence.get(str(details.report))
    assert reasons_match({entry["candidate"]: entry["error"] for entry in report["candidates"] if "error" in entry})
    assert report["best"] == "line"
    card = json.dumps(model_card(workspace, "1").to_dict())
    assert "Left out of this training: candidate groups: KMeans is a clusterer" in card


def test_where_the_gates_refuse_the_rest_the_record_says_who_was_left_out_too(tmp_path: Path) -> None:
    workspace = published(tmp_path, "several", gates=[{"metric": "mae", "at_most": 0.01}])
    with pytest.raises(GateError, match="candidate 'line' does not pass"):
        train(workspace, week(3))
    record = list(workspace.ledger.records())[-1]
    assert record.kind == "candidate_refused"
    assert reasons_match(record.details.left_out)


def test_where_none_can_be_used_the_training_fails_before_any_fit_with_all_reasons(tmp_path: Path) -> None:
    workspace = published(tmp_path, "none_usable")
    with pytest.raises(TrainingError, match=r"'groups' cannot be used: KMeans.*'strange' cannot be used: it holds"):
        train(workspace, week(3))
    record = list(workspace.ledger.records())[-1]
    assert (record.kind, workspace.state().open_decision) == ("training_failed", None)
    assert "'groups'" in record.details.reason
    assert "Strange" in record.details.reason
    assert not list(workspace.scratch.rglob("*.skops"))


def test_where_no_fit_gives_a_model_the_training_fails_with_all_reasons(tmp_path: Path) -> None:
    workspace = published(tmp_path, "none_fitted")
    with pytest.raises(TrainingError, match="'breaking' raised ZeroDivisionError"):
        train(workspace, week(3))
    state, record = workspace.state(), list(workspace.ledger.records())[-1]
    assert (record.kind, state.open_decision, list(state.versions)) == ("training_failed", None, [])
    assert all(f"candidate {name!r}" in record.details.reason for name in ("breaking", "broken", "groups"))


def test_rows_that_cannot_be_read_are_no_fault_of_a_candidate(tmp_path: Path) -> None:
    workspace = published(tmp_path, "several")
    decide_and_record(workspace, week(3), trigger="nightly")
    request = assemble_training(workspace, week(3))
    workspace.snapshots._versions.clear()  # type: ignore[attr-defined]
    with pytest.raises(DataError):
        fit_candidate(workspace, request, "line")
    assert workspace.state().open_decision is None


def test_reasons_are_no_part_of_what_a_model_depends_on(tmp_path: Path) -> None:
    workspace = published(tmp_path, "several")
    decide_and_record(workspace, week(3), trigger="nightly")
    request = assemble_training(workspace, week(3))
    assert set(request.refused or {}) == {"groups", "strange"}
    assert TrainingRequest.from_dict(request.to_dict()) == request
    assert replace(request, refused={"groups": "worded anew"}).operation_fields() == request.operation_fields()


ACCURACY = [{"metric": "accuracy", "at_least": 0.6}, {"metric": "f1", "at_least": 0.5}]


def of_classes() -> dict[str, pd.DataFrame]:
    """Return weeks whose label is whether it was above 0."""
    frames = {week(number): toy_rows(number) for number in range(4)}
    return {key: rows.assign(y=np.where(rows["y"] > 0, 1, 0)) for key, rows in frames.items()}


def test_a_classifier_without_probabilities_is_trained_judged_and_scored_by_its_decisions(tmp_path: Path) -> None:
    stages = {"stages": [{"shadow": 100}, {"live": 100}]}
    workspace = published(tmp_path, "deciding", frames=of_classes(), gates=ACCURACY, rollout=stages)
    decide_and_record(workspace, week(2), trigger="person")
    request = assemble_training(workspace, week(2))
    evaluated = evaluate_candidates(
        workspace, request, [fit_candidate(workspace, request, n) for n in ("svc", "logistic")]
    )
    entries = {entry["candidate"]: entry for entry in workspace.evidence.get(evaluated["report"])["candidates"]}
    assert {"log_loss", "roc_auc", "brier", "pr_auc", "calibration_error"} & set(entries["svc"]["metrics"]) == set()
    assert {"accuracy", "precision", "recall", "f1"} <= set(entries["svc"]["metrics"])
    assert {"log_loss", "accuracy"} <= set(entries["logistic"]["metrics"])


def test_where_a_metric_needs_probabilities_the_one_without_is_left_out_by_name(tmp_path: Path) -> None:
    gates = [{"metric": "roc_auc", "at_least": 0.5}]
    workspace = published(tmp_path, "deciding", frames=of_classes(), gates=gates)
    assert train(workspace, week(3)) == "1"
    details = workspace.state().versions["1"].details
    assert details.candidate == "logistic"
    assert "LinearSVC gives decisions and no probabilities, which roc_auc and log_loss need" in details.left_out["svc"]


def only_decisions(seed: int) -> dict[str, Any]:
    """Return the classifier without probabilities alone."""
    from tests.unit.core.toy_loop import deciding

    return {"svc": deciding(seed)["svc"]}


def test_a_champion_without_probabilities_scores_its_decisions(tmp_path: Path) -> None:
    stages = {"stages": [{"shadow": 100}, {"live": 100}]}
    declared = {"function": f"{__name__}:only_decisions", "window": 2}
    frames = of_classes()
    loop = toy_loop(train=declared, gates=ACCURACY, rollout=stages)
    workspace = in_memory_workspace(loop, frames, scratch=tmp_path / "s", root=tmp_path)
    for key in frames:
        ingest(workspace, key)
    train(workspace, week(2))
    version = start_rollout(workspace, week(2))
    for stage in range(2):
        run_rollout_step(workspace, version, stage, week(2))
    score_partition(workspace, week(3))
    predictions = workspace.predictions.read(week(3)).to_pandas()["champion_prediction"]
    assert set(predictions) == {0.0, 1.0}
    right = (predictions.to_numpy() == frames[week(3)].sort_values("id")["y"].to_numpy()).mean()
    assert right > 0.5
