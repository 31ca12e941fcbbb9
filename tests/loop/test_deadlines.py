"""A run that does not end is told by Airflow's deadline; a partition that is missing is found by the nightly run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError
from tests.loop.own_triggerer import callback_answers, run_triggerer
from tests.loop.project import KEYS, Project, make_project, states
from tests.loop.receivers import webhook

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

CHAT = {"kind": "webhook", "conn_id": "chat"}
TIMELY: dict[str, Any] = {
    "watch": {"overdue": 24, "deadline": 2, "performance": {"metric": "mae"}},
    "notify": {"overdue": [CHAT], "failed": [CHAT]},
}


def deadlines() -> list[tuple[str, bool]]:
    """Return the state of the run of each deadline that there is, and whether it was missed."""
    from airflow.models.deadline import Deadline
    from sqlalchemy import select

    from airflow_mlops.testing.metadata import session_scope

    with session_scope() as session:
        return [(str(deadline.dagrun.state), deadline.missed) for deadline in session.scalars(select(Deadline))]


def let_deadlines_pass(scheduler: InProcessScheduler) -> None:
    """Make every deadline an hour old, and let the scheduler look at them."""
    from airflow.models.deadline import Deadline
    from airflow.sdk import timezone
    from sqlalchemy import update

    from airflow_mlops.testing.metadata import session_scope

    with session_scope() as session:
        session.execute(update(Deadline).values(deadline_time=timezone.utcnow() - timedelta(hours=1)))
    scheduler.run_until_idle()


def run_callbacks(change: Callable[[dict[str, Any]], None] = lambda _run: None) -> list[str]:
    """Run the callbacks that the scheduler has handed to the triggerer, as that does; return what each has answered.

    ``change`` may change the run that a callback is told of.
    """
    from airflow.models.trigger import Trigger
    from airflow.triggers.callback import CallbackTrigger
    from sqlalchemy import select

    from airflow_mlops.testing.metadata import session_scope

    async def run(trigger: CallbackTrigger) -> list[dict[str, Any]]:
        return [event.payload async for event in trigger.run()]

    with session_scope() as session:
        rows = list(session.scalars(select(Trigger).where(Trigger.classpath.endswith("CallbackTrigger"))))
        triggers = [CallbackTrigger(**row.kwargs) for row in rows]
    answers = []
    for trigger in triggers:
        change(trigger.callback_kwargs["context"]["dag_run"])
        last = asyncio.run(run(trigger))[-1]
        assert last["state"] == "success", last
        answers.append(str(last["body"]))
    return answers


def queued_run(scheduler: InProcessScheduler, project: Project) -> None:
    """Start an ingest run that stays queued, as where no worker is left, and let its deadline pass."""
    scheduler.pause(project.dag("ingest"))
    scheduler.trigger(project.dag("ingest"), partition_key=KEYS[0])
    let_deadlines_pass(scheduler)
    assert deadlines() == [("queued", True)]


def test_a_run_that_no_worker_takes_is_told_to_who_hears_of_what_is_overdue(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, **TIMELY)
    scheduler = start_scheduler(project.dags)
    queued_run(scheduler, project)
    with webhook() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection())
        (answer,) = run_callbacks()
    (body,) = receiver.bodies
    assert (body["kind"], body["model"], body["partition"]) == ("overdue", project.model, KEYS[0])
    assert body["sentence"] == answer
    assert f"of {project.dag('ingest')} is queued since " in answer
    assert "watch.deadline is 2 hours: no worker takes its task, or its Dag is paused" in answer
    assert project.records == []


def test_airflows_own_scheduler_and_triggerer_tell_of_a_late_run_once(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, **TIMELY)
    scheduler = start_scheduler(project.dags)
    scheduler.pause(project.dag("ingest"))
    scheduler.trigger(project.dag("ingest"), partition_key=KEYS[0])
    scheduler.run_until_idle()
    assert (deadlines(), callback_answers()) == ([("queued", False)], [("scheduled", "None")])  # it has two hours
    let_deadlines_pass(scheduler)
    with webhook() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection())
        ((state, answer),) = run_triggerer()
        let_deadlines_pass(scheduler)
        assert callback_answers() == [(state, answer)]
    assert (state, "watch.deadline is 2 hours" in answer) == ("success", True), answer
    (body,) = receiver.bodies
    assert (body["kind"], body["model"], body["partition"]) == ("overdue", project.model, KEYS[0])
    assert body["sentence"] == answer
    assert project.records == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "success"}, "has ended (success)"),
        ({"run_type": "backfill"}, "waits behind others of its backfill"),
    ],
)
def test_a_run_that_ended_or_waits_in_a_backfill_is_told_to_nobody(
    tmp_path: Path,
    start_scheduler: SchedulerFactory,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    words: str,
) -> None:
    project = make_project(tmp_path, **TIMELY)
    scheduler = start_scheduler(project.dags)
    queued_run(scheduler, project)
    with webhook() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection())
        (answer,) = run_callbacks(lambda run: run.update(change))
    assert words in answer
    assert receiver.bodies == receiver.refused == []


def test_a_run_that_failed_in_time_is_not_told_again_at_its_deadline(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, **TIMELY)
    scheduler = start_scheduler(project.dags)
    with webhook() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection())
        project.put(KEYS[0], rows=0)
        project.ingest(scheduler, KEYS[0])
        let_deadlines_pass(scheduler)
        assert deadlines() == [("failed", True)]
        (answer,) = run_callbacks()
    assert "has ended (failed); a failed task was told of by itself" in answer
    assert [body["kind"] for body in receiver.bodies] == ["failed"]


def test_a_receiver_that_takes_nothing_keeps_the_message_from_no_other(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [{**CHAT, "conn_id": "nowhere"}, CHAT]
    project = make_project(tmp_path, **{**TIMELY, "notify": {"overdue": both}})
    scheduler = start_scheduler(project.dags)
    queued_run(scheduler, project)
    with webhook() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection())
        run_callbacks()
    assert [body["kind"] for body in receiver.bodies] == ["overdue"]


def test_callbacks_of_a_list_are_called_as_for_whatever_is_overdue(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    package = f"late_{tmp_path.name.replace('-', '_')}"
    (tmp_path / package).mkdir()
    pager = "from pathlib import Path\n\n\ndef tell(context):\n    text = str(context['overdue'])\n"
    (tmp_path / package / "pager.py").write_text(f"{pager}    Path(__file__).with_name('told.txt').write_text(text)\n")
    project = make_project(tmp_path, **{**TIMELY, "notify": [f"{package}.pager:tell"]})
    scheduler = start_scheduler(project.dags)
    queued_run(scheduler, project)
    (answer,) = run_callbacks()
    assert (tmp_path / package / "told.txt").read_text() == str([answer])


def test_a_partition_that_is_missing_misses_no_deadline_and_the_nightly_run_finds_it(
    tmp_path: Path, start_scheduler: SchedulerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path, **TIMELY)
    scheduler = start_scheduler(project.dags)
    project.put(KEYS[0])
    project.ingest(scheduler, KEYS[0])
    project.ingest(scheduler, KEYS[1])  # its file never came
    assert states(scheduler, project.dag("ingest"), KEYS[1])["snapshot"] == "skipped"
    let_deadlines_pass(scheduler)
    assert (deadlines(), run_callbacks()) == ([], [])
    with webhook() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection())
        project.at_night(scheduler, KEYS[2])
    (body,) = receiver.bodies
    assert f"the partition is overdue: {KEYS[1]}" in body["sentence"]


def test_the_dags_that_partitions_pass_have_the_deadline_and_no_parse_makes_another_version(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    from airflow.models.dag_version import DagVersion
    from sqlalchemy import func, select

    from airflow_mlops.testing.metadata import session_scope

    project = make_project(tmp_path, **TIMELY)
    scheduler = start_scheduler(project.dags)
    scheduler.trigger(project.dag("ingest"), partition_key=KEYS[0])
    scheduler.run_until_idle()
    scheduler.sync()
    with session_scope() as session:
        query = select(DagVersion.dag_id, func.count()).group_by(DagVersion.dag_id)
        assert {count for _, count in session.execute(query)} == {1}
    with_deadline = {dag_id for dag_id in scheduler.dag_ids if scheduler._dags[dag_id].deadline}
    assert with_deadline == {project.dag(stage) for stage in ("ingest", "score", "watch", "nightly")}


@pytest.mark.parametrize("notify", [{"failed": [CHAT]}, {"overdue": [{**CHAT, "tiers": ["high"]}]}, []])
def test_a_deadline_that_nobody_would_hear_of_is_refused(tmp_path: Path, notify: Any) -> None:
    fields = make_project(tmp_path).fields
    with pytest.raises(DeclarationError, match=r"is told to nobody; declare notify\.overdue") as refusal:
        Loop(**{**fields, **TIMELY, "notify": notify})
    assert refusal.value.key == "watch.deadline"
