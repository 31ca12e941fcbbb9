"""Decisions that were not sent yet are sent once and in order, and again where they did not arrive."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.declaration.notify import Channel, Notify
from airflow_mlops.core.errors import NotSentError
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.ledger.sql_ledger import SqlLedger
from airflow_mlops.core.overview.notify_people import BATCH, LOOKED_THROUGH, begin_channels, notify_people, unsent_of
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.ledger.histories import draft_of, week
from tests.unit.core.toy_loop import toy_loop

CHAT = Channel("a.b:chat", ("promoted", "alarm"))


class Receiver:
    """Takes records, unless it is down."""

    def __init__(self) -> None:
        self.down = False
        self.taken: list[int] = []

    def __call__(self, _channel: Channel, record: Record[Any]) -> None:
        if self.down:
            raise NotSentError("answered 500")
        self.taken.append(record.sequence)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return in_memory_workspace(toy_loop(), {}, scratch=tmp_path)


def promote(workspace: Workspace, number: int) -> int:
    """Record a promotion; return the number of the record."""
    draft = draft_of(workspace, "promoted", f"promoted:{number}", week(number), version=str(number))
    return workspace.record_fact(draft).sequence


def judge(workspace: Workspace, number: int, *, verdict: str = "no alarm", historical: bool = False) -> int:
    """Record a judgement of a window; return the number of the record."""
    fields = {"check": "drift", "verdict": verdict, "historical": historical, "schema": 1}
    draft = draft_of(workspace, "window_judged", f"judged:{number}:{verdict}", week(number % 50), **fields)
    return workspace.record_fact(draft).sequence


def test_what_was_decided_before_a_notifier_was_declared_is_not_sent(workspace: Workspace) -> None:
    promote(workspace, 1)
    receiver = Receiver()
    begin_channels(workspace, [CHAT])
    assert notify_people(workspace, [CHAT], receiver) == []
    assert receiver.taken == []
    after = promote(workspace, 2)
    notify_people(workspace, [CHAT], receiver)
    assert receiver.taken == [after]


def test_a_kind_that_is_declared_later_begins_then_and_the_others_go_on(workspace: Workspace) -> None:
    receiver, narrow = Receiver(), Channel(CHAT.notifier, ("promoted",))
    begin_channels(workspace, [narrow])
    judge(workspace, 1, verdict="alarm")
    promoted = promote(workspace, 1)
    begin_channels(workspace, [CHAT])
    alarm = judge(workspace, 2, verdict="alarm")
    notify_people(workspace, [CHAT], receiver)
    assert receiver.taken == [promoted, alarm]


def test_a_message_is_sent_once_however_often_tasks_end(workspace: Workspace) -> None:
    receiver = Receiver()
    begin_channels(workspace, [CHAT])
    promote(workspace, 1)
    for _ in range(3):
        begin_channels(workspace, [CHAT])
        notify_people(workspace, [CHAT], receiver)
    assert len(receiver.taken) == 1
    notified = [record for record in workspace.ledger.records() if record.kind == "notified"]
    assert [record.details.messages for record in notified] == [0, 1]


def test_what_a_receiver_did_not_take_is_sent_later_with_what_came_after_it_in_order(workspace: Workspace) -> None:
    receiver = Receiver()
    begin_channels(workspace, [CHAT])
    first = promote(workspace, 1)
    receiver.down = True
    (failure,) = notify_people(workspace, [CHAT], receiver)
    assert f"a.b:chat was not sent record {first} (promoted): answered 500" in failure
    second = judge(workspace, 2, verdict="alarm")
    receiver.down = False
    assert notify_people(workspace, [CHAT], receiver) == []
    assert receiver.taken == [first, second]


def test_a_receiver_that_is_down_does_not_keep_another_from_its_messages(workspace: Workspace) -> None:
    other = Channel("a.b:mail", ("promoted",))
    begin_channels(workspace, [CHAT, other])
    sequence = promote(workspace, 1)
    taken = []

    def send(channel: Channel, record: Record[Any]) -> None:
        if channel == CHAT:
            raise NotSentError("answered 500")
        taken.append(record.sequence)

    assert len(notify_people(workspace, [CHAT, other], send)) == 1
    assert taken == [sequence]


def test_a_process_that_dies_after_sending_sends_again_and_nothing_is_lost(workspace: Workspace) -> None:
    begin_channels(workspace, [CHAT])
    sequences = [promote(workspace, number) for number in range(1, 4)]
    receiver = Receiver()

    def dying(channel: Channel, record: Record[Any]) -> None:
        receiver(channel, record)
        if record.sequence == sequences[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        notify_people(workspace, [CHAT], dying)
    notify_people(workspace, [CHAT], receiver)
    assert set(receiver.taken) == set(sequences)
    assert receiver.taken[-3:] == sequences


def test_judgements_that_are_historical_and_refusals_of_a_backfill_are_not_sent(workspace: Workspace) -> None:
    refused = Channel("a.b:chat", ("refused", "alarm"))
    begin_channels(workspace, [refused])
    judge(workspace, 1, verdict="alarm", historical=True)
    workspace.record_fact(draft_of(workspace, "retrain_decided", "decided", week(8), retrain=False))
    workspace.record_fact(draft_of(workspace, "partition_refused", "old", week(3), reason="empty"))
    newer = workspace.record_fact(draft_of(workspace, "partition_refused", "new", week(9), reason="empty")).sequence
    # The decision on a later week does not make an earlier refusal one of a backfill.
    workspace.record_fact(draft_of(workspace, "retrain_decided", "later", week(10), retrain=False))
    receiver = Receiver()
    notify_people(workspace, [refused], receiver)
    assert receiver.taken == [newer]


def test_more_messages_than_a_batch_are_all_sent_in_order(workspace: Workspace) -> None:
    begin_channels(workspace, [CHAT])
    sequences = [promote(workspace, number) for number in range(BATCH * 2 + 3)]
    receiver = Receiver()
    notify_people(workspace, [CHAT], receiver)
    assert receiver.taken == sequences


def test_a_slow_receiver_is_sent_the_rest_under_another_lease(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_channels(workspace, [CHAT])
    sequences = [promote(workspace, number) for number in range(3)]
    receiver, clock = Receiver(), [0.0]
    monkeypatch.setattr("airflow_mlops.core.overview.notify_people.monotonic", lambda: clock[0])

    def send_in_100_seconds(channel: Channel, record: Record[Any]) -> None:
        receiver(channel, record)
        clock[0] += 100

    assert notify_people(workspace, [CHAT], send_in_100_seconds) == []
    assert receiver.taken == sequences
    notified = [record.details for record in workspace.ledger.records() if record.kind == "notified"]
    assert [details.messages for details in notified] == [0, 2, 1]
    assert [(details.first, details.last) for details in notified[1:]] == [
        (1, sequences[1]),
        (sequences[2], sequences[2]),
    ]


def test_records_of_which_nothing_is_sent_are_not_read_for_ever(workspace: Workspace) -> None:
    begin_channels(workspace, [CHAT])
    for number in range(LOOKED_THROUGH * 2):
        judge(workspace, number)
        notify_people(workspace, [CHAT], Receiver())
        assert unsent_of(workspace, CHAT).looked_through < LOOKED_THROUGH
    notes = [record for record in workspace.ledger.records() if record.kind == "notified"]
    assert len(notes) == 3


def test_of_tasks_that_end_together_one_sends_each_message(tmp_path: Path) -> None:
    memory = in_memory_workspace(toy_loop(), {}, scratch=tmp_path)

    def open_one() -> Workspace:
        ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}", "toy")
        return replace(memory, ports=replace(memory.ports, ledger=lambda: ledger))

    begin_channels(open_one(), [CHAT])
    receiver, start = Receiver(), threading.Barrier(4)

    def send_slowly(channel: Channel, record: Record[Any]) -> None:
        time.sleep(0.05)  # so that the others end while this one sends
        receiver(channel, record)

    def end(number: int) -> None:
        workspace = open_one()
        start.wait()
        promote(workspace, number)
        notify_people(workspace, [CHAT], send_slowly)

    threads = [threading.Thread(target=end, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    promoted = [record.sequence for record in open_one().ledger.records() if record.kind == "promoted"]
    assert sorted(receiver.taken) == promoted
    assert len(promoted) == 4


def test_channels_join_the_kinds_of_a_receiver_and_leave_out_other_tiers() -> None:
    slack = {"kind": "webhook", "conn_id": "chat", "style": "slack"}
    notify = Notify(alarm=[slack, "a.b:page"], promoted=[{**slack, "tiers": ["high"]}], failed=["a.b:page"])
    assert [(channel.name, channel.kinds) for channel in notify.channels("low")] == [
        ("webhook:slack:chat", ("alarm",)),
        ("a.b:page", ("alarm",)),
    ]
    assert notify.channels("high")[0].kinds == ("promoted", "alarm")
    assert list(notify.references()) == [("notify.alarm[1]", "a.b:page"), ("notify.failed[0]", "a.b:page")]


def test_a_long_name_of_a_notifier_fits_the_ledger_and_stays_its_own() -> None:
    mails = [
        Notify(alarm=[{"kind": "smtp", "conn_id": "m", "to": [f"{name}{'x' * 300}@example.org"]}])
        for name in ("a", "b")
    ]
    names = [mail.channels("low")[0].name for mail in mails]
    assert all(len(name) <= 100 for name in names)
    assert len(set(names)) == 2
