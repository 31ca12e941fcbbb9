"""A stage that waits: until its planned sample is in, and then it passes or rolls back on that sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlops.cli.rollout_commands import status_lines
from airflow_mlops.core.errors import NotReadyError, RolledBackError, RolloutError
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.analyse_stage import reason_to_resume
from airflow_mlops.core.rollout.control_rollout import approve_stage, control_rollout
from airflow_mlops.core.rollout.roll_out import enter_stage, run_rollout_step, start_rollout
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.rollout.watch_rollout import watch_rollout
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory_target import InMemoryTarget
from tests.unit.core.ledger.histories import History, week
from tests.unit.core.rollout.test_analyse_traffic import look, looks, rolled_out, telemetry_of
from tests.unit.core.rollout.test_roll_out import challenged, real_loop, run_dag
from tests.unit.core.toy_loop import ingest, toy_loop, toy_rows


def test_a_label_metric_of_a_live_stage_looks_at_what_came_while_its_run_waited(tmp_path: Path) -> None:
    target = InMemoryTarget()
    batch = real_loop(tmp_path, [2, 2, 2, 6, 6, 6])
    rollout = {"target": "gateway", "stages": [{"canary": 50}, {"live": 100}], "metrics": [{"metric": "label"}]}
    loop = toy_loop(rollout={**rollout, "min_rows": 20}, gates=[{"metric": "mae", "at_most": 99}])
    ports = replace(batch.ports, target=lambda _: target)
    workspace = Workspace(loop, batch.root, batch.scratch, ports, "test")
    for name in ("ledger", "evidence", "registry", "snapshots", "predictions", "source"):
        workspace.__dict__[name] = getattr(batch, name)
    version = start_rollout(workspace, week(5))
    enter_stage(workspace, version, 0, week(5))
    target.set_telemetry(champion=telemetry_of(500), challenger=telemetry_of(500))
    with pytest.raises(NotReadyError, match="no partition was scored since the stage was entered"):
        run_rollout_step(workspace, version, 0, week(5))
    assert reason_to_resume(workspace, version, 0) is None
    rows = toy_rows(6, slope=6, rows=400)
    for delivery in (rows.assign(y=float("nan")), rows):
        # A look at rows whose labels are not there yet would be a planned one, and the last of them takes it back.
        with pytest.raises(NotReadyError):
            run_rollout_step(workspace, version, 0, week(5))
        assert reason_to_resume(workspace, version, 0) is None
        workspace.source.frames[week(6)] = delivery  # type: ignore[attr-defined]
        ingest(workspace, week(6))
        score_partition(workspace, week(6))
    assert reason_to_resume(workspace, version, 0) is not None
    # The run is still that of week 5.
    assert run_rollout_step(workspace, version, 0, week(5)).stage == "canary_50"


def test_the_time_that_other_traffic_was_served_is_no_time_of_the_stage(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, [{"canary": 10, "max_wait": 30}, {"live": 100}])
    target._traffic, target.seconds = Traffic(0, "1"), 99_999.0
    assert reason_to_resume(workspace, "2", 0) is None
    assert "NotReadyError" in look(workspace)
    assert not workspace.state().quarantined


def test_an_ab_test_of_partitions_waits_for_its_sample(tmp_path: Path) -> None:
    stages = [{"ab": 50, "sample": 500}, {"live": 100}]
    workspace = real_loop(tmp_path, [2, 2, 2, 6, 6, 6, 6], stages=stages)
    for number in (6, 7, 8):
        if number > 6:
            workspace.source.frames[week(number)] = toy_rows(number, slope=6, rows=400)  # type: ignore[attr-defined]
            ingest(workspace, week(number))
            score_partition(workspace, week(number))
        assert run_dag(workspace, number) == ("NotReadyError" if number < 8 else None)
    own = [each.details for each in list(workspace.ledger.records()) if each.kind == "stage_analysed"]
    assert [(each.look, each.verdict) for each in own] == [(0, "inconclusive")] * 2 + [(1, "pass")]
    assert "look 1 of 1 comes at 500 labelled rows" in own[0].reason


def test_the_watch_leaves_the_last_partition_of_a_stage_to_its_look(tmp_path: Path) -> None:
    workspace = challenged(tmp_path, stages=[{"shadow": 100, "max_wait": 2}, {"live": 100}])
    enter_stage(workspace, start_rollout(workspace, week(3)), 0, week(3))
    history = History(workspace.ledger)
    for number in (4, 5):
        history.publish(number).judge(number, "1")
        assert watch_rollout(workspace, week(number)) == []
    # Nobody looked as of week 5, as the run was killed.
    history.publish(6).judge(6, "1")
    assert "undecided after 2 partitions, max_wait is 2" in watch_rollout(workspace, week(6))[0]


def test_a_challenger_that_breaks_while_a_person_thinks_is_not_promoted(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, [{"canary": 10}, {"live": 100, "approval": "human"}])
    target.set_telemetry(champion=telemetry_of(9_000), challenger=telemetry_of(1_000, seed=1))
    assert look(workspace) == "passed"
    with pytest.raises(NotReadyError, match="waits for a person"):
        enter_stage(workspace, "2", 1, week(3))
    target.trip("40 of 50 requests raised")
    approve_stage(workspace, 1, ("ben",))
    with pytest.raises(RolledBackError, match=r"canary_10: .*40 of 50 requests raised"):
        enter_stage(workspace, "2", 1, week(3))
    assert (target.observe().champion, target.observe().challenger) == ("1", None)


@pytest.mark.parametrize(
    "stages",
    [[{"shadow": 100}, {"live": 100}], [{"live": 100}], [{"shadow": 100}, {"canary": 20}, {"live": 100}]],
    ids=["canary is gone", "one stage is left", "another share"],
)
def test_a_rollout_whose_stage_is_declared_no_longer_stops_and_says_so(
    tmp_path: Path, stages: Sequence[dict[str, int]]
) -> None:
    target = InMemoryTarget()
    before = rolled_out(tmp_path, target, [{"shadow": 100}, {"canary": 10}, {"live": 100}])
    target.set_telemetry(champion=telemetry_of(9_000), challenger=telemetry_of(9_000, seed=1), paired=None)
    control_rollout(before, "skip", reason="seen enough")
    enter_stage(before, "2", 1, week(3))
    loop = toy_loop(rollout={"target": "gateway", "stages": list(stages)})
    workspace = Workspace(loop, before.root, before.scratch, before.ports, "test")
    workspace.__dict__.update(ledger=before.ledger, registry=before.registry)
    for index in range(len(stages)):
        with pytest.raises(
            RolloutError, match=r"version 2 is at canary_10, stage 2 of its rollout.*put the stages back"
        ):
            enter_stage(workspace, "2", index, week(3))
    assert (
        "hold canary_10 (the declaration has no canary 10 % as stage 2 any more)"
        in status_lines(workspace, workspace.state())[0]
    )
    assert watch_rollout(workspace, week(3)) == []
    assert target.observe().exposed == 10
    target.trip("40 of 50 requests raised")
    assert "was rolled back at canary_10" in watch_rollout(workspace, week(3))[0]
    assert target.observe().challenger is None


def test_the_watch_repairs_aliases_where_the_target_refuses_to_speak(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target)
    workspace.registry.set_alias("champion", "2")
    target.fail_next("telemetry", RolloutError("401: the control token is wrong"), times=9)
    with pytest.raises(RolloutError, match="control token"):
        watch_rollout(workspace, week(3))
    assert workspace.registry.aliases()["champion"] == "1"


def test_a_stage_that_the_target_cannot_serve_is_named(tmp_path: Path) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, [{"shadow": 100}, {"canary": 10}, {"live": 100}])
    control_rollout(workspace, "skip", reason="seen enough")
    target.fail_next("apply", RolloutError("it takes other columns"))
    with pytest.raises(RolledBackError, match="canary_10: it cannot be served: it takes other columns"):
        enter_stage(workspace, "2", 1, week(3))
    assert looks(workspace) == []


def test_after_a_restart_of_the_gateway_looks_go_on_where_they_were(tmp_path: Path) -> None:
    target = InMemoryTarget()
    metrics = [{"metric": "errors", "worse_by": 0.0}]
    workspace = rolled_out(tmp_path, target, [{"canary": 10, "sample": 1_000}, {"live": 100}], metrics=metrics)
    # It counts anew: what a look asks for has to come once more, and no look is taken twice.
    for requests, number in ((200, 1), (410, 2), (50, 2), (410, 2), (590, 2), (600, 3)):
        target.set_telemetry(
            champion=telemetry_of(9_000, errors=900), challenger=telemetry_of(requests, errors=requests // 10)
        )
        assert "NotReadyError" in look(workspace)
        assert [each for each, _ in looks(workspace)] == list(range(1, number + 1)), requests
