"""A message reaches the receiver of a connection, and neither its address nor its key is in an error or a body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.declaration.notify import SmtpNotifier, WebhookNotifier
from airflow_mlops.core.errors import DeclarationError, NotSentError
from airflow_mlops.core.overview.messages import Message, failure_message
from airflow_mlops.hooks.send_message import send_message
from airflow_mlops.operators.notified import deliver
from tests.loop.receivers import mail_server, webhook
from tests.unit.core.toy_loop import toy_loop

KEY = "a-routing-key-that-nobody-sees"


def message(error: str = "boom") -> Message:
    return failure_message(toy_loop(), "toy_watch/drift/run_1", error, attempt=1, partition=None, base_url="https://a")


def chat(**fields: Any) -> WebhookNotifier:
    return WebhookNotifier(kind="webhook", conn_id="chat", **fields)


def test_pagerduty_is_sent_the_key_of_the_connection_and_no_login(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection(password=KEY))
        send_message(chat(style="pagerduty"), message())
    (body,) = receiver.bodies
    assert body["routing_key"] == KEY
    assert body["payload"]["summary"] == "toy: a task failed: drift failed: boom"
    assert "authorization" not in receiver.headers[0]


def test_json_has_login_and_headers_of_the_connection_and_the_id_of_the_message(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as receiver:
        extra = {"trust_env": False, "headers": {"X-Team": "ml"}}
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection(login="ann", password=KEY, extra=extra))
        send_message(chat(), message())
    assert receiver.bodies == [message().to_dict()]
    (headers,) = receiver.headers
    assert (headers["x-team"], headers["idempotency-key"]) == ("ml", message().id)
    assert headers["authorization"].startswith("Basic ")


def test_the_password_of_a_connection_to_slack_is_a_part_of_its_address(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with webhook() as receiver:
        host = f"http://127.0.0.1:{receiver.port}/services"
        fields = {"conn_type": "slackwebhook", "host": host, "password": "T0/B0/secret"}
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", json.dumps(fields))
        send_message(chat(style="slack"), message())
    assert receiver.paths == ["/services/T0/B0/secret"]
    assert receiver.bodies[0]["text"] == "toy: a task failed: drift failed: boom"


@pytest.mark.parametrize("status", [301, 404, 500])
def test_an_answer_that_is_no_success_is_an_error_without_the_address(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with webhook() as receiver:
        receiver.status = status
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection(host=f"http://127.0.0.1:{receiver.port}/secret"))
        with pytest.raises(NotSentError) as caught:
            send_message(chat(), message())
    assert str(caught.value) == f"connection 'chat' answered {status}"


def test_a_receiver_that_is_not_there_is_an_error_without_the_address(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as gone:
        connection = gone.connection(host=f"http://127.0.0.1:{gone.port}/secret")
    monkeypatch.setenv("AIRFLOW_CONN_CHAT", connection)
    with pytest.raises(NotSentError) as caught:
        send_message(chat(), message())
    assert str(caught.value) == "connection 'chat': ConnectError"


@pytest.mark.parametrize(
    ("notifier", "connection", "words"),
    [
        (chat(), None, "Airflow has no connection 'chat'"),
        (chat(), {"conn_type": "postgres", "host": "db"}, "is of type 'postgres'"),
        (chat(style="pagerduty"), {"conn_type": "https", "host": "127.0.0.1"}, "it is PagerDuty's routing key"),
        (SmtpNotifier(kind="smtp", conn_id="chat", to=["a@b"]), None, "Airflow has no connection 'chat'"),
        (SmtpNotifier(kind="smtp", conn_id="chat", to=["a@b"]), {"conn_type": "http", "host": "x"}, "of type 'smtp'"),
    ],
)
def test_a_connection_that_is_missing_or_of_another_type_is_named(
    airflow_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    notifier: WebhookNotifier | SmtpNotifier,
    connection: dict[str, str] | None,
    words: str,
) -> None:
    if connection is not None:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", json.dumps(connection))
    with pytest.raises(DeclarationError) as caught:
        send_message(notifier, message())
    assert words in str(caught.value)


def test_mail_that_nobody_takes_is_an_error_and_mail_that_is_sent_twice_has_one_id(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier = SmtpNotifier(kind="smtp", conn_id="chat", to=["ml@example.org", "on-call@example.org"])
    with mail_server() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection())
        send_message(notifier, message())
        send_message(notifier, message())
    assert [receivers for receivers, _ in receiver.mail] == [["ml@example.org", "on-call@example.org"]] * 2
    assert len({mail["Message-ID"] for _, mail in receiver.mail}) == 1
    with pytest.raises(NotSentError, match="ConnectionRefusedError"):
        send_message(notifier, message())


def test_a_secret_that_airflow_masks_in_logs_is_masked_in_messages(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.log import mask_secret

    mask_secret(KEY)
    with webhook() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_CHAT", receiver.connection())
        deliver(chat(style="slack"), message(f"postgresql://ann:{KEY}@db refused"), ".", {})
    assert "postgresql://ann:***@db refused" in receiver.bodies[0]["text"]
    assert KEY not in json.dumps(receiver.bodies)


def test_an_airflow_notifier_renders_each_message_anew(tmp_path: Path, airflow_home: Path) -> None:
    package = f"templated_{tmp_path.name.replace('-', '_')}"
    (tmp_path / package).mkdir()
    source = (
        "from airflow.sdk import BaseNotifier\n\nRENDERED = []\n\n\nclass Pager(BaseNotifier):\n"
        "    template_fields = ('text',)\n\n    def __init__(self, text):\n        super().__init__()\n"
        "        self.text = text\n\n    def notify(self, context):\n        RENDERED.append(self.text)\n\n\n"
        'page = Pager(text="{{ decision.kind }}: {{ decision.sentence }}")\n'
    )
    (tmp_path / package / "pager.py").write_text(source)
    for error in ("first", "second"):
        deliver(f"{package}.pager:page", message(error), str(tmp_path), {})
    import importlib

    rendered = importlib.import_module(f"{package}.pager").RENDERED
    assert rendered == ["failed: drift failed: first", "failed: drift failed: second"]


SNS = """
from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

topic = SnsNotifier(
    aws_conn_id="aws_alerts",
    region_name="us-east-1",
    target_arn="{arn}",
    subject="{{{{ decision.model }}}}: {{{{ decision.title }}}}",
    message="{{{{ decision.text }}}} {{{{ decision.link }}}}",
)
"""


def test_the_notifier_of_sns_publishes_the_decision_as_its_page_says(
    tmp_path: Path, airflow_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
        access = {"endpoint_url": url, "region_name": "us-east-1"}
        credentials = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
        sns, sqs = (boto3.client(name, **access, **credentials) for name in ("sns", "sqs"))
        arn = sns.create_topic(Name="models")["TopicArn"]
        queue = sqs.create_queue(QueueName="people")["QueueUrl"]
        attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=attributes["QueueArn"])
        connection = {"conn_type": "aws", "login": "x", "password": "y", "extra": access}
        monkeypatch.setenv("AIRFLOW_CONN_AWS_ALERTS", json.dumps(connection))
        package = f"alerts_{tmp_path.name.replace('-', '_')}"
        (tmp_path / package).mkdir()
        (tmp_path / package / "pager.py").write_text(SNS.format(arn=arn))
        deliver(f"{package}.pager:topic", message(), str(tmp_path), {})
        (taken,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    finally:
        server.stop()
    published = json.loads(taken["Body"])
    assert published["Subject"] == "toy: a task failed"
    assert published["Message"].startswith("toy: a task failed: drift failed: boom https://a/dags/toy_watch/runs/run_1")
