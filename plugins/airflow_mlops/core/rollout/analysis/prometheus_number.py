"""One number from Prometheus: an instant query over HTTP, asked where the connection says and nowhere else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import isfinite
from time import sleep as really_sleep
from typing import Any

import httpx

from airflow_mlops.core.errors import DeclarationError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.ports.connections import HttpAddress

PLACE = "$version"
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,63}", re.ASCII)
ATTEMPTS = 3
PAUSE = 0.5
TIMEOUT = 10.0
LARGEST = 1 << 20
"""Bytes of the largest answer that is taken; one number needs a few hundred."""


def query_for(query: str, version: str) -> str:
    """Return a query with the number of a version in place of ``$version``.

    >>> query_for('rate(errors{version="$version"}[5m])', "12")
    'rate(errors{version="12"}[5m])'

    Raises
    ------
    DeclarationError
        If a version has another name than letters, digits, ``_``, ``.`` and ``-``: it might end the text it stands in.
    """
    if not VERSION.fullmatch(version):
        raise DeclarationError(f"version {version!r} cannot stand in a query", key="rollout.metrics.query")
    return query.replace(PLACE, version)


def prometheus_number(
    address: HttpAddress, query: str, *, name: str, sleep: Callable[[float], None] = really_sleep
) -> float | None:
    """Return the number that a query has now; None where it has none, or it is NaN or infinite.

    Parameters
    ----------
    name : str
        What a person calls the service, for the errors.

    Raises
    ------
    SourceUnreachableError
        If it does not answer, after three attempts.
    SourceUnreadableError
        If it refuses, answers something else, or gives more than one number.
    """
    url = httpx.URL(address.url)
    if url.scheme not in ("http", "https") or not url.host:
        raise DeclarationError(f"{name}: the connection names no address that begins with http:// or https://")
    said = ""
    login = httpx.BasicAuth(address.login, address.password or "") if address.login else None
    with httpx.Client(
        auth=login, headers=dict(address.headers), verify=address.verify, timeout=TIMEOUT,
        trust_env=address.trust_env, follow_redirects=False,
    ) as client:  # fmt: skip
        for attempt in range(ATTEMPTS):
            if attempt:
                sleep(PAUSE)
            try:
                status, body = _asked(client, url.copy_with(path=url.path.rstrip("/") + "/api/v1/query"), query, name)
            except httpx.HTTPError as error:
                said = f"broke off or did not answer ({type(error).__name__})"
                continue
            if status in (408, 429) or status >= 500:
                said = f"answered {status}"
                continue
            return _number(status, body, name)
    raise SourceUnreachableError(f"{name} {said}, {ATTEMPTS} times")


def _asked(client: httpx.Client, url: httpx.URL, query: str, name: str) -> tuple[int, bytes]:
    with client.stream("GET", url, params={"query": query}) as answer:
        body = b""
        for piece in answer.iter_bytes():
            body += piece
            if len(body) > LARGEST:
                raise SourceUnreadableError(f"{name} answers more than {LARGEST:,} bytes; one number is asked for")
        return answer.status_code, body


def _number(status: int, body: bytes, name: str) -> float | None:
    try:
        answer = json.loads(body)
    except ValueError:
        raise SourceUnreadableError(f"{name} answered {status}, and not in JSON") from None
    if status != 200 or not isinstance(answer, dict) or answer.get("status") != "success":
        why = str(answer.get("error", ""))[:200] if isinstance(answer, dict) else ""
        raise SourceUnreadableError(f"{name} answered {status}" + (f": {why}" if why else ""))
    try:
        text = _only(answer["data"], name)
        number = float("nan") if text is None else float(text)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SourceUnreadableError(f"{name} answered with something else than a number") from error
    return number if isfinite(number) else None


def _only(data: dict[str, Any], name: str) -> str | None:
    """Return the text of the only number in an answer; None where there is none."""
    kind, result = data["resultType"], data["result"]
    if kind == "scalar":
        return str(result[1])
    if kind != "vector":
        raise SourceUnreadableError(f"{name} answered with a {kind}; the query has to give one number now")
    if len(result) > 1:
        raise SourceUnreadableError(f"{name} answered with {len(result)} numbers; add them up in the query")
    return str(result[0]["value"][1]) if result else None
