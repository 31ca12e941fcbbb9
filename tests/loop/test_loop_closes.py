"""The loop closes: from the first partition to a champion, and from an alarm to the next champion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, make_project, night, states

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

STAGED = {
    "stages": [{"shadow": 100, "bake": 1}, {"canary": 50, "bake": 1}, {"live": 100}],
    "min_rows": 20,
}


def test_the_first_partitions_bring_the_first_champion_live(tmp_path: Path, start_scheduler: SchedulerFactory) -> None:
    project = make_project(tmp_path)
    scheduler = start_scheduler(project.dags)
    project.put(KEYS[0])
    project.ingest(scheduler, KEYS[0])
    project.at_night(scheduler, KEYS[0])
    assert project.details_of("retrain_decided", KEYS[0]).cause == "too early"
    assert states(scheduler, project.dag("score")) == {"score": "skipped"}
    assert scheduler.dag_runs(project.dag("watch")) == []

    project.first_champion(scheduler, KEYS[1:2])
    assert scheduler.failures() == []
    decided = project.details_of("retrain_decided", KEYS[1])
    assert (decided.retrain, decided.cause, decided.trigger) == (True, "first model", "nightly")
    registered = project.details_of("candidate_registered", KEYS[1])
    assert [pin.partition for pin in registered.window.fitted] == [KEYS[0]]
    assert [pin.partition for pin in registered.window.holdout] == [KEYS[1]]
    assert project.workspace.registry.aliases() == {"champion": "1"}
    # Nobody to be compared with: one task makes it the champion, says so, and no stage is queued.
    tasks = states(scheduler, project.dag("rollout"), night(KEYS[1]))
    assert tasks.pop("start") == "success"
    assert set(tasks.values()) == {"skipped"}
    promoted = project.details_of("promoted", KEYS[1])
    assert promoted.reason == "there is no champion to compare it with, so it went live without shadow_100, canary_50"
    assert project.of_kind("stage_entered", "stage_analysed") == []
    assert str(scheduler.xcom(project.dag("rollout"), "start")) == "1"

    project.put(KEYS[2])
    project.ingest(scheduler, KEYS[2])
    scored = project.details_of("predictions_published", KEYS[2])
    assert (scored.champion, scored.challenger, scored.served) == ("1", None, {"1": 120})
    assert_invariants(project.workspace)


def test_an_alarm_brings_a_new_champion_through_shadow_and_canary_to_live(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project = make_project(tmp_path, rollout=STAGED)
    scheduler = start_scheduler(project.dags)
    project.first_champion(scheduler, KEYS[:2])
    for key in KEYS[2:9]:
        project.put(key, level=0.0 if key < KEYS[4] else 6.0)
        project.ingest(scheduler, key)

    # The first week of the new relation alarms, but a model of the week before cannot pass its gates.
    assert project.judged("performance", KEYS[3]).verdict == "no alarm"
    assert project.judged("performance", KEYS[4]).verdict == "alarm"
    assert "does not pass" in project.details_of("candidate_refused", KEYS[4]).reason

    # The second one gives the challenger; its cause and its numbers stand in the ledger.
    decided = project.details_of("retrain_decided", KEYS[5])
    assert (decided.retrain, decided.cause) == (True, "alarm: performance")
    assert list(decided.numbers["alarms"]) == [KEYS[5]]
    assert project.details_of("candidate_registered", KEYS[5]).version == "2"

    stages = [(record.partition, record.details.kind) for record in project.of_kind("stage_entered")]
    assert stages == [(KEYS[5], "shadow"), (KEYS[6], "canary")]
    assert [record.partition for record in project.of_kind("promoted")] == [KEYS[1], KEYS[7]]

    shadow, canary, live = (project.served(key) for key in KEYS[6:9])
    assert set(shadow["served_version"]) == {"1"}
    assert set(shadow["challenger_version"]) == {"2"}
    assert None not in shadow["challenger_prediction"]
    assert set(canary["served_version"]) == {"1", "2"}
    for row in range(len(canary["key"])):
        who = "challenger" if canary["served_version"][row] == "2" else "champion"
        assert canary["served_prediction"][row] == canary[f"{who}_prediction"][row]
    assert set(live["champion_version"]) == {"2"}
    assert set(live["challenger_version"]) == {None}
    assert project.judged("performance", KEYS[8]).verdict == "no alarm"
    assert project.workspace.registry.aliases() == {"champion": "2"}
    assert [record.task_id for record, _ in scheduler.failures()] == ["gate", "register", "prove"]
    assert_invariants(project.workspace)


ANNOUNCE = '''
"""A Dag of somebody else's that follows the champion."""
from airflow.sdk import Asset, PartitionedAssetTimetable, dag, task

CHAMPION = Asset(name="{model}_champion", uri="mlops://{model}/champion")


@dag(dag_id="announce", schedule=PartitionedAssetTimetable(assets=CHAMPION))
def announce():
    @task
    def said(dag_run=None):
        return dag_run.partition_key

    said()


announce()
'''


@pytest.mark.parametrize("keyed", [True, False], ids=["by its candidate", "by hand"])
def test_who_follows_the_champion_hears_of_the_first_one(
    tmp_path: Path, start_scheduler: SchedulerFactory, keyed: bool
) -> None:
    project = make_project(tmp_path)
    (project.dags / "announce.py").write_text(ANNOUNCE.format(model=project.model))
    for key in KEYS[:2]:
        project.put(key)
        project.publish(key)
    project.register(KEYS[1], by_hand=True)
    scheduler = start_scheduler(project.dags)
    scheduler.trigger(project.dag("rollout"), partition_key=KEYS[1] if keyed else None)
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    assert [run.partition_key for run in scheduler.dag_runs("announce")] == [KEYS[1]]
    assert [record.details.version for record in project.of_kind("promoted")] == ["1"]
    assert project.of_kind("stage_entered", "stage_analysed") == []
