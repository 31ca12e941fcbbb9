"""An approval counts only from a person who had no hand in making the version."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from airflow_mlops.core.errors import NotReadyError, PolicyError
from airflow_mlops.core.governance.reproduce_version import reproduce_version
from airflow_mlops.core.rollout.approvals import (
    people_behind,
    record_approval,
    record_question,
    record_rejection,
    version_to_approve,
)
from airflow_mlops.core.rollout.roll_out import start_rollout
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week

ASKED = {"approval": "human", "stages": [{"live": 100}]}


def waiting_candidate(tmp_path: Path, actor: str) -> Workspace:
    """Return a loop with a candidate that ``actor`` made and a person must approve."""
    frames = {week(number): toy_rows(number) for number in range(4)}
    workspace = in_memory_workspace(toy_loop(rollout=ASKED), frames, scratch=tmp_path, actor=actor)
    for number in range(3):
        ingest(workspace, week(number))
    train(workspace, week(2))
    return workspace


def test_no_rollout_starts_before_somebody_approved(tmp_path: Path) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/fit/scheduled")
    with pytest.raises(NotReadyError, match="version 1 waits for a person's approval"):
        start_rollout(workspace, week(2))
    version = version_to_approve(workspace, week(2))
    record_approval(workspace, version, ("ben", "17"), started_by=None)
    assert start_rollout(workspace, week(2)) == "1"
    approved = workspace.state().approved["1"]
    assert (approved.details.by, approved.details.made_by) == ("ben", ())


@pytest.mark.parametrize(
    "actor", ["person:ann", "toy_train/decide/manual__1 for person:ann"], ids=["command_line", "airflow"]
)
def test_who_started_the_run_cannot_approve_its_version_and_the_attempt_is_on_record(
    tmp_path: Path, actor: str
) -> None:
    workspace = waiting_candidate(tmp_path, actor)
    version = version_to_approve(workspace, week(2))
    assert people_behind(workspace.ledger, version) == ["ann"]
    with pytest.raises(PolicyError, match="ann started a run that made version 1; somebody else must approve it"):
        record_approval(workspace, version, ("ann",), started_by=None)
    assert not workspace.state().approved
    assert [record.details.by for record in list(workspace.ledger.records()) if record.kind == "approval_void"] == [
        "ann"
    ]
    record_approval(workspace, version, ("ben",), started_by=None)
    assert start_rollout(workspace, week(2)) == "1"


def test_who_started_the_run_that_asks_cannot_answer_it(tmp_path: Path) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/fit/scheduled")
    version = version_to_approve(workspace, week(2))
    with pytest.raises(PolicyError, match="ben started a run"):
        record_approval(workspace, version, ("17", "ben"), started_by="ben")


def test_a_rejected_version_is_quarantined_and_no_longer_waits(tmp_path: Path) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/fit/scheduled")
    record_rejection(workspace, version_to_approve(workspace, week(2)), "ben", "the carriers changed")
    state = workspace.state()
    assert dict(state.quarantined.items()) == {"1": "rejected by ben: the carriers changed"}
    assert state.in_flight is None
    with pytest.raises(NotReadyError, match=r"no version from up to .* waits for an approval"):
        version_to_approve(workspace, week(3))
    with pytest.raises(NotReadyError, match="there is no candidate"):
        start_rollout(workspace, week(3))


def test_nothing_waits_as_of_a_partition_before_the_candidate(tmp_path: Path) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/fit/scheduled")
    with pytest.raises(NotReadyError):
        version_to_approve(workspace, week(1))
    assert dataclasses.asdict(version_to_approve(workspace, week(2)))["number"] == "1"


def test_who_only_made_the_version_again_to_look_at_it_may_approve_it(tmp_path: Path) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/fit/scheduled")
    reviewer = dataclasses.replace(workspace, actor="person:ben")
    reproduce_version(reviewer, "1")
    version = version_to_approve(workspace, week(2))
    assert people_behind(workspace.ledger, version) == []
    record_approval(workspace, version, ("ben",), started_by=None)
    assert start_rollout(workspace, week(2)) == "1"


def test_a_person_is_the_same_however_their_name_is_written(tmp_path: Path) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/decide/manual__1 for person:Ann Smith")
    version = version_to_approve(workspace, week(2))
    with pytest.raises(PolicyError, match="Ann Smith started a run"):
        record_approval(workspace, version, ("ann smith ", "17"), started_by=None)


def test_nobody_approves_nothing(tmp_path: Path) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/fit/scheduled")
    version = version_to_approve(workspace, week(2))
    with pytest.raises(PolicyError, match="nobody answered"):
        record_approval(workspace, version, (), started_by=None)
    assert not workspace.state().approved


def test_an_answer_about_a_version_that_no_longer_waits_counts_for_no_other(tmp_path: Path) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/fit/scheduled")
    assert version_to_approve(workspace, week(2), expected="1").number == "1"
    with pytest.raises(NotReadyError, match="version 7 was asked about, and version 1 waits now"):
        version_to_approve(workspace, week(2), expected="7")


def test_two_answers_on_the_same_record_are_two_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/fit/scheduled")
    version, read = version_to_approve(workspace, week(2)), workspace.state()
    real = Workspace.state
    for name in ("ann", "ben"):
        # Both have read the same record before either of them wrote.
        answers = iter([read])
        monkeypatch.setattr(Workspace, "state", lambda self, known=answers, **how: next(known, None) or real(self))
        with pytest.raises(PolicyError):
            record_approval(workspace, version, (name,), started_by=name)
    assert [entry.details.by for entry in list(workspace.ledger.records()) if entry.kind == "approval_void"] == [
        "ann",
        "ben",
    ]


def test_a_question_is_on_record_once_for_a_version_and_once_for_each_step(tmp_path: Path) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/fit/scheduled")
    version = version_to_approve(workspace, week(2))
    for step in ("", "canary_10", "", "canary_10"):
        record_question(workspace, version, "May it?", step=step)
    wanted = [record for record in workspace.ledger.records() if record.kind == "approval_wanted"]
    assert [(record.details.version, record.details.name) for record in wanted] == [("1", ""), ("1", "canary_10")]
    assert {record.partition for record in wanted} == {week(2)}
    assert workspace.state().candidate == version


def test_an_answer_that_is_recorded_again_is_one_answer(tmp_path: Path) -> None:
    workspace = waiting_candidate(tmp_path, "toy_train/fit/scheduled")
    version = version_to_approve(workspace, week(2))
    for _ in range(2):
        record_approval(workspace, version, ("ben",), started_by=None)
    for _ in range(2):
        record_rejection(workspace, version, "ben", "I was wrong")
    kinds = [record.kind for record in workspace.ledger.records()]
    assert (kinds.count("approved"), kinds.count("rejected")) == (1, 1)
    assert list(workspace.state().quarantined) == ["1"]
