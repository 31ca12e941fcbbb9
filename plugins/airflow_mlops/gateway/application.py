"""The gateway as an ASGI application.

    POST /predict              one row, or a list of rows            token for predictions, here and below
    POST /invocations          the same as MLflow's scoring server
    POST /v2/models/…/infer    the same by the Open Inference Protocol
    GET  /v2/models/…          what a row needs
    GET  /openapi.json         every path, in OpenAPI 3.1            either token
    PUT  /control/prepare      load a version                        token for control, here and below
    PUT  /control/traffic      change the traffic
    PUT  /control/finalize     drop versions
    GET  /control/traffic      the served traffic
    GET  /control/telemetry    counts since it was applied
    GET  /metrics              for Prometheus                        either token
    GET  /health, /ready       the process lives; a champion is loaded and warm
    GET  /v2, /v2/health/…     the same by the Open Inference Protocol
    GET  /ping, /version       the same as MLflow's scoring server

The answer to a failed request is ``{"error": …}`` with a message; a 422 has the field and the row as well. Whatever the
protocol, rows go one way: rewritten as the JSON of ``/predict``, held to the contract, split, answered, logged.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from airflow_mlops.core.errors import MlopsError, RolloutError
from airflow_mlops.core.ports.rollout_target import OlderTrafficError
from airflow_mlops.gateway.answer_form import AnswerForm, Prediction
from airflow_mlops.gateway.http_messages import (
    JSON,
    JSON_HEADER,
    Headers,
    Message,
    Receive,
    RefusedError,
    Send,
    media_type,
    read_body,
    require_method,
    send_answer,
)
from airflow_mlops.gateway.invocations import (
    KINDS,
    SCORING_PROTOCOL,
    explain_refusal,
    read_invocation,
)
from airflow_mlops.gateway.metrics_page import metrics_page
from airflow_mlops.gateway.micro_batcher import BusyError
from airflow_mlops.gateway.open_inference import metadata, read_request, requested_outputs, write_response
from airflow_mlops.gateway.openapi import describe_gateway
from airflow_mlops.gateway.request_router import ServingState, UnansweredError
from airflow_mlops.gateway.row_errors import RowError
from airflow_mlops.gateway.row_shape import RowShape
from airflow_mlops.gateway.row_text import require_keys_once
from airflow_mlops.gateway.serving import NotPreparedError, Serving
from airflow_mlops.gateway.settings import Settings
from airflow_mlops.gateway.state_file import parse_percent, parse_traffic
from airflow_mlops.gateway.version_files import ServedVersion
from airflow_mlops.release import __version__

log = logging.getLogger(__name__)
CONTROL_BYTES = 1_000_000
READ = ("GET", "HEAD")
PREDICTING = ("/predict", "/invocations")
SINGLE = {"predictions": "prediction"}
"""The name of a field in the answer for a single row, where it is another one."""
_encode = msgspec.json.Encoder().encode


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
        self._settings, self.serving, self._form = settings, serving, AnswerForm.of(settings.loop)
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
        self._pages: dict[str, Callable[[Message, Send], Awaitable[None]]] = {
            "/health": self._health,
            "/ready": self._ready,
            "/metrics": self._metrics,
            "/openapi.json": self._openapi,
            "/ping": self._ping,
            "/version": self._version,
            "/v2": self._v2_server,
            "/v2/health/live": self._v2_live,
            "/v2/health/ready": self._v2_ready,
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        try:
            if path == "/predict":
                await self._predict(scope, receive, send)
            elif path.startswith("/v2/models/"):
                await self._v2_model(scope, receive, send)
            elif path == "/invocations":
                await self._invocations(scope, receive, send)
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
        body = await self._read_rows(scope, receive)
        served, shape = self._served()
        try:
            rows, single = shape.decode_rows(body)
            if body.count(b":") != shape.required * len(rows):
                require_keys_once(body)
            predictions = await self._answer_rows(served, rows, body)
        except RowError as error:
            raise refuse_row(error) from None
        except UnansweredError as error:
            raise RefusedError(503, error.reason, row=None if single else error.row) from None
        answer: dict[str, Any] = self._form.fields([prediction for prediction, _version in predictions])
        versions = [version for _prediction, version in predictions]
        if single:
            answer = {SINGLE.get(name, name): values[0] for name, values in answer.items()} | {"version": versions[0]}
        else:
            answer["versions"] = versions
        await self._send_predictions(send, answer)

    async def _invocations(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await self._read_rows(scope, receive, KINDS)
        served, shape = self._served()
        try:
            body = read_invocation(shape, body, media_type(scope["headers"]))
            rows, _single = shape.decode_rows(body)
            predictions = await self._answer_rows(served, rows, body)
        except RowError as error:
            raise refuse_row(error) from None
        except UnansweredError as error:
            raise RefusedError(503, error.reason, row=error.row) from None
        await self._send_predictions(send, self._form.fields([prediction for prediction, _version in predictions]))

    async def _v2_model(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request below ``/v2/models/``: metadata, ready or infer, of a model or of a version of it."""
        model, version, action = split_model_path(scope["path"])
        require_method(scope["method"], ("POST",) if action == "infer" else READ)
        if model != self._settings.loop.model:
            raise RefusedError(404, f"there is no model {model[:80]!r}; this gateway serves {self._model!r}")
        if action == "infer":
            await self._v2_infer(version, scope, receive, send)
        elif action == "ready":
            self._require_ready()
            self._require_live(version)
            await send_answer(send, 200, _encode({"name": model, "ready": True}))
        else:
            self._require_token(scope["headers"], self._token)
            served, shape = self._served()
            self._require_live(version)
            await send_answer(send, 200, _encode(metadata(model, str(served.traffic.champion), shape, self._form)))

    async def _v2_infer(self, version: str | None, scope: Message, receive: Receive, send: Send) -> None:
        body = await self._read_rows(scope, receive)
        served, shape = self._served()
        self._require_live(version)
        try:
            request, body = read_request(shape, body)
            requested_outputs(request, self._form)
            rows, single = shape.decode_rows(body)
            predictions = await self._answer_rows(served, rows, body)
        except RowError as error:
            raise refuse_row(error) from None
        except UnansweredError as error:
            raise RefusedError(503, error.reason, row=None if single else error.row) from None
        await self._send_predictions(send, write_response(self._model, request, predictions, self._form))

    async def _read_rows(self, scope: Message, receive: Receive, kinds: tuple[bytes, ...] = (JSON,)) -> bytes:
        """Return the body of a request for predictions, after its method and its token."""
        require_method(scope["method"], ("POST",))
        self._require_token(scope["headers"], self._token)
        return await read_body(scope["headers"], receive, self._settings.body_bytes, kinds)

    def _served(self) -> tuple[ServingState, RowShape]:
        """Return the served state and the shape of its rows; RefusedError without a champion."""
        served = self.serving.served
        if served.champion is None or served.shape is None:
            raise RefusedError(503, f"no champion is served: {self.serving.problem}")
        return served, served.shape

    async def _answer_rows(self, served: ServingState, rows: list[Any], body: bytes) -> list[tuple[Prediction, str]]:
        """Return the prediction and the version of each row; ``body`` holds the rows as the JSON of ``/predict``."""
        if served.refuse_unseen is not None:
            served.refuse_unseen(rows)
        try:
            return await self.serving.router.answer(served, rows, body)
        except BusyError as error:
            raise RefusedError(503, f"too many rows wait: {error}") from None

    async def _send_predictions(self, send: Send, answer: Any) -> None:
        self.requests[200] += 1
        await send_answer(send, 200, _encode(answer))

    @property
    def _model(self) -> str:
        return self._settings.loop.model

    def _require_live(self, version: str | None) -> None:
        """Raise RefusedError if a path names another version than the champion."""
        champion = self.serving.served.traffic.champion
        if version is not None and version != champion:
            raise RefusedError(
                404, f"version {version[:40]!r} of {self._model!r} is not live, {champion!r} is; ask without a version"
            )

    def _require_ready(self) -> None:
        """Raise RefusedError unless a champion is loaded and warm, and the gateway is not stopping."""
        if self.stopping or not self.serving.ready:
            raise RefusedError(503, "the gateway is stopping" if self.stopping else str(self.serving.problem))

    async def _handle_control(self, scope: Message, receive: Receive, send: Send) -> None:
        self._require_token(scope["headers"], self._control)
        method = "GET" if scope["method"] in READ else scope["method"]
        allowed = [name for name, path in self._routes if path == scope["path"]]
        if not allowed:
            raise RefusedError(404, f"there is no {scope['path']}")
        require_method(method, [*allowed, "HEAD"] if "GET" in allowed else allowed)
        route = self._routes[method, scope["path"]]
        body = b"" if method == "GET" else await read_body(scope["headers"], receive, CONTROL_BYTES)
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
        await self.serving.apply(parse_traffic(request.get("traffic", {})), local_share)
        return await self._observe(b"")

    async def _finalize(self, body: bytes) -> Any:
        await self.serving.finalize(parse_traffic(parse_object(body).get("traffic", {})))
        return await self._observe(b"")

    async def _observe(self, _body: bytes) -> Any:
        return self.serving.observe()

    async def _telemetry(self, _body: bytes) -> Any:
        return await asyncio.to_thread(self.serving.telemetry)

    async def _serve_page(self, scope: Message, send: Send) -> None:
        page = self._pages.get(scope["path"].rstrip("/") or "/")
        if page is None:
            raise RefusedError(404, f"there is no {scope['path']}")
        require_method(scope["method"], READ)
        await page(scope, send)

    async def _health(self, _scope: Message, send: Send) -> None:
        await send_answer(send, 200, b'{"alive":true}')

    async def _ready(self, _scope: Message, send: Send) -> None:
        self._require_ready()
        await send_answer(send, 200, _encode({"ready": True, "champion": self.serving.served.traffic.champion}))

    async def _metrics(self, scope: Message, send: Send) -> None:
        self._require_token(scope["headers"], self._token, self._control)
        page, kind = await asyncio.to_thread(metrics_page, self.serving, dict(self.requests))
        await send_answer(send, 200, page, ((b"content-type", kind.encode()),))

    async def _openapi(self, scope: Message, send: Send) -> None:
        self._require_token(scope["headers"], self._token, self._control)
        _served, shape = self._served()
        await send_answer(send, 200, _encode(describe_gateway(self._model, shape, self._form)))

    async def _ping(self, _scope: Message, send: Send) -> None:
        await send_answer(send, 200 if self.serving.ready and not self.stopping else 404, b"\n")

    async def _version(self, _scope: Message, send: Send) -> None:
        await send_answer(send, 200, SCORING_PROTOCOL.encode())

    async def _v2_server(self, _scope: Message, send: Send) -> None:
        server = {"name": "airflow-mlops", "version": __version__, "extensions": []}
        await send_answer(send, 200, _encode(server))

    async def _v2_live(self, _scope: Message, send: Send) -> None:
        await send_answer(send, 200, b'{"live":true}')

    async def _v2_ready(self, _scope: Message, send: Send) -> None:
        self._require_ready()
        await send_answer(send, 200, b'{"live":true,"ready":true}')

    async def _refuse(self, send: Send, path: str, error: RefusedError) -> None:
        if path in PREDICTING or path.endswith("/infer"):
            self.requests[error.status] += 1
        headers: Headers = (JSON_HEADER, *error.headers, *HEADERS_OF.get(error.status, ()))
        await send_answer(send, error.status, _encode(refusal_body(path, error)), headers)

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


