"""Decisions of a loop reach a webhook and a mailbox once each, whatever fails, runs again, or is backfilled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlops.core.retrain.decide_retrain import decide_and_record
from airflow_mlops.core.rollout.score_partition import score_partition
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, make_project, states
from tests.loop.receivers import MailServer, Webhook, mail_server, webhook

if TYPE_CHECKING:
    from airflow_mlops.testing.scheduler import InProcessScheduler
    from tests.loop.conftest import SchedulerFactory

SLACK = {"kind": "webhook", "conn_id": "chat", "style": "slack"}
MAIL = {"kind": "smtp", "conn_id": "mail", "to": ["ml@example.org"]}
DECIDED = ("promoted", "rolled_back", "refused", "alarm", "retrain")
WATCH = {"performance": {"metric": "mae", "worse_by": 0.5, "min_rows": 20}}
BAKED = {"stages": [{"shadow": 100, "bake": 1}, {"live": 100}], "min_rows": 20}


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """A webhook that connection ``chat`` leads to."""
    with webhook() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection())
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
        yield receiver


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A mail server that connection ``mail`` leads to."""
    with mail_server() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_MAIL", receiver.connection())
        yield receiver


def texts(receiver: Webhook) -> list[str]:
    """Return the texts that a webhook was sent, in order."""
    return [str(body["text"]) for body in receiver.bodies]


def kinds_of(project: Project, receiver: Webhook) -> list[str]:
    """Return the title of each text: the words between the model and the partition."""
    return [text.removeprefix(f"{project.model}: ").partition(" (")[0] for text in texts(receiver)]


def run_again(project: Project, scheduler: InProcessScheduler, key: str) -> None:
    """Run the watch and the ingest of a partition a second time."""
    scheduler.trigger(project.dag("watch"), partition_key=key)
    scheduler.trigger(project.dag("ingest"), partition_key=key)
    scheduler.run_until_idle()


def test_an_alarm_a_retrain_and_a_promotion_reach_a_chat_once_each(
    tmp_path: Path, start_scheduler: SchedulerFactory, chat: Webhook
) -> None:
    project = make_project(tmp_path, watch=WATCH, notify={kind: [SLACK] for kind in DECIDED})
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    for key in KEYS[2:4]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
    expected = ["alarm", "retrain decided", "refused", "alarm", "retrain decided", "promoted"]
    assert kinds_of(project, chat) == expected
    alarm, promoted = texts(chat)[0], texts(chat)[-1]
    judged = project.judged("performance", KEYS[2])
    assert alarm == f"{project.model}: alarm ({KEYS[2]}): performance: alarm: {judged.message}"
    assert promoted == f"{project.model}: promoted ({KEYS[3]}): version 2 became the champion, before it 1"
    blocks = json.dumps(chat.bodies[0]["blocks"])
    assert f"value {judged.value:.6g}" in blocks
    assert f"https://airflow.example/dags/{project.dag('watch')}/runs/" in blocks
    assert f"decided by {project.dag('watch')}/performance/" in blocks

    for key in KEYS[2:4]:
        run_again(project, scheduler, key)
    assert kinds_of(project, chat) == expected
    assert_invariants(project.workspace)


def test_a_rollback_reaches_chat_and_mail_once_though_its_task_fails(
    tmp_path: Path, start_scheduler: SchedulerFactory, chat: Webhook, mail: MailServer
) -> None:
    notify = {"rolled_back": [SLACK, MAIL], "failed": [SLACK]}
    project = make_project(tmp_path, watch=WATCH, rollout=BAKED, notify=notify)
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    for key in KEYS[2:4]:
        project.put(key, level=6.0)
        project.ingest(scheduler, key)
    chat.bodies.clear()  # the first candidate was refused, which fails a task
    for key in KEYS[4:6]:
        project.put(key)
        project.ingest(scheduler, key)
    (record,) = project.of_kind("rolled_back")
    assert kinds_of(project, chat) == ["rolled back", "a task failed"]
    assert record.details.reason in texts(chat)[0]
    assert "shadow_100.analyse failed" in texts(chat)[1]
    ((receivers, message),) = mail.mail
    assert receivers == ["ml@example.org"]
    assert message["Subject"] == f"[{project.model}] rolled back {KEYS[4]}"
    (part,) = message.get_payload()  # type: ignore[misc]
    body = part.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert record.details.reason in body
    assert_invariants(project.workspace)


