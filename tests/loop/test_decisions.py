"""A retrain is decided once, heard of in the end, and a person may ask for one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from airflow_mlops.core.watch.performance.measure_performance import measure_performance
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, make_project, states

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

ANY_MODEL: dict[str, Any] = {"gates": [{"metric": "mae", "at_most": 100.0}]}


@pytest.mark.parametrize("hears_by", ["watch", "nightly"])
def test_a_retrain_that_nobody_heard_of_is_asked_for_again_and_trained_once(
    tmp_path: Path, start_scheduler: SchedulerFactory, hears_by: str
) -> None:
    project = make_project(tmp_path, **ANY_MODEL)
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    scheduler.pause(project.dag("train"))
    project.put(KEYS[2], level=6.0)
    project.ingest(scheduler, KEYS[2])
    (decided,) = [record for record in project.of_kind("retrain_decided") if record.partition == KEYS[2]]
    assert decided.details.retrain
    scheduler.unpause(project.dag("train"))
    scheduler.run_until_idle()
    assert not scheduler.dag_runs(project.dag("train"))  # the event was dropped for good
    assert project.workspace.state().open_decision == decided

    if hears_by == "watch":
        project.put(KEYS[3], level=6.0)
        project.ingest(scheduler, KEYS[3])
        assert project.details_of("retrain_decided", KEYS[3]).cause == "joined"
    else:
        project.at_night(scheduler, KEYS[2])
    started = [record for record in project.of_kind("training_started") if record.partition == KEYS[2]]
    assert [record.details.decision for record in started] == [decided.sequence]
    assert [record.details.decision for record in project.of_kind("candidate_registered")][1:] == [decided.sequence]
    assert project.workspace.state().open_decision is None
    assert project.workspace.registry.aliases() == {"champion": "2"}

    project.at_night(scheduler, KEYS[3])  # and nothing asks a second time
    assert len(scheduler.dag_runs(project.dag("train"))) == 1
    assert_invariants(project.workspace)


def test_two_nights_of_one_partition_decide_once(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    project = make_project(tmp_path)
    scheduler = start_scheduler(project.dags)
    for key in KEYS[:2]:
        project.put(key)
        project.publish(key)
    for day in ("2013-01-13", "2013-01-14", "2013-01-15"):
        scheduler.trigger(project.dag("nightly"), partition_key=f"{day}T02:00:00")
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    assert len(project.of_kind("retrain_decided")) == 1
    assert len(project.of_kind("training_started")) == 1
    assert len(project.of_kind("promoted")) == 1
    records = {
        scheduler.xcom(project.dag("nightly"), "decide", partition_key=f"2013-01-{day}T02:00:00")["record"]
        for day in (13, 14, 15)
    }
    assert len(records) == 1
    assert_invariants(project.workspace)


def test_of_two_that_decide_at_once_exactly_one_decides(tmp_path: Path, airflow_home: Path) -> None:
    project = make_project(tmp_path)
    for key in KEYS[:2]:
        project.put(key)
        project.publish(key)
    with ThreadPoolExecutor(4) as pool:
        decisions = [
            pool.submit(decide_and_record, project.workspace, KEYS[1], trigger=trigger)
            for trigger in ("nightly", "watch", "nightly", "watch")
        ]
        numbers = {future.result().sequence for future in decisions}
    decided = project.of_kind("retrain_decided")
    assert numbers == {record.sequence for record in decided}
    assert sorted(record.details.cause for record in decided) == ["first model", "joined"]
    assert_invariants(project.workspace)


@pytest.mark.parametrize("cooldown", [0, 1])
def test_one_alarm_leads_to_one_retrain_however_often_it_is_looked_at(
    tmp_path: Path, start_scheduler: SchedulerFactory, cooldown: int
) -> None:
    project = make_project(
        tmp_path, retrain={"policy": "alarm", "alarm": {"windows": 1, "of": 1}, "cooldown": cooldown}
    )
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    project.put(KEYS[2], level=6.0)
    project.ingest(scheduler, KEYS[2])  # alarms, retrains, and the gates refuse the candidate
    project.at_night(scheduler, KEYS[2])
    decided = project.of_kind("retrain_decided")
    assert [record.details.trigger for record in decided if record.details.retrain] == ["nightly", "watch"]
    assert decided[-1].details.cause == ("waiting" if cooldown == 0 else "cooldown")
    assert len(scheduler.dag_runs(project.dag("train"))) == 1
    assert_invariants(project.workspace)


def test_six_drift_events_in_a_third_of_a_second_lead_to_one_retrain_for_the_window(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, **ANY_MODEL)
    project.seed(KEYS[:2])
    project.put(KEYS[2], level=6.0, shift=3.0)
    project.publish(KEYS[2])
    score_partition(project.workspace, KEYS[2])
    scheduler = start_scheduler(project.dags)
    for number in range(6):
        scheduler.emit(f"mlops://{project.model}/predictions", partition_key=KEYS[2], monitor=number)
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    assert project.judged("drift", KEYS[2]).verdict == "alarm"
    (decision,) = [record for record in project.of_kind("retrain_decided") if record.partition == KEYS[2]]
    assert decision.details.retrain
    assert [record.partition for record in project.of_kind("training_started")] == [KEYS[1], KEYS[2]]
    assert len(scheduler.dag_runs(project.dag("train"))) == 1
    assert_invariants(project.workspace)


def test_six_events_that_wake_the_training_itself_train_once(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    project = make_project(tmp_path, **ANY_MODEL)
    project.seed(KEYS[:2])
    project.put(KEYS[2], level=6.0)
    project.publish(KEYS[2])
    score_partition(project.workspace, KEYS[2])
    measure_performance(project.workspace, KEYS[2])
    decision = decide_and_record(project.workspace, KEYS[2], trigger="watch")
    scheduler = start_scheduler(project.dags)
    for _ in range(3):
        for _ in range(2):
            scheduler.emit(f"mlops://{project.model}/retrain", partition_key=KEYS[2], decision=decision.sequence)
        scheduler.run_until_idle()
    assert scheduler.failures() == []
    assert [record.partition for record in project.of_kind("training_started")] == [KEYS[1], KEYS[2]]
    assert [record.details.version for record in project.of_kind("candidate_registered")] == ["1", "2"]
    assert_invariants(project.workspace)


def test_a_training_started_by_hand_is_of_the_newest_partition_and_says_so(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    project.put(KEYS[2])
    project.publish(KEYS[2])
    scheduler = start_scheduler(project.dags)
    scheduler.trigger(project.dag("train"))
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    (decided,) = [record for record in project.of_kind("retrain_decided") if record.details.trigger == "person"]
    assert (decided.partition, decided.details.cause) == (KEYS[2], "person")
    assert decided.actor.startswith(f"{project.dag('train')}/assemble/manual__")
    registered = project.details_of("candidate_registered", KEYS[2])
    assert registered.decision == decided.sequence
    assert [pin.partition for pin in registered.window.holdout] == [KEYS[2]]
    assert registered.champion == "1"

    # The run has no partition, but its event carries the newest one: the rollout is woken, and waits for rows.
    (rollout,) = scheduler.dag_runs(project.dag("rollout"))
    assert (rollout.partition_key, rollout.state) == (KEYS[2], "success")
    assert_invariants(project.workspace)


def test_a_training_started_by_hand_with_a_partition_rolls_out_at_once(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    project.put(KEYS[2])
    scheduler = start_scheduler(project.dags)
    project.ingest(scheduler, KEYS[2])
    scheduler.trigger(project.dag("train"), partition_key=KEYS[2])
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    assert [record.partition for record in project.of_kind("promoted")] == [KEYS[1], KEYS[2]]
    assert project.workspace.registry.aliases() == {"champion": "2"}
    assert_invariants(project.workspace)


def test_the_same_training_asked_for_twice_by_hand_makes_no_second_version(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    scheduler.trigger(project.dag("train"))
    scheduler.run_until_idle()
    assert states(scheduler, project.dag("train"))["assemble"] == "skipped"
    (closed,) = project.of_kind("superseded")
    assert closed.details.reason == "nothing new: version 1 was made from the same data, code and seed"
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert_invariants(project.workspace)
