"""A person answers on the page of a model whether a version may be rolled out, as Airflow lets them answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from airflow_mlops.core.rollout.approvals import record_rejection
from airflow_mlops.testing.metadata import session_scope
from airflow_mlops.ui.airflow_facts import OpenApproval, loop_facts
from tests.loop.airflow_pages import COOKIE, PREFIX, airflow_client, jwt_of, token
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, states

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

ASKED = {"approval": "human", "stages": [{"live": 100}]}


@pytest.fixture(scope="module")
def airflow(airflow_home: Path) -> Iterator[Any]:
    """A client of Airflow's own application."""
    with airflow_client() as client:
        yield client


def waiting(
    tmp_path: Path, start: SchedulerFactory, *, user: str | None = None, **rollout: Any
) -> tuple[Project, InProcessScheduler]:
    """Return a loop whose version 1 waits for a person; the run that asks was started by ``user``."""
    project = make_project(tmp_path, rollout=rollout or ASKED)
    for key in KEYS[:2]:
        project.put(key)
        project.publish(key)
    project.register(KEYS[1], by_hand=True)
    scheduler = start(project.dags)
    scheduler.trigger(project.dag("rollout"), partition_key=KEYS[1], user=user)
    scheduler.run_until_idle()
    return project, scheduler


def asked(project: Project) -> OpenApproval:
    """Return the one open question about the loop."""
    with session_scope() as session:
        (approval,) = loop_facts(session, [project.model])[project.model].approvals
    return approval


def address_of(project: Project) -> str:
    """Return the address of the page of the one open question."""
    return f"{PREFIX}/models/{project.model}/approvals/{asked(project).question}"


def answer(
    client: Any, address: str, option: str, *, name: str = "ben", role: str = "USER", shown: str = "1", reason: str = ""
) -> Any:
    """Send the form of a question, and return what came back."""
    form = urlencode({"shown": shown, "answer": option, "reason": reason})
    return client.post(address, headers=token(role, name), content=form, follow_redirects=False)


