"""The link to a shadow: a challenger in a process of its own, which predicts rows beside the champion.

Rows go over a pipe as they came, results come back, and the pair of predictions is counted. No request waits for
it: where more rows are under way than the cap, further ones are left out and counted as dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_mlops.gateway.prediction_log import PredictionLog, ShadowLine
from airflow_mlops.gateway.request_counts import RequestCounts
from airflow_mlops.gateway.settings import Settings
from airflow_mlops.gateway.version_files import ServedVersion, VersionFiles

log = logging.getLogger(__name__)
FLUSH_SECONDS = 0.005
"""How long rows wait for others before they go over the pipe together."""
PATIENCE_SECONDS = 60.0
"""How long a shadow may take to load its version."""
RESTARTS = 3
_LENGTH = 4


class ShadowRow(msgspec.Struct, array_like=True, gc=False):
    """A row on its way to the shadow: its number on the pipe, the body that it came in, and its place there."""

    number: int
    body: bytes
    place: int


class ShadowResult(msgspec.Struct, array_like=True, gc=False):
    """What the shadow made of a row: a prediction, or why there is none, and the seconds that it took."""

    number: int
    prediction: float | None
    error: str | None
    seconds: float


def framed(message: Any) -> bytes:
    """Return a message as it goes over the pipe: its length in four bytes, and MessagePack."""
    content = msgspec.msgpack.encode(message)
    return len(content).to_bytes(_LENGTH, "big") + content


class ShadowLink:
    """A running shadow of one version.

    Parameters
    ----------
    number : str
        Version that predicts.
    told : mapping
        What the process needs to load it; see :mod:`airflow_mlops.gateway.shadow_process`.
    prediction_log : PredictionLog
        Gets the lines of the shadow.
    counts : RequestCounts
        Of the traffic.
    most_waiting : int
        Rows that may be under way.
    """

    def __init__(
        self, number: str, told: Mapping[str, Any], prediction_log: PredictionLog, counts: RequestCounts,
        *, most_waiting: int,
    ) -> None:  # fmt: skip
        self.number, self.dropped = number, 0
        self.problem: str | None = None
        self._told, self._log, self._counts, self._most = dict(told), prediction_log, counts, most_waiting
        self._process: asyncio.subprocess.Process | None = None
        self._under_way: dict[int, tuple[str, int, float | None]] = {}
        self._next = 0
        self._fresh: list[ShadowRow] = []
        self._reading: asyncio.Task[None] | None = None
        self._flushing: asyncio.TimerHandle | None = None
        self._restarts = 0

    @property
    def pid(self) -> int | None:
        """The id of the process."""
        return self._process.pid if self._process else None

    def offer(self, body: bytes, place: int, unit: int, request: str, champion: float | None) -> None:
        """Let the shadow have a row, unless it is not up or too many are under way."""
        if self._process is None or len(self._under_way) >= self._most:
            self.dropped += 1
            return
        self._next += 1
        self._under_way[self._next] = (request, unit, champion)
        self._fresh.append(ShadowRow(self._next, bytes(body), place))
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    async def start(self) -> None:
        """Start the process and wait until its version is loaded and warm.

        Raises
        ------
        TimeoutError, OSError, RuntimeError
            If it does not come up; the last one holds its own words.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "airflow_mlops.gateway.shadow_process",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=dict(os.environ),
            start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdin is not None
            process.stdin.write(framed(self._told))
            first = await asyncio.wait_for(self._message(process), PATIENCE_SECONDS)
            said = msgspec.msgpack.decode(first) if first else {"error": f"it ended with {await process.wait()}"}
            if "error" in said:
                raise RuntimeError(f"the shadow of version {self.number} did not come up: {said['error']}")
        except BaseException:
            if process.returncode is None:
                process.kill()
            raise
        self._process, self.problem = process, None
        self._reading = asyncio.get_running_loop().create_task(self._read(process))

    async def stop(self, *, patience_seconds: float = 2.0) -> None:
        """Wait a little for what is under way, and end the process."""
        process, deadline = self._process, time.monotonic() + patience_seconds
        if process is None:
            return
        self._flush()
        while self._under_way and process.returncode is None and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._process = None
        self.dropped += len(self._under_way)
        self._under_way.clear()
        if process.returncode is None:
            process.kill()
        await process.wait()
        if self._reading is not None:
            self._reading.cancel()

    def _flush(self) -> None:
        self._flushing = None
        rows, self._fresh = self._fresh, []
        if rows and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(framed(rows))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        decoder = msgspec.msgpack.Decoder(list[ShadowResult])
        while True:
            message = await self._message(process)
            if message is None:
                break
            for one in decoder.decode(message):
                known = self._under_way.pop(one.number, None)
                if known is not None:
                    request, unit, champion = known
                    self._log.add(ShadowLine(
                        request, self.number, champion, one.prediction, one.seconds, one.error, self._counts.order,
                        self._counts, unit,
                    ))  # fmt: skip
        if self._process is process:
            await self._again(process)

    async def _again(self, process: asyncio.subprocess.Process) -> None:
        """Start the shadow anew after it died by itself, a few times."""
        self._process = None
        self.dropped += len(self._under_way)
        self._under_way.clear()
        self.problem = f"the shadow of version {self.number} ended with {await process.wait()}"
        log.error("%s", self.problem)
        if self._restarts < RESTARTS:
            self._restarts += 1
            try:
                await self.start()
            except (TimeoutError, OSError, RuntimeError) as error:
                self.problem = str(error) or type(error).__name__
                log.exception("the shadow cannot be started again")

    @staticmethod
    async def _message(process: asyncio.subprocess.Process) -> bytes | None:
        assert process.stdout is not None
        try:
            length = await process.stdout.readexactly(_LENGTH)
            return await process.stdout.readexactly(int.from_bytes(length, "big"))
        except asyncio.IncompleteReadError:
            return None


async def started_shadow(
    settings: Settings,
    files: VersionFiles,
    version: ServedVersion,
    prediction_log: PredictionLog,
    counts: RequestCounts,
) -> ShadowLink:
    """Return a shadow of a version that is up; one that does not come up drops every row, and says why."""
    told = {
        "loop": settings.loop.to_dict(), "root": str(settings.root), "kept": str(files.kept.absolute()),
        "version": version.to_dict(), "keys": list(settings.keys.trusted().values()), "secret": settings.secret,
        "onnx": settings.onnx,
    }  # fmt: skip
    link = ShadowLink(version.number, told, prediction_log, counts, most_waiting=settings.shadow_waiting)
    try:
        await link.start()
    except (TimeoutError, OSError, RuntimeError) as error:
        link.problem = str(error) or type(error).__name__
        log.exception("the shadow does not come up; rows for it are counted as dropped")
    return link
