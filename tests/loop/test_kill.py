"""A kill -9 between any two writes of a promotion or a registration, then Airflow's own recovery.

The task runs in a scheduler of its own process, under the real task runner. It dies at a fault point by SIGKILL;
this process then is the scheduler that takes over, finds the orphaned task and runs it again.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.core.rollout.reconcile_aliases import wanted_aliases
from airflow_mlops.core.rollout.score_partition import score_partition
from tests.loop.invariants import assert_invariants, versions_in_registry
from tests.loop.project import KEYS, Project, make_project, states

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

HOUSE = Path(__file__).parents[2]


FOLLOW = '''
"""A Dag of somebody else's that follows the champion."""
from airflow.sdk import DAG, Asset, PartitionedAssetTimetable
from airflow.providers.standard.operators.empty import EmptyOperator

CHAMPION = Asset(name="{model}_champion", uri="mlops://{model}/champion")

with DAG("follow", schedule=PartitionedAssetTimetable(assets=CHAMPION)):
    EmptyOperator(task_id="follow")
'''

DieAt = Callable[[str, Project], None]


@pytest.fixture(scope="module")
def die_at(airflow_home: Path) -> Iterator[DieAt]:
    """A function that lets a process work on what is queued, and be killed at a fault point."""
    command = [sys.executable, "-m", "tests.loop.doomed_scheduler"]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, cwd=HOUSE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        asks, answers = server.stdin, server.stdout

        def die(point: str, project: Project) -> None:
            asks.write(f"{project.dags} {point}\n")
            asks.flush()
            status = answers.readline().strip()
            log.seek(0)
            assert status == str(-signal.SIGKILL), log.read()[-4000:]

        yield die
        asks.close()


def let_time_pass_for_the_dead() -> None:
    """Make the last heartbeat of every running scheduler an hour old, as it is when a new one looks an hour later."""
    from datetime import timedelta

    from airflow.jobs.job import Job
    from airflow.sdk import timezone
    from sqlalchemy import update

    from airflow_mlops.testing.metadata import session_scope

    with session_scope() as session:
        long_ago = timezone.utcnow() - timedelta(hours=1)
        session.execute(update(Job).where(Job.state == "running").values(latest_heartbeat=long_ago))


@pytest.mark.parametrize("point", ["ledger.promoted.before", "ledger.promoted.after"])
def test_a_first_version_killed_in_the_middle_is_the_champion_and_its_event_is_sent(
    tmp_path: Path, start_scheduler: SchedulerFactory, die_at: DieAt, point: str
) -> None:
    project = make_project(tmp_path)
    (project.dags / "follow.py").write_text(FOLLOW.format(model=project.model))
    for key in KEYS[:2]:
        project.put(key)
        project.publish(key)
    project.register(KEYS[1], by_hand=True)
    scheduler = start_scheduler(project.dags)
    scheduler.trigger(project.dag("rollout"), partition_key=KEYS[1])
    die_at(point, project)
    assert states(scheduler, project.dag("rollout"))["start"] == "running"
    assert scheduler.dag_runs("follow") == []

    let_time_pass_for_the_dead()
    scheduler.run_until_idle()
    tasks = states(scheduler, project.dag("rollout"))
    assert (tasks.pop("start"), set(tasks.values())) == ("success", {"skipped"})
    assert [record.details.version for record in project.of_kind("promoted")] == ["1"]
    assert [run.partition_key for run in scheduler.dag_runs("follow")] == [KEYS[1]]
    assert_invariants(project.workspace)


@pytest.mark.parametrize(
    "point", ["ledger.promoted.before", "ledger.promoted.after", "mlflow.set_alias.champion.after"]
)
def test_a_promotion_killed_in_the_middle_ends_with_exactly_one_champion(
    tmp_path: Path, start_scheduler: SchedulerFactory, die_at: DieAt, point: str
) -> None:
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    project.put(KEYS[2])
    project.publish(KEYS[2])
    project.register(KEYS[2], by_hand=True)
    scheduler = start_scheduler(project.dags)
    scheduler.trigger(project.dag("score"), partition_key=KEYS[2])
    scheduler.pause(project.dag("watch"))
    scheduler.run_until_idle()

    scheduler.trigger(project.dag("rollout"), partition_key=KEYS[2])
    die_at(point, project)
    assert states(scheduler, project.dag("rollout"))["live_100.promote"] == "running"
    state = project.workspace.state()
    assert state.champion is not None
    assert state.champion.number == ("1" if point == "ledger.promoted.before" else "2")
    aliases = project.workspace.registry.aliases()
    assert aliases["champion"] == ("2" if point == "mlflow.set_alias.champion.after" else "1")

    let_time_pass_for_the_dead()
    scheduler.run_until_idle()
    assert set(states(scheduler, project.dag("rollout")).values()) == {"success"}
    assert scheduler.failures() == []
    assert [record.details.version for record in project.of_kind("promoted")] == ["1", "2"]
    assert project.workspace.registry.aliases() == {"champion": "2"}
    assert_invariants(project.workspace)


@pytest.mark.parametrize("point", ["mlflow.create_model_version.before", "mlflow.create_model_version.after"])
def test_a_registration_killed_in_the_middle_gives_one_version(
    tmp_path: Path, start_scheduler: SchedulerFactory, die_at: DieAt, point: str
) -> None:
    project = make_project(tmp_path)
    project.seed(KEYS[:2])
    project.put(KEYS[2])
    project.publish(KEYS[2])
    scheduler = start_scheduler(project.dags)
    scheduler.pause(project.dag("rollout"))
    scheduler.trigger(project.dag("train"))
    die_at(point, project)
    assert states(scheduler, project.dag("train"))["register"] == "running"
    assert len(project.of_kind("candidate_registered")) == 1
    assert len(versions_in_registry(project.model)) == (1 if point.endswith("before") else 2)

    let_time_pass_for_the_dead()
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    assert sorted(versions_in_registry(project.model)) == ["1", "2"]
    assert [record.details.version for record in project.of_kind("candidate_registered")] == ["1", "2"]
    assert project.workspace.registry.aliases() == {"champion": "1", "candidate": "2"}
    assert wanted_aliases(project.workspace.state()) == {"champion": "1", "challenger": None, "candidate": "2"}
    assert_invariants(project.workspace)


@pytest.mark.parametrize("point", ["ledger.retrain_decided.before", "ledger.retrain_decided.after"])
def test_a_scheduler_killed_while_it_decides_on_an_alarm_ends_with_exactly_one_retrain(
    tmp_path: Path, start_scheduler: SchedulerFactory, die_at: DieAt, point: str
) -> None:
    project = make_project(tmp_path, gates=[{"metric": "mae", "at_most": 100.0}])
    project.seed(KEYS[:2])
    project.put(KEYS[2], level=6.0)
    project.publish(KEYS[2])
    score_partition(project.workspace, KEYS[2])
    scheduler = start_scheduler(project.dags)
    scheduler.trigger(project.dag("watch"), partition_key=KEYS[2])
    die_at(point, project)
    assert states(scheduler, project.dag("watch"))["decide"] == "running"
    decided = [record for record in project.of_kind("retrain_decided") if record.partition == KEYS[2]]
    assert len(decided) == (0 if point.endswith("before") else 1)

    let_time_pass_for_the_dead()
    scheduler.run_until_idle()
    assert scheduler.failures() == []
    (decision,) = [record for record in project.of_kind("retrain_decided") if record.partition == KEYS[2]]
    assert decision.details.retrain
    assert decision.details.cause.startswith("alarm")
    assert [record.partition for record in project.of_kind("training_started")] == [KEYS[1], KEYS[2]]
    assert len(scheduler.dag_runs(project.dag("train"))) == 1
    assert_invariants(project.workspace)
