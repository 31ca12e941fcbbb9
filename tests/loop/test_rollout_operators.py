"""The rollout's operators stand alone: in an ordinary Dag of somebody else's, and by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.cli import main
from airflow_mlops.core.rollout.score_partition import score_partition
from tests.loop.by_core import publish, register, roll_out
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, states, why

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

WATCH = {"performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}
HOLDS = {"stages": [{"shadow": 100, "bake": 3}, {"live": 100}], "min_rows": 20}

OWN_DAGS = '''
"""Dags of one's own around a rollout."""
from airflow.sdk import DAG

from airflow_mlops import (
    AdvanceRolloutOperator, AnalyseRolloutOperator, RollBackModelOperator, RolloutSensor, StartRolloutOperator,
)

STEP = {{"loop": "include/loops/{model}.yaml", "root": {root!r}}}

with DAG("own_rollout", schedule=None):
    start = StartRolloutOperator(task_id="start", **STEP)
    enter = AdvanceRolloutOperator(task_id="enter", version=start.output, index=0, **STEP)
    look = AnalyseRolloutOperator(task_id="look", version=start.output, index=0, **STEP)
    live = AdvanceRolloutOperator(task_id="live", version=start.output, index=1, **STEP)
    start >> enter >> look >> live

with DAG("own_wait", schedule=None, params={{"version": "2"}}):
    RolloutSensor(task_id="wait", version="{{{{ params.version }}}}", poll_seconds=0.1, retries=0, **STEP)

with DAG("own_rollback", schedule=None):
    RollBackModelOperator(task_id="back", reason="complaints of {{{{ ds_nodash is defined }}}}", **STEP)
'''


@pytest.fixture
def project(tmp_path: Path, airflow_home: Path) -> Project:
    """A loop whose version 2 waits for its rollout, and Dags of somebody's own beside those of the loop."""
    project = make_project(tmp_path, watch=WATCH, rollout={"stages": [{"shadow": 100}, {"live": 100}], "min_rows": 20})
    project.seed(KEYS[:2])
    project.put(KEYS[2], level=0.2)
    publish(project.workspace, KEYS[2])
    score_partition(project.workspace, KEYS[2])
    register(project.workspace, KEYS[2], by_hand=True)
    (project.dags / "own.py").write_text(OWN_DAGS.format(model=project.model, root=str(project.root)))
    return project


def test_a_rollout_of_ones_own_waits_for_the_sensor_of_another_dag_and_goes_back_by_a_third(
    project: Project, start_scheduler: SchedulerFactory
) -> None:
    scheduler = start_scheduler(project.dags)
    scheduler.trigger("own_wait")
    scheduler.run_until_idle()
    assert states(scheduler, "own_wait") == {"wait": "deferred"}
    scheduler.trigger("own_rollout")
    scheduler.run_until_idle()
    assert states(scheduler, "own_rollout")["enter"] == "success", scheduler.failures()
    assert set(states(scheduler, "own_rollout").values()) == {"success"}
    assert scheduler.run_triggers(timeout_seconds=10) == 1
    scheduler.run_until_idle()
    assert states(scheduler, "own_wait") == {"wait": "success"}
    assert scheduler.xcom("own_wait", "wait") == "version 2 was promoted"

    scheduler.trigger("own_rollback")
    scheduler.run_until_idle()
    assert scheduler.xcom("own_rollback", "back") == {"version": "2", "champion": "1", "notes": []}
    assert project.workspace.registry.aliases() == {"champion": "1"}
    scheduler.trigger("own_wait")
    scheduler.run_until_idle()
    assert states(scheduler, "own_wait") == {"wait": "failed"}
    assert "version 2 was rolled back: complaints" in why(scheduler, "wait")
    assert_invariants(project.workspace)


def run(project: Project, *arguments: str) -> int:
    """Run a command about the rollout of a project."""
    action, *more = arguments
    return main(["rollout", action, project.model, *more, "--root", str(project.root)])


def test_the_command_line_says_where_a_rollout_stands_and_acts_on_it(
    tmp_path: Path, airflow_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path, watch=WATCH, rollout=HOLDS)
    for key in KEYS[:2]:
        project.put(key)
        publish(project.workspace, key)
    assert run(project, "status") == 0
    assert capsys.readouterr().out == f"no rollout of {project.model} is under way; no version serves\n"
    assert run(project, "pause") == 1
    assert "no rollout" in capsys.readouterr().err

    project.seed(KEYS[:2])
    project.put(KEYS[2], level=0.2)
    publish(project.workspace, KEYS[2])
    register(project.workspace, KEYS[2], by_hand=True)
    with pytest.raises(Exception, match="0 of 3 partitions were scored"):
        roll_out(project.workspace, KEYS[2])
    assert run(project, "status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "version 2 beside version 1 on batch; next: look shadow_100"
    assert lines[1].split(maxsplit=1)[0] == "shadow_100"
    assert "open, 1 looks, the last: 0 of 3 partitions were scored" in lines[1]
    assert lines[2].split() == ["live_100", "to", "come"]
    assert run(project, "pause", "--reason", "holiday") == 0
    assert run(project, "status") == 0
    assert "next: hold shadow_100 (paused: holiday)" in capsys.readouterr().out
    assert run(project, "approve", "canary_7") == 1
    assert "there is no stage 'canary_7'; stages: shadow_100, live_100" in capsys.readouterr().err
    assert run(project, "skip", "--reason", "seen enough") == 0
    assert run(project, "resume") == 0
    roll_out(project.workspace, KEYS[2])
    assert project.workspace.registry.aliases() == {"champion": "2"}
    assert run(project, "abort") == 1
    assert project.of_kind("stage_skipped")[-1].details.reason == "seen enough"
    assert_invariants(project.workspace)
