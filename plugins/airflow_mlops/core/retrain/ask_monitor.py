"""Read the alarms that an outside monitor lists: one GET over HTTP."""

from __future__ import annotations

import httpx

from airflow_mlops.core.errors import DeclarationError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.ports.connections import HttpAddress
from airflow_mlops.core.ports.http_client import (
    OversizedBodyError,
    SlowBodyError,
    is_busy,
    open_client,
    parse_base_url,
    read_body,
)

TIMEOUT = 10.0
"""Seconds of silence after which a monitor does not answer."""
PATIENCE = 30.0
"""Seconds that a whole answer may take, so that a slow answer does not block a thread of the triggerer for ever."""
LARGEST = 1 << 20
"""Bytes of the largest answer that is accepted; two hundred alarms need a tenth of it."""


def ask_monitor(address: HttpAddress, path: str) -> bytes:
    """Request the alarms of a monitor and return the body of its answer.

    There is no retry: the trigger asks again after its pause.

    Parameters
    ----------
    path : str
        Path of the alarms below the address; it may have a query string.

    Raises
    ------
    DeclarationError
        If the address is not an http or https URL, or the path cannot be part of one.
    SourceUnreachableError
        If it does not answer.
    SourceUnreadableError
        If it refuses, points elsewhere, or answers more than :data:`LARGEST` bytes.
    """
    parse_base_url(address)
    try:
        url = httpx.URL(f"{address.url.rstrip('/')}/{path.lstrip('/')}")
    except httpx.InvalidURL as error:
        raise DeclarationError(f"{path!r} is not a valid path: {error}") from None
    try:
        with open_client(address, timeout=TIMEOUT) as client, client.stream("GET", url) as response:
            return _read_alarms(response)
    except SlowBodyError:
        raise SourceUnreachableError(f"the monitor took more than {PATIENCE:g} s for its answer") from None
    except httpx.HTTPError as error:
        # Only the kind of the error: its text may hold the address.
        raise SourceUnreachableError(f"the monitor does not answer ({type(error).__name__})") from None


def _read_alarms(response: httpx.Response) -> bytes:
    status = response.status_code
    if is_busy(status):
        raise SourceUnreachableError(f"the monitor answered {status}")
    if status == 204:
        return b"[]"
    if status != 200:
        raise SourceUnreadableError(f"the monitor answered {status}")
    try:
        return read_body(response, limit=LARGEST, seconds=PATIENCE)
    except OversizedBodyError:
        raise SourceUnreadableError(f"the monitor answers more than {LARGEST:,} bytes") from None
