"""What an endpoint was told, as tags of it: one for each record of the ledger that changes its traffic.

AWS has no compare-and-set. So each order is a tag of its own, which no older one overwrites: whoever finds a newer one
stops, before each call that changes something and once more at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast
from urllib.parse import quote, unquote

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import Kind, OlderTrafficError, Traffic

PREFIX = "airflow-mlops/told/"
LONGEST = 256
"""Characters of the value of a tag."""


@dataclass(frozen=True)
class Told:
    """Traffic that an endpoint was told, and since when it serves it, in seconds of AWS's clock; None if not yet."""

    traffic: Traffic
    since: float | None = None

    def tag(self) -> dict[str, str]:
        """Return the tag that says so.

        :raises RolloutError: if it is too long for one
        """
        said = {**asdict(self.traffic), "since": self.since}
        del said["order"]
        value = " ".join(f"{name}={encoded(str(part))}" for name, part in said.items() if part not in (None, ""))
        if len(value) > LONGEST:
            raise RolloutError(f"the traffic of record {self.traffic.order} does not fit into a tag: {value!r}")
        return {"Key": f"{PREFIX}{self.traffic.order}", "Value": value}

    @classmethod
    def of_tag(cls, tag: Mapping[str, str]) -> Told:
        """Return what a tag says."""
        said = {name: decoded(part) for name, _, part in (word.partition("=") for word in tag["Value"].split())}
        traffic = Traffic(
            int(tag["Key"].removeprefix(PREFIX)), said.get("champion"), said.get("challenger"),
            cast("Kind", said.get("kind", "none")), float(said.get("share", 0)), said.get("salt", ""),
            said.get("standby"),
        )  # fmt: skip
        since = said.get("since")
        return cls(traffic, None if since is None else float(since))


class ToldTags:
    """The tags of one endpoint.

    :param client: boto3's client of SageMaker
    :param arn: ARN of the endpoint
    """

    def __init__(self, client: Any, arn: str) -> None:
        self.client, self.arn = client, arn

    def all(self) -> list[Told]:
        """Return what the endpoint was told and still remembers, the newest last."""
        pages = self.client.get_paginator("list_tags").paginate(ResourceArn=self.arn)
        tags = (tag for page in pages for tag in page["Tags"] if tag["Key"].startswith(PREFIX))
        return sorted((Told.of_tag(tag) for tag in tags), key=lambda told: told.traffic.order)

    def newest(self) -> Told | None:
        """Return what the endpoint was told last, whether or not it has come to serve it."""
        told = self.all()
        return told[-1] if told else None

    def applied(self) -> Told | None:
        """Return what the endpoint was told last and has come to serve."""
        return next((told for told in reversed(self.all()) if told.since is not None), None)

    def claim(self, traffic: Traffic) -> None:
        """Write down that the endpoint is told ``traffic``.

        :raises OlderTrafficError: if it was told something newer, or something else under this number
        """
        told = self.all()
        same = [one for one in told if one.traffic.order == traffic.order]
        if not same:
            self._write(Told(traffic))
        elif not same[0].traffic.serves_like(traffic):
            raise OlderTrafficError(
                f"record {traffic.order} has already said something else: {differences(same[0].traffic, traffic)}"
            )
        self.require_newest(traffic)

    def require_newest(self, traffic: Traffic) -> None:
        """Let traffic through that is the newest.

        :raises OlderTrafficError: if the endpoint was told something newer
        """
        newest = self.newest()
        if newest is not None and newest.traffic.order > traffic.order:
            raise OlderTrafficError(
                f"record {traffic.order} is older than record {newest.traffic.order}, which the endpoint was told"
            )

    def served(self, traffic: Traffic, *, now: float) -> None:
        """Write down that ``traffic`` is served, since ``now`` unless the same was served before; forget older orders.

        :raises OlderTrafficError: if the endpoint was told something newer meanwhile
        """
        self.require_newest(traffic)
        told = self.all()
        mine = next((one for one in told if one.traffic.order == traffic.order), None)
        before = next((one for one in reversed(told) if one.since and one.traffic.serves_like(traffic)), None)
        if mine is None or mine.since is None:
            self._write(Told(traffic, now if before is None else before.since))
        older = [f"{PREFIX}{one.traffic.order}" for one in told if one.traffic.order < traffic.order]
        if older:
            self.client.delete_tags(ResourceArn=self.arn, TagKeys=older)

    def _write(self, told: Told) -> None:
        self.client.add_tags(ResourceArn=self.arn, Tags=[told.tag()])


def differences(one: Traffic, other: Traffic) -> str:
    """Return in which fields two differ, in words."""
    names = [field.name for field in fields(Traffic) if getattr(one, field.name) != getattr(other, field.name)]
    return ", ".join(f"{name} {getattr(one, name)!r} and now {getattr(other, name)!r}" for name in names)


def encoded(text: str) -> str:
    """Return a text in the characters that a tag may have, without spaces.

    >>> encoded("loop 7/a~b"), decoded(encoded("loop 7/a~b"))
    ('loop@207@2Fa@7Eb', 'loop 7/a~b')
    """
    return quote(text, safe="").replace("~", "%7E").replace("%", "@")


def decoded(text: str) -> str:
    """Return the text that `encoded` was given."""
    return unquote(text.replace("@", "%"))
