"""The traffic that a gateway was told to serve, and which answers are right at which moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.sticky_share import StickySplit, bucket_bound


@dataclass
class Period:
    """The moments at which a gateway may serve a traffic: from its order until the next was acknowledged.

    :param since, until: seconds of :func:`time.monotonic`
    """

    traffic: Traffic
    since: float
    until: float = math.inf

    def __post_init__(self) -> None:
        self._split, self._bound = StickySplit(self.traffic.salt), bucket_bound(self.traffic.exposed)

    def version_of(self, key: str) -> str | None:
        """Return the version that answers a key."""
        traffic = self.traffic
        return traffic.challenger if self._bound and self._split.bucket(key) < self._bound else traffic.champion


class TrafficHistory:
    """All traffic so far, oldest first. One thread applies, others ask."""

    def __init__(self, first: Traffic) -> None:
        self.periods = [Period(first, -math.inf)]

    @property
    def now(self) -> Traffic:
        """The newest traffic."""
        return self.periods[-1].traffic

    def apply(self, traffic: Traffic, send: Callable[[Traffic], None]) -> None:
        """Send traffic to the gateway; ``send`` returns when the gateway has acknowledged it."""
        before = self.periods[-1]
        self.periods.append(Period(traffic, time.monotonic()))
        send(traffic)
        before.until = time.monotonic()

    def allows(self, key: str, version: str, sent: float, received: float) -> bool:
        """Return whether a version may answer a key in a request of these moments.

        The gateway may have taken up the request at any moment between the two.

        Parameters
        ----------
        sent, received : float
            Seconds of :func:`time.monotonic`.
        """
        for period in reversed(self.periods):
            if period.until < sent:
                return False
            if period.since <= received and period.version_of(key) == version:
                return True
        return False
