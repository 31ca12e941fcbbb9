"""The page of the loops' metrics over HTTP, until a signal ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from prometheus_client import CollectorRegistry, start_http_server

from airflow_mlops.core.errors import DeclarationError


def serve_metrics(registry: CollectorRegistry, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve the page until SIGTERM or SIGINT.

    :param host: address to listen on
    :param port: a free one of the system's choice if 0
    :param announce: takes the address of the page once it is served
    :raises DeclarationError: if the port cannot be opened
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DeclarationError(f"port {port} of {host} cannot be opened: {reason}; name another by --port") from None
    shown = f"[{host}]" if ":" in host else host
    announce(f"http://{shown}:{server.server_port}/metrics")
    ended.wait()
    server.shutdown()
    server.server_close()
    thread.join()
