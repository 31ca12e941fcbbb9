"""Cheap HTTP clients: eight persistent connections, each sending the next request after the answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import expovariate

CLIENTS = 8


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
