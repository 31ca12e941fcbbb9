"""The versions that a gateway holds in memory, each with its lane."""

from __future__ import annotations

import logging
from collections.abc import Set

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.gateway.loading import LoadedVersion
from airflow_mlops.gateway.micro_batcher import Lane

log = logging.getLogger(__name__)


class HeldVersions:
    """Loaded versions by their numbers, oldest first.

    Parameters
    ----------
    most_waiting : int
        Rows that may wait for each.
    """

    def __init__(self, *, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self.loaded: dict[str, LoadedVersion] = {}
        self.lanes: dict[str, Lane] = {}

    def hold(self, loaded: LoadedVersion) -> None:
        """Hold a version, in the place of one of the same number."""
        number = loaded.version.number
        before = self.lanes.get(number)
        if before is not None:
            before.retire()
        self.loaded[number] = loaded
        self.lanes[number] = Lane(number, loaded.ready, most_waiting=self._most_waiting)
        log.info("version %s is loaded as %s, %.2g s a row", number, loaded.ready.form, loaded.ready.seconds)

    def let_go(self, wanted: Set[str], *, keep: int) -> None:
        """Forget versions that are not wanted, oldest first, until ``keep`` are left; the newest goes only for none."""
        newest = next(reversed(self.loaded), None)
        for number in [one for one in self.loaded if one not in wanted and (keep == 0 or one != newest)]:
            if len(self.loaded) > keep:
                del self.loaded[number]
                self.lanes.pop(number).retire()


def needed(traffic: Traffic) -> set[str]:
    """Return the versions that traffic needs loaded."""
    return {one for one in (traffic.champion, traffic.challenger, traffic.standby) if one is not None}