def test_a_webhook_that_answers_500_is_sent_the_alarm_by_the_next_run_and_fails_nothing(
    tmp_path: Path, start_scheduler: SchedulerFactory, chat: Webhook, mail: MailServer
) -> None:
    retrain = {"policy": "never"}
    project = make_project(tmp_path, watch=WATCH, retrain=retrain, notify={"alarm": [SLACK, MAIL]})
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    chat.status = 500
    project.put(KEYS[2], level=6.0)
    project.ingest(scheduler, KEYS[2])
    assert scheduler.failures() == []
    assert chat.bodies == []
    assert len(chat.refused) > 0
    assert len(mail.mail) == 1  # which does not wait for the chat

    chat.status = 200
    project.put(KEYS[3])
    project.ingest(scheduler, KEYS[3])
    judged = project.judged("performance", KEYS[2])
    assert texts(chat) == [f"{project.model}: alarm ({KEYS[2]}): performance: alarm: {judged.message}"]
    assert len(mail.mail) == 1


def test_a_backfill_of_an_old_partition_sends_nothing(
    tmp_path: Path, start_scheduler: SchedulerFactory, chat: Webhook
) -> None:
    watch = {"drift": {}, **WATCH}
    project = make_project(tmp_path, watch=watch, notify={kind: [SLACK] for kind in DECIDED})
    project.seed(KEYS[:2])
    late, empty, newer = KEYS[2:5]
    project.put(newer)
    project.publish(newer)
    score_partition(project.workspace, newer)
    decide_and_record(project.workspace, newer, trigger="watch")
    scheduler = start_scheduler(project.dags)
    project.put(late, level=500.0, shift=50.0)
    project.put(empty, rows=0)
    project.ingest(scheduler, late)
    project.ingest(scheduler, empty)
    assert project.judged("drift", late).historical
    assert project.details_of("partition_refused", empty).reason
    assert chat.bodies == []
    assert chat.refused == []

    project.put(KEYS[5], rows=0)
    project.ingest(scheduler, KEYS[5])
    assert kinds_of(project, chat) == ["refused"]


def test_nothing_from_before_the_notifier_was_declared_is_sent(
    tmp_path: Path, start_scheduler: SchedulerFactory, chat: Webhook
) -> None:
    project = make_project(tmp_path, notify={"promoted": [SLACK]})
    project.seed(KEYS[:2])  # by the core, which notifies nobody
    assert project.of_kind("promoted")
    scheduler = start_scheduler(project.dags)
    project.put(KEYS[2])
    project.ingest(scheduler, KEYS[2])
    assert chat.bodies == []


NOTE = """
from pathlib import Path


def note(context):
    decision = context["decision"]
    with Path(__file__).with_name("noted.txt").open("a") as file:
        file.write(f"{decision['kind']} {decision['partition']} {context['exception']} {context['ti'].task_id}\\n")
"""


def test_a_callback_by_name_is_called_once_with_the_decision_and_the_context_of_the_task(
    tmp_path: Path, start_scheduler: SchedulerFactory
) -> None:
    package = f"decided_{os.getpid()}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "pager.py").write_text(NOTE)
    project = make_project(tmp_path, watch=WATCH, notify={"alarm": [f"{package}.pager:note"]})
    project.seed(KEYS[:2])
    scheduler = start_scheduler(project.dags)
    project.put(KEYS[2], level=6.0)
    project.ingest(scheduler, KEYS[2])
    run_again(project, scheduler, KEYS[2])
    (line,) = (tmp_path / package / "noted.txt").read_text().splitlines()
    judged = project.judged("performance", KEYS[2])
    text = f"{project.model}: alarm ({KEYS[2]}): performance: alarm: {judged.message}"
    assert line == f"alarm {KEYS[2]} {text} performance"


def test_who_is_asked_for_an_approval_hears_of_it_while_the_task_waits(
    tmp_path: Path, start_scheduler: SchedulerFactory, chat: Webhook
) -> None:
    rollout: dict[str, Any] = {"approval": "human", "stages": [{"live": 100}]}
    project = make_project(tmp_path, rollout=rollout, notify={"approval": [SLACK], "promoted": [SLACK]})
    scheduler = start_scheduler(project.dags)
    for key in KEYS[:2]:
        project.put(key)
        project.ingest(scheduler, key)
    project.at_night(scheduler, KEYS[1])
    assert states(scheduler, project.dag("rollout"))["approve"] == "awaiting_input"
    assert kinds_of(project, chat) == ["approval wanted"]
    assert f"May version 1 of {project.model} be rolled out?" in texts(chat)[0]
    scheduler.respond(project.dag("rollout"), "approve", "Approve", user="ben")
    scheduler.run_until_idle()
    assert kinds_of(project, chat) == ["approval wanted", "promoted"]
