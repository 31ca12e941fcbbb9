"""Training in memory: a pinned window, one version for one request, and a reason wherever there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_mlops.core.errors import DataError, GateError, NotReadyError, TrainingError
from airflow_mlops.core.ledger.record import verify_chain
from airflow_mlops.core.retrain.decide_retrain import decide_and_record, decide_by_hand, decision_to_emit
from airflow_mlops.core.training.assemble import TrainingRequest, assemble_training, check_labels
from airflow_mlops.core.training.fit_candidate import candidate_file
from airflow_mlops.core.training.window import pin_window, read_window
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.ledger.histories import History
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week


def publish_weeks(tmp_path: Path, count: int = 4, frames: dict[str, Any] | None = None, **changes: Any) -> Workspace:
    """Return the toy loop with so many partitions published."""
    rows = {week(number): toy_rows(number) for number in range(count)} | (frames or {})
    workspace = in_memory_workspace(toy_loop(**changes), rows, scratch=tmp_path)
    for number in range(count):
        ingest(workspace, week(number))
    return workspace


@pytest.mark.parametrize(
    ("window", "holdout", "fitted", "expected_holdout"),
    [(2, 1, [2, 3], [4]), (2, 2, [1, 2], [3, 4]), ("all", 1, [0, 1, 2, 3], [4]), (4, 1, [0, 1, 2, 3], [4])],
)
def test_the_window_is_the_newest_partitions_before_the_holdout(
    window: Any, holdout: int, fitted: list[int], expected_holdout: list[int]
) -> None:
    declared = toy_loop(train={"function": "a:b", "window": window, "holdout": holdout}).train
    pinned = pin_window(History().publish(*range(7)).state(), declared, week(4))
    assert [pin.partition for pin in pinned.fitted] == [week(number) for number in fitted]
    assert [pin.partition for pin in pinned.holdout] == [week(number) for number in expected_holdout]
    assert pinned.fitted[0].digest == f"d{fitted[0]}"


def test_a_window_waits_for_enough_partitions() -> None:
    with pytest.raises(NotReadyError, match=r"2 partitions are published by .*; the training needs 3"):
        pin_window(History().publish(0, 1, 2, 3).state(), toy_loop().train, week(1))


def test_rows_that_are_not_those_that_were_pinned_are_refused(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path)
    window = pin_window(workspace.state(), workspace.loop.train, week(3))
    changed = workspace.snapshots.read(week(1)).slice(1)
    forged = workspace.snapshots.write(week(1), changed)
    pins = [type(pin)(pin.partition, forged, pin.digest) for pin in window.fitted if pin.partition == week(1)]
    with pytest.raises(DataError, match=r"has the digest .*the ledger says"):
        read_window(workspace, pins)


def test_a_training_makes_a_version_whose_record_says_what_it_was_made_of(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path)
    assert train(workspace, week(3)) == "1"
    version = workspace.state().versions["1"]
    assert version.partition == week(3)
    assert version.details.metrics["mae"] < 1.2
    assert [pin.partition for pin in version.details.window.fitted] == [week(1), week(2)]
    assert workspace.registry.aliases() == {"candidate": "1"}
    assert verify_chain(list(workspace.ledger.records())) == workspace.ledger.head().sequence


def test_the_same_request_again_is_superseded_and_makes_no_second_version(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path)
    train(workspace, week(3))
    History(workspace.ledger).add("rollout_started", 3, version="1")
    History(workspace.ledger).add("promoted", 3, version="1")
    with pytest.raises(NotReadyError, match="nothing new: version 1 was made from the same data, code and seed"):
        train(workspace, week(3))
    state = workspace.state()
    assert (list(state.versions), state.open_decision) == (["1"], None)


def test_a_request_survives_json_and_its_operation_is_of_its_content(tmp_path: Path) -> None:
    first, other = (publish_weeks(tmp_path / name) for name in ("a", "b"))
    requests = []
    for workspace in (first, other):
        decide_and_record(workspace, week(3), trigger="nightly")
        requests.append(assemble_training(workspace, week(3)))
    assert requests[0] == requests[1]
    assert TrainingRequest.from_dict(requests[0].to_dict()) == requests[0]


def test_no_training_without_a_decision(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path)
    with pytest.raises(NotReadyError, match="no decision to retrain is open"):
        assemble_training(workspace, week(3))
    decide_and_record(workspace, week(3), trigger="nightly")
    with pytest.raises(NotReadyError, match="no decision to retrain is open as of"):
        assemble_training(workspace, week(2))


def test_a_decision_is_emitted_until_a_training_has_picked_it_up(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path)
    assert decision_to_emit(workspace, week(3)) is None
    decision = decide_and_record(workspace, week(3), trigger="nightly")
    for _ in range(2):
        assert decision_to_emit(workspace, week(3)) == decision
    assemble_training(workspace, week(3))
    assert decision_to_emit(workspace, week(3)) is None


def test_deciding_again_for_one_partition_is_the_first_decision(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path)
    first = decide_and_record(workspace, week(3), trigger="nightly")
    assert decide_and_record(workspace, week(3), trigger="nightly") == first
    with pytest.raises(NotReadyError, match="no partition is published by"):
        decide_and_record(workspace, "2000-01-02T00:00:00", trigger="nightly")


def with_labels(value: Any) -> dict[str, pd.DataFrame]:
    """Return the rows of weeks whose labels are all one value."""
    return {week(number): toy_rows(number).assign(y=value) for number in range(3)}


@pytest.mark.parametrize(
    ("value", "message"),
    [(3.0, "all 240 labels 'y' of the training window are of one value: 3.0"), (float("nan"), "has a label")],
)
def test_labels_that_teach_nothing_end_the_decision_with_a_reason(tmp_path: Path, value: Any, message: str) -> None:
    workspace = publish_weeks(tmp_path, 3, with_labels(value))
    decide_and_record(workspace, week(2), trigger="nightly")
    with pytest.raises(TrainingError, match=message):
        assemble_training(workspace, week(2))
    last = list(workspace.ledger.records())[-1]
    assert (last.kind, workspace.state().open_decision) == ("training_failed", None)
    assert message in last.details.reason


@pytest.mark.parametrize(
    ("labels", "message"),
    [([], "no row"), ([1, 1], "are of one class: 1"), ([0, 2], "must be 0 or 1"), ([0.5, 0, 1], "must be 0 or 1")],
)
def test_classes_must_be_two_named_0_and_1(labels: list[float], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        check_labels(pd.Series(labels, name="y", dtype="float64"), classifies=True)
    check_labels(pd.Series([0, 1], name="y"), classifies=True)


def test_a_candidate_that_does_not_pass_is_refused_with_its_numbers_and_the_champion_stays(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, gates=[{"metric": "mae", "at_most": 0.01}])
    with pytest.raises(GateError, match=r"candidate 'line' does not pass: mae at most 0.01: 0\.\d+ on 120 rows"):
        train(workspace, week(3))
    state = workspace.state()
    assert list(workspace.ledger.records())[-1].kind == "candidate_refused"
    assert (state.open_decision, list(state.versions), workspace.registry.aliases()) == (None, [], {})


def test_a_gate_by_a_column_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, gates=[{"metric": "mae", "at_most": 9, "slices": ["colour"]}])
    with pytest.raises(GateError, match="slices by 'colour'; the data has no such column"):
        train(workspace, week(3))


def test_a_model_file_changed_between_fit_and_evaluation_is_never_registered(tmp_path: Path) -> None:
    from airflow_mlops.core.errors import RegistryError
    from airflow_mlops.core.evaluation.evaluate_candidates import evaluate_candidates
    from airflow_mlops.core.training.fit_candidate import fit_candidate

    workspace = publish_weeks(tmp_path)
    decide_and_record(workspace, week(3), trigger="nightly")
    request = assemble_training(workspace, week(3))
    fits = [fit_candidate(workspace, request, "line")]
    path = candidate_file(workspace, request.operation, "line")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(RegistryError, match="was changed"):
        evaluate_candidates(workspace, request, fits)
    assert not workspace.state().versions


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("breaking", "candidate 'breaking' raised ZeroDivisionError in fit: 240 rows are too many"),
        ("strange", "types that are not trusted for loading: .*Strange"),
    ],
)
def test_a_candidate_that_cannot_be_fitted_or_kept_ends_the_decision_with_the_reason(
    tmp_path: Path, function: str, message: str
) -> None:
    workspace = publish_weeks(tmp_path, train={"function": f"tests.unit.core.toy_loop:{function}", "window": 2})
    with pytest.raises(TrainingError, match=message):
        train(workspace, week(3))
    state = workspace.state()
    assert list(workspace.ledger.records())[-1].kind == "training_failed"
    assert (state.open_decision, state.in_flight, list(state.versions)) == (None, None, [])


def test_a_person_who_starts_a_training_by_hand_makes_the_decision_by_the_same_policy(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path, 2)
    with pytest.raises(NotReadyError, match="the first training needs 3"):
        decide_by_hand(workspace, week(1))
    workspace.source.frames[week(2)] = toy_rows(2)  # type: ignore[attr-defined]
    ingest(workspace, week(2))
    first_decision = decide_by_hand(workspace, week(2))
    request = assemble_training(workspace, week(2))
    decision = list(workspace.state().retrains.values())[-1]
    assert (decision.details.cause, decision.sequence) == ("person", request.decision)
    assert decide_by_hand(workspace, week(2)) == first_decision
    assert assemble_training(workspace, week(2)) == request


def test_a_window_that_cannot_be_read_ends_the_decision(tmp_path: Path) -> None:
    workspace = publish_weeks(tmp_path)
    decide_and_record(workspace, week(3), trigger="nightly")
    workspace.snapshots._versions.clear()  # type: ignore[attr-defined]
    with pytest.raises(DataError):
        assemble_training(workspace, week(3))
    assert workspace.state().open_decision is None
