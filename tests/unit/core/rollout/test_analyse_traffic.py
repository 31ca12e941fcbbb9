"""A stage on live traffic: looks come as planned, and gross breakage needs none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_mlops.core.errors import NotReadyError, RolledBackError
from airflow_mlops.core.ports.rollout_target import LATENCY_EDGES, TargetError, Traffic, UnitSums, VersionTelemetry
from airflow_mlops.core.rollout.analyse_stage import reason_to_resume
from airflow_mlops.core.rollout.control_rollout import control_rollout
from airflow_mlops.core.rollout.roll_out import enter_stage, run_rollout_step, start_rollout
from airflow_mlops.core.rollout.watch_rollout import watch_rollout
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from airflow_mlops.testing.in_memory_registry import InMemoryRegistry, KeptVersion
from airflow_mlops.testing.in_memory_target import InMemoryTarget
from tests.unit.core.ledger.histories import History, week
from tests.unit.core.toy_loop import toy_loop


def telemetry_of(
    requests: int, *, errors: int = 0, slow: int = 0, constant: bool = False, seed: int = 0
) -> VersionTelemetry:
    """Return the telemetry of a version: requests of as many keys, some of them failed or slow."""
    random = np.random.default_rng(seed)
    failed = np.zeros(requests)
    failed[:errors] = 1
    latency = np.zeros(len(LATENCY_EDGES) + 1, np.int64)
    latency[20], latency[45] = requests - slow, slow
    predictions = np.full(min(requests, 5_000), 3.0) if constant else random.normal(size=min(requests, 5_000))
    return VersionTelemetry(requests, errors, UnitSums(failed, np.ones(requests)), latency, predictions)


def rolled_out(
    tmp_path: Path, target: InMemoryTarget, stages: list[dict[str, Any]] | None = None, **rollout: Any
) -> Workspace:
    """Return a loop on a gateway in memory whose version 2 has entered its first stage."""
    stages = stages or [{"canary": 10}, {"live": 100}]
    loop = toy_loop(rollout={"target": "gateway", "stages": stages, **rollout})
    opened = in_memory_workspace(loop, {}, scratch=tmp_path)
    workspace = replace(opened, ports=replace(opened.ports, target=lambda _: target))
    assert isinstance(workspace.registry, InMemoryRegistry)
    workspace.registry.versions += [KeptVersion(f"op{number}", b"", None) for number in (1, 2)]  # type: ignore[arg-type]
    History(workspace.ledger).publish(0, 1, 2, 3).promote(2, "1").register(3, "2")
    enter_stage(workspace, start_rollout(workspace, week(3)), 0, week(3))
    return workspace


def look(workspace: Workspace, index: int = 0) -> str:
    """Analyse a stage and return the outcome."""
    try:
        run_rollout_step(workspace, "2", index, week(3))
    except (NotReadyError, RolledBackError) as error:
        return f"{type(error).__name__}: {error}"
    return "passed"


def looks(workspace: Workspace) -> list[tuple[int, str]]:
    """Return number and verdict of each look in the ledger."""
    analyses = [each.details for each in list(workspace.ledger.records()) if each.kind == "stage_analysed"]
    return [(each.look, each.verdict) for each in analyses]


def test_the_target_serves_the_stage_and_then_the_new_champion(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    assert (target.observe().champion, target.observe().challenger, target.observe().exposed) == ("1", "2", 10)
    target.set_telemetry(champion=telemetry_of(9_000), challenger=telemetry_of(1_000, seed=1))
    assert look(workspace) == "passed"
    run_rollout_step(workspace, "2", 1, week(3))
    assert (target.observe().champion, target.observe().challenger) == ("2", None)
    assert workspace.registry.aliases() == {"champion": "2"}


def test_without_requests_a_stage_holds_and_no_look_is_used_up(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, min_rows=100)
    for requests in (0, 1, 99):
        target.set_telemetry(champion=telemetry_of(1_000), challenger=telemetry_of(requests))
        assert f"{requests} requests of the challenger, 100 are needed to say" in look(workspace)
        assert reason_to_resume(workspace, "2", 0) is None
    assert looks(workspace) == []


def test_looks_come_at_their_share_of_the_sample_and_each_is_stored_once(tmp_path: Path) -> None:
    target = InMemoryTarget()
    metrics = [{"metric": "errors", "worse_by": 0.0}]
    workspace = rolled_out(tmp_path, target, [{"canary": 10, "sample": 1_000}, {"live": 100}], metrics=metrics)
    for requests, number in ((150, 0), (200, 1), (210, 1), (399, 1), (400, 2), (400, 2), (650, 3)):
        # As many errors as the champion: nothing is shown at a margin of nothing.
        target.set_telemetry(
            champion=telemetry_of(9_000, errors=900), challenger=telemetry_of(requests, errors=requests // 10)
        )
        assert "NotReadyError" in look(workspace)
        assert [each for each, _ in looks(workspace)] == list(range(1, number + 1)), requests
    target.set_telemetry(champion=telemetry_of(9_000, errors=900), challenger=telemetry_of(1_300, errors=130))
    # The fourth look had the whole sample: nothing is left to wait for.
    assert "undecided at the last look, 4 of 5" in look(workspace)
    assert looks(workspace)[-1] == (4, "fail")


def test_undecided_after_the_last_planned_look_goes_back_and_says_so(tmp_path: Path) -> None:
    target = InMemoryTarget()
    metrics = [{"metric": "errors", "worse_by": 0.0}]
    stages = [{"canary": 10, "sample": 200}, {"live": 100}]
    workspace = rolled_out(tmp_path, target, stages, metrics=metrics, looks=2)
    target.set_telemetry(champion=telemetry_of(9_000, errors=900), challenger=telemetry_of(100, errors=10))
    assert "NotReadyError" in look(workspace)
    target.set_telemetry(champion=telemetry_of(9_000, errors=900), challenger=telemetry_of(200, errors=20))
    assert "RolledBackError" in look(workspace)
    assert "undecided at the last look, 2 of 2" in workspace.state().quarantined["2"]
    assert target.observe().challenger is None


@pytest.mark.parametrize(
    ("challenger", "metrics", "word"),
    [
        (telemetry_of(500, errors=200), [], "errs in 40.00%"),
        (telemetry_of(500, constant=True), [], "predictions"),
        (telemetry_of(500, slow=200), [{"metric": "latency", "at_most": 0.2}], "took the challenger longer"),
        (telemetry_of(500, slow=30), [{"metric": "latency", "at_most": 0.2}], "slower"),
    ],
)
def test_a_bad_challenger_is_rolled_back_and_the_target_serves_the_champion(
    tmp_path: Path, challenger: VersionTelemetry, metrics: list[dict[str, Any]], word: str
) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, metrics=metrics)
    target.set_telemetry(champion=telemetry_of(5_000), challenger=challenger)
    assert reason_to_resume(workspace, "2", 0) is not None
    assert "RolledBackError" in look(workspace)
    assert word in workspace.state().quarantined["2"]
    assert (target.observe().champion, target.observe().challenger) == ("1", None)


def test_what_the_target_took_out_by_itself_is_rolled_back_also_while_paused(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    control_rollout(workspace, "pause", reason="holiday")
    target.set_telemetry(champion=telemetry_of(5_000), challenger=telemetry_of(500, seed=1))
    assert "paused: holiday" in look(workspace)
    assert reason_to_resume(workspace, "2", 0) is None
    target.trip("30 of 40 requests raised")
    assert "30 of 40 requests raised" in str(reason_to_resume(workspace, "2", 0))
    assert "RolledBackError" in look(workspace)
    assert target.observe().challenger is None


def test_a_stage_bakes_for_its_minutes_however_good_it_looks_and_fails_at_once(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, [{"canary": 10, "bake": 10, "sample": 500}, {"live": 100}], looks=2)
    target.set_telemetry(champion=telemetry_of(9_000), challenger=telemetry_of(600, seed=1))
    target.seconds = 60
    assert "look 1 of 2 comes after 5 minutes; 1 have passed" in look(workspace)
    assert reason_to_resume(workspace, "2", 0) is None
    target.seconds = 5 * 60
    target.set_telemetry(champion=telemetry_of(90_000), challenger=telemetry_of(10_000, seed=1))
    assert "bakes for 5 more minutes" in look(workspace)
    # All of the sample was in at the first look, and more requests alone bring no second one.
    target.set_telemetry(champion=telemetry_of(99_000), challenger=telemetry_of(11_000, seed=1))
    assert "NotReadyError" in look(workspace)
    target.seconds = 10 * 60
    assert look(workspace) == "passed"
    assert looks(workspace) == [(1, "inconclusive"), (2, "pass")]


def test_a_stage_that_stays_undecided_is_given_up_after_its_time(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, [{"canary": 10, "max_wait": 30}, {"live": 100}])
    target.seconds = 29 * 60
    assert "NotReadyError" in look(workspace)
    target.seconds = 30 * 60
    assert "max_wait is 30" in str(reason_to_resume(workspace, "2", 0))
    assert "RolledBackError" in look(workspace)


def test_the_watch_takes_back_what_a_killed_run_left_at_canary(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, [{"canary": 10, "max_wait": 30}, {"live": 100}])
    target.set_telemetry(champion=telemetry_of(1_000), challenger=telemetry_of(10))
    assert watch_rollout(workspace, week(3)) == []
    target.seconds = 31 * 60
    assert "was rolled back at canary_10: undecided after 31 minutes" in watch_rollout(workspace, week(3))[0]
    assert (target.observe().champion, target.observe().challenger) == ("1", None)
    assert "2" in workspace.state().quarantined


def test_the_watch_puts_right_a_target_that_forgot_and_says_what_it_did(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    target._traffic = Traffic(0, "1")
    (repair,) = watch_rollout(workspace, week(3))
    assert repair == "gateway served version 1, now serves version 1 with version 2 at canary 10 %"
    assert target.observe().challenger == "2"


def test_a_target_that_cannot_say_what_it_serves_is_told_again(tmp_path: Path) -> None:
    # As replicas that differ, since one of them was down when the others were told.
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    target._traffic = Traffic(0, "1")
    target.fail_next("observe", TargetError("replica 1 serves something else than replica 2"))
    assert "now serves version 1 with version 2 at canary 10 %" in watch_rollout(workspace, week(3))[0]
    target.fail_next("observe", TargetError("no answer"), times=2)
    with pytest.raises(TargetError, match="cannot be read to confirm that"):
        watch_rollout(workspace, week(3))


def test_a_target_that_is_down_does_not_keep_the_aliases_from_being_repaired(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    workspace.registry.set_alias("champion", "2")
    target.fail_next("observe", TargetError("no route to the gateway"), times=9)
    target.fail_next("telemetry", TargetError("no route to the gateway"), times=9)
    target.fail_next("apply", TargetError("no route to the gateway"), times=9)
    with pytest.raises(TargetError, match="no route"):
        watch_rollout(workspace, week(3))
    assert workspace.registry.aliases()["champion"] == "1"


def test_standby_is_warm_until_it_has_baked_and_then_switches_at_once(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, [{"standby": 100, "bake": 5}, {"live": 100}])
    assert (target.observe().kind, target.observe().exposed) == ("standby", 0)
    assert "bakes for 5 more minutes" in look(workspace)
    target.seconds = 300
    assert look(workspace) == "passed"
    run_rollout_step(workspace, "2", 1, week(3))
    # The champion before stays warm, to switch back to.
    assert (target.observe().champion, target.observe().standby) == ("2", "1")


def test_an_ab_test_is_judged_once_at_its_end(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, [{"ab": 50, "sample": 1_000}, {"live": 100}])
    target.set_telemetry(champion=telemetry_of(999), challenger=telemetry_of(999, seed=1))
    assert "look 1 of 1 comes at 1,000 requests of the challenger; 999 are in" in look(workspace)
    target.set_telemetry(champion=telemetry_of(1_000), challenger=telemetry_of(1_000, seed=1))
    assert look(workspace) == "passed"
    assert looks(workspace) == [(1, "pass")]
