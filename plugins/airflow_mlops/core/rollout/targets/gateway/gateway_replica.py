"""One replica of a gateway, spoken to over HTTP: bounded waits, bounded retries, errors in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from airflow_mlops.core.errors import RolloutError
from airflow_mlops.core.ports.rollout_target import OlderTrafficError, TargetError

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 15.0
PREPARE_SECONDS = 180.0
"""How long a replica may take to load a version; also to start its shadow."""
PAUSES = (0.2, 1.0)
"""Seconds before each further attempt at a replica that does not answer, or says that it cannot now."""


class NotLoadedError(RolloutError):
    """A replica was told to serve a version that it has not loaded."""


class Replica:
    """A gateway process.

    Parameters
    ----------
    url : str
        Its address, as ``http://10.0.0.7:8600``.
    token : str, optional
        The token for control.
    client : httpx.Client
        What speaks to it.
    pause : callable
        Waits for some seconds.
    """

    def __init__(
        self, url: str, token: str | None, client: httpx.Client, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.url = url.rstrip("/")
        self._client, self._pause = client, pause
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}

    def get(self, path: str) -> dict[str, Any]:
        """Return what a replica says; see :meth:`put` for the errors."""
        return self._asked("GET", path, None, ANSWER_SECONDS)

    def put(self, path: str, said: Mapping[str, Any], *, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """Tell a replica something and return its answer.

        Raises
        ------
        TargetError
            If it does not answer, or cannot do it now.
        OlderTrafficError
            If it has been told something newer.
        NotLoadedError
            If a version is not loaded.
        RolloutError
            If it refuses for another reason, as a wrong token or a version that cannot be served.
        """
        return self._asked("PUT", path, said, seconds)

    def _asked(self, method: str, path: str, said: Mapping[str, Any] | None, seconds: float) -> dict[str, Any]:
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
        reason = ""
        for pause in (*PAUSES, None):
            try:
                answer = self._client.request(
                    method, f"{self.url}{path}", json=said, headers=self._headers, timeout=timeout
                )
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if answer.status_code not in (502, 503, 504):
                    return self._understood(answer)
                reason = f"{answer.status_code}: {words_of(answer)}"
            if pause is not None:
                self._pause(pause)
        raise TargetError(f"the gateway at {self.url} does not answer {method} {path}: {reason}")

    def _understood(self, answer: httpx.Response) -> dict[str, Any]:
        words = words_of(answer)
        if answer.status_code == 409:
            raise OlderTrafficError(f"the gateway at {self.url}: {words}")
        if answer.status_code == 412:
            raise NotLoadedError(f"the gateway at {self.url}: {words}")
        if answer.status_code != 200:
            raise RolloutError(f"the gateway at {self.url} refuses with {answer.status_code}: {words}")
        try:
            said = answer.json()
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise RolloutError(f"what answers at {self.url} is no gateway: {words}")
        return said


def words_of(answer: httpx.Response) -> str:
    """Return the reason that an answer gives, at most 500 characters."""
    try:
        said = answer.json()
    except ValueError:
        said = None
    error = said.get("error") if isinstance(said, dict) else None
    return str(error if error is not None else answer.text)[:500]
