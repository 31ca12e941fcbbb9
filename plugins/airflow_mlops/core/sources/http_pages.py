"""Fetch pages of an HTTP service one after another, with retries and limits.

A page is requested again where the service answered 408, 429 or 5xx, broke off or took too long: after a growing pause,
or the pause that the service asks for. No request goes to another scheme, host or port than the connection's.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import IO, Any, Self

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from airflow_mlops.core.errors import (
    MlopsError,
    SourceMissingError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from airflow_mlops.core.ports.connections import HttpAddress
from airflow_mlops.core.ports.http_client import (
    OversizedBodyError,
    is_busy,
    iterate_body,
    open_client,
    parse_base_url,
)
from airflow_mlops.core.sources.size_limits import Meter

MAX_PAUSE = 300.0
"""Seconds of the longest pause that a service may ask for."""
MEMORY_BYTES = 8 << 20


@dataclass(frozen=True)
class Page:
    """A page of a service: its URL, content, size, digest, entity tag and link to the next page.

    ``content`` is None if the page is unchanged. It can be read until the next page is requested.
    """

    url: httpx.URL
    content: IO[bytes] | None
    size: int
    digest: str
    tag: str | None
    link: str | None

    @property
    def path(self) -> str:
        """Path and query: the part of an address that messages show."""
        return path_of(self.url)

    def origin(self) -> dict[str, Any]:
        """Return the page as JSON values."""
        return {"url": self.path} | ({"etag": self.tag} if self.tag else {})


class _RetryError(Exception):
    """The service may answer later; ``after`` is the pause in seconds that it asks for, if any."""

    def __init__(self, problem: str, after: float | None = None) -> None:
        super().__init__(problem)
        self.after = after


class PageReader:
    """A reader of the pages of one partition, used as a context manager.

    Parameters
    ----------
    address : HttpAddress
        Address of the service.
    name : str
        Partition and service: the beginning of every error.
    attempts : int
        Tries of one page.
    timeout : float
        Seconds that one page may take.
    meter : Meter
        Counts the bytes.
    max_bytes : int
        Bytes of the largest page that is taken.
    sleep : callable
        Waits for a number of seconds.

    Raises
    ------
    DeclarationError
        If the address is not an http or https URL.
    """

    def __init__(
        self,
        address: HttpAddress,
        *,
        name: str,
        attempts: int,
        timeout: float,
        meter: Meter,
        max_bytes: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address, self._name, self._timeout, self._meter = address, name, timeout, meter
        self._max_bytes = max_bytes
        self._base = parse_base_url(address, name=name)
        self._retrying = Retrying(
            stop=stop_after_attempt(attempts),
            wait=_retry_pause,
            sleep=sleep,
            reraise=True,
            retry=retry_if_exception_type(_RetryError),
        )
        self._attempts = attempts
        self._content: IO[bytes] = io.BytesIO()  # of the current page

    def __enter__(self) -> Self:
        self._client = open_client(self._address, timeout=self._timeout)
        return self

    def __exit__(self, *raised: object) -> None:
        self._content.close()
        self._client.close()

    def url_below(self, path: str) -> httpx.URL:
        """Return the URL of a path and query below the connection's address."""
        return self._require_same_origin(
            self._base.copy_with(path=self._base.path.rstrip("/") + "/").join(path.lstrip("/"))
        )

    def url_of(self, path: str) -> httpx.URL:
        """Return the URL of an absolute path and query on the service, as an origin holds it."""
        return self._base.copy_with(raw_path=path.encode("ascii"))

    def resolve_link(self, link: str, page: Page) -> httpx.URL:
        """Return the URL that a link of a page refers to.

        Raises
        ------
        SourceUnreadableError
            If it has another scheme, host or port than the connection, or is not a URL.
        """
        try:
            return self._require_same_origin(page.url.join(link))
        except httpx.InvalidURL as error:
            raise self.unreadable(page.path, f"its link to the next page is not a URL: {error}") from None

    def get(self, url: httpx.URL, *, tag: str | None = None) -> Page | None:
        """Return a page, None if there is no such page; with a ``tag``, an unchanged page comes without content.

        Raises
        ------
        SourceUnreadableError
            If the service refuses.
        SourceUnreachableError
            If it does not answer, after all attempts.
        PartitionRefusedError
            If there are more bytes than declared.
        """
        path = path_of(url)
        try:
            return self._retrying(self._get, url, path, tag)
        except _RetryError as error:
            raise SourceUnreachableError(f"{self._name}: {path} {error}, {self._attempts} times") from error

    def _get(self, url: httpx.URL, path: str, tag: str | None) -> Page | None:
        before = self._meter.bytes
        content: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115
        self._content.close()
        self._content = content
        try:
            with self._client.stream("GET", url, headers={"If-None-Match": tag} if tag else {}) as response:
                self._check_status(response, path, conditional=tag is not None)
                digest = self._read(response, content, path)
        except (httpx.TransportError, httpx.DecodingError) as error:
            self._meter.bytes = before  # a page that is requested again counts once
            raise _RetryError(f"broke off or did not answer ({type(error).__name__})") from error
        if response.status_code in (204, 304, 404):
            return None if response.status_code != 304 else Page(url, None, 0, "", tag, None)
        size = content.tell()
        content.seek(0)
        link = response.links.get("next", {}).get("url")
        return Page(url, content, size, digest, response.headers.get("ETag"), link)

    def _read(self, response: httpx.Response, content: IO[bytes], path: str) -> str:
        digest = hashlib.sha256()
        try:
            for piece in iterate_body(response, limit=self._max_bytes, seconds=self._timeout):
                self._meter.add_bytes(len(piece), path)
                content.write(piece)
                digest.update(piece)
        except OversizedBodyError:
            raise self.unreadable(path, f"it has more than {self._max_bytes:,} bytes; ask for smaller pages") from None
        return digest.hexdigest()

    def _check_status(self, response: httpx.Response, path: str, *, conditional: bool) -> None:
        status = response.status_code
        if is_busy(status):
            raise _RetryError(f"answered {status}", after=_retry_after(response))
        if status in (200, 204, 404) or (status == 304 and conditional):
            return
        if 300 <= status < 400:
            raise self.unreadable(path, f"it answered {status}, which leads elsewhere; declare that address")
        hint = "; check the login, password and headers of the connection" if status in (401, 403, 407) else ""
        raise self.unreadable(path, f"it answered {status}{hint}")

    def _require_same_origin(self, url: httpx.URL) -> httpx.URL:
        if (url.scheme, url.host, _port(url)) != (self._base.scheme, self._base.host, _port(self._base)):
            raise self.unreadable(
                url.host or "a link", "it is another address than the connection's, and no link is followed there"
            )
        # Only the path of a link counts: it might carry a login.
        return self._base.copy_with(raw_path=url.raw_path)

    def missing(self, path: str) -> SourceMissingError:
        """Return the error for a page that does not exist yet."""
        return SourceMissingError(f"{self._name}: {path} is not there yet")

    def unreadable(self, path: str, reason: str) -> MlopsError:
        """Return the error for a page that cannot be read."""
        return SourceUnreadableError(f"{self._name}: {path} cannot be read: {reason}")


def path_of(url: httpx.URL) -> str:
    """Return the path and query of a URL."""
    return url.raw_path.decode("ascii")


def _port(url: httpx.URL) -> int:
    return url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _retry_pause(state: RetryCallState) -> float:
    """Return the seconds until the next try: growing and jittered, or the pause that the service asks for if longer."""
    error = state.outcome.exception() if state.outcome else None
    requested = error.after if isinstance(error, _RetryError) and error.after else 0.0
    growing = wait_exponential(multiplier=0.5, max=60) + wait_random(0, 0.5)
    return max(growing(state), min(requested, MAX_PAUSE))


def _retry_after(response: httpx.Response) -> float | None:
    """Return the pause in seconds that a service asks for, by ``Retry-After``.

    A date there is compared with the service's own ``Date``: the clock here may differ.
    """
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value[:9])
    try:
        now = parsedate_to_datetime(response.headers["Date"])
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None
