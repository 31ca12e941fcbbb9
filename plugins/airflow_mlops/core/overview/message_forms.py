"""The forms in which a message is sent: the JSON bodies of Slack, PagerDuty and our own, and mail in HTML."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

from airflow_mlops.core.overview.messages import Message
from airflow_mlops.core.overview.sentences import ASK, BAD

SLACK_TEXT = 2900
"""Characters of a text of Slack, which takes 3,000 with its escapes."""
SUMMARY = 1000
"""Characters of PagerDuty's summary, which takes 1,024."""
SEVERITIES = {BAD: "error", ASK: "warning"}


def slack_body(message: Message) -> dict[str, Any]:
    """Return the body of a message to a Slack webhook: a text for notifications, and blocks for the channel."""
    heading = f"*{_slack(message.model)}: {_slack(message.title)}*"
    blocks: list[dict[str, Any]] = [_section(f"{heading}\n{_slack(message.sentence)}")]
    if message.numbers:
        blocks.append(_section(_slack(format_numbers(message))))
    context = [{"type": "mrkdwn", "text": _slack(line)[:SLACK_TEXT]} for line in facts_of(message)]
    blocks.append({"type": "context", "elements": context})
    if message.link:
        blocks.append(_section(f"<{_slack(message.link)}|Open it in Airflow>"))
    return {"text": _slack(message.text)[:SLACK_TEXT], "blocks": blocks}


def pagerduty_body(message: Message, routing_key: str) -> dict[str, Any]:
    """Return an event of PagerDuty's API, version 2; ``dedup_key`` makes a message that is sent twice one incident."""
    links = [{"href": message.link, "text": "Open it in Airflow"}] if message.link else []
    return {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": f"airflow-mlops:{message.id}"[:255],
        "payload": {
            "summary": message.text[:SUMMARY],
            "source": message.model,
            "severity": SEVERITIES.get(message.tone, "info"),
            "component": message.model,
            "group": message.owner,
            "class": message.kind,
            "custom_details": message.to_dict(),
            **({"timestamp": message.at} if message.at else {}),
        },
        "links": links,
    }


def json_body(message: Message) -> dict[str, Any]:
    """Return every field of a message by its name."""
    return message.to_dict()


BODIES: dict[str, Callable[[Message], dict[str, Any]]] = {"slack": slack_body, "json": json_body}
"""The bodies that need no secret of the receiver, by style."""


def mail_subject(message: Message) -> str:
    """Return the subject of a mail, on one line."""
    return " ".join(f"[{message.model}] {message.title}{f' {message.partition}' if message.partition else ''}".split())


def mail_body(message: Message) -> str:
    """Return the body of a mail in HTML; whatever stands in a message is text."""
    lines = [message.sentence, format_numbers(message) if message.numbers else "", *facts_of(message)]
    paragraphs = [f"<p>{escape(line, quote=False)}</p>" for line in lines if line]
    if message.link:
        paragraphs.append(f'<p><a href="{escape(message.link)}">Open it in Airflow</a></p>')
    return "\n".join([f"<h3>{escape(message.model)}: {escape(message.title)}</h3>", *paragraphs])


def format_numbers(message: Message) -> str:
    """Return the figures of a message on one line.

    >>> format_numbers(Message("i", "alarm", "alarm", "s", "bad", "m", "o", "low", numbers={"value": 0.123456789}))
    'value 0.123457'
    """
    return ", ".join(f"{name} {value:.6g}" for name, value in (message.numbers or {}).items())


def facts_of(message: Message) -> list[str]:
    """Return a line for each of partition, version, who decided, owner and tier, as far as there are any."""
    facts = {
        "partition": message.partition,
        "version": message.version,
        "decided by": message.decided_by,
        "owner": f"{message.owner}, tier {message.tier}",
    }
    return [f"{name} {value}" for name, value in facts.items() if value]


def _slack(text: str) -> str:
    """Return a text with the three characters escaped that mean something to Slack."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:SLACK_TEXT]}}
