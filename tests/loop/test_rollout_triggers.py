"""The triggers of a rollout, and the task that waits for one: what they keep, whom they hold up, when they end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.rollout.control_rollout import control_rollout
from airflow_mlops.operators.rollout import AnalyseRolloutOperator
from airflow_mlops.testing.in_memory_target import InMemoryTarget
from airflow_mlops.triggers.rollout import LookDueTrigger
from tests.unit.core.ledger.histories import draft_of, week
from tests.unit.core.rollout.test_analyse_traffic import rolled_out
from tests.unit.core.toy_loop import toy_fields

STAGES: list[dict[str, Any]] = [{"shadow": 20, "bake": 30}, {"canary": 10, "approval": "human"}, {"live": 100}]


def trigger_of(fields: dict[str, Any]) -> LookDueTrigger:
    """Return the trigger of a stage of a loop."""
    return LookDueTrigger(
        loop=Loop(**fields).to_dict(), root=".", version="2", poll_seconds=0.01, connections=("lake", "ledger"), index=1
    )


def test_a_trigger_comes_out_of_the_database_with_the_loop_it_went_in_with(airflow_home: Path) -> None:
    from airflow.models.trigger import Trigger
    from airflow.sdk._shared.module_loading import import_string

    fields = toy_fields(
        rollout={
            "target": "gateway",
            "stages": STAGES,
            "metrics": [{"metric": "errors", "worse_by": 0.005}, {"metric": "kpi", "query": "q", "conn_id": "shop"}],
        }
    )
    fields["data"] |= {"from": "2013-01-01", "until": "2014-01-01"}
    classpath, kwargs = trigger_of(fields).serialize()
    row = Trigger(classpath=classpath, kwargs=kwargs)
    again = import_string(row.classpath)(**row.kwargs)
    assert Loop(**again.loop) == Loop(**fields)
    assert again.serialize() == (classpath, kwargs)


def test_a_target_that_does_not_answer_holds_up_nobody_elses_trigger(airflow_home: Path) -> None:
    answered = threading.Event()

    class Waiting(LookDueTrigger):
        def _poll(self) -> str | None:
            return "answered" if answered.wait(timeout=20) else "the other one was never asked"

    class Answering(LookDueTrigger):
        def _poll(self) -> str | None:
            answered.set()
            return "answered"

    async def first(kind: type[LookDueTrigger]) -> Any:
        async for event in kind(**trigger_of(toy_fields()).arguments()).run():
            return event.payload
        raise AssertionError("no event")

    async def both() -> list[Any]:
        return list(await asyncio.gather(first(Waiting), first(Answering)))

    assert asyncio.run(both()) == [{"reason": "answered"}] * 2


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_task_waits_for_the_stage_that_is_open_and_for_no_other(
    airflow_home: Path, tmp_path: Path, deferrable: bool
) -> None:
    target = InMemoryTarget()
    workspace = rolled_out(tmp_path, target, STAGES)
    arguments: dict[str, Any] = {"loop": workspace.loop, "version": "2", "poll_seconds": 0.0, "deferrable": deferrable}
    early = AnalyseRolloutOperator(task_id="early", index=1, **arguments)
    with pytest.raises(NotReadyError, match="it was not entered"):
        early.execute_stage(workspace, week(3), {})
    look = AnalyseRolloutOperator(task_id="look", index=0, **arguments)
    with pytest.raises(NotReadyError, match="is older"):
        look.execute_stage(workspace, week(2), {})
    if deferrable:
        with pytest.raises(TaskDeferred) as waits:
            look.execute_stage(workspace, week(3), {})
        assert isinstance(waits.value.trigger, LookDueTrigger)
    control_rollout(workspace, "abort", reason="complaints")
    workspace.record_fact(
        draft_of(workspace, "quarantine_lifted", "lift", week(3), version="2", reason="it was not it")
    )
    with pytest.raises(NotReadyError, match="version 2 is not being rolled out"):
        look.execute_stage(workspace, week(3), {})
