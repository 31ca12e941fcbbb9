"""Rolling back by hand: in one step, to an earlier champion, without the registry if it is down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_mlops.core.errors import NotReadyError, RegistryError, RolledBackError, RolloutError
from airflow_mlops.core.ledger.record import Draft, Record
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout import run_analysis
from airflow_mlops.core.rollout.approvals import record_approval, record_rejection, version_to_approve
from airflow_mlops.core.rollout.manual_rollback import roll_back_now, unquarantine_version
from airflow_mlops.core.rollout.roll_out import run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.rollout.verdict import StageVerdict
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import InMemoryRegistry, in_memory_workspace
from tests.unit.core.ledger.histories import draft_of
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows, train, week

LIVE = {"stages": [{"shadow": 100}, {"live": 100}], "margin": 10.0, "min_rows": 20}


def three_champions(tmp_path: Path) -> Workspace:
    """Return a loop in which versions 1, 2 and 3 became the champion, one a week from week 2 on."""
    workspace = in_memory_workspace(
        toy_loop(rollout=LIVE, retrain={"cooldown": 0, "confidence": "none"}),
        {week(number): toy_rows(number) for number in range(8)},
        scratch=tmp_path,
    )
    for number in range(5):
        ingest(workspace, week(number))
        if number >= 2:
            if workspace.state().champion is not None:
                score_partition(workspace, week(number))
            train(workspace, week(number))
            roll_out(workspace, week(number))
    return workspace


def roll_out(workspace: Workspace, key: str) -> None:
    """Take the candidate through its stages as of a partition."""
    version = start_rollout(workspace, key)
    for index in range(len(workspace.loop.rollout.stages)):
        run_rollout_step(workspace, version, index, key)


def champion_of(state: LoopState) -> str:
    """Return the number of the champion."""
    assert state.champion is not None
    return state.champion.number


def test_a_rollback_brings_the_champion_before_back_and_quarantines_the_one_that_goes(tmp_path: Path) -> None:
    workspace = three_champions(tmp_path)
    done = roll_back_now(workspace, reason="complaints")
    assert (done.version, done.champion, done.notes) == ("3", "2", ())
    state = workspace.state()
    assert champion_of(state) == "2"
    assert dict(state.quarantined.items()) == {"3": "complaints"}
    assert workspace.registry.aliases() == {"champion": "2"}
    ingest(workspace, week(5))
    assert score_partition(workspace, week(5)).champion == "2"


def test_rolling_back_again_goes_one_further_and_never_in_a_circle(tmp_path: Path) -> None:
    workspace = three_champions(tmp_path)
    assert [roll_back_now(workspace, reason="bad").champion for _ in range(2)] == ["2", "1"]
    with pytest.raises(RolloutError, match=r"no other version to go back to from 1; champions before it: none"):
        roll_back_now(workspace, reason="bad")
    assert champion_of(workspace.state()) == "1"


def test_a_version_in_quarantine_serves_again_only_after_a_person_lifted_it(tmp_path: Path) -> None:
    workspace = three_champions(tmp_path)
    roll_back_now(workspace, reason="bad")
    with pytest.raises(RolloutError, match=r"version 3 is in quarantine: bad; .* airflow-mlops unquarantine toy 3"):
        roll_back_now(workspace, reason="back", to="3")
    unquarantine_version(workspace, "3", reason="the label was wrong, not the model")
    assert roll_back_now(workspace, reason="back", to="3").champion == "3"
    assert dict(workspace.state().quarantined.items()) == {"2": "back"}


def test_a_rollback_names_what_it_cannot_go_to(tmp_path: Path) -> None:
    workspace = three_champions(tmp_path)
    for to, words in (("3", "is the champion already"), ("9", "there is no version 9; versions: 1, 2, 3")):
        with pytest.raises(RolloutError, match=words):
            roll_back_now(workspace, reason="bad", to=to)
    assert roll_back_now(workspace, reason="bad", to="1").champion == "1"
    with pytest.raises(RolloutError, match="version 2 is not in quarantine; in quarantine: 3"):
        unquarantine_version(workspace, "2", reason="why not")


def test_while_a_rollout_is_under_way_its_challenger_is_taken_back_and_the_champion_stays(tmp_path: Path) -> None:
    workspace = three_champions(tmp_path)
    ingest(workspace, week(5))
    score_partition(workspace, week(5))
    train(workspace, week(5))
    start_rollout(workspace, week(5))
    with pytest.raises(RolloutError, match="version 4 is being rolled out; roll that back first"):
        roll_back_now(workspace, reason="bad", to="1")
    done = roll_back_now(workspace, reason="bad")
    assert (done.version, done.champion) == ("4", "3")
    assert workspace.state().rollout is None


def test_a_rollback_needs_no_registry_and_says_what_follows_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = three_champions(tmp_path)

    class DownError(RegistryError):
        retryable = True

    def down(*_: object) -> None:
        raise DownError("the server does not answer")

    monkeypatch.setattr(InMemoryRegistry, "set_alias", down)
    done = roll_back_now(workspace, reason="bad")
    assert champion_of(workspace.state()) == "2"
    assert done.notes == ("the aliases follow with the next reconcile: the server does not answer",)


def test_a_version_whose_file_was_changed_is_no_place_to_go_back_to(tmp_path: Path) -> None:
    workspace = three_champions(tmp_path)
    registry = workspace.registry
    assert isinstance(registry, InMemoryRegistry)
    version = workspace.state().versions["2"]
    for file in (tmp_path / "models").rglob("*"):
        if file.is_file():
            file.unlink()
    registry.versions[1].content = b"something else"
    with pytest.raises(RolloutError, match="version 2 cannot serve"):
        roll_back_now(workspace, reason="bad")
    assert champion_of(workspace.state()) == "3"
    assert version.number == "2"


def test_a_loop_without_a_champion_has_nothing_to_roll_back(tmp_path: Path) -> None:
    workspace = in_memory_workspace(toy_loop(), {}, scratch=tmp_path)
    with pytest.raises(RolloutError, match="there is no champion yet"):
        roll_back_now(workspace, reason="bad")


def before_the_next_record(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Run an action between the read and the write of the next writer."""
    ledger = workspace.ledger
    honest = ledger.append

    def late(draft: Draft, *, read: int) -> Record:
        monkeypatch.setattr(ledger, "append", honest)
        act()
        return honest(draft, read=read)

    monkeypatch.setattr(ledger, "append", late)