HEADERS_OF: dict[int, Headers] = {
    503: ((b"retry-after", b"1"),),
    401: ((b"www-authenticate", b"Bearer"),),
    413: ((b"connection", b"close"),),
}
"""Further headers of a refusal, by its status."""


def refuse_row(error: RowError) -> RefusedError:
    """Return the refusal of a row."""
    return RefusedError(422, str(error), field=error.field, row=error.row, reason=error.reason)


def refusal_body(path: str, error: RefusedError) -> dict[str, Any]:
    """Return the body of a refusal in the form of the protocol that a path belongs to."""
    if path.startswith("/v2"):
        row = error.body.get("row")
        return {"error": error.body["error"] if row is None else f"row {row}: {error.body['error']}"}
    return explain_refusal(error) if path == "/invocations" else error.body


def split_model_path(path: str) -> tuple[str, str | None, str]:
    """Return the model, the version and the action of a path; the action of metadata is empty.

    Raises
    ------
    RefusedError
        If there is no such path.

    >>> split_model_path("/v2/models/bakery/versions/2/infer")
    ('bakery', '2', 'infer')
    """
    parts = path.removeprefix("/v2/models/").rstrip("/").split("/")
    model, rest = parts[0], parts[1:]
    version = None
    if rest[:1] == ["versions"] and len(rest) > 1:
        version, rest = rest[1], rest[2:]
    if not model or rest not in ([], ["ready"], ["infer"]):
        raise RefusedError(404, f"there is no {path}")
    return model, version, rest[0] if rest else ""
