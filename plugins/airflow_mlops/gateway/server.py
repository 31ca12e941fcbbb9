"""Run a gateway: uvicorn on uvloop, and a shutdown that loses no request and no line of the log.

On SIGTERM or SIGINT the gateway is not ready at once, goes on answering for ``drain_seconds`` so that a load balancer
can notice, closes its port, finishes the requests in progress, and writes the rest of the log. The counts of the whole
run are then in ``stopped.json`` of the state folder.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
import uvloop

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.gateway.application import Gateway
from airflow_mlops.gateway.other_replicas import OtherReplicas
from airflow_mlops.gateway.replica_id import own_folder
from airflow_mlops.gateway.serving import Serving
from airflow_mlops.gateway.settings import Settings

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 2_000
FINISH_SECONDS = 30
STOPPED = "stopped.json"


class _Server(uvicorn.Server):
    """Uvicorn's server without its signal handlers: the gateway has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers."""
        yield


def run(settings: Settings) -> None:
    """Serve until a signal ends it.

    Raises
    ------
    RolloutError
        If the port cannot be opened, or another gateway runs on the state folder.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if settings.token is None:
        log.warning(
            "there are no tokens: anybody who reaches %s:%d can change what is served", settings.host, settings.port
        )
    with own_folder(settings.state_dir), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, open_listener(settings)))


def open_listener(settings: Settings) -> socket.socket:
    """Return the listening socket of a gateway."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise RolloutError(f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}") from error
    return listener


async def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve on a socket until a signal ends it."""
    serving = Serving(settings)
    gateway = Gateway(settings, serving)
    server = _Server(
        uvicorn.Config(
            gateway,
            http="httptools",
            loop="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            ws="none",
            server_header=False,
            date_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=FINISH_SECONDS,
            proxy_headers=False,
        )
    )
    stops: list[asyncio.Task[None]] = []

    def stop() -> None:
        if not gateway.stopping:
            gateway.stopping = True
            stops.append(asyncio.get_running_loop().create_task(drain(server, settings.drain_seconds)))

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    start = OtherReplicas(settings, serving).start() if settings.peers else serving.start()
    loading = asyncio.get_running_loop().create_task(start)
    try:
        await server.serve(sockets=[listener])
    finally:
        if settings.peers:
            loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        await serving.close()
        counts = summarise_run(gateway)
        with external_write("gateway.stopped"):
            (settings.state_dir / STOPPED).write_text(json.dumps(counts))
        log.info("stopped: %s", counts)


async def drain(server: uvicorn.Server, seconds: float) -> None:
    """Stop the server after some seconds."""
    await asyncio.sleep(seconds)
    server.should_exit = True


def summarise_run(gateway: Gateway) -> dict[str, Any]:
    """Return the counts of the whole run: requests by status, rows, and lines of the log."""
    totals, written = gateway.serving.router.totals, gateway.serving.log
    return {
        "requests": {str(status): count for status, count in sorted(gateway.requests.items())},
        "rows": totals.rows,
        "answered": totals.answered,
        "instead": totals.fallbacks,
        "lines": written.written,
        "lost": written.lost,
    }
