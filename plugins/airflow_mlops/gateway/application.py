"""Requests in, answers out: the gateway as an ASGI application.

    POST /predict              one row, or a list of rows            token for predictions
    PUT  /control/prepare      load a version aside                  token for control, here and below
    PUT  /control/traffic      serve other traffic
    PUT  /control/finalize     let go of versions
    GET  /control/traffic      what is served
    GET  /control/telemetry    what was seen since it was applied
    GET  /metrics              for Prometheus                        either token
    GET  /health, /ready       the process lives; a champion is loaded and warm

An answer that is no success is ``{"error": …}`` with a reason in words; a 422 names the field and the row as well.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from airflow_mlops.core.errors import MlopsError, RolloutError
from airflow_mlops.core.ports.rollout_target import OlderTrafficError
from airflow_mlops.gateway.metrics_page import metrics_page
from airflow_mlops.gateway.micro_batcher import BusyError
from airflow_mlops.gateway.request_router import UnansweredError
from airflow_mlops.gateway.row_errors import RowError
from airflow_mlops.gateway.serving import NotPreparedError, Serving
from airflow_mlops.gateway.settings import Settings
from airflow_mlops.gateway.state_file import traffic_of
from airflow_mlops.gateway.version_files import ServedVersion

log = logging.getLogger(__name__)
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
CONTROL_BYTES = 1_000_000
_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode


class RefusedError(Exception):
    """A request gets this status and these words, and no answer."""

    def __init__(self, status: int, words: str, **more: Any) -> None:
        self.status, self.said = status, {"error": words, **more}
        super().__init__(words)


class Gateway:
    """The application.

    Parameters
    ----------
    settings : Settings
        How it was started.
    serving : Serving
        What it serves.
    """

    def __init__(self, settings: Settings, serving: Serving) -> None:
        self._settings, self.serving = settings, serving
        self.stopping = False
        self.requests: Counter[int] = Counter()
        self._token, self._control = (
            None if one is None else f"Bearer {one}".encode() for one in (settings.token, settings.control_token)
        )
        self._routes: dict[tuple[str, str], Callable[[bytes], Awaitable[Any]]] = {
            ("PUT", "/control/prepare"): self._prepare, ("PUT", "/control/traffic"): self._apply,
            ("PUT", "/control/finalize"): self._finalize, ("GET", "/control/traffic"): self._observe,
            ("GET", "/control/telemetry"): self._telemetry,
        }  # fmt: skip

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        try:
            if path == "/predict":
                await self._predict(scope, receive, send)
            elif path.startswith("/control/"):
                await self._controlled(scope, receive, send)
            else:
                await self._page(scope, send)
        except RefusedError as error:
            await self._refuse(send, path, error)
        except Exception:
            log.exception("%s %s", scope["method"], path)
            await self._refuse(send, path, RefusedError(500, "the gateway failed; its log says how"))

    async def _predict(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            raise RefusedError(405, "ask with POST")
        headers = scope["headers"]
        self._require(headers, self._token)
        body = await body_of(headers, receive, self._settings.body_bytes)
        served = self.serving.served
        if served.champion is None or served.shape is None:
            raise RefusedError(503, f"no champion is served: {self.serving.problem}")
        try:
            rows, single = served.shape.rows_of(body)
            found = await self.serving.answering.answer(served, rows, body)
        except RowError as error:
            raise RefusedError(422, str(error), field=error.field, row=error.row, reason=error.reason) from None
        except BusyError as error:
            raise RefusedError(503, f"too much waits: {error}") from None
        except UnansweredError as error:
            raise RefusedError(503, error.reason, row=None if single else error.row) from None
        if single:
            prediction, version = found[0]
            answer: Any = {"prediction": prediction, "version": version}
        else:
            answer = {"predictions": [one for one, _by in found], "versions": [by for _one, by in found]}
        self.requests[200] += 1
        await answer_with(send, 200, _encode(answer))

    async def _controlled(self, scope: Message, receive: Receive, send: Send) -> None:
        self._require(scope["headers"], self._control)
        route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            raise RefusedError(404, f"there is no {scope['method']} {scope['path']}")
        body = b"" if scope["method"] == "GET" else await body_of(scope["headers"], receive, CONTROL_BYTES)
        try:
            said = await route(body)
        except OlderTrafficError as error:
            raise RefusedError(409, str(error)) from None
        except NotPreparedError as error:
            raise RefusedError(412, str(error)) from None
        except MlopsError as error:
            raise RefusedError(422, str(error)) from None
        await answer_with(send, 200, _encode(said))

    async def _prepare(self, body: bytes) -> Any:
        version = ServedVersion.of(object_of(body))
        await self.serving.prepare(version)
        return {"prepared": version.number}

    async def _apply(self, body: bytes) -> Any:
        said = object_of(body)
        local = said.get("local_share")
        if local is not None and (
            isinstance(local, bool) or not isinstance(local, int | float) or not 0 <= local <= 100
        ):
            raise RolloutError(f"local_share is {local!r}; it must be 0 to 100 percent")
        traffic = traffic_of(said.get("traffic") or {})
        await self.serving.apply(traffic, None if local is None else float(local))
        return await self._observe(b"")

    async def _finalize(self, body: bytes) -> Any:
        await self.serving.finalize(traffic_of(object_of(body).get("traffic") or {}))
        return await self._observe(b"")

    async def _observe(self, _body: bytes) -> Any:
        serving, served = self.serving, self.serving.served
        shadow = served.shadow
        return {
            "traffic": served.traffic.to_dict(), "local_share": serving.local_share, "tripped": served.tripped,
            "problem": serving.problem or (shadow.problem if shadow else None), "serving": serving.ready,
            "shadow_dropped": shadow.dropped if shadow else 0,
        }  # fmt: skip

    async def _telemetry(self, _body: bytes) -> Any:
        return await asyncio.to_thread(self.serving.telemetry)

    async def _page(self, scope: Message, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise RefusedError(405, "ask with GET")
        if scope["path"] == "/health":
            await answer_with(send, 200, b'{"alive":true}')
        elif scope["path"] == "/ready":
            if self.stopping or not self.serving.ready:
                raise RefusedError(503, "the gateway is stopping" if self.stopping else str(self.serving.problem))
            await answer_with(send, 200, _encode({"ready": True, "champion": self.serving.served.traffic.champion}))
        elif scope["path"] == "/metrics":
            self._require(scope["headers"], self._token, self._control)
            page, kind = await asyncio.to_thread(metrics_page, self.serving, dict(self.requests))
            await answer_with(send, 200, page, ((b"content-type", kind.encode()),))
        else:
            raise RefusedError(404, f"there is no {scope['path']}")

    async def _refuse(self, send: Send, path: str, error: RefusedError) -> None:
        if path == "/predict":
            self.requests[error.status] += 1
        more: tuple[tuple[bytes, bytes], ...] = (_JSON,)
        if error.status == 503:
            more = (_JSON, (b"retry-after", b"1"))
        elif error.status == 401:
            more = (_JSON, (b"www-authenticate", b"Bearer"))
        elif error.status == 413:
            more = (_JSON, (b"connection", b"close"))
        await answer_with(send, error.status, _encode(error.said), more)

    @staticmethod
    def _require(headers: list[tuple[bytes, bytes]], *tokens: bytes | None) -> None:
        """Let a request through that shows one of the tokens, compared in constant time; None asks for none."""
        if None in tokens:
            return
        shown = next((value for name, value in headers if name == b"authorization"), b"")
        if sum(hmac.compare_digest(shown, token or b"") for token in tokens) == 0:
            raise RefusedError(401, "this needs a token: Authorization: Bearer …")


def object_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object in the body of a control request."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RolloutError(f"the body is no JSON: {error}") from None
    if not isinstance(said, dict):
        raise RolloutError("the body must be a JSON object")
    return said


async def body_of(headers: list[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes:
    """Return the body of a request that says that it is JSON, and is no longer than ``limit``."""
    kind = length = b""
    for name, value in headers:
        if name == b"content-type":
            kind = value
        elif name == b"content-length":
            length = value
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
        raise RefusedError(415, "the Content-Type must be application/json")
    if length and int(length) > limit:
        raise RefusedError(413, f"the body has {int(length):,} bytes; the limit is {limit:,}")
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise RefusedError(413, f"the body is larger than {limit:,} bytes")
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > limit:
            raise RefusedError(413, f"the body is larger than {limit:,} bytes")
    return b"".join(parts)


async def answer_with(
    send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)
) -> None:
    """Send an answer."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
