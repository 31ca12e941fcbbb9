"""The other replicas of a gateway: a replica asks them which traffic is in force, and follows the newest record.

    before it serves    a newer record of any of them is taken, or the replica is not ready
    while it serves     the same, every few seconds
    none answers        what it saved is served, as by a gateway that is alone

The replicas hold what they were told on their own disks, so this works while Airflow, the ledger and the lake are gone;
only a version that this replica never had comes from the lake.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from airflow_mlops.core.errors import MlopsError, RolloutError
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.targets.gateway.gateway_answer import error_message
from airflow_mlops.core.rollout.targets.gateway.replica_addresses import resolve_replicas
from airflow_mlops.gateway.serving import Serving
from airflow_mlops.gateway.settings import Settings
from airflow_mlops.gateway.state_file import SavedState, parse_traffic
from airflow_mlops.gateway.version_files import ServedVersion

log = logging.getLogger(__name__)
ANSWER_SECONDS = 3.0
UNREADY_SECONDS = 1.0
"""Seconds between two looks of a replica that is not ready."""
LARGEST_BYTES = 8 << 20


class Answer(Enum):
    """The result of a look at the other replicas.

    ``NONE``: no other replica answers. ``SAME``: none has newer traffic, or it was taken. ``NEWER``: one has, and it
    cannot be followed yet.
    """

    NONE, SAME, NEWER = range(3)


@dataclass(frozen=True)
class ReplicaState:
    """The traffic of another replica, which may still load it, and the id of its process.

    ``applied_at`` is the time of :func:`time.monotonic` here at which that traffic was applied there.
    """

    url: str
    process: str
    traffic: Traffic
    versions: tuple[ServedVersion, ...]
    tripped: str | None
    applied_at: float

    @classmethod
    def from_dict(cls, url: str, values: Mapping[str, Any]) -> ReplicaState:
        """Return the state in the JSON values of ``GET /control/traffic``; RolloutError if a value is wrong."""
        try:
            versions = tuple(ServedVersion.from_dict(version) for version in values["versions"])
            tripped = values["tripped"]
            traffic, applied_at = parse_traffic(values["traffic"]), time.monotonic() - float(values["seconds"])
            return cls(url, str(values["process"]), traffic, versions, tripped and str(tripped), applied_at)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RolloutError(f"{url} is no gateway of this release: {type(error).__name__}: {error}") from error


class OtherReplicas:
    """The other replicas of a gateway, and this one.

    Parameters
    ----------
    settings : Settings
        ``peers`` are the addresses to ask; each name stands for all addresses that it has.
    serving : Serving
        What this replica serves.
    """

    def __init__(self, settings: Settings, serving: Serving) -> None:
        self._settings, self._serving = settings, serving
        self._saved: SavedState | None = None

    async def start(self) -> None:
        """Serve the saved state, or the newer traffic of another replica, and go on asking; never returns.

        Where no other replica answers for ``peer_wait_seconds``, what was saved is served.
        """
        self._saved = await self._serving.read_saved()
        answered_at = time.monotonic()
        while True:
            try:
                answer = await self.look()
            except Exception:  # one broken look must not end the others
                log.exception("the other replicas cannot be asked")
                answer = Answer.NONE
            if answer is not Answer.NONE:
                answered_at = time.monotonic()
            waited = time.monotonic() - answered_at >= self._settings.peer_wait_seconds
            if answer is Answer.SAME or (answer is Answer.NONE and waited):
                await self._serve_saved()
            await asyncio.sleep(self._settings.peer_seconds if self._serving.ready else UNREADY_SECONDS)

    async def look(self) -> Answer:
        """Ask the others once, and follow the newest record."""
        others, alone = await asyncio.to_thread(self._ask_others)
        newest = max(others, key=lambda state: state.traffic.order, default=None)
        if newest is None:
            return Answer.SAME if alone else Answer.NONE
        served = self._serving.served
        if newest.traffic.order > served.traffic.order:
            return Answer.SAME if await self._follow(newest) else Answer.NEWER
        tripped = next((state for state in others if state.traffic == served.traffic and state.tripped), None)
        if tripped is not None and self._serving.ready:
            self._serving.trip(served, f"{tripped.url} has taken it out: {tripped.tripped}")
        return Answer.SAME

    async def _serve_saved(self) -> None:
        if self._saved is not None:
            saved, self._saved = self._saved, None
            await self._serving.serve_saved(saved)

    async def _follow(self, newest: ReplicaState) -> bool:
        """Serve the traffic of another replica; return whether that is done."""
        try:
            if newest.traffic.kind == "rolling":
                raise RolloutError("its share is given to each replica by the loop: airflow-mlops reconcile MODEL")
            for version in newest.versions:
                await self._serving.prepare(version)
            await self._serving.apply(newest.traffic, None)
        except MlopsError as error:
            message = f"{newest.url} serves newer traffic, of record {newest.traffic.order}, not followed yet: {error}"
            log.warning("%s", message)
            if not self._serving.ready:
                self._serving.problem = message
            return False
        self._saved = None
        # The fleet has served this traffic for longer: a new replica must not make a rollout wait anew.
        self._serving.served.counts.count_from(newest.applied_at)
        log.info("traffic of record %d was taken from %s", newest.traffic.order, newest.url)
        if newest.tripped:
            self._serving.trip(self._serving.served, f"{newest.url} has taken it out: {newest.tripped}")
        return True

    def _ask_others(self) -> tuple[list[ReplicaState], bool]:
        """Return the states of the others that answer, and whether every address is this replica's own."""
        try:
            urls = find_peers(self._settings.peers)
        except MlopsError as error:
            log.warning("%s", error)
            return [], False
        with ThreadPoolExecutor(len(urls)) as threads:
            answers = list(threads.map(self._ask, urls))
        others = [answer for answer in answers if answer is not None and answer.process != self._serving.process_id]
        alone = all(answer is not None and answer.process == self._serving.process_id for answer in answers)
        return others, alone

    def _ask(self, url: str) -> ReplicaState | None:
        """Return the state of a replica, None if it does not answer."""
        try:
            return ReplicaState.from_dict(url, get_traffic(url, self._settings.control_token))
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.debug("%s does not answer: %s: %s", url, type(error).__name__, error)
        except MlopsError as error:
            log.warning("%s", error)
        return None


def find_peers(peers: Sequence[str]) -> list[str]:
    """Return every address of the names in the addresses of peers; an https address is one peer."""
    urls = [url for peer in peers for url in ((peer,) if peer.startswith("https://") else resolve_replicas(peer))]
    return sorted(set(urls))


def get_traffic(url: str, token: str | None) -> Mapping[str, Any]:
    """Return the answer to ``GET /control/traffic``.

    Raises
    ------
    RolloutError
        If it is not an answer of a gateway that takes the token.
    OSError, http.client.HTTPException, ValueError
        If there is none, or it is not JSON.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
    try:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection.request("GET", "/control/traffic", headers=headers)
        answer = connection.getresponse()
        body = answer.read(LARGEST_BYTES)
    finally:
        connection.close()
    if answer.status != 200:
        message = error_message(body, secret=token)
        raise RolloutError(f"{url} answers {answer.status} to a replica: {message!r}; all need one control token")
    values = json.loads(body)
    if not isinstance(values, dict):
        raise RolloutError(f"{url} is no gateway: it answers {error_message(body, secret=token)!r}")
    return values
