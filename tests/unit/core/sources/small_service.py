"""A small HTTP service on loopback whose every answer a test decides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from airflow_mlops.core.ports.connections import HttpAddress


@dataclass(frozen=True)
class Answer:
    """What the service says; ``length`` is what it claims, if that is not the truth."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass
class SmallService:
    """Where it is, and what it was asked: path and headers of each request."""

    port: int
    asked: list[tuple[str, dict[str, str]]]

    @property
    def address(self) -> HttpAddress:
        return HttpAddress(f"http://127.0.0.1:{self.port}", trust_env=False)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def small_service(answer: Callable[[str, Mapping[str, str]], Answer]) -> Iterator[SmallService]:
    """Serve ``answer`` of path and headers (with small letters) while the context lasts."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked.append((self.path, headers))
            said = answer(self.path, headers)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.status not in (204, 304):
                self.send_header("Content-Length", str(len(said.body) if said.length is None else said.length))
            self.end_headers()
            self.wfile.write(said.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield SmallService(server.server_address[1], asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
