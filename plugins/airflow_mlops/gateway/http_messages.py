"""Requests and responses of the gateway: bodies with limits, answers, and refusals in words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
JSON = b"application/json"
JSON_HEADER = (b"content-type", JSON)


class RefusedError(Exception):
    """A request is refused with a status and a message.

    Parameters
    ----------
    status : int
        Status of the response.
    message : str
        Explanation.
    headers : tuple of pairs of bytes
        Further headers of the response.
    details
        Further fields of its body.
    """

    def __init__(self, status: int, message: str, *, headers: Headers = (), **details: Any) -> None:
        self.status, self.headers, self.body = status, headers, {"error": message, **details}
        super().__init__(message)


def require_method(method: str, allowed: Collection[str]) -> None:
    """Raise RefusedError unless a method is one of those of a path."""
    if method not in allowed:
        words = " or ".join(name for name in allowed if name != "HEAD")
        raise RefusedError(405, f"use {words}", headers=((b"allow", ", ".join(allowed).encode()),))


def media_type(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the media type of a request in lower case, without parameters."""
    kind = next((value for name, value in headers if name == b"content-type"), b"")
    return kind if kind == JSON else kind.partition(b";")[0].strip().lower()


async def read_body(
    headers: list[tuple[bytes, bytes]], receive: Receive, limit: int, kinds: tuple[bytes, ...] = (JSON,)
) -> bytes:
    """Return the body of a request of at most ``limit`` bytes.

    Raises
    ------
    RefusedError
        If the request is of another media type, or its body is larger.
    """
    if media_type(headers) not in kinds:
        raise RefusedError(415, f"the Content-Type must be {' or '.join(kind.decode() for kind in kinds)}")
    length = next((value for name, value in headers if name == b"content-length"), b"")
    if length and int(length) > limit:
        raise RefusedError(413, f"the body has {int(length):,} bytes; the limit is {limit:,}")
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise RefusedError(413, f"the body is larger than {limit:,} bytes")
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def send_answer(send: Send, status: int, body: bytes, headers: Headers = (JSON_HEADER,)) -> None:
    """Send a response."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
