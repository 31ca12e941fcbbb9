"""The link to a shadow: a challenger in a process of its own, which predicts rows beside the champion.

Rows go over a pipe, results come back, and the pairs of predictions are counted. No request waits for the shadow: if
too many rows are in flight, further rows are left out and counted as dropped.
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

from airflow_mlops.gateway.answer_form import Prediction
from airflow_mlops.gateway.prediction_log import PredictionLog, ShadowLine
from airflow_mlops.gateway.request_counts import RequestCounts
from airflow_mlops.gateway.settings import Settings
from airflow_mlops.gateway.version_files import ServedVersion, VersionFiles

log = logging.getLogger(__name__)
FLUSH_SECONDS = 0.005
"""How long rows are collected before they go over the pipe together."""
PATIENCE_SECONDS = 60.0
"""How long a shadow may take to load its version."""
RESTARTS = 3
_LENGTH = 4


class ShadowRow(msgspec.Struct, array_like=True, gc=False):
    """A row for the shadow: its number on the pipe, the body of its request, and its place in that body."""

    number: int
    body: bytes
    place: int


class ShadowResult(msgspec.Struct, array_like=True, gc=False):
    """The result of a row: a prediction, or the error, and the seconds that it took."""

    number: int
    prediction: Prediction | None
    error: str | None
    seconds: float


def encode_frame(message: Any) -> bytes:
    """Return a message for the pipe: its length in four bytes, then MessagePack."""
    content = msgspec.msgpack.encode(message)
    return len(content).to_bytes(_LENGTH, "big") + content


class ShadowLink:
    """A running shadow of one version.

    Parameters
    ----------
    number : str
        Number of the version.
    config : mapping
        First message to the process; see :mod:`airflow_mlops.gateway.shadow_process`.
    prediction_log : PredictionLog
        Log to which the lines of the shadow are added.
    counts : RequestCounts
        Counts of the traffic.
    most_waiting : int
        Rows that may be in flight.
    """

    def __init__(
        self,
        number: str,
        config: Mapping[str, Any],
        prediction_log: PredictionLog,
        counts: RequestCounts,
        *,
        most_waiting: int,
    ) -> None:
        self.number, self.dropped = number, 0
        self.problem: str | None = None
        self._config, self._log, self._counts, self._max_in_flight = dict(config), prediction_log, counts, most_waiting
        self._process: asyncio.subprocess.Process | None = None
        self._in_flight: dict[int, tuple[str, int, Prediction | None]] = {}
        self._last_number = 0
        self._unsent: list[ShadowRow] = []
        self._reading: asyncio.Task[None] | None = None
        self._flushing: asyncio.TimerHandle | None = None
        self._restarts = 0

    @property
    def pid(self) -> int | None:
        """The id of the process."""
        return self._process.pid if self._process else None

    def offer(self, body: bytes, place: int, unit: int, request: str, champion: Prediction | None) -> None:
        """Send a row to the shadow; drop it if the shadow is down or too many rows are in flight."""
        if self._process is None or len(self._in_flight) >= self._max_in_flight:
            self.dropped += 1
            return
        self._last_number += 1
        self._in_flight[self._last_number] = (request, unit, champion)
        self._unsent.append(ShadowRow(self._last_number, bytes(body), place))
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    async def start(self) -> None:
        """Start the process and wait until its version is loaded and warm.

        Raises
        ------
        TimeoutError, OSError, RuntimeError
            If it does not come up; RuntimeError holds its own error.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "airflow_mlops.gateway.shadow_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=dict(os.environ),
            start_new_session=True,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(encode_frame(self._config))
            frame = await asyncio.wait_for(self._read_frame(process), PATIENCE_SECONDS)
            answer = msgspec.msgpack.decode(frame) if frame else {"error": f"it ended with {await process.wait()}"}
            if "error" in answer:
                raise RuntimeError(f"the shadow of version {self.number} did not come up: {answer['error']}")
        except BaseException:
            if process.returncode is None:
                process.kill()
            raise
        self._process, self.problem = process, None
        self._reading = asyncio.get_running_loop().create_task(self._read(process))

    async def stop(self, *, patience_seconds: float = 2.0) -> None:
        """Wait a little for the rows in flight, and end the process."""
        process, deadline = self._process, time.monotonic() + patience_seconds
        if process is None:
            return
        self._flush()
        while self._in_flight and process.returncode is None and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._process = None
        self.dropped += len(self._in_flight)
        self._in_flight.clear()
        if process.returncode is None:
            process.kill()
        await process.wait()
        if self._reading is not None:
            self._reading.cancel()

    def _flush(self) -> None:
        self._flushing = None
        rows, self._unsent = self._unsent, []
        if rows and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(encode_frame(rows))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        decoder = msgspec.msgpack.Decoder(list[ShadowResult])
        while True:
            frame = await self._read_frame(process)
            if frame is None:
                break
            for result in decoder.decode(frame):
                entry = self._in_flight.pop(result.number, None)
                if entry is not None:
                    request, unit, champion = entry
                    self._log.add(
                        ShadowLine(
                            request,
                            self.number,
                            champion,
                            result.prediction,
                            result.seconds,
                            result.error,
                            self._counts.order,
                            self._counts,
                            unit,
                        )
                    )
        if self._process is process:
            await self._restart(process)

    async def _restart(self, process: asyncio.subprocess.Process) -> None:
        """Start the shadow again after it died, at most ``RESTARTS`` times."""
        self._process = None
        self.dropped += len(self._in_flight)
        self._in_flight.clear()
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
    async def _read_frame(process: asyncio.subprocess.Process) -> bytes | None:
        assert process.stdout is not None
        try:
            length = await process.stdout.readexactly(_LENGTH)
            return await process.stdout.readexactly(int.from_bytes(length, "big"))
        except asyncio.IncompleteReadError:
            return None


async def start_shadow(
    settings: Settings,
    files: VersionFiles,
    version: ServedVersion,
    prediction_log: PredictionLog,
    counts: RequestCounts,
) -> ShadowLink:
    """Return the link to a new shadow; if it does not come up, it drops every row and has a ``problem``."""
    config = {
        "loop": settings.loop.to_dict(),
        "root": str(settings.root),
        "kept": str(files.kept.absolute()),
        "version": version.to_dict(),
        "keys": list(settings.keys.trusted().values()),
        "secret": settings.secret,
        "onnx": settings.onnx,
    }
    link = ShadowLink(version.number, config, prediction_log, counts, most_waiting=settings.shadow_waiting)
    try:
        await link.start()
    except (TimeoutError, OSError, RuntimeError) as error:
        link.problem = str(error) or type(error).__name__
        log.exception("the shadow does not come up; rows for it are counted as dropped")
    return link
