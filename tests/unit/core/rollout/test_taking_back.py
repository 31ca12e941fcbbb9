"""Taking back: exactly one version, with concurrent callers and with target or registry down, and no false success."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.errors import RegistryError, RolledBackError, RolloutError
from airflow_mlops.core.ports.rollout_target import TargetError
from airflow_mlops.core.rollout import control_rollout as control_module
from airflow_mlops.core.rollout.control_rollout import control_rollout
from airflow_mlops.core.rollout.manual_rollback import roll_back_now, unquarantine_version
from airflow_mlops.core.rollout.reconcile_aliases import reconcile
from airflow_mlops.core.rollout.reconcile_target import reconcile_target
from airflow_mlops.core.rollout.roll_out import enter_stage, run_rollout_step, start_rollout
from airflow_mlops.core.rollout.rollback import ended_outcome
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.testing.in_memory_registry import InMemoryRegistry, KeptVersion
from airflow_mlops.testing.in_memory_target import InMemoryTarget, Method
from tests.unit.core.ledger.histories import History, draft_of, week
from tests.unit.core.rollout.test_analyse_traffic import looks, rolled_out, telemetry_of
from tests.unit.core.rollout.test_roll_out import real_loop, run_dag
from tests.unit.core.toy_loop import ingest, toy_rows


class DownError(RegistryError):
    retryable = True


def down(*_: object) -> Any:
    raise DownError("MLflow does not answer")


def target_down(target: InMemoryTarget) -> None:
    methods: tuple[Method, ...] = ("observe", "apply", "rollback", "prepare", "telemetry")
    for method in methods:
        target.fail_next(method, TargetError("no route to the gateway"), times=99)


def target_up(target: InMemoryTarget) -> None:
    for faults in target._faults.values():
        faults.clear()


def test_an_abort_with_the_target_and_the_registry_down_says_that_the_challenger_may_still_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    monkeypatch.setattr(InMemoryRegistry, "aliases", down)
    target_down(target)
    with pytest.raises(TargetError, match=r"the target has not followed.*airflow-mlops reconcile.*no route") as raised:
        control_rollout(workspace, "abort", reason="complaints")
    assert str(raised.value).startswith("version 2 was taken back; that stands in the ledger")
    assert dict(workspace.state().quarantined.items()) == {"2": "complaints"}
    target_up(target)
    monkeypatch.undo()
    reconcile(workspace)
    assert (target.observe().champion, target.observe().challenger) == ("1", None)


def test_a_failed_look_with_both_down_is_no_finished_rollback_and_the_retry_finishes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    target.set_telemetry(champion=telemetry_of(5_000), challenger=telemetry_of(500, errors=200))
    monkeypatch.setattr(InMemoryRegistry, "aliases", down)
    target.fail_next("rollback", TargetError("no route to the gateway"))
    with pytest.raises(TargetError, match=r"version 2 was rolled back at canary_10: .*the target has not followed"):
        run_rollout_step(workspace, "2", 0, week(3))
    assert target.observe().challenger == "2"
    with pytest.raises(RolledBackError, match="the aliases follow with the next reconcile"):
        run_rollout_step(workspace, "2", 0, week(3))
    assert target.observe().challenger is None


def test_files_that_cannot_be_fetched_are_not_mistaken_for_aliases_that_follow(tmp_path: Path) -> None:
    # A target that has lost the champion needs its files, and where those are is down, too.
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    target._traffic = type(target._traffic)(0, None)
    target.fail_next("prepare", DownError("MLflow does not answer, and no copy is in the lake"), times=9)
    with pytest.raises(TargetError, match="gateway cannot be given version 1 with version 2 at canary"):
        reconcile_target(workspace)
    with pytest.raises(TargetError, match=r"version 2 was taken back.*cannot be given version 1"):
        roll_back_now(workspace, reason="complaints")


def test_an_abort_that_comes_behind_a_failed_look_takes_nothing_else_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    honest = roll_back_now

    def behind_a_look(*args: Any, **kwargs: Any) -> Any:
        target.set_telemetry(champion=telemetry_of(5_000), challenger=telemetry_of(500, errors=200))
        with pytest.raises(RolledBackError):
            run_rollout_step(workspace, "2", 0, week(3))
        return honest(*args, **kwargs)

    monkeypatch.setattr(control_module, "roll_back_now", behind_a_look)
    assert "somebody else was first" in control_rollout(workspace, "abort", reason="complaints")
    champion = workspace.state().champion
    assert champion is not None
    assert champion.number == "1"
    assert list(workspace.state().quarantined) == ["2"]


def second_champion(tmp_path: Path, target: InMemoryTarget) -> Any:
    """Return a loop whose champion 2 came after champion 1, and whose version 3 is at canary."""
    workspace = rolled_out(tmp_path, target)
    target.set_telemetry(champion=telemetry_of(9_000), challenger=telemetry_of(1_000, seed=1))
    for index in (0, 1):
        run_rollout_step(workspace, "2", index, week(3))
    assert isinstance(workspace.registry, InMemoryRegistry)
    workspace.registry.versions.append(KeptVersion("op3", b"", None))  # type: ignore[arg-type]
    History(workspace.ledger).publish(4).register(4, "3")
    enter_stage(workspace, start_rollout(workspace, week(4)), 0, week(4))
    return workspace


def test_a_task_that_takes_back_and_is_tried_again_takes_back_one_version(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = second_champion(tmp_path, target)
    target_down(target)
    with pytest.raises(TargetError):
        roll_back_now(workspace, reason="bad", attempt="my_dag/back/run 1")
    target_up(target)
    done = roll_back_now(workspace, reason="bad", attempt="my_dag/back/run 1")
    assert (done.version, done.champion) == ("3", "2")
    assert (target.observe().champion, target.observe().challenger) == ("2", None)
    assert list(workspace.state().quarantined) == ["3"]


def test_a_promotion_that_was_taken_back_by_hand_is_no_promotion_to_a_retry(tmp_path: Path) -> None:
    workspace = second_champion(tmp_path, InMemoryTarget())
    with pytest.raises(RolloutError):
        roll_back_now(workspace, reason="bad", only="2")
    roll_back_now(workspace, reason="bad", only="3")
    workspace.record_fact(
        draft_of(workspace, "rolled_back", "by hand", week(4), version="2", champion="1", reason="complaints")
    )
    with pytest.raises(RolledBackError, match="version 2 was rolled back: complaints"):
        ended_outcome(workspace, workspace.state(), "2", "live_100")


def test_a_target_that_missed_the_rollback_counts_anew_for_the_next_rollout_of_the_version(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    before = target.observe()
    target_down(target)
    with pytest.raises(TargetError):
        control_rollout(workspace, "abort", reason="complaints")
    with pytest.raises(TargetError):
        unquarantine_version(workspace, "2", reason="it was not the model")
    with pytest.raises(TargetError):
        start_rollout(workspace, week(3))
    target_up(target)
    assert target.observe() == before
    enter_stage(workspace, start_rollout(workspace, week(3)), 0, week(3))
    target.set_telemetry(champion=telemetry_of(9_000), challenger=telemetry_of(1_000, seed=1))
    assert target.telemetry().order == workspace.state().traffic_record
    run_rollout_step(workspace, "2", 0, week(3))
    assert looks(workspace)[-1] == (1, "pass")


def test_whoever_was_taken_back_predicts_no_partition_that_was_waiting(tmp_path: Path) -> None:
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 6, 6], stages=[{"canary": 50}, {"live": 100}])
    enter_stage(workspace, start_rollout(workspace, week(6)), 0, week(6))
    for number in (7, 8):
        workspace.source.frames[week(number)] = toy_rows(number, slope=6)  # type: ignore[attr-defined]
        ingest(workspace, week(number))
    # The record is of the newest partition, and neither of the two was scored yet.
    control_rollout(workspace, "abort", reason="complaints")
    for number in (7, 8):
        scored = score_partition(workspace, week(number))
        assert (scored.served, scored.challenger) == ({"1": 120}, None)


def test_a_champion_that_was_taken_back_predicts_no_partition_that_was_waiting(tmp_path: Path) -> None:
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 6, 6], stages=[{"shadow": 100}, {"live": 100}])
    assert run_dag(workspace, 6) is None
    workspace.source.frames[week(7)] = toy_rows(7, slope=6)  # type: ignore[attr-defined]
    ingest(workspace, week(7))
    roll_back_now(workspace, reason="complaints")
    assert score_partition(workspace, week(7)).served == {"1": 120}