def note(workspace: Workspace) -> None:
    """Append an unrelated record."""
    workspace.record_fact(draft_of(workspace, "approval_void", "note", week(4), version="1", by="x", reason="y"))


def test_two_who_roll_back_at_once_take_one_version_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = three_champions(tmp_path)

    def somebody_else() -> None:
        note(workspace)
        roll_back_now(workspace, reason="complaints")

    before_the_next_record(workspace, monkeypatch, somebody_else)
    done = roll_back_now(workspace, reason="bad")
    assert (done.version, done.champion) == ("3", "2")
    assert champion_of(workspace.state()) == "2"
    assert dict(workspace.state().quarantined.items()) == {"3": "complaints"}


@pytest.mark.parametrize("between", [note, lambda _: None], ids=["another_record", "none_between"])
def test_who_asked_for_another_champion_than_the_one_who_came_first_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: Callable[[Workspace], None]
) -> None:
    workspace = three_champions(tmp_path)

    def somebody_else() -> None:
        between(workspace)
        roll_back_now(workspace, reason="complaints")

    before_the_next_record(workspace, monkeypatch, somebody_else)
    with pytest.raises(RolloutError, match="version 3 was taken back meanwhile, and version 2 serves, not version 1"):
        roll_back_now(workspace, reason="bad", to="1")
    assert champion_of(workspace.state()) == "2"


def test_a_rollback_of_the_champion_never_hits_a_challenger_that_came_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = three_champions(tmp_path)
    ingest(workspace, week(5))
    score_partition(workspace, week(5))
    train(workspace, week(5))
    before_the_next_record(workspace, monkeypatch, lambda: start_rollout(workspace, week(5)))
    with pytest.raises(RolloutError, match="version 3 was to be taken back, and meanwhile version 4 would be"):
        roll_back_now(workspace, reason="bad")
    assert not workspace.state().quarantined


def test_lifting_goes_on_when_another_record_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = three_champions(tmp_path)
    roll_back_now(workspace, reason="bad")
    before_the_next_record(workspace, monkeypatch, lambda: note(workspace))
    unquarantine_version(workspace, "3", reason="why not")
    assert not workspace.state().quarantined


def test_the_champion_before_is_the_one_that_was_replaced_whatever_was_lifted_since(tmp_path: Path) -> None:
    workspace = three_champions(tmp_path)
    roll_back_now(workspace, reason="bad")
    unquarantine_version(workspace, "3", reason="the label was wrong")
    ingest(workspace, week(5))
    score_partition(workspace, week(5))
    train(workspace, week(5))
    roll_out(workspace, week(5))
    assert champion_of(workspace.state()) == "4"
    assert roll_back_now(workspace, reason="bad").champion == "2"


def taken_back_challenger(tmp_path: Path, **rollout: object) -> Workspace:
    """Return a loop with champions 1 to 3 whose version 4 was rejected before it was rolled out."""
    workspace = three_champions(tmp_path)
    ingest(workspace, week(5))
    score_partition(workspace, week(5))
    train(workspace, week(5))
    asking = workspace.loop.model_copy(update={"rollout": workspace.loop.rollout.model_copy(update=rollout)})
    return dataclasses.replace(workspace, loop=asking)


def test_a_rejected_version_that_was_lifted_waits_again_and_for_an_approval_of_its_own(tmp_path: Path) -> None:
    workspace = taken_back_challenger(tmp_path, approval="human")
    version = version_to_approve(workspace, week(5))
    record_approval(workspace, version, ("ann",), started_by=None)
    record_rejection(workspace, version, "ben", "by mistake")
    unquarantine_version(workspace, "4", reason="ben meant another one")
    assert not workspace.state().approved
    with pytest.raises(NotReadyError, match="version 4 waits for a person's approval"):
        start_rollout(workspace, week(5))
    record_approval(workspace, version_to_approve(workspace, week(5)), ("ann",), started_by=None)
    roll_out(workspace, week(5))
    assert champion_of(workspace.state()) == "4"


def test_a_challenger_that_was_lifted_can_be_taken_back_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = taken_back_challenger(tmp_path)
    monkeypatch.setattr(run_analysis, "analyse_stage", lambda *_: StageVerdict("fail", "as written", 1))
    for _ in range(2):
        with pytest.raises(RolledBackError):
            roll_out(workspace, week(5))
        assert workspace.state().rollout is None
        assert "4" in workspace.state().quarantined
        unquarantine_version(workspace, "4", reason="once more")


def test_a_version_that_never_served_is_lifted_only_where_it_can_wait_for_its_rollout(tmp_path: Path) -> None:
    workspace = taken_back_challenger(tmp_path)
    record_rejection(workspace, workspace.state().versions["4"], "ben", "")
    decide_and_record(workspace, week(5), trigger="person")
    with pytest.raises(RolloutError, match=r"version 4 was never the champion .* the retrain of record \d+ is under"):
        unquarantine_version(workspace, "4", reason="why not")
    assert "4" in workspace.state().quarantined
