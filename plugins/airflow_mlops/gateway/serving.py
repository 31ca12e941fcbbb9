"""Serve traffic: versions are loaded beside it, and new traffic takes effect by one assignment.

prepare(version): loaded, warm, no traffic   ->   apply(traffic): saved on disk, then served
a challenger that fails too often            ->   taken out here; its traffic stays recorded, its exposure is 0
a restart                                    ->   the saved state is loaded from the gateway's own copies, and goes on
                                                  counting where the lines on disk end
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from airflow_mlops.core.errors import MlopsError, RolloutError
from airflow_mlops.core.ports.rollout_target import SERVING, OlderTrafficError, Traffic
from airflow_mlops.core.rollout.sticky_share import StickySplit, bucket_bound
from airflow_mlops.gateway.answer_form import AnswerForm
from airflow_mlops.gateway.breaker import Breaker
from airflow_mlops.gateway.counts_file import CountsFile
from airflow_mlops.gateway.model_cache import ModelCache, VersionLoader, versions_in
from airflow_mlops.gateway.prediction_log import PredictionLog
from airflow_mlops.gateway.replica_id import read_replica_id
from airflow_mlops.gateway.request_counts import RequestCounts
from airflow_mlops.gateway.request_router import RequestRouter, ServingState
from airflow_mlops.gateway.settings import Settings
from airflow_mlops.gateway.shadow_link import ShadowLink, start_shadow
from airflow_mlops.gateway.state_file import SavedState, read_state, write_state
from airflow_mlops.gateway.version_files import ServedVersion, VersionFiles

log = logging.getLogger(__name__)
MAX_LOADED = 6
"""Versions in memory; beyond that, versions without traffic are evicted."""


class NotPreparedError(RolloutError):
    """Traffic has a version that is not loaded."""


class Serving:
    """The loaded versions and the traffic that is served.

    Parameters
    ----------
    settings : Settings
        Settings of the gateway.

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
        form = AnswerForm.of(settings.loop)
        self._counts_file = CountsFile(settings.state_dir)
        self.log = PredictionLog(
            settings.log_dir,
            seconds=settings.log_seconds,
            rows=settings.log_rows,
            form=form,
            counts_file=self._counts_file,
        )
        self.replica_id, self.process_id = read_replica_id(settings.state_dir), uuid4().hex
        self._width = form.width
        self.router = RequestRouter(
            self.log,
            answer_seconds=settings.answer_seconds,
            challenger_seconds=settings.challenger_seconds,
            trip=self.trip,
        )
        self.served = ServingState(Traffic(0, None))
        self.local_share: float | None = None
        self.problem: str | None = "nothing was applied yet"
        self._cache = ModelCache(most_waiting=settings.most_waiting)
        self._loading, self._changing = asyncio.Lock(), asyncio.Lock()
        self._next_traffic = self.served.traffic
        self._tasks: set[asyncio.Task[None]] = set()
        self._saved_versions: Mapping[str, ServedVersion] = {}

    async def start(self) -> None:
        """Serve the saved state; see :meth:`read_saved` and :meth:`serve_saved`."""
        saved = await self.read_saved()
        if saved is not None:
            await self.serve_saved(saved)

    async def read_saved(self) -> SavedState | None:
        """Return the saved state, which is observed from now on and not yet served; None if it cannot be read."""
        async with self._changing:
            self.problem = "the versions of the saved state are being loaded"
            try:
                saved = await asyncio.to_thread(read_state, self._settings.state_dir)
            except MlopsError as error:
                self.problem = str(error)
                log.exception("the saved state cannot be read")
                return None
            counted_from = saved.traffic.order if saved.counted_from is None else saved.counted_from
            counts = await asyncio.to_thread(self._counts_file.counts, counted_from, self._width)
            # Visible while versions load: otherwise this gateway would look like a new one without traffic.
            self.local_share, self._saved_versions = saved.local_share, saved.versions
            self.served = ServingState(saved.traffic, tripped=saved.tripped, counts=counts)
            return saved

    async def serve_saved(self, saved: SavedState) -> None:
        """Load the saved state and serve it, unless newer traffic was applied; what cannot be loaded is taken out."""
        async with self._changing:
            traffic, counts = saved.traffic, self.served.counts
            if self.served.traffic.order > traffic.order:
                return
            problems = {number: await self._load_saved(version) for number, version in saved.versions.items()}
            tripped = saved.tripped
            if traffic.challenger and problems.get(traffic.challenger, "it was not saved"):
                tripped = f"it cannot be loaded after a restart: {problems.get(traffic.challenger)}"
            self._serve(traffic, saved.local_share, tripped, counts, await self._shadow_for(traffic, counts, tripped))
            if traffic.champion and traffic.champion not in self._cache.batchers:
                self.problem = problems.get(traffic.champion) or f"version {traffic.champion} was not saved"

    async def prepare(self, version: ServedVersion) -> None:
        """Load, verify and warm a version beside the traffic.

        Raises
        ------
        MlopsError
            If the version cannot be served here.
        """
        async with self._loading:
            loaded = self._cache.loaded.get(version.number)
            if loaded is not None and loaded.version.signature == version.signature:
                return
            if loaded is not None and version.number in versions_in(self.served.traffic):
                raise RolloutError(f"version {version.number} is being served, and has another signature than this one")
            loaded = await asyncio.to_thread(self._loader.load, version)
            self._cache.add(loaded)
            self._cache.evict(versions_in(self.served.traffic) | versions_in(self._next_traffic), keep=MAX_LOADED)

    async def apply(self, traffic: Traffic, local_share: float | None) -> None:
        """Save traffic on disk, then serve it.

        Raises
        ------
        OlderTrafficError
            If newer traffic was applied, or other traffic by the same record.
        NotPreparedError
            If a version in it is not loaded.
        RolloutError
            If the challenger takes other rows than the champion.
        """
        if not self._is_new(traffic, local_share):
            return
        # A shadow may take long to start: a rollback in the meantime must not wait for it.
        counts, before = self._counts_for(traffic), self.served.shadow
        shadow = await self._shadow_for(traffic, counts, self._trip_reason(traffic))
        try:
            async with self._changing:
                if self._is_new(traffic, local_share):
                    self._next_traffic = traffic
                    state = self._state_to_save(traffic, local_share, self._trip_reason(traffic), counts)
                    await asyncio.to_thread(write_state, self._settings.state_dir, state)
                    self._serve(traffic, local_share, self._trip_reason(traffic), counts, shadow)
        finally:
            for link in {before, shadow} - {self.served.shadow}:
                if link is not None:
                    self._run_in_background(link.stop())

    async def finalize(self, traffic: Traffic) -> None:
        """Drop the versions, in memory and on disk, that neither ``traffic`` nor the served traffic needs."""
        async with self._loading, self._changing:
            needed = versions_in(traffic) | versions_in(self.served.traffic)
            self._cache.evict(needed, keep=0)
            versions = [loaded.version for loaded in self._cache.loaded.values()]
            await asyncio.to_thread(self._loader.files.keep_only, versions)

    def trip(self, served: ServingState, reason: str) -> None:
        """Take the challenger out at once, and save that on disk in the background."""
        if self.served is not served or served.tripped is not None:
            return
        number = served.traffic.challenger
        log.error("version %s was taken out: %s", number, reason)
        self.served = replace(served, tripped=reason, challenger_bound=0.0, shadow_bound=0.0)
        self._run_in_background(self._save_trip())

    async def close(self) -> None:
        """End the shadow and write the rest of the log."""
        if self.served.shadow is not None:
            await self.served.shadow.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.log.close)

    @property
    def ready(self) -> bool:
        """Whether a champion is loaded and warm."""
        return self.served.champion is not None

    def telemetry(self) -> dict[str, Any]:
        """Return the counts since the traffic was applied, as JSON values. Safe to call from any thread."""
        served = self.served
        self.log.count()
        return {
            **served.counts.to_dict(),
            "order": served.traffic.order,
            "tripped": served.tripped,
            "replica": self.replica_id,
            "process": self.process_id,
        }

    def observe(self) -> dict[str, Any]:
        """Return the traffic as JSON values, with the versions in it, from which another replica can load them."""
        served, shadow = self.served, self.served.shadow
        known = {**self._saved_versions, **{number: each.version for number, each in self._cache.loaded.items()}}
        return {
            "traffic": served.traffic.to_dict(),
            "local_share": self.local_share,
            "tripped": served.tripped,
            "problem": self.problem or (shadow.problem if shadow else None),
            "serving": self.ready,
            "seconds": served.counts.seconds,
            "shadow_dropped": shadow.dropped if shadow else 0,
            "versions": [known[number].to_dict() for number in sorted(versions_in(served.traffic)) if number in known],
            "replica": self.replica_id,
            "process": self.process_id,
        }

    async def _load_saved(self, version: ServedVersion) -> str | None:
        """Load a version of the saved state; return the error, None if there is none."""
        try:
            self._cache.add(await asyncio.to_thread(self._loader.load, version))
        except Exception as error:  # a broken version must not keep the others from being served
            log.exception("version %s cannot be loaded", version.number)
            return str(error)
        return None

    def _state_to_save(
        self, traffic: Traffic, local_share: float | None, tripped: str | None, counts: RequestCounts
    ) -> SavedState:
        versions = {
            number: self._cache.loaded[number].version
            for number in versions_in(traffic)
            if number in self._cache.loaded
        }
        return SavedState(traffic, local_share, versions, tripped, counts.order)

    def _require_same_rows(self, traffic: Traffic) -> None:
        if traffic.champion and traffic.challenger:
            champion_shape, challenger_shape = (
                self._cache.loaded[number].shape for number in (traffic.champion, traffic.challenger)
            )
            if not champion_shape.is_compatible(challenger_shape):
                raise RolloutError(
                    f"version {traffic.challenger} was fitted on other columns than version {traffic.champion}; "
                    "declare a contract, which fixes the columns of a request"
                )

    def _is_new(self, traffic: Traffic, local_share: float | None) -> bool:
        """Return whether traffic is not served already; raise if it cannot be served."""
        before = self.served.traffic
        if traffic.order < before.order:
            raise OlderTrafficError(f"record {traffic.order} is older than {before.order}, which is served")
        if traffic.order == before.order:
            if (traffic, local_share) != (before, self.local_share):
                raise OlderTrafficError(f"record {traffic.order} has already set other traffic")
            return False
        missing = sorted(number for number in versions_in(traffic) if number not in self._cache.loaded)
        if missing:
            raise NotPreparedError(f"version {missing[0]} is not loaded: prepare it first")
        self._require_same_rows(traffic)
        return True

    def _trip_reason(self, traffic: Traffic) -> str | None:
        """Return why the challenger was taken out earlier in the same rollout, None if it was not."""
        before = self.served
        same = (traffic.challenger, traffic.salt) == (before.traffic.challenger, before.traffic.salt)
        return before.tripped if same else None

    def _counts_for(self, traffic: Traffic) -> RequestCounts:
        """Return the current counts if the new record repeats the served traffic, else new counts."""
        before = self.served
        same = all(
            getattr(before.traffic, name) == getattr(traffic, name)
            for name in ("champion", "challenger", "kind", "share", "salt")
        )
        return before.counts if same and before.traffic.order > 0 else RequestCounts(traffic.order, self._width)

    def _serve(
        self,
        traffic: Traffic,
        local_share: float | None,
        tripped: str | None,
        counts: RequestCounts,
        shadow: ShadowLink | None,
    ) -> None:
        """Serve traffic from the next request on."""
        before, batchers, loaded = self.served, self._cache.batchers, self._cache.loaded
        share = traffic.share if local_share is None else local_share
        versions = [loaded[number] for number in (traffic.champion, traffic.challenger) if number in loaded]
        tripped_out = tripped is not None
        self.log.counts = counts
        self.served = ServingState(
            traffic,
            batchers.get(traffic.champion or ""),
            batchers.get(traffic.challenger or ""),
            self._loader.shape_for(*(served.version for served in versions)) if versions else None,
            refuse_unseen=loaded[traffic.champion].refuse_unseen if traffic.champion in loaded else None,
            challenger_bound=0.0 if tripped_out or traffic.kind not in SERVING else bucket_bound(share),
            shadow_bound=0.0 if tripped_out or shadow is None else bucket_bound(share),
            shadow=shadow,
            tripped=tripped,
            split=StickySplit(traffic.salt),
            counts=counts,
            breaker=before.breaker if counts is before.counts else Breaker(),
        )
        self.local_share, self._next_traffic = local_share, traffic
        self.problem = None if self.ready else "no champion was applied"

    async def _shadow_for(self, traffic: Traffic, counts: RequestCounts, tripped: str | None) -> ShadowLink | None:
        """Return the shadow that traffic needs, None if it needs none; a running one is reused."""
        if traffic.kind != "shadow" or traffic.challenger not in self._cache.loaded or tripped is not None:
            return None
        before = self.served
        if before.shadow is not None and before.shadow.number == traffic.challenger and before.counts is counts:
            return before.shadow
        version = self._cache.loaded[traffic.challenger].version
        return await start_shadow(self._settings, self._loader.files, version, self.log, counts)

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background; ``close`` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _save_trip(self) -> None:
        async with self._changing:
            if self.served.tripped is not None:
                served = self.served
                state = self._state_to_save(served.traffic, self.local_share, served.tripped, served.counts)
                await asyncio.to_thread(write_state, self._settings.state_dir, state)