def test_a_version_approved_on_its_page_goes_live_and_the_ledger_says_who(
    airflow: Any, tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    from airflow.models.log import Log
    from sqlalchemy import select

    project, scheduler = waiting(tmp_path, start_scheduler)
    address = address_of(project)
    model = f"{PREFIX}/models/{project.model}"
    assert f'href="{address}">Approve or reject</a>' in airflow.get(model, headers=token("USER", "ben")).text
    page = airflow.get(address, headers=token("USER", "ben"))
    assert page.status_code == 200
    assert "The rollout of version 1 begins: there is no champion to compare it with, so it goes live" in page.text
    assert "goes into quarantine and is not rolled out" in page.text
    assert "Gates of version 1" in page.text
    assert "in your name, ben" in page.text

    given = answer(airflow, address, "Approve")
    assert given.status_code == 303
    notice = airflow.get(given.headers["location"], headers=token("USER", "ben")).text
    assert "Answered: Approve, by ben. The task approve is scheduled." in notice
    scheduler.run_until_idle()
    assert states(scheduler, project.dag("rollout"))["start"] == "success", scheduler.failures()
    assert project.of_kind("approved")[0].details.by == "ben"
    assert project.workspace.registry.aliases() == {"champion": "1"}
    with session_scope() as session:
        logged = session.scalars(select(Log).where(Log.dag_id == project.dag("rollout"), Log.owner == "ben")).all()
        assert [(line.event, line.task_id) for line in logged] == [("update_hitl_detail", "approve")]
    assert_invariants(project.workspace)


def test_a_version_rejected_on_its_page_needs_a_reason_and_goes_into_quarantine(
    airflow: Any, tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = waiting(tmp_path, start_scheduler)
    address = address_of(project)
    empty, long = (answer(airflow, address, "Reject", reason=reason) for reason in (" ", "x" * 501))
    assert (empty.status_code, "a rejection needs it" in empty.text) == (409, True)
    assert (long.status_code, "has 501 characters; at most 500 are taken" in long.text) == (409, True)
    assert answer(airflow, address, "Reject", reason="<b>a carrier</b> is missing").status_code == 303
    scheduler.run_until_idle()
    assert set(states(scheduler, project.dag("rollout")).values()) == {"skipped"}
    quarantined = dict(project.workspace.state().quarantined.items())
    assert quarantined == {"1": "rejected by ben: <b>a carrier</b> is missing"}
    page = airflow.get(f"{PREFIX}/models/{project.model}", headers=token("VIEWER")).text
    assert "&lt;b&gt;a carrier&lt;/b&gt; is missing" in page
    assert_invariants(project.workspace)


def test_who_may_not_answer_is_refused_and_not_asked(
    airflow: Any, tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, _ = waiting(tmp_path, start_scheduler)
    address, model = address_of(project), f"{PREFIX}/models/{project.model}"
    assert airflow.get(address).status_code == 401
    assert airflow.post(address, headers={"Origin": "http://testserver", "Content-Length": "0"}).status_code == 401
    assert airflow.get(address, headers=token("VIEWER")).status_code == 403
    assert answer(airflow, address, "Approve", role="VIEWER").status_code == 403
    page = airflow.get(model, headers=token("VIEWER")).text
    assert "May version 1 of" in page
    assert "/approvals/" not in page
    cookie = {"Cookie": f"{COOKIE}={jwt_of('ADMIN')}", "Origin": "https://elsewhere.example"}
    assert airflow.post(address, headers=cookie, content="shown=1&answer=Approve").status_code == 403
    assert asked(project).subject == f"May version 1 of {project.model} be rolled out?"


def test_where_people_are_assigned_nobody_else_answers(
    airflow: Any, tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    from airflow.models.hitl import HITLDetail
    from sqlalchemy import update

    project, _ = waiting(tmp_path, start_scheduler)
    address, model = address_of(project), f"{PREFIX}/models/{project.model}"
    with session_scope() as session:
        assigned = [{"id": "cleo", "name": "cleo"}]
        question = asked(project).question
        session.execute(update(HITLDetail).where(HITLDetail.ti_id == question).values(assignees=assigned))
    assert answer(airflow, address, "Approve", role="ADMIN").status_code == 403
    assert "/approvals/" not in airflow.get(model, headers=token("ADMIN", "ben")).text
    assert "/approvals/" in airflow.get(model, headers=token("USER", "cleo")).text
    assert answer(airflow, address, "Approve", name="cleo").status_code == 303


def test_who_started_the_run_is_told_so_before_and_somebody_else_approves(
    airflow: Any, tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = waiting(tmp_path, start_scheduler, user="ann")
    address = address_of(project)
    words = "ann started a run that made version 1; somebody else must approve it"
    page = airflow.get(address, headers=token("USER", "ann")).text
    assert words in page
    assert 'value="Approve"' not in page
    assert 'value="Reject"' in page
    refused = answer(airflow, address, "Approve", name="Ann")
    assert (refused.status_code, words in refused.text) == (409, True)
    assert project.of_kind("approval_void") == []
    assert answer(airflow, address, "Approve").status_code == 303
    scheduler.run_until_idle()
    assert project.of_kind("approved")[0].details.by == "ben"


def test_an_answer_is_about_the_version_that_was_shown_or_about_none(
    airflow: Any, tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = waiting(tmp_path, start_scheduler)
    address = address_of(project)
    for shown in ("2", "", "<i>"):
        stale = answer(airflow, address, "Approve", shown=shown)
        assert stale.status_code == 409
        assert "and version 1 waits now; look again" in stale.text
        assert "<i>" not in stale.text
    unknown = answer(airflow, address, "Promote")
    assert (unknown.status_code, "choose one of Approve, Reject" in unknown.text) == (409, True)

    record_rejection(project.workspace, project.workspace.state().versions["1"], "cleo", "asked elsewhere")
    gone = airflow.get(address, headers=token("USER", "ben"))
    assert (gone.status_code, "no version waits any more" in gone.text, "<form" in gone.text) == (409, True, False)
    project.put(KEYS[1], level=0.2)
    project.publish(KEYS[1])
    project.register(KEYS[1], by_hand=True)
    for shown in ("1", "2"):
        other = answer(airflow, address, "Approve", shown=shown)
        assert other.status_code == 409
        assert "Version 1 was asked about, and version 2 waits now." in other.text
    scheduler.run_until_idle()
    assert states(scheduler, project.dag("rollout"))["approve"] == "awaiting_input"
    assert project.of_kind("approved") == []


def test_a_question_is_answered_once_and_not_while_its_dag_is_paused(
    airflow: Any, tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    project, scheduler = waiting(tmp_path, start_scheduler)
    address = address_of(project)
    scheduler.pause(project.dag("rollout"))
    paused = answer(airflow, address, "Approve")
    assert (paused.status_code, f"The Dag {project.dag('rollout')} is paused" in paused.text) == (409, True)
    scheduler.unpause(project.dag("rollout"))
    assert answer(airflow, address, "Approve").status_code == 303
    again = answer(airflow, address, "Reject", reason="too late", name="cleo")
    assert (again.status_code, "was answered, or is not asked any more" in again.text) == (404, True)
    scheduler.run_until_idle()
    assert project.of_kind("approved")[0].details.by == "ben"


def test_a_task_that_ended_without_an_answer_asks_nobody_any_more(
    airflow: Any, tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import update

    project, _ = waiting(tmp_path, start_scheduler)
    address, question = address_of(project), asked(project).question
    with session_scope() as session:
        session.execute(update(TaskInstance).where(TaskInstance.id == question).values(state="failed"))
    assert airflow.get(address, headers=token("ADMIN")).status_code == 404
    assert "May version 1 of" not in airflow.get(f"{PREFIX}/models", headers=token("ADMIN")).text


def test_a_stage_rejected_on_the_page_takes_the_challenger_back(
    airflow: Any, tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    stages = [{"live": 100, "approval": "human"}]
    project, scheduler = waiting(tmp_path, start_scheduler, stages=stages)
    address = address_of(project)
    page = airflow.get(address, headers=token("USER", "ben")).text
    assert "Version 1 goes on: there is no champion to compare it with, so it goes live" in page
    assert "Version 1 is taken back at once and goes into quarantine; nobody serves." in page
    assert answer(airflow, address, "Reject", reason="not this week").status_code == 303
    scheduler.run_until_idle()
    quarantined = dict(project.workspace.state().quarantined.items())
    assert quarantined["1"].endswith("live_100: rejected by ben: not this week"), quarantined
    assert_invariants(project.workspace)
