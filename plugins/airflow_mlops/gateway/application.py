"""The gateway as an ASGI application.

    POST /predict              one row, or a list of rows            token for predictions
    PUT  /control/prepare      load a version                        token for control, here and below
    PUT  /control/traffic      change the traffic
    PUT  /control/finalize     drop versions
    GET  /control/traffic      the served traffic
    GET  /control/telemetry    counts since it was applied
    GET  /metrics              for Prometheus                        either token
    GET  /health, /ready       the process lives; a champion is loaded and warm

The answer to a failed request is ``{"error": …}`` with a message; a 422 has the field and the row as well.
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
from airflow_mlops.gateway.state_file import parse_percent, parse_traffic
from airflow_mlops.gateway.version_files import ServedVersion

log = logging.getLogger(__name__)
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
CONTROL_BYTES = 1_000_000
_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode


class RefusedError(Exception):
    """A request is refused with a status and a message."""

    def __init__(self, status: int, message: str, **details: Any) -> None:
        self.status, self.body = status, {"error": message, **details}
        super().__init__(message)


class Gateway:
    """The application.

    Parameters
    ----------
    settings : Settings
        Settings of the gateway.
    serving : Serving
        The versions and the traffic.
    """

    def __init__(self, settings: Settings, serving: Serving) -> None:
        self._settings, self.serving = settings, serving
        self.stopping = False
        self.requests: Counter[int] = Counter()
        self._token, self._control = (
            None if token is None else f"Bearer {token}".encode() for token in (settings.token, settings.control_token)
        )
        self._routes: dict[tuple[str, str], Callable[[bytes], Awaitable[Any]]] = {
            ("PUT", "/control/prepare"): self._prepare,
            ("PUT", "/control/traffic"): self._apply,
            ("PUT", "/control/finalize"): self._finalize,
            ("GET", "/control/traffic"): self._observe,
            ("GET", "/control/telemetry"): self._telemetry,
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        try:
            if path == "/predict":
                await self._predict(scope, receive, send)
            elif path.startswith("/control/"):
                await self._handle_control(scope, receive, send)
            else:
                await self._serve_page(scope, send)
        except RefusedError as error:
            await self._refuse(send, path, error)
        except Exception:
            log.exception("%s %s", scope["method"], path)
            await self._refuse(send, path, RefusedError(500, "the gateway failed; see its log"))

    async def _predict(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            raise RefusedError(405, "use POST")
        headers = scope["headers"]
        self._require_token(headers, self._token)
        body = await read_body(headers, receive, self._settings.body_bytes)
        served = self.serving.served
        if served.champion is None or served.shape is None:
            raise RefusedError(503, f"no champion is served: {self.serving.problem}")
        try:
            rows, single = served.shape.decode_rows(body)
            if served.refuse_unseen is not None:
                served.refuse_unseen(rows)
            predictions = await self.serving.router.answer(served, rows, body)
        except RowError as error:
            raise RefusedError(422, str(error), field=error.field, row=error.row, reason=error.reason) from None
        except BusyError as error:
            raise RefusedError(503, f"too many rows wait: {error}") from None
        except UnansweredError as error:
            raise RefusedError(503, error.reason, row=None if single else error.row) from None
        if single:
            prediction, version = predictions[0]
            answer: Any = {"prediction": prediction, "version": version}
        else:
            answer = {
                "predictions": [prediction for prediction, _version in predictions],
                "versions": [version for _prediction, version in predictions],
            }
        self.requests[200] += 1
        await send_answer(send, 200, _encode(answer))

    async def _handle_control(self, scope: Message, receive: Receive, send: Send) -> None:
        self._require_token(scope["headers"], self._control)
        route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            raise RefusedError(404, f"there is no {scope['method']} {scope['path']}")
        body = b"" if scope["method"] == "GET" else await read_body(scope["headers"], receive, CONTROL_BYTES)
        try:
            answer = await route(body)
        except OlderTrafficError as error:
            raise RefusedError(409, str(error)) from None
        except NotPreparedError as error:
            raise RefusedError(412, str(error)) from None
        except MlopsError as error:
            raise RefusedError(422, str(error)) from None
        await send_answer(send, 200, _encode(answer))

    async def _prepare(self, body: bytes) -> Any:
        version = ServedVersion.from_dict(parse_object(body))
        await self.serving.prepare(version)
        return {"prepared": version.number}

    async def _apply(self, body: bytes) -> Any:
        request = parse_object(body)
        local = request.get("local_share")
        local_share = None if local is None else parse_percent(local, "local_share")
        await self.serving.apply(parse_traffic(request.get("traffic") or {}), local_share)
        return await self._observe(b"")

    async def _finalize(self, body: bytes) -> Any:
        await self.serving.finalize(parse_traffic(parse_object(body).get("traffic") or {}))
        return await self._observe(b"")

    async def _observe(self, _body: bytes) -> Any:
        serving, served = self.serving, self.serving.served
        shadow = served.shadow
        return {
            "traffic": served.traffic.to_dict(),
            "local_share": serving.local_share,
            "tripped": served.tripped,
            "problem": serving.problem or (shadow.problem if shadow else None),
            "serving": serving.ready,
            "shadow_dropped": shadow.dropped if shadow else 0,
        }

    async def _telemetry(self, _body: bytes) -> Any:
        return await asyncio.to_thread(self.serving.telemetry)

    async def _serve_page(self, scope: Message, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise RefusedError(405, "use GET")
        if scope["path"] == "/health":
            await send_answer(send, 200, b'{"alive":true}')
        elif scope["path"] == "/ready":
            if self.stopping or not self.serving.ready:
                raise RefusedError(503, "the gateway is stopping" if self.stopping else str(self.serving.problem))
            await send_answer(send, 200, _encode({"ready": True, "champion": self.serving.served.traffic.champion}))
        elif scope["path"] == "/metrics":
            self._require_token(scope["headers"], self._token, self._control)
            page, kind = await asyncio.to_thread(metrics_page, self.serving, dict(self.requests))
            await send_answer(send, 200, page, ((b"content-type", kind.encode()),))
        else:
            raise RefusedError(404, f"there is no {scope['path']}")

    async def _refuse(self, send: Send, path: str, error: RefusedError) -> None:
        if path == "/predict":
            self.requests[error.status] += 1
        headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)
        if error.status == 503:
            headers = (_JSON, (b"retry-after", b"1"))
        elif error.status == 401:
            headers = (_JSON, (b"www-authenticate", b"Bearer"))
        elif error.status == 413:
            headers = (_JSON, (b"connection", b"close"))
        await send_answer(send, error.status, _encode(error.body), headers)

    @staticmethod
    def _require_token(headers: list[tuple[bytes, bytes]], *tokens: bytes | None) -> None:
        """Raise RefusedError unless a request has one of the tokens; None means that none is needed."""
        if None in tokens:
            return
        header = next((value for name, value in headers if name == b"authorization"), b"")
        # All are compared, in constant time: the time of an answer must not depend on the token.
        if sum(hmac.compare_digest(header, token or b"") for token in tokens) == 0:
            raise RefusedError(401, "this needs a token: Authorization: Bearer …")


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in the body of a control request."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RolloutError(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RolloutError("the body must be a JSON object")
    return value


async def read_body(headers: list[tuple[bytes, bytes]], receive: Receive, limit: int) -> bytes:
    """Return the body of a JSON request of at most ``limit`` bytes.

    Raises
    ------
    RefusedError
        If the request is not JSON, or its body is larger.
    """
    given = dict(headers)
    kind, length = given.get(b"content-type", b""), given.get(b"content-length", b"")
    if kind != b"application/json" and kind.partition(b";")[0].strip().lower() != b"application/json":
        raise RefusedError(415, "the Content-Type must be application/json")
    if length and int(length) > limit:
        raise RefusedError(413, f"the body has {int(length):,} bytes; the limit is {limit:,}")
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise RefusedError(413, f"the body is larger than {limit:,} bytes")
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def send_answer(
    send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)
) -> None:
    """Send a response."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
