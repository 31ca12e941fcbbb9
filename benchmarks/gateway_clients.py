"""Cheap HTTP clients: eight persistent connections, each sending the next request after the answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import expovariate
from typing import cast

CLIENTS = 8
REFUSED_SECONDS = 0.1
"""Pause of a client whom nobody lets connect."""


@dataclass(frozen=True)
class Request:
    """A request to send repeatedly."""

    port: int
    path: str
    body: bytes
    token: str | None = None

    @property
    def raw(self) -> bytes:
        """The bytes of the HTTP request."""
        authorization = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{authorization}"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


@dataclass(frozen=True)
class Reply:
    """The answer to a request, and the moments of both in seconds of :func:`time.monotonic`.

    ``status`` is 0 where the connection ended without an answer; ``body`` says then why.
    """

    request: Request
    status: int
    body: bytes
    sent: float
    received: float


async def ask_without_pause(requests: list[Iterator[Request]], take: Callable[[Reply], None]) -> None:
    """Send the requests of each iterator by a connection of its own, each as soon as the last one is answered.

    Parameters
    ----------
    requests : list of iterator of Request
        The requests of each connection, drawn when they are sent.
    take : callable
        Called with each reply.
    """
    loop = asyncio.get_running_loop()

    async def run_client(mine: Iterator[Request]) -> None:
        for first in mine:  # a second time where a connection was lost
            sent = time.monotonic()
            try:
                _transport, client = await loop.create_connection(
                    partial(_ChainedRequests, first, mine, take), "127.0.0.1", first.port
                )
            except OSError as error:
                take(Reply(first, 0, repr(error).encode(), sent, time.monotonic()))
                await asyncio.sleep(REFUSED_SECONDS)
            else:
                await client.ended

    await asyncio.gather(*map(run_client, requests))


class _ChainedRequests(asyncio.Protocol):
    """A connection that sends the next request when an answer is there: much cheaper than a stream."""

    def __init__(self, first: Request, others: Iterator[Request], take: Callable[[Reply], None]) -> None:
        self._request, self._others, self._take = first, others, take
        self._received, self._sent, self._under_way = b"", 0.0, True
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods alone
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take a whole answer, and send the next request; without one, close."""
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]):
            return
        self._received, self._under_way = b"", False
        try:
            self._take(Reply(self._request, int(head.split(b" ", 2)[1]), body, self._sent, time.monotonic()))
            following = next(self._others, None)
        except Exception as error:  # whoever waits for the end must hear of it
            self.ended.set_exception(error)
            following = None
        if following is None:
            self._transport.close()
        else:
            self._request = following
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """End; a request that is under way has no answer."""
        if self._under_way:
            words = repr(error or "the connection was closed").encode()
            self._take(Reply(self._request, 0, words, self._sent, time.monotonic()))
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        self._under_way, self._sent = True, time.monotonic()
        self._transport.write(self._request.raw)


def ask(request: Request, count: int, *, pause_seconds: float = 0.0) -> Counter[bytes]:
    """Send a request ``count`` times by eight clients; return the counts of each status and body.

    After an answer a client waits for ``pause_seconds`` on average, at random: clients in step would ask together.
    """
    return asyncio.run(_ask(request, count, pause_seconds))


async def _ask(request: Request, count: int, pause_seconds: float) -> Counter[bytes]:
    answers: Counter[bytes] = Counter()
    numbers = iter(range(count))
    await asyncio.gather(*[_client(request, numbers, answers, pause_seconds) for _ in range(CLIENTS)])
    return answers


async def _client(request: Request, numbers: Iterator[int], answers: Counter[bytes], pause_seconds: float) -> None:
    raw = request.raw
    reader, writer = await asyncio.open_connection("127.0.0.1", request.port)
    for _number in numbers:
        try:
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            answers[head.split(b" ", 2)[1] + b" " + await reader.readexactly(length)] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            answers[repr(error).encode()] += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", request.port)
        if pause_seconds:
            await asyncio.sleep(expovariate(1 / pause_seconds))
    writer.close()
