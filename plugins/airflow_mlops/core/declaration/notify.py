"""The section ``notify``: who is notified of which decisions of the loop.

    notify:
      promoted: [{kind: webhook, conn_id: slack_models, style: slack}]
      alarm: [{kind: webhook, conn_id: pagerduty, style: pagerduty, tiers: [high]}, alerts.pager:notify]
      approval: [{kind: smtp, conn_id: mail, to: [models@example.org]}]

A list in the place of the mapping names callbacks of failed tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from airflow_mlops.core.declaration.declared import Declared, Listed, Reference

Tier = Literal["low", "medium", "high"]
TIERS: tuple[Tier, ...] = ("low", "medium", "high")
Tiers = Annotated[tuple[Tier, ...], Listed]
TIERS_MEANING = "tiers of loops that it is used for, so that loops of several tiers can share one section"
ConnId = Annotated[str, Field(min_length=1)]
NAME_LENGTH = 100
"""Length of a notifier's name, which is part of a key of the ledger."""


class WebhookNotifier(Declared):
    """A message as the JSON body of a POST request."""

    kind: Literal["webhook"] = Field(description="how messages are sent")
    conn_id: ConnId = Field(description="Airflow connection of type http, https or slackwebhook")
    style: Literal["slack", "pagerduty", "json"] = Field(
        default="json", description="form of the body: of Slack, of PagerDuty's events, or every field by its name"
    )
    tiers: Tiers = Field(default=TIERS, description=TIERS_MEANING)

    @property
    def name(self) -> str:
        """The name under which the ledger keeps what was sent."""
        return _short_name(f"{self.kind}:{self.style}:{self.conn_id}")


class SmtpNotifier(Declared):
    """A message as mail."""

    kind: Literal["smtp"] = Field(description="how messages are sent")
    conn_id: ConnId = Field(description="Airflow connection of type smtp; its extra ``from_email`` is the sender")
    to: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9.-]+$")], ...], Listed
    ] = Field(min_length=1, description="addresses")
    tiers: Tiers = Field(default=TIERS, description=TIERS_MEANING)

    @property
    def name(self) -> str:
        """The name under which the ledger keeps what was sent."""
        return _short_name(f"{self.kind}:{self.conn_id}:{','.join(self.to)}")


DeclaredNotifier = WebhookNotifier | SmtpNotifier
Notifier = str | DeclaredNotifier
AnyNotifier = Annotated[
    Annotated[Reference, Tag("reference")]
    | Annotated[Annotated[DeclaredNotifier, Field(discriminator="kind")], Tag("declared")],
    Discriminator(lambda value: "reference" if isinstance(value, str) else "declared"),
]
Notifiers = Annotated[tuple[AnyNotifier, ...], Listed]


class Notify(Declared):
    """The notifiers of each kind of decision: ``module:name``, or a declared webhook or mail."""

    promoted: Notifiers = Field(default=(), description="a version became the champion")
    rolled_back: Notifiers = Field(default=(), description="a challenger or champion was taken back")
    refused: Notifiers = Field(default=(), description="a partition, a candidate or a version was refused")
    alarm: Notifiers = Field(default=(), description="a check of a scored partition alarmed")
    retrain: Notifiers = Field(default=(), description="a retrain was decided")
    escalated: Notifiers = Field(default=(), description="retraining does not help, so a person must look")
    approval: Notifiers = Field(default=(), description="a person is asked for an approval")
    overdue: Notifiers = Field(
        default=(), description="the champion is old, or rows, predictions or labels are missing"
    )
    failed: Notifiers = Field(default=(), description="a task failed, and is not tried again")

    def channels(self, tier: str) -> list[Channel]:
        """Return the notifiers of a loop of a tier, each with its kinds of decision, in the order of declaration."""
        channels: dict[str, Channel] = {}
        for kind in DECISIONS:
            for notifier in self.notifiers_of(kind, tier):
                name = name_of(notifier)
                kinds = channels[name].kinds if name in channels else ()
                channels[name] = Channel(notifier, tuple(dict.fromkeys((*kinds, kind))))
        return list(channels.values())

    def notifiers_of(self, kind: str, tier: str) -> Iterator[Notifier]:
        """Yield the notifiers of one kind of decision in a loop of a tier."""
        for notifier in getattr(self, kind):
            if isinstance(notifier, str) or tier in notifier.tiers:
                yield notifier

    def references(self) -> Iterator[tuple[str, str]]:
        """Yield the key of each notifier that is named by ``module:name``, and that name."""
        for kind in (*DECISIONS, "failed"):
            for index, notifier in enumerate(getattr(self, kind)):
                if isinstance(notifier, str):
                    yield f"notify.{kind}[{index}]", notifier


DECISIONS = ("promoted", "rolled_back", "refused", "alarm", "retrain", "escalated", "approval", "overdue")
"""The kinds that are read from the ledger; ``failed`` is reported by Airflow."""


@dataclass(frozen=True)
class Channel:
    """A notifier, and the kinds of decision that it is for."""

    notifier: Notifier
    kinds: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name under which the ledger keeps what was sent."""
        return name_of(self.notifier)


def name_of(notifier: Notifier) -> str:
    """Return the name of a notifier: the same for the same receiver, whatever its tiers."""
    return _short_name(notifier) if isinstance(notifier, str) else notifier.name


def _short_name(name: str) -> str:
    """Return a name as it is, or where it is too long its start and a digest of it."""
    if len(name) <= NAME_LENGTH:
        return name
    return f"{name[: NAME_LENGTH - 13]}#{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _is_listed(value: Any) -> str:
    return "callbacks" if isinstance(value, list | tuple) else "by_kind"


AnyNotify = Annotated[
    Annotated[Annotated[tuple[Reference, ...], Listed], Tag("callbacks")] | Annotated[Notify, Tag("by_kind")],
    Discriminator(_is_listed),
]
