"""A decision of the ledger is a message with its numbers and its link, in the form of each receiver."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_mlops.core.declaration.notify import DECISIONS
from airflow_mlops.core.ledger.details import Details
from airflow_mlops.core.ledger.kinds import read_details
from airflow_mlops.core.ledger.record import Draft, Record, chain_record
from airflow_mlops.core.overview.message_forms import (
    json_body,
    mail_body,
    mail_subject,
    pagerduty_body,
    slack_body,
)
from airflow_mlops.core.overview.messages import KINDS, TITLES, failure_message, kind_of, message_of
from airflow_mlops.core.overview.sentences import describe_record, is_decision
from tests.unit.core.toy_loop import toy_loop

WEEK = "2013-03-10T00:00:00"
RUN = "toy_watch/performance/asset_triggered__2013-03-10T00:00:00+00:00_abc"
ALARM = {
    "check": "performance",
    "verdict": "alarm",
    "message": "mae 2.5 against 1, <much> worse & clear",
    "metric": "mae",
    "value": 2.5,
    "low": 2.25,
    "reference": 1.0,
    "rows": 120,
    "numbers": {"needed": 60, "holds": True, "slices": {"a": 1}},
    "champion": "3",
}


def record_of(kind: str, *, actor: str = RUN, **fields: Any) -> Record[Details]:
    """Return a record as a ledger would hold it."""
    draft = Draft(read_details(kind, fields), "op", WEEK, actor)
    return chain_record(draft, model="toy", sequence=7, previous_hash="0" * 64, recorded_at="2026-11-30T03:00:00+00:00")


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("promoted", {"version": "2"}, "promoted"),
        ("rolled_back", {"version": "2"}, "rolled_back"),
        ("partition_refused", {"reason": "empty"}, "refused"),
        ("candidate_refused", {"decision": 1}, "refused"),
        ("rejected", {"version": "2"}, "refused"),
        ("window_judged", {"check": "drift", "verdict": "alarm"}, "alarm"),
        ("window_judged", {"check": "drift", "verdict": "no alarm"}, None),
        ("window_judged", {"check": "drift", "verdict": "alarm", "historical": True}, None),
        ("window_judged", {"check": "absence", "verdict": "alarm"}, "overdue"),
        ("retrain_decided", {"retrain": True}, "retrain"),
        ("retrain_decided", {"retrain": False}, None),
        ("escalated", {"champion": "2"}, "escalated"),
        ("approval_wanted", {"version": "2", "question": "May it?"}, "approval"),
        ("approved", {"version": "2"}, None),
        ("notified", {"notifier": "webhook:json:x"}, None),
        ("snapshot_published", {"version": 1, "digest": "d"}, None),
    ],
)
def test_a_record_is_of_one_kind_of_decision_or_of_none(
    kind: str, fields: dict[str, Any], expected: str | None
) -> None:
    record = record_of(kind, **fields)
    assert kind_of(record) == expected
    if expected is None:
        with pytest.raises(ValueError, match="is no decision to be notified of"):
            message_of(record, toy_loop())
    else:
        assert message_of(record, toy_loop()).title == TITLES[expected]


def test_every_kind_that_can_be_declared_has_records_and_a_title() -> None:
    assert set(KINDS) == set(DECISIONS)
    assert set(TITLES) == {*DECISIONS, "failed"}


def test_a_message_carries_numbers_version_decider_and_the_run_that_decided() -> None:
    message = message_of(record_of("window_judged", **ALARM), toy_loop(), base_url="https://airflow.example")
    assert (message.model, message.partition, message.version, message.tone) == ("toy", WEEK, "3", "bad")
    assert message.numbers == {"value": 2.5, "low": 2.25, "reference": 1.0, "rows": 120, "needed": 60}
    assert message.decided_by == RUN
    run = "asset_triggered__2013-03-10T00%3A00%3A00%2B00%3A00_abc"
    assert message.link == f"https://airflow.example/dags/toy_watch/runs/{run}/tasks/performance"
    assert message.text == f"toy: alarm ({WEEK}): performance: alarm: {ALARM['message']}"


def test_the_link_of_a_decision_at_the_command_line_is_the_page_of_the_model_and_without_an_address_there_is_none() -> (
    None
):
    record = record_of("promoted", actor="person:ann", version="2")
    page = message_of(record, toy_loop(), base_url="https://airflow.example/prefix").link
    assert page == "https://airflow.example/prefix/airflow-mlops/models/toy"
    assert message_of(record, toy_loop()).link == ""
    by_person = record_of("promoted", actor=f"{RUN} for person:ann", version="2")
    assert message_of(by_person, toy_loop(), base_url="https://a").link.endswith("/tasks/performance")


def test_the_id_of_a_message_is_that_of_its_record_alone() -> None:
    first, second = record_of("promoted", version="2"), record_of("promoted", version="3")
    assert message_of(first, toy_loop()).id == message_of(first, toy_loop(), base_url="https://a").id
    assert message_of(first, toy_loop()).id != message_of(second, toy_loop()).id


def test_slack_is_sent_text_and_blocks_in_which_nothing_of_the_ledger_is_markup() -> None:
    body = slack_body(message_of(record_of("window_judged", **ALARM), toy_loop(), base_url="https://a"))
    assert set(body) == {"text", "blocks"}
    assert "&lt;much&gt; worse &amp; clear" in body["text"]
    kinds = [block["type"] for block in body["blocks"]]
    assert kinds == ["section", "section", "context", "section"]
    assert body["blocks"][1]["text"]["text"] == "value 2.5, low 2.25, reference 1, rows 120, needed 60"
    assert body["blocks"][3]["text"]["text"].startswith("<https://a/dags/toy_watch/")
    assert "<much>" not in json.dumps(body)


def test_a_text_longer_than_slack_takes_is_cut() -> None:
    body = slack_body(message_of(record_of("partition_refused", reason="x" * 9000), toy_loop()))
    assert len(body["text"]) < 3000
    assert all(len(block["text"]["text"]) < 3000 for block in body["blocks"] if "text" in block)


def test_pagerduty_is_sent_one_incident_for_one_decision_with_a_severity() -> None:
    message = message_of(record_of("window_judged", **ALARM), toy_loop(), base_url="https://a")
    event = pagerduty_body(message, "the-key")
    assert (event["routing_key"], event["event_action"]) == ("the-key", "trigger")
    assert event["dedup_key"] == f"airflow-mlops:{message.id}"
    assert (event["payload"]["severity"], event["payload"]["class"]) == ("error", "alarm")
    assert event["payload"]["custom_details"]["numbers"]["value"] == 2.5
    assert "the-key" not in json.dumps(event["payload"])
    promoted = message_of(record_of("promoted", version="2"), toy_loop())
    assert pagerduty_body(promoted, "k")["payload"]["severity"] == "info"


def test_json_has_every_field_by_its_name() -> None:
    body = json_body(message_of(record_of("promoted", version="2"), toy_loop()))
    assert json.loads(json.dumps(body)) == body
    assert body["kind"] == "promoted"
    assert set(body) >= {"id", "text", "model", "partition", "version", "numbers", "decided_by", "at", "link", "tier"}


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        (0, "a.b:chat is notified of what comes after record 9"),
        (1, "sent 1 message to a.b:chat, up to record 9"),
        (3, "sent 3 messages to a.b:chat, up to record 9"),
    ],
)
def test_what_was_sent_reads_as_a_sentence_and_is_no_decision(messages: int, sentence: str) -> None:
    record = record_of("notified", notifier="a.b:chat", last=9, messages=messages)
    assert describe_record(record) == sentence
    assert not is_decision(record)


def test_a_subject_is_one_line_and_a_mail_is_text_in_html() -> None:
    message = failure_message(toy_loop(), RUN, "boom\r\nBcc: x <b>&", attempt=2, partition=WEEK)
    assert mail_subject(message) == f"[toy] a task failed {WEEK}"
    assert "performance failed: boom" in mail_body(message)
    assert "&lt;b&gt;&amp;" in mail_body(message)
    assert message.id.endswith(":2")
