"""The client of one replica of a gateway: time limits, retries and the errors of the rollout target."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.fault_point import external_write
from airflow_mlops.core.ports.http_client import OversizedBodyError, read_body
from airflow_mlops.core.ports.rollout_target import OlderTrafficError, TargetError
from airflow_mlops.core.rollout.targets.gateway.gateway_answer import error_message, parse_json

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 15.0
PREPARE_SECONDS = 180.0
"""How long a replica may take to load a version, or to start its shadow."""
LARGEST_BYTES = 64 << 20
"""Bytes of the largest answer that is taken; telemetry of 10,000 units and full samples needs about one megabyte."""
PAUSES = (0.2, 1.0)
"""Seconds before each further attempt at a replica that does not answer, or is not able to now."""


class NotLoadedError(RolloutError):
    """A replica cannot serve a version that it has not loaded."""


class Replica:
    """A gateway process.

    Parameters
    ----------
    url : str
        Its address, as ``http://10.0.0.7:8600``.
    token : str, optional
        Control token.
    client : httpx.Client
        Client of all replicas.
    pause : callable
        Waits for a number of seconds.
    """

    def __init__(
        self, url: str, token: str | None, client: httpx.Client, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.url = url.rstrip("/")
        self._client, self._pause, self._token = client, pause, token
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}

    def get(self, path: str) -> dict[str, Any]:
        """Return the answer to a GET; see :meth:`put` for the errors."""
        return self._request("GET", path, None, ANSWER_SECONDS)

    def put(self, path: str, values: Mapping[str, Any], *, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Send values with a PUT and return the answer.

        Raises
        ------
        TargetError
            If the replica does not answer, or is not able to now.
        OlderTrafficError
            If it has newer traffic.
        NotLoadedError
            If a version is not loaded.
        RolloutError
            If it refuses for another reason, such as a wrong token or a version that cannot be served.
        """
        with external_write(f"gateway{path.replace('/', '.')}"):
            return self._request("PUT", path, values, seconds)

    def _request(self, method: str, path: str, values: Mapping[str, Any] | None, seconds: float) -> dict[str, Any]:
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        problem = ""
        for pause in (*PAUSES, None):
            try:
                with self._client.stream(
                    method, f"{self.url}{path}", json=values, headers=self._headers, timeout=timeout
                ) as response:
                    status, body = response.status_code, read_body(response, limit=LARGEST_BYTES)
            except OversizedBodyError as error:
                raise RolloutError(f"the gateway at {self.url} answers {method} {path} with {error}") from None
            except (httpx.TransportError, httpx.DecodingError) as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if status not in (502, 503, 504):
                    return self._parse(status, body)
                problem = f"{status}: {error_message(body, secret=self._token)}"
            if pause is not None:
                self._pause(pause)
        raise TargetError(f"the gateway at {self.url} does not answer {method} {path}: {problem}")

    def _parse(self, status: int, body: bytes) -> dict[str, Any]:
        message = error_message(body, secret=self._token)
        if status == 409:
            raise OlderTrafficError(f"the gateway at {self.url}: {message}")
        if status == 412:
            raise NotLoadedError(f"the gateway at {self.url}: {message}")
        if status != 200:
            raise RolloutError(f"the gateway at {self.url} refuses with {status}: {message}")
        answer = parse_json(body)
        if not isinstance(answer, dict):
            raise RolloutError(f"the service at {self.url} is not a gateway; it answers: {message}")
        return answer
