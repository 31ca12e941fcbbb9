"""The first version has no champion to be compared with: one record promotes it, whichever step comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import NotReadyError, PolicyError, RolledBackError, RolloutError
from airflow_mlops.core.ledger.rollout_details import Promoted
from airflow_mlops.core.overview.sentences import describe_record
from airflow_mlops.core.ports.rollout_target import TargetError
from airflow_mlops.core.rollout.control_rollout import approve_stage, control_rollout, stage_to_approve
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.rollout.roll_out import enter_stage, roll_out_first, run_rollout_step, start_rollout
from airflow_mlops.core.rollout.run_analysis import run_analysis
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from airflow_mlops.testing.in_memory_registry import InMemoryRegistry, KeptVersion
from airflow_mlops.testing.in_memory_target import InMemoryTarget
from tests.unit.core.ledger.histories import History, draft_of, week
from tests.unit.core.toy_loop import toy_loop

STAGES: list[dict[str, Any]] = [{"shadow": 100}, {"canary": 10}, {"canary": 50}, {"live": 100}]
ASKED: list[dict[str, Any]] = [
    {"shadow": 100},
    {"canary": 10, "approval": "human"},
    {"canary": 50},
    {"live": 100, "approval": "human"},
]
REASON = "there is no champion to compare it with, so it went live without shadow_100, canary_10, canary_50"


def first_candidate(folder: Path, stages: Sequence[dict[str, Any]] = STAGES, **changes: Any) -> Workspace:
    """Return a loop whose version 1 is a candidate as of week 2, and which has no champion."""
    loop = toy_loop(rollout={"stages": list(stages), **changes.pop("rollout", {})}, **changes)
    workspace = in_memory_workspace(loop, {}, scratch=folder, actor="person:ann")
    assert isinstance(workspace.registry, InMemoryRegistry)
    workspace.registry.versions += [KeptVersion(f"op{number}", b"", None) for number in (1, 2)]  # type: ignore[arg-type]
    History(workspace.ledger).publish(0, 1, 2).register(2, "1")
    return workspace


def on_gateway(workspace: Workspace) -> tuple[Workspace, InMemoryTarget]:
    """Return the loop with a gateway in memory."""
    target = InMemoryTarget()
    return replace(workspace, ports=replace(workspace.ports, target=lambda _: target)), target


def rollout_kinds(workspace: Workspace) -> list[str]:
    """Return the kinds of the records since the version was registered."""
    kinds = [record.kind for record in workspace.ledger.records()]
    return kinds[kinds.index("candidate_registered") + 1 :]


def test_it_is_the_champion_by_one_record_that_says_why_and_enters_no_stage(tmp_path: Path) -> None:
    workspace = first_candidate(tmp_path)
    outcome = roll_out_first(workspace, week(2))
    assert outcome is not None
    assert (outcome.version, outcome.stage) == ("1", "live_100")
    assert outcome.reason == f"version 1 is the champion; before it none: {REASON}"
    assert rollout_kinds(workspace) == ["rollout_started", "promoted"]
    state = workspace.state()
    assert state.champion is not None
    assert (state.champion.number, state.promoted_at, state.rollout) == ("1", week(2), None)
    assert workspace.registry.aliases() == {"champion": "1"}
    (record,) = workspace.ledger.records(Promoted)
    assert record.details == Promoted(version="1", previous=None, reason=REASON)
    assert describe_record(record) == f"version 1 became the champion, before it none; {REASON}"


def test_a_later_version_has_no_such_reason_and_goes_through_its_stages(tmp_path: Path) -> None:
    workspace = first_candidate(tmp_path)
    roll_out_first(workspace, week(2))
    History(workspace.ledger).publish(3).register(3, "2")
    assert roll_out_first(workspace, week(3)) is None
    assert rollout_kinds(workspace)[-1] == "candidate_registered"
    with pytest.raises(NotReadyError, match="holds at shadow_100"):
        run_rollout_step(workspace, start_rollout(workspace, week(3)), 0, week(3))
    assert [record.details.kind for record in workspace.ledger.records() if record.kind == "stage_entered"] == [
        "shadow"
    ]
    assert "reason" not in Promoted(version="2", previous="1").stored()


@pytest.mark.parametrize("index", range(4))
def test_whichever_step_comes_first_promotes_it_and_the_others_say_so(tmp_path: Path, index: int) -> None:
    workspace = first_candidate(tmp_path)
    version = start_rollout(workspace, week(2))
    assert run_rollout_step(workspace, version, index, week(2)).version == "1"
    for other in range(4):
        assert run_rollout_step(workspace, version, other, week(2)).reason == "promoted before"
    assert rollout_kinds(workspace) == ["rollout_started", "promoted"]


@pytest.mark.parametrize(
    "point",
    [
        "ledger.rollout_started.after",
        "ledger.promoted.before",
        "ledger.promoted.after",
        "registry.set_alias.champion.after",
    ],
)
def test_one_that_died_anywhere_is_finished_by_the_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    workspace = first_candidate(tmp_path)
    monkeypatch.setenv("AIRFLOW_MLOPS_FAULT", f"{point}:raise")
    with pytest.raises(RuntimeError, match=point):
        roll_out_first(workspace, week(2))
    monkeypatch.delenv("AIRFLOW_MLOPS_FAULT")
    for _ in range(2):
        outcome = roll_out_first(workspace, week(2))
        assert outcome is not None
        assert outcome.version == "1"
    assert rollout_kinds(workspace) == ["rollout_started", "promoted"]
    assert workspace.registry.aliases() == {"champion": "1"}


def test_a_run_of_a_later_partition_does_not_end_it_again(tmp_path: Path) -> None:
    workspace = first_candidate(tmp_path)
    roll_out_first(workspace, week(2))
    History(workspace.ledger).publish(3)
    assert roll_out_first(workspace, week(3)) is None


def test_without_a_candidate_nothing_is_started(tmp_path: Path) -> None:
    workspace = first_candidate(tmp_path)
    with pytest.raises(NotReadyError, match="there is no candidate from up to"):
        roll_out_first(workspace, week(1))
    assert rollout_kinds(workspace) == []


def test_every_person_whom_a_stage_asks_is_asked_first_in_turn(tmp_path: Path) -> None:
    workspace = first_candidate(tmp_path, ASKED)
    assert roll_out_first(workspace, week(2)) is None
    passed = run_rollout_step(workspace, "1", 0, week(2))
    assert passed.reason == "passed over: there is no champion to compare it with"
    for index in (1, 2, 3):
        with pytest.raises(NotReadyError, match="canary_10 waits for a person to let it begin"):
            run_rollout_step(workspace, "1", index, week(2))
    with pytest.raises(NotReadyError, match="has not come to live_100 yet"):
        stage_to_approve(workspace, 3, week(2))
    assert stage_to_approve(workspace, 1, week(2)).version.number == "1"
    approve_stage(workspace, 1, ("ben",))
    for index in (1, 2):
        assert "passed over" in run_rollout_step(workspace, "1", index, week(2)).reason
    with pytest.raises(NotReadyError, match="live_100 waits for a person to let it begin"):
        run_rollout_step(workspace, "1", 3, week(2))
    assert stage_to_approve(workspace, 3, week(2)).version.number == "1"
    approve_stage(workspace, 3, ("ben",))
    assert run_rollout_step(workspace, "1", 3, week(2)).reason.endswith(REASON)
    assert rollout_kinds(workspace) == ["rollout_started", "stage_approved", "stage_approved", "promoted"]


def test_a_person_who_pauses_it_holds_it(tmp_path: Path) -> None:
    workspace = first_candidate(tmp_path)
    start_rollout(workspace, week(2))
    control_rollout(workspace, "pause", reason="stocktaking")
    for act in (enter_stage, run_analysis, run_rollout_step):
        with pytest.raises(NotReadyError, match="paused: stocktaking"):
            act(workspace, "1", 0, week(2))
    assert roll_out_first(workspace, week(2)) is None
    control_rollout(workspace, "resume", reason="it is over")
    assert roll_out_first(workspace, week(2)) is not None


def test_an_approval_of_the_version_is_asked_before_anything(tmp_path: Path) -> None:
    workspace = first_candidate(tmp_path, rollout={"approval": "human"})
    with pytest.raises(NotReadyError, match="version 1 waits for a person's approval"):
        roll_out_first(workspace, week(2))
    assert rollout_kinds(workspace) == []


def test_the_policy_of_its_tier_holds_for_it(tmp_path: Path) -> None:
    workspace = first_candidate(tmp_path, tier="high")
    with pytest.raises(PolicyError, match="may not be promoted"):
        roll_out_first(workspace, week(2))
    assert rollout_kinds(workspace) == ["rollout_started"]


def test_a_gateway_has_it_loaded_before_it_is_the_champion(tmp_path: Path) -> None:
    workspace, target = on_gateway(first_candidate(tmp_path, rollout={"target": "gateway"}))
    target.fail_next("prepare", TargetError("no route"))
    with pytest.raises(TargetError, match="no route"):
        roll_out_first(workspace, week(2))
    assert rollout_kinds(workspace) == ["rollout_started"]
    assert all(traffic.champion is None for traffic in target.history)
    assert roll_out_first(workspace, week(2)) is not None
    assert [(traffic.champion, traffic.challenger) for traffic in target.history][-1] == ("1", None)
    names = [name for name, _ in target.calls]
    assert names.index("prepare") < names.index("apply")


def test_one_that_the_gateway_cannot_load_is_rolled_back(tmp_path: Path) -> None:
    workspace, target = on_gateway(first_candidate(tmp_path, rollout={"target": "gateway"}))
    target.fail_next("prepare", RolloutError("no such type"))
    with pytest.raises(RolledBackError, match="live_100: it cannot be served: no such type"):
        roll_out_first(workspace, week(2))
    assert list(workspace.state().quarantined) == ["1"]
    assert workspace.state().champion is None


def test_a_rollout_that_an_earlier_release_left_in_a_stage_ends_at_the_next_step(tmp_path: Path) -> None:
    workspace = first_candidate(tmp_path)
    start_rollout(workspace, week(2))
    details = {"version": "1", "stage": 0, "kind": "shadow", "share": 100}
    workspace.record_fact(draft_of(workspace, "stage_entered", "earlier", week(2), **details))
    reconcile(workspace)
    assert "passed over" in run_analysis(workspace, "1", 0, week(2)).reason
    assert enter_stage(workspace, "1", 1, week(2)).reason.endswith(REASON)
    assert workspace.registry.aliases() == {"champion": "1"}
