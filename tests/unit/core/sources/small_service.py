"""A small HTTP service on loopback with scripted answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from airflow_mlops.core.ports.connections import HttpAddress


@dataclass(frozen=True)
class Answer:
    """An answer of the service; ``length`` is its Content-Length header, if that is to be wrong."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass
class SmallService:
    """A running service: its port, and the path and headers of each request."""

    port: int
    requests: list[tuple[str, dict[str, str]]]

    @property
    def address(self) -> HttpAddress:
        return HttpAddress(f"http://127.0.0.1:{self.port}", trust_env=False)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


@contextmanager
def small_service(answer: Callable[[str, Mapping[str, str]], Answer]) -> Iterator[SmallService]:
    """Serve the answers of a function of path and headers (names in small letters) inside the context."""
    requests: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            requests.append((self.path, headers))
            reply = answer(self.path, headers)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status not in (204, 304):
                self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield SmallService(server.server_address[1], requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
