"""The traffic of an endpoint as its tags: one tag for each record of the ledger that changes the traffic.

AWS has no compare-and-swap. Each order therefore has a tag of its own that no older order overwrites: a worker that
finds a newer tag stops, before each call that changes something and once more at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast
from urllib.parse import quote, unquote

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.fault_point import write
from airflow_mlops.core.ports.rollout_target import Kind, OlderTrafficError, Traffic

PREFIX = "airflow-mlops/told/"
LONGEST = 256
"""Characters of the longest value of a tag."""


@dataclass(frozen=True)
class AppliedTraffic:
    """Traffic requested of an endpoint, and since when it is served, in seconds of AWS's clock; None if not yet."""

    traffic: Traffic
    since: float | None = None

    def tag(self) -> dict[str, str]:
        """Return the tag.

        :raises RolloutError: if the traffic is too long for a tag
        """
        values = {**asdict(self.traffic), "since": self.since}
        del values["order"]
        value = " ".join(f"{name}={encode(str(part))}" for name, part in values.items() if part not in (None, ""))
        if len(value) > LONGEST:
            raise RolloutError(f"the traffic of record {self.traffic.order} does not fit into a tag: {value!r}")
        return {"Key": f"{PREFIX}{self.traffic.order}", "Value": value}

    @classmethod
    def from_tag(cls, tag: Mapping[str, str]) -> AppliedTraffic:
        """Return the traffic of a tag."""
        values = {name: decode(part) for name, _, part in (word.partition("=") for word in tag["Value"].split())}
        traffic = Traffic(
            int(tag["Key"].removeprefix(PREFIX)),
            values.get("champion"),
            values.get("challenger"),
            cast("Kind", values.get("kind", "none")),
            float(values.get("share", 0)),
            values.get("salt", ""),
            values.get("standby"),
        )
        since = values.get("since")
        return cls(traffic, None if since is None else float(since))


class TrafficTags:
    """The tags of one endpoint.

    :param client: boto3's client of SageMaker
    :param arn: ARN of the endpoint
    """

    def __init__(self, client: Any, arn: str) -> None:
        self.client, self.arn = client, arn

    def read_all(self) -> list[AppliedTraffic]:
        """Return the traffic of all tags, the newest last."""
        pages = self.client.get_paginator("list_tags").paginate(ResourceArn=self.arn)
        tags = (tag for page in pages for tag in page["Tags"] if tag["Key"].startswith(PREFIX))
        return sorted((AppliedTraffic.from_tag(tag) for tag in tags), key=lambda entry: entry.traffic.order)

    def newest(self) -> AppliedTraffic | None:
        """Return the newest traffic, served or not."""
        entries = self.read_all()
        return entries[-1] if entries else None

    def newest_served(self) -> AppliedTraffic | None:
        """Return the newest traffic that has been served."""
        return next((entry for entry in reversed(self.read_all()) if entry.since is not None), None)

    def claim(self, traffic: Traffic) -> None:
        """Record that ``traffic`` is requested.

        :raises OlderTrafficError: if there is newer traffic, or other traffic of the same record
        """
        entries = self.read_all()
        same = [entry for entry in entries if entry.traffic.order == traffic.order]
        if not same:
            self._write(AppliedTraffic(traffic))
        elif not same[0].traffic.serves_like(traffic):
            raise OlderTrafficError(
                f"record {traffic.order} has already set other traffic: {differences(same[0].traffic, traffic)}"
            )
        self.require_newest(traffic)

    def require_newest(self, traffic: Traffic) -> None:
        """Raise OlderTrafficError unless traffic is the newest.

        :raises OlderTrafficError: if there is newer traffic
        """
        newest = self.newest()
        if newest is not None and newest.traffic.order > traffic.order:
            raise OlderTrafficError(
                f"record {traffic.order} is older than record {newest.traffic.order}, which the endpoint has"
            )

    def mark_served(self, traffic: Traffic, *, now: float) -> None:
        """Record that ``traffic`` is served, and delete the older tags.

        :param now: since when it is served, unless equal traffic was served before
        :raises OlderTrafficError: if newer traffic has arrived meanwhile
        """
        self.require_newest(traffic)
        entries = self.read_all()
        own = next((entry for entry in entries if entry.traffic.order == traffic.order), None)
        earlier = next(
            (entry for entry in reversed(entries) if entry.since and entry.traffic.serves_like(traffic)), None
        )
        if own is None or own.since is None:
            self._write(AppliedTraffic(traffic, now if earlier is None else earlier.since))
        older = [f"{PREFIX}{entry.traffic.order}" for entry in entries if entry.traffic.order < traffic.order]
        if older:
            write("sagemaker", self.client, "delete_tags", ResourceArn=self.arn, TagKeys=older)

    def _write(self, entry: AppliedTraffic) -> None:
        write("sagemaker", self.client, "add_tags", ResourceArn=self.arn, Tags=[entry.tag()])


def differences(first: Traffic, second: Traffic) -> str:
    """Return the differing fields of two traffics as text."""
    names = [field.name for field in fields(Traffic) if getattr(first, field.name) != getattr(second, field.name)]
    return ", ".join(f"{name} {getattr(first, name)!r} and now {getattr(second, name)!r}" for name in names)


def encode(text: str) -> str:
    """Return a text in the characters that are allowed in a tag, without spaces.

    >>> encode("loop 7/a~b"), decode(encode("loop 7/a~b"))
    ('loop@207@2Fa@7Eb', 'loop 7/a~b')
    """
    return quote(text, safe="").replace("~", "%7E").replace("%", "@")


def decode(text: str) -> str:
    """Return the original text of an encoded one."""
    return unquote(text.replace("@", "%"))
