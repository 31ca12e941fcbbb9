"""The replicas behind a name, as a headless service of Kubernetes has them: one address for each."""

from __future__ import annotations

import socket
from urllib.parse import SplitResult, urlsplit

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import TargetError

DEFAULT_PORT = 80


def resolve_replicas(url: str) -> tuple[str, ...]:
    """Return the URL of every address that the name in a URL has now, sorted.

    Parameters
    ----------
    url : str
        As ``http://bakery-control:8600``; an address in it is the only one.

    Raises
    ------
    TargetError
        If the name has no address.
    RolloutError
        If it is not http: a certificate is for a name, and not for the addresses of its replicas.

    >>> resolve_replicas("http://127.0.0.1:8600")
    ('http://127.0.0.1:8600',)
    """
    parts = split_http_url(url)
    if parts is None or parts.scheme != "http":
        raise RolloutError(
            f"{url[:300]!r} is no name of replicas: it must be http://NAME:PORT; for https list the replicas one by one"
        )
    port = parts.port or DEFAULT_PORT
    try:
        entries = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise TargetError(
            f"{parts.hostname} has no address, so no replica is known: {error}; see that the headless service exists "
            "and that pods run"
        ) from error
    addresses = sorted({str(address[0]) for _family, _type, _protocol, _name, address in entries})
    return tuple(f"http://{f'[{address}]' if ':' in address else address}:{port}" for address in addresses)


def split_http_url(url: str) -> SplitResult | None:
    """Return the parts of a URL of http or https; None if it is none, has no host, or a port that is none.

    >>> split_http_url("http://[::1"), split_http_url("http://gateway:99999"), split_http_url("gateway:8600")
    (None, None, None)
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if valid else None
