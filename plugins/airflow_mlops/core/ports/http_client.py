"""A guarded HTTP client for services named by a connection: bounded in time and size, and without redirects.

Nothing here puts a login, a header or an address into a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import httpx

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ports.connections import HttpAddress


class OversizedBodyError(Exception):
    """A body has more bytes than the limit."""


class SlowBodyError(httpx.ReadTimeout):
    """A body takes longer than the limit.

    The timeout of httpx limits the silence between two reads, which a body that drips never reaches.
    """


def parse_base_url(address: HttpAddress, *, name: str = "") -> httpx.URL:
    """Return the URL that all paths of a service begin with.

    Parameters
    ----------
    name : str, optional
        Name of the service, which the message begins with.

    Raises
    ------
    DeclarationError
        Unless it is an http or https URL with a host. The message leaves the URL out, since it may hold a password.
    """
    try:
        url = httpx.URL(address.url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        problem = "the connection names no address that begins with http:// or https://"
        raise DeclarationError(f"{name}: {problem}" if name else problem)
    return url


def open_client(address: HttpAddress, *, timeout: float) -> httpx.Client:
    """Return a client with the login, headers and certificates of a connection.

    A redirect is an answer like any other and is never followed: it could lead to a host that nobody declared, with
    the credentials of this one.

    Parameters
    ----------
    timeout : float
        Seconds to connect, and seconds between two reads.
    """
    login = httpx.BasicAuth(address.login, address.password or "") if address.login else None
    return httpx.Client(
        auth=login,
        headers=dict(address.headers),
        verify=address.verify,
        timeout=timeout,
        trust_env=address.trust_env,
        follow_redirects=False,
    )


def is_busy(status: int) -> bool:
    """Return whether a request with this status may succeed later: 408, 429 or 5xx."""
    return status in (408, 429) or status >= 500


def iterate_body(response: httpx.Response, *, limit: int, seconds: float | None = None) -> Iterator[bytes]:
    """Yield the decompressed body of a response piece by piece.

    Parameters
    ----------
    limit : int
        Largest number of bytes.
    seconds : float, optional
        How long the whole body may take.

    Raises
    ------
    OversizedBodyError
        If there are more bytes.
    SlowBodyError
        If it takes longer.
    httpx.HTTPError
        If the connection breaks off, or the body cannot be decompressed.
    """
    size, started = 0, monotonic()
    for piece in response.iter_bytes():
        # The piece goes out first: a caller with a limit of its own then reports that one.
        yield piece
        size += len(piece)
        if size > limit:
            raise OversizedBodyError(f"a body of more than {limit:,} bytes")
        if seconds is not None and monotonic() - started > seconds:
            raise SlowBodyError(f"longer than {seconds:g} s")


def read_body(response: httpx.Response, *, limit: int, seconds: float | None = None) -> bytes:
    """Return the whole body of a response; see :func:`iterate_body` for the limits and errors."""
    return b"".join(iterate_body(response, limit=limit, seconds=seconds))
