"""Ask a monitor outside for its alarms: one GET over HTTP, where the connection says and nowhere else."""

from __future__ import annotations

from time import monotonic

import httpx

from airflow_mlops.core.errors import DeclarationError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.ports.connections import HttpAddress

TIMEOUT = 10.0
"""Seconds of silence after which a monitor does not answer."""
PATIENCE = 30.0
"""Seconds that a whole answer may take, so that one that drips holds no thread of the triggerer for ever."""
LARGEST = 1 << 20
"""Bytes of the largest answer that is taken; two hundred alarms need a tenth of it."""


def ask_monitor(address: HttpAddress, path: str) -> bytes:
    """Return what a monitor answers; nothing is asked twice, since it is asked again anyway.

    Parameters
    ----------
    path : str
        Where its alarms are, below the address; it may carry a query.

    Raises
    ------
    DeclarationError
        If the address is none of a service, or the path is none.
    SourceUnreachableError
        If it does not answer.
    SourceUnreadableError
        If it refuses, points elsewhere, or answers more than :data:`LARGEST` bytes.
    """
    try:
        asked = httpx.URL(f"{address.url.rstrip('/')}/{path.lstrip('/')}")
    except httpx.InvalidURL as error:
        raise DeclarationError(f"{path!r} is no path: {error}") from None
    if asked.scheme not in ("http", "https") or not asked.host:
        raise DeclarationError("the connection names no address that begins with http:// or https://")
    login = httpx.BasicAuth(address.login, address.password or "") if address.login else None
    try:
        with httpx.Client(
            auth=login, headers=dict(address.headers), verify=address.verify, timeout=TIMEOUT,
            trust_env=address.trust_env, follow_redirects=False,
        ) as client, client.stream("GET", asked) as answer:  # fmt: skip
            return _body(answer)
    except httpx.HTTPError as error:
        raise SourceUnreachableError(f"the monitor does not answer ({type(error).__name__})") from None


def _body(answer: httpx.Response) -> bytes:
    status = answer.status_code
    if status in (408, 429) or status >= 500:
        raise SourceUnreachableError(f"the monitor answered {status}")
    if status == 204:
        return b"[]"
    if status != 200:
        raise SourceUnreadableError(f"the monitor answered {status}")
    body, until = b"", monotonic() + PATIENCE
    for piece in answer.iter_bytes():
        body += piece
        if len(body) > LARGEST:
            raise SourceUnreadableError(f"the monitor answers more than {LARGEST:,} bytes")
        if monotonic() > until:
            raise SourceUnreachableError(f"the monitor took more than {PATIENCE:g} s for its answer")
    return body
