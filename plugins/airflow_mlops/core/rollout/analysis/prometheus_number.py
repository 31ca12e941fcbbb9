"""Read one number from Prometheus with an instant query over HTTP."""

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
from airflow_mlops.core.ports.http_client import OversizedBodyError, is_busy, open_client, parse_base_url, read_body

PLACE = "$version"
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,63}", re.ASCII)
ATTEMPTS = 3
PAUSE = 0.5
TIMEOUT = 10.0
LARGEST = 1 << 20
"""Bytes of the largest accepted answer; one number needs a few hundred."""


def query_for(query: str, version: str) -> str:
    """Return a query with the number of a version for ``$version``.

    >>> query_for('rate(errors{version="$version"}[5m])', "12")
    'rate(errors{version="12"}[5m])'

    Raises
    ------
    DeclarationError
        If a version has other characters than letters, digits, ``_``, ``.`` and ``-``: it could change the query.
    """
    if not VERSION.fullmatch(version):
        raise DeclarationError(f"version {version!r} cannot stand in a query", key="rollout.metrics.query")
    return query.replace(PLACE, version)


def prometheus_number(
    address: HttpAddress, query: str, *, name: str, sleep: Callable[[float], None] = really_sleep
) -> float | None:
    """Return the current value of a query; None where it has no value, or the value is NaN or infinite.

    Parameters
    ----------
    name : str
        Name of the service in the errors.

    Raises
    ------
    DeclarationError
        If the address is not an http or https URL.
    SourceUnreachableError
        If it does not answer, after three attempts.
    SourceUnreadableError
        If it refuses, does not answer with a number, or gives more than one number.
    """
    base = parse_base_url(address, name=name)
    url = base.copy_with(path=base.path.rstrip("/") + "/api/v1/query")
    problem = ""
    with open_client(address, timeout=TIMEOUT) as client:
        for attempt in range(ATTEMPTS):
            if attempt:
                sleep(PAUSE)
            try:
                with client.stream("GET", url, params={"query": query}) as response:
                    status, body = response.status_code, read_body(response, limit=LARGEST)
            except OversizedBodyError:
                raise SourceUnreadableError(
                    f"{name} answers more than {LARGEST:,} bytes; the query has to give one number"
                ) from None
            except httpx.HTTPError as error:
                problem = f"broke off or did not answer ({type(error).__name__})"
                continue
            if not is_busy(status):
                return _parse_number(status, body, name)
            problem = f"answered {status}"
    raise SourceUnreachableError(f"{name} {problem}, {ATTEMPTS} times")


def _parse_number(status: int, body: bytes, name: str) -> float | None:
    try:
        answer = json.loads(body)
    except ValueError:
        raise SourceUnreadableError(f"{name} answered {status}, and not in JSON") from None
    if status != 200 or not isinstance(answer, dict) or answer.get("status") != "success":
        reason = str(answer.get("error", ""))[:200] if isinstance(answer, dict) else ""
        raise SourceUnreadableError(f"{name} answered {status}" + (f": {reason}" if reason else ""))
    try:
        text = _single_value(answer["data"], name)
        number = float("nan") if text is None else float(text)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SourceUnreadableError(f"{name} did not answer with a number") from error
    return number if isfinite(number) else None


def _single_value(data: dict[str, Any], name: str) -> str | None:
    """Return the text of the only number in an answer; None if there is no number."""
    kind, result = data["resultType"], data["result"]
    if kind == "scalar":
        return str(result[1])
    if kind != "vector":
        raise SourceUnreadableError(f"{name} answered with a {kind}; the query has to give one number now")
    if len(result) > 1:
        raise SourceUnreadableError(f"{name} answered with {len(result)} numbers; add them up in the query")
    return str(result[0]["value"][1]) if result else None
