"""A proxy before an HTTP server, which does to chosen requests what a bad network does.

    with FaultyProxy("http://127.0.0.1:5000") as proxy:
        client = MlflowClient(tracking_uri=proxy.url)
        proxy.rule = Rule("unavailable after", "POST", r"/model-versions/create$", times=1)

What is not chosen passes as it is.
"""

from __future__ import annotations

import http.client
import re
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

FAULTS = ("refused", "unavailable before", "unavailable after", "slow", "cut", "stale")
"""The connection is reset before the request is passed on; 503 instead of passing it on; it is carried out, and the
answer is 503, or comes when the client has gone, or breaks off; an earlier answer to the same question."""
READS = ("GET", "HEAD")
LONGEST = 60.0
"""Seconds after which a client that waits for a slow answer is sent away."""
OWN_HEADERS = frozenset(("connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"))
"""Headers of a connection, which are not passed on."""
NOT_PASSED_ON = OWN_HEADERS | {"host", "expect"}


@dataclass(frozen=True)
class Request:
    """A request: method, address without the server, body, bytes it asks for, and whether it had another answer before.

    ``answered`` is known of a question only.
    """

    method: str
    target: str
    body: bytes = field(default=b"", repr=False)
    range: str = ""
    answered: bool = field(default=False, compare=False)

    @property
    def path(self) -> str:
        """The address without its query."""
        return self.target.partition("?")[0]

    @property
    def reads(self) -> bool:
        """Whether it asks and changes nothing; MLflow searches by POST, too."""
        return self.method in READS or self.path.endswith("/search")


@dataclass(frozen=True)
class Answer:
    """An answer: its status, its headers and its body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


@dataclass
class Rule:
    """The fault of some requests.

    Parameters
    ----------
    fault : str
        One of ``FAULTS``.
    method : str
        Regular expression that the method must match as a whole.
    path : str
        Regular expression that is searched for in the path.
    nth : int
        The first of the matching requests that is disturbed, counted from 1.
    times : int, optional
        How many are disturbed from there on; all if not given.

    Raises
    ------
    ValueError
        If the fault is unknown.
    """

    fault: str
    method: str = ".*"
    path: str = ""
    nth: int = 1
    times: int | None = None
    matched: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"{self.fault!r} is no fault; one of {', '.join(FAULTS)}")

    def __call__(self, request: Request) -> str | None:
        """Return the fault of a request, None if it passes."""
        if not (re.fullmatch(self.method, request.method) and re.search(self.path, request.path)):
            return None
        if self.fault == "stale" and not request.answered:
            return None
        self.matched += 1
        disturbed = self.matched - self.nth
        return self.fault if disturbed >= 0 and (self.times is None or disturbed < self.times) else None


class FaultyProxy:
    """A proxy on a free port of loopback, with threads of its own.

    Parameters
    ----------
    upstream : str
        Address of the server, such as ``http://127.0.0.1:5000``.

    Attributes
    ----------
    rule : callable, optional
        Returns the fault of a request, or None; a :class:`Rule` or a function of the test.
    disturbed : list of Request
        The requests that were disturbed.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self.rule: Callable[[Request], str | None] | None = None
        self.disturbed: list[Request] = []
        self._answers: dict[Request, list[Answer]] = {}
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Address of the proxy."""
        assert self._server is not None, "the proxy does not run"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def fault_of(self, request: Request) -> str | None:
        """Return the fault of a request and note it; None if it passes."""
        with self._lock:
            fault = None if self.rule is None else self.rule(request)
            if fault is not None:
                self.disturbed.append(request)
        return fault

    def ask(self, request: Request, headers: list[tuple[str, str]]) -> Answer:
        """Pass a request on, and return the answer of the server."""
        connection = http.client.HTTPConnection(self._upstream, timeout=LONGEST)
        try:
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in [("Host", self._upstream), *headers]:
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in OWN_HEADERS]
        length = response.getheader("Content-Length") if request.method == "HEAD" else str(len(body))
        return Answer(response.status, (*kept, *([("Content-Length", length)] if length else [])), body)

    def earlier(self, request: Request, answer: Answer) -> Answer | None:
        """Keep an answer; return the newest other one to the same question, None if there was none."""
        with self._lock:
            known = self._answers.setdefault(request, [])
            others = [other for other in known if other.body != answer.body or other.status != answer.status]
            known[:] = [*others, answer]
        return others[-1] if others else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing of a client that has gone: here clients are made to go."""

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, without a farewell before a reset."""
        self.close_request(request)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of an answer leave together
    proxy: FaultyProxy

    def handle_expect_100(self) -> bool:
        """Ask for the body of a request at once."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def answer(self) -> None:
        """Answer a request, or disturb it."""
        request, earlier = Request(self.command, self.path, self._body(), self.headers.get("Range", "")), None
        if request.reads:
            answer = self.proxy.ask(request, self._headers())
            earlier = self.proxy.earlier(request, answer)
            request = replace(request, answered=earlier is not None)
        fault = self.proxy.fault_of(request)
        if fault == "refused":
            self._reset()
            return
        if fault == "unavailable before":
            self._send(UNAVAILABLE)
            return
        if not request.reads:
            answer = self.proxy.ask(request, self._headers())
        if fault == "slow":
            self._wait_for_the_client_to_go()
        elif fault == "unavailable after":
            self._send(UNAVAILABLE)
        else:
            self._send(earlier if fault == "stale" and earlier is not None else answer, cut=fault == "cut")

    def _headers(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.headers.items() if name.lower() not in NOT_PASSED_ON]

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _send(self, answer: Answer, *, cut: bool = False) -> None:
        if cut and not answer.body:
            self.wfile.write(b"HTTP/1.1 ")
            self._reset()
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        if cut:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.wfile.flush()
            self._reset()
        elif self.command != "HEAD":
            self.wfile.write(answer.body)

    def _reset(self) -> None:
        """Reset the connection, as a machine does whose process has gone."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _wait_for_the_client_to_go(self) -> None:
        select.select([self.connection], [], [], LONGEST)
        self._reset()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{method}", _Handler.answer)
UNAVAILABLE = Answer(503, (("Content-Length", "11"), ("Content-Type", "text/plain")), b"unavailable")
