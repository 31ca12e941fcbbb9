"""Receivers on loopback: a webhook that keeps what is posted, a mail server, and a collector of OpenTelemetry."""

from __future__ import annotations

import gzip
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_string
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Webhook:
    """A running webhook: its port, the bodies that it has taken, and what it refused.

    ``status`` is what it answers: set it to 500, and it takes nothing.
    """

    port: int
    status: int = 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def connection(self, **fields: Any) -> str:
        """Return an Airflow connection of type http to it, as JSON."""
        host = {"conn_type": "http", "host": f"http://127.0.0.1:{self.port}", "extra": {"trust_env": False}}
        return json.dumps({**host, **fields})


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Serve a webhook inside the context."""
    kept: list[Webhook] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (receiver,) = kept
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            accepted = receiver.status < 300
            (receiver.bodies if accepted else receiver.refused).append(body)
            if accepted:
                receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                receiver.paths.append(self.path)
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        kept.append(Webhook(port))
        yield kept[0]


@dataclass
class SpanCollector:
    """A running collector of OTLP over HTTP: its port, and the spans that it has taken."""

    port: int
    spans: list[Span] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process whose spans come here."""
        return {
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{self.port}/v1/traces",
        }


@contextmanager
def span_collector() -> Iterator[SpanCollector]:
    """Serve a collector inside the context."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    kept: list[SpanCollector] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            request = ExportTraceServiceRequest.FromString(body)
            kept[0].spans += [
                span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
            ]
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        kept.append(SpanCollector(port))
        yield kept[0]


@dataclass
class MailServer:
    """A running mail server: its port, and the mail that it has taken with the addresses of the envelope."""

    port: int
    mail: list[tuple[list[str], Message]] = field(default_factory=list)

    def connection(self) -> str:
        """Return an Airflow connection of type smtp to it, as JSON."""
        extra = {"from_email": "loop@example.org", "disable_ssl": True, "disable_tls": True, "retry_limit": 0}
        return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": self.port, "extra": extra})


class _MailSession(socketserver.StreamRequestHandler):
    """The few commands of SMTP that a client needs to hand over a message."""

    receiver: MailServer

    def handle(self) -> None:
        receivers: list[str] = []
        self.answer("220 sink")
        for line in self.rfile:
            command = line.decode().strip()
            verb = command.upper()
            if verb.startswith("RCPT TO:"):
                receivers.append(command[8:].strip().strip("<>"))
            if verb == "DATA":
                self.answer("354 go on")
                self.receiver.mail.append((receivers, message_from_string(self.read_message())))
                receivers = []
            self.answer("221 bye" if verb == "QUIT" else "250 ok")

    def answer(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())

    def read_message(self) -> str:
        lines = iter(self.rfile.readline, b".\r\n")
        return "".join(line.decode().removeprefix(".") for line in lines)


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """Serve mail inside the context."""
    session = type("Session", (_MailSession,), {})
    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), session)) as port:
        session.receiver = MailServer(port)  # type: ignore[attr-defined]
        yield session.receiver  # type: ignore[attr-defined]


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    """Run a server in a thread and yield its port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
