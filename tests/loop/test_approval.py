"""A person is asked before a rollout, in Airflow; who started the run cannot answer for it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from airflow.sdk.exceptions import AirflowFailException
from structlog.contextvars import get_contextvars

from airflow_mlops.core.rollout.approvals import record_rejection, version_to_approve
from airflow_mlops.operators.approval import ApproveVersionOperator, format_question
from airflow_mlops.operators.stage_spans import observing_stage
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, night, states, why

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

ASKED = {"approval": "human", "stages": [{"live": 100}]}


def waiting(tmp_path: Path, start: SchedulerFactory, *, user: str | None) -> tuple[Project, InProcessScheduler]:
    """Return a loop whose first candidate waits for a person; the training was started by ``user``."""
    project = make_project(tmp_path, rollout=ASKED)
    scheduler = start(project.dags)
    for key in KEYS[:2]:
        project.put(key)
        project.ingest(scheduler, key)
    scheduler.trigger(project.dag("nightly"), partition_key=night(KEYS[1]), user=user)
    scheduler.run_until_idle()
    assert states(scheduler, project.dag("rollout"))["approve"] == "awaiting_input", scheduler.failures()
    assert project.workspace.state().rollout is None
    return project, scheduler


def candidate(tmp_path: Path) -> Project:
    """Return a loop whose first candidate waits for a person; the core alone made it."""
    project = make_project(tmp_path, rollout=ASKED)
    for key in KEYS[:2]:
        project.put(key)
        project.publish(key)
    project.register(KEYS[1], by_hand=True)
    assert version_to_approve(project.workspace, KEYS[1]).number == "1"
    return project


def test_an_approved_version_goes_live_and_the_ledger_says_who(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = waiting(tmp_path, start_scheduler, user=None)
    scheduler.respond(project.dag("rollout"), "approve", "Approve", user="ben")
    scheduler.run_until_idle()
    assert states(scheduler, project.dag("rollout")) == {
        "approve": "success",
        "start": "success",
        "live_100.promote": "skipped",
    }
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert project.of_kind("approved")[0].details.by == "ben"
    assert_invariants(project.workspace)


def test_who_started_the_training_cannot_approve_it_and_somebody_else_can_the_week_after(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = waiting(tmp_path, start_scheduler, user="ann")
    scheduler.respond(project.dag("rollout"), "approve", "Approve", user="ann")
    scheduler.run_until_idle()
    assert states(scheduler, project.dag("rollout"))["approve"] == "failed"
    assert "ann started a run that made version 1; somebody else must approve it" in why(scheduler, "approve")
    assert project.of_kind("approval_void")[0].details.by == "ann"
    assert project.workspace.state().champion is None

    scheduler.trigger(project.dag("rollout"), partition_key=KEYS[1])
    scheduler.run_until_idle()
    scheduler.respond(project.dag("rollout"), "approve", "Approve", user="ben")
    scheduler.run_until_idle()
    assert project.workspace.registry.aliases() == {"champion": "1"}
    assert_invariants(project.workspace)


def test_log_lines_about_a_question_have_its_version_as_a_field(tmp_path: Path, airflow_home: Path) -> None:
    project = candidate(tmp_path)
    with observing_stage(ApproveVersionOperator, project.model, KEYS[1]):
        assert "version" not in get_contextvars()
        version_to_approve(project.workspace, KEYS[1])
        fields = dict(get_contextvars())
    assert (fields["model"], fields["version"], fields["stage"]) == (project.model, "1", "approve_version")
    assert {"model", "partition", "stage", "version"}.isdisjoint(get_contextvars())


def test_a_rejected_version_is_quarantined_and_what_follows_is_skipped(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = waiting(tmp_path, start_scheduler, user=None)
    scheduler.respond(project.dag("rollout"), "approve", "Reject", user="ben", reason="a carrier is missing")
    scheduler.run_until_idle()
    assert set(states(scheduler, project.dag("rollout")).values()) == {"skipped"}
    assert dict(project.workspace.state().quarantined.items()) == {"1": "rejected by ben: a carrier is missing"}
    assert project.workspace.registry.aliases() == {}
    assert_invariants(project.workspace)


def test_an_answer_about_one_version_never_counts_for_another(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = waiting(tmp_path, start_scheduler, user=None)
    first = project.workspace.state().versions["1"]
    record_rejection(project.workspace, first, "cleo", "asked elsewhere")
    project.put(KEYS[1], level=0.2)
    project.publish(KEYS[1])
    project.register(KEYS[1], by_hand=True)
    scheduler.respond(project.dag("rollout"), "approve", "Approve", user="ben")
    scheduler.run_until_idle()
    assert states(scheduler, project.dag("rollout"))["approve"] == "skipped"
    assert project.of_kind("approved") == []
    assert project.workspace.state().champion is None
    assert_invariants(project.workspace)


def test_what_is_chosen_when_the_time_is_up_is_no_approval(tmp_path: Path, airflow_home: Path) -> None:
    project = candidate(tmp_path)
    operator = ApproveVersionOperator(task_id="approve", loop=project.fields, root=str(project.root))
    event = {"chosen_options": ["Approve"], "params_input": {}, "responded_at": datetime.now(UTC)}
    instance, run = MagicMock(dag_id="d", task_id="t", run_id="r"), MagicMock(triggering_user_name=None)
    run.partition_key = KEYS[1]
    context: Any = {"ti": instance, "dag_run": run}
    with pytest.raises(AirflowFailException, match="nobody answered about version 1"):
        operator.execute_complete(context, {**event, "responded_by_user": None}, shown_version="1")
    assert not project.workspace.state().approved


def test_the_question_shows_values_of_the_data_as_they_are(tmp_path: Path, airflow_home: Path) -> None:
    project = candidate(tmp_path)
    version = project.workspace.state().versions["1"]
    text = format_question(project.workspace, version, ["[a](http://b)"])
    assert "- pass: mae" in text
    assert r"\[a\](http://b)" in text
