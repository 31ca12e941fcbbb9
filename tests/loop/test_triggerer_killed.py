"""A triggerer that is killed while a rollout waits in it: another one takes over, and the rollout goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.testing.metadata import session_scope
from tests.loop.own_triggerer import kill_triggerer, own_triggerer, wait_for_triggerer
from tests.loop.project import make_project, states
from tests.loop.test_targets import (
    BY_ERRORS,
    NO_DRIFT,
    ROLLOUT,
    answered,
    assert_waits,
    assert_went_live,
    challenged,
    gateway_of,
    run_through,
    traffic,
)

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory


def waited_for_by() -> list[int | None]:
    """Return the triggerer that has each trigger of a deferred task."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from sqlalchemy import select

    with session_scope() as session:
        waiting = select(Trigger.triggerer_id).join(TaskInstance, TaskInstance.trigger_id == Trigger.id)
        return list(session.scalars(waiting.where(TaskInstance.state == "deferred")))


def test_a_rollout_goes_on_in_another_triggerer_when_the_one_it_waits_in_is_killed(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, watch=NO_DRIFT, rollout={"target": "gateway", **ROLLOUT, "metrics": BY_ERRORS})
    with gateway_of(project, tmp_path, monkeypatch) as gateway:
        scheduler = start_scheduler(project.dags)
        challenged(project, scheduler)
        assert_waits(scheduler, project)
        with own_triggerer() as first:
            wait_for_triggerer(first, lambda: waited_for_by() != [None])
            (lost,) = waited_for_by()
            kill_triggerer(first)
        assert waited_for_by() == [lost], "nobody has taken over yet"
        with gateway.client() as client, traffic(lambda row: answered(client, row)):
            with own_triggerer() as second:
                wait_for_triggerer(second, lambda: waited_for_by() == [])
            scheduler.run_until_idle()
            assert states(scheduler, project.dag("rollout"))["shadow_100.analyse"] != "failed", scheduler.failures()
            run_through(scheduler, project)
        assert_went_live(scheduler, project)
