"""What is served, and how that changes: versions are loaded aside, and traffic is swapped by one assignment.

prepare(version): loaded, warm, no traffic   ->   apply(traffic): kept on disk, then served
a challenger that fails too often            ->   taken out here; the traffic stays recorded, its exposure is 0
a restart                                    ->   what was kept is loaded from the gateway's own copies
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from airflow_mlops.core.errors import MlopsError, RolloutError
from airflow_mlops.core.ports.rollout_target import SERVING, OlderTrafficError, Traffic
from airflow_mlops.core.rollout.sticky_share import StickySplit, bound_of
from airflow_mlops.gateway.breaker import Breaker
from airflow_mlops.gateway.loading import VersionLoader
from airflow_mlops.gateway.model_cache import HeldVersions, needed
from airflow_mlops.gateway.prediction_log import PredictionLog
from airflow_mlops.gateway.request_counts import RequestCounts
from airflow_mlops.gateway.request_router import Answering, Served
from airflow_mlops.gateway.settings import Settings
from airflow_mlops.gateway.shadow_link import ShadowLink, started_shadow
from airflow_mlops.gateway.state_file import KeptState, read_state, write_state
from airflow_mlops.gateway.version_files import ServedVersion, VersionFiles

log = logging.getLogger(__name__)
MOST_LOADED = 6
"""Versions that are held in memory; of more, those that no traffic needs go first."""


class NotPreparedError(RolloutError):
    """Traffic names a version that is not loaded."""


class Serving:
    """Versions that are loaded, and the traffic that is served.

    Parameters
    ----------
    settings : Settings
        How the gateway was started.

    Raises
    ------
    DeclarationError
        If the loop cannot be served by a gateway.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        settings.state_dir.mkdir(parents=True, exist_ok=True)
        files = VersionFiles(settings.state_dir / "models", settings.lake / settings.loop.model, settings.keys)
        self._loader = VersionLoader(settings.loop, settings.root, files, secret=settings.secret, onnx=settings.onnx)
        self.log = PredictionLog(settings.log_dir, seconds=settings.log_seconds, rows=settings.log_rows)
        self.answering = Answering(
            self.log, answer_seconds=settings.answer_seconds, challenger_seconds=settings.challenger_seconds,
            trip=self.trip,
        )  # fmt: skip
        self.served = Served(Traffic(0, None))
        self.local_share: float | None = None
        self.problem: str | None = "nothing was applied yet"
        self._held = HeldVersions(most_waiting=settings.most_waiting)
        self._loading, self._changing = asyncio.Lock(), asyncio.Lock()
        self._coming = self.served.traffic
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load what was kept; where its challenger cannot be loaded, it is taken out."""
        async with self._changing:
            self.problem = "the versions of before are being loaded"
            try:
                kept = await asyncio.to_thread(read_state, self._settings.state_dir)
            except MlopsError as error:
                self.problem = str(error)
                log.exception("what was served cannot be read")
                return
            # Said from now on, so that nobody takes a gateway that loads for one that was told nothing.
            traffic, self.local_share = kept.traffic, kept.local_share
            self.served = Served(traffic)
            problems = {number: await self._loads(version) for number, version in kept.versions.items()}
            tripped = kept.tripped
            if traffic.challenger and problems.get(traffic.challenger, "it was not kept"):
                tripped = f"it cannot be loaded after a restart: {problems.get(traffic.challenger)}"
            counts = RequestCounts(traffic.order)
            self._serve(traffic, kept.local_share, tripped, counts, await self._shadow(traffic, counts, tripped))
            if traffic.champion and traffic.champion not in self._held.lanes:
                self.problem = problems.get(traffic.champion) or f"version {traffic.champion} was not kept"

    async def prepare(self, version: ServedVersion) -> None:
        """Load a version aside, verified and warmed; requests go on meanwhile.

        Raises
        ------
        MlopsError
            If it cannot be served here; says why.
        """
        async with self._loading:
            known = self._held.loaded.get(version.number)
            if known is not None and known.version.signature == version.signature:
                return
            if known is not None and version.number in needed(self.served.traffic):
                raise RolloutError(f"version {version.number} is being served, and is signed otherwise than this one")
            loaded = await asyncio.to_thread(self._loader.load, version)
            self._held.hold(loaded)
            self._held.let_go(needed(self.served.traffic) | needed(self._coming), keep=MOST_LOADED)

    async def apply(self, traffic: Traffic, local_share: float | None) -> None:
        """Keep ``traffic`` on disk, then serve it.

        Raises
        ------
        OlderTrafficError
            If something newer was applied, or something else by the same record.
        NotPreparedError
            If one of its versions is not loaded.
        RolloutError
            If the challenger takes other rows than the champion, or its shadow does not come up.
        """
        if not self._is_news(traffic, local_share):
            return
        # A shadow may take long to come up: a rollback that comes meanwhile does not wait for it.
        counts, before = self._counts(traffic), self.served.shadow
        shadow = await self._shadow(traffic, counts, self._tripped(traffic))
        try:
            async with self._changing:
                if self._is_news(traffic, local_share):
                    self._coming = traffic
                    kept = self._kept(traffic, local_share, self._tripped(traffic))
                    await asyncio.to_thread(write_state, self._settings.state_dir, kept)
                    self._serve(traffic, local_share, self._tripped(traffic), counts, shadow)
        finally:
            for link in {before, shadow} - {self.served.shadow}:
                if link is not None:
                    self._aside(link.stop())

    async def finalize(self, traffic: Traffic) -> None:
        """Let go of versions, in memory and on disk, that neither ``traffic`` nor what is served needs."""
        async with self._loading, self._changing:
            wanted = needed(traffic) | needed(self.served.traffic)
            self._held.let_go(wanted, keep=0)
            kept = [loaded.version for loaded in self._held.loaded.values()]
            await asyncio.to_thread(self._loader.files.keep_only, kept)

    def trip(self, served: Served, reason: str) -> None:
        """Take the challenger out at once, and keep that on disk as soon as that goes."""
        if self.served is not served or served.tripped is not None:
            return
        number = served.traffic.challenger
        log.error("version %s was taken out: %s", number, reason)
        self.served = replace(served, tripped=reason, bound=0.0, shadowed=0.0)
        self._aside(self._keep_tripped())

    async def close(self) -> None:
        """End the shadow and write what is left of the log."""
        if self.served.shadow is not None:
            await self.served.shadow.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.log.close)

    @property
    def ready(self) -> bool:
        """Whether a champion is loaded and warm."""
        return self.served.champion is not None

    def telemetry(self) -> dict[str, Any]:
        """Return what was seen since the traffic was applied, as JSON values; may be called from any thread."""
        served = self.served
        self.log.count()
        return {**served.counts.to_dict(), "order": served.traffic.order, "tripped": served.tripped}

    async def _loads(self, version: ServedVersion) -> str | None:
        """Load a version that was kept; return what is wrong with it."""
        try:
            self._held.hold(await asyncio.to_thread(self._loader.load, version))
        except Exception as error:  # whatever is wrong with one version, the others are served
            log.exception("version %s cannot be loaded", version.number)
            return str(error)
        return None

    def _kept(self, traffic: Traffic, local_share: float | None, tripped: str | None) -> KeptState:
        versions = {
            number: self._held.loaded[number].version for number in needed(traffic) if number in self._held.loaded
        }
        return KeptState(traffic, local_share, versions, tripped)

    def _require_same_rows(self, traffic: Traffic) -> None:
        if traffic.champion and traffic.challenger:
            ours, theirs = (self._held.loaded[number].shape for number in (traffic.champion, traffic.challenger))
            if ours is not theirs:
                raise RolloutError(
                    f"version {traffic.challenger} was fitted on other columns than version {traffic.champion}; "
                    "declare a contract, which says what rows of requests hold"
                )

    def _is_news(self, traffic: Traffic, local_share: float | None) -> bool:
        """Whether ``traffic`` is to be served, and is not already; refuses what cannot be."""
        before = self.served.traffic
        if traffic.order < before.order:
            raise OlderTrafficError(f"record {traffic.order} is older than {before.order}, which is served")
        if traffic.order == before.order:
            if (traffic, local_share) != (before, self.local_share):
                raise OlderTrafficError(f"record {traffic.order} has already said something else")
            return False
        missing = sorted(number for number in needed(traffic) if number not in self._held.loaded)
        if missing:
            raise NotPreparedError(f"version {missing[0]} is not loaded: prepare it first")
        self._require_same_rows(traffic)
        return True

    def _tripped(self, traffic: Traffic) -> str | None:
        """Return why the challenger of ``traffic`` was taken out before, in the same rollout."""
        before = self.served
        same = (traffic.challenger, traffic.salt) == (before.traffic.challenger, before.traffic.salt)
        return before.tripped if same else None

    def _counts(self, traffic: Traffic) -> RequestCounts:
        """Return the counts that go on where a new record says what was served before, or new ones."""
        before = self.served
        same = all(
            getattr(before.traffic, name) == getattr(traffic, name)
            for name in ("champion", "challenger", "kind", "share", "salt")
        )
        return before.counts if same and before.traffic.order > 0 else RequestCounts(traffic.order)

    def _serve(
        self, traffic: Traffic, local_share: float | None, tripped: str | None, counts: RequestCounts,
        shadow: ShadowLink | None,
    ) -> None:  # fmt: skip
        """Serve ``traffic`` from the next request on."""
        before, lanes, loaded = self.served, self._held.lanes, self._held.loaded
        share = traffic.share if local_share is None else local_share
        some = next((one for one in (traffic.champion, traffic.challenger) if one in loaded), None)
        out = tripped is not None
        self.served = Served(
            traffic, lanes.get(traffic.champion or ""), lanes.get(traffic.challenger or ""),
            loaded[some].shape if some else None,
            bound=0.0 if out or traffic.kind not in SERVING else bound_of(share),
            shadowed=0.0 if out or shadow is None else bound_of(share), shadow=shadow, tripped=tripped,
            split=StickySplit(traffic.salt), counts=counts,
            breaker=before.breaker if counts is before.counts else Breaker(),
        )  # fmt: skip
        self.local_share, self._coming = local_share, traffic
        self.problem = None if self.ready else "no champion was applied"

    async def _shadow(self, traffic: Traffic, counts: RequestCounts, tripped: str | None) -> ShadowLink | None:
        """Return the shadow that ``traffic`` asks for: the one of before if it is the same, else a new one."""
        if traffic.kind != "shadow" or traffic.challenger not in self._held.loaded or tripped is not None:
            return None
        before = self.served
        if before.shadow is not None and before.shadow.number == traffic.challenger and before.counts is counts:
            return before.shadow
        version = self._held.loaded[traffic.challenger].version
        return await started_shadow(self._settings, self._loader.files, version, self.log, counts)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside what is going on; it is waited for at the end."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_tripped(self) -> None:
        async with self._changing:
            if self.served.tripped is not None:
                kept = self._kept(self.served.traffic, self.local_share, self.served.tripped)
                await asyncio.to_thread(write_state, self._settings.state_dir, kept)
