"""Ask an HTTP service for one page after another: patiently, within limits, and never anywhere else.

A page is asked again, after a growing pause or as long as the service says, where it answered 408, 429 or 5xx, broke
off, or took too long. Nothing is sent to another scheme, host or port than the connection's, whatever a link says.
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
    DeclarationError,
    MlopsError,
    SourceMissingError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from airflow_mlops.core.ports.connections import HttpAddress
from airflow_mlops.core.sources.size_limits import Meter

LONGEST_PAUSE = 300.0
"""Seconds that a service may ask to wait at most; it is asked again then, whatever it said."""
KEPT_IN_MEMORY = 8 << 20


@dataclass(frozen=True)
class Page:
    """A page: where it is, what came, and how its content is recognised. ``content`` is None if it is unchanged.

    The content can be read until the next page is asked for.
    """

    url: httpx.URL
    content: IO[bytes] | None
    size: int
    digest: str
    tag: str | None
    link: str | None

    @property
    def place(self) -> str:
        """Path and query, all that is said of an address."""
        return place_of(self.url)

    def origin(self) -> dict[str, Any]:
        """Return the page as JSON values."""
        return {"url": self.place} | ({"etag": self.tag} if self.tag else {})


class _TryAgainError(Exception):
    """The service may answer later. ``after`` is how many seconds later, if it says so."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


class PageReader:
    """Asks for the pages of one partition; to be used as a context.

    Parameters
    ----------
    address : HttpAddress
        Of the service.
    name : str
        What a person calls it, and the partition: the beginning of every error.
    attempts : int
        Tries of one page.
    timeout : float
        Seconds that one page may take.
    meter : Meter
        Counts the bytes.
    largest : int
        Bytes of the largest page that is taken.
    sleep : callable
        Waits for so many seconds.
    """

    def __init__(
        self,
        address: HttpAddress,
        *,
        name: str,
        attempts: int,
        timeout: float,
        meter: Meter,
        largest: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._address, self._name, self._timeout, self._meter = address, name, timeout, meter
        self._largest = largest
        self._base = httpx.URL(address.url)
        if self._base.scheme not in ("http", "https") or not self._base.host:
            raise DeclarationError(f"{name}: the connection names no address that begins with http:// or https://")
        self._retrying = Retrying(
            stop=stop_after_attempt(attempts), wait=_pause, sleep=sleep, reraise=True,
            retry=retry_if_exception_type(_TryAgainError),
        )  # fmt: skip
        self._attempts = attempts
        self._content: IO[bytes] = io.BytesIO()  # of the page asked for last

    def __enter__(self) -> Self:
        address = self._address
        login = httpx.BasicAuth(address.login or "", address.password or "") if address.login else None
        self._client = httpx.Client(
            auth=login, headers=dict(address.headers), verify=address.verify, timeout=self._timeout,
            trust_env=address.trust_env, follow_redirects=False,
        )  # fmt: skip
        return self

    def __exit__(self, *raised: object) -> None:
        self._content.close()
        self._client.close()

    def first(self, path: str) -> httpx.URL:
        """Return the address of ``path``, path and query below the connection's address."""
        return self._own(self._base.copy_with(path=self._base.path.rstrip("/") + "/").join(path.lstrip("/")))

    def at(self, place: str) -> httpx.URL:
        """Return the address of a place on the service itself, as in an origin."""
        return self._base.copy_with(raw_path=place.encode("ascii"))

    def following(self, link: str, page: Page) -> httpx.URL:
        """Return the address that a link of ``page`` names.

        Raises
        ------
        SourceUnreadableError
            If it is not the connection's own scheme, host and port.
        """
        try:
            return self._own(page.url.join(link))
        except httpx.InvalidURL as error:
            raise self.unreadable(page.place, f"its link to the next page is no address: {error}") from None

    def get(self, url: httpx.URL, *, tag: str | None = None) -> Page | None:
        """Return a page, or None if there is none. With a ``tag`` it may come without content: it is unchanged then.

        Raises
        ------
        SourceUnreadableError
            If the service refuses.
        SourceUnreachableError
            If it does not answer, after all attempts.
        PartitionRefusedError
            If there are more bytes than declared.
        """
        place = place_of(url)
        try:
            return self._retrying(self._get, url, place, tag)
        except _TryAgainError as error:
            raise SourceUnreachableError(f"{self._name}: {place} {error}, {self._attempts} times") from error

    def _get(self, url: httpx.URL, place: str, tag: str | None) -> Page | None:
        before = self._meter.bytes
        content: IO[bytes] = tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY)  # noqa: SIM115
        self._content.close()
        self._content = content
        try:
            with self._client.stream("GET", url, headers={"If-None-Match": tag} if tag else {}) as answer:
                self._refuse(answer, place, asked_for_changes=tag is not None)
                digest = self._take(answer, content, place)
        except (httpx.TransportError, httpx.DecodingError) as error:
            self._meter.bytes = before  # what is asked for again counts once
            raise _TryAgainError(f"broke off or did not answer ({type(error).__name__})") from error
        if answer.status_code in (204, 304, 404):
            return None if answer.status_code != 304 else Page(url, None, 0, "", tag, None)
        size = content.tell()
        content.seek(0)
        link = answer.links.get("next", {}).get("url")
        return Page(url, content, size, digest, answer.headers.get("ETag"), link)

    def _take(self, answer: httpx.Response, content: IO[bytes], place: str) -> str:
        began, digest = time.monotonic(), hashlib.sha256()
        for piece in answer.iter_bytes():
            self._meter.add_bytes(len(piece), place)
            content.write(piece)
            digest.update(piece)
            if content.tell() > self._largest:
                raise self.unreadable(place, f"it has more than {self._largest:,} bytes; ask for smaller pages")
            if time.monotonic() - began > self._timeout:
                raise httpx.ReadTimeout(f"longer than {self._timeout} s")
        return digest.hexdigest()

    def _refuse(self, answer: httpx.Response, place: str, *, asked_for_changes: bool) -> None:
        status = answer.status_code
        if status in (408, 429) or status >= 500:
            raise _TryAgainError(f"answered {status}", after=_seconds(answer))
        if status in (200, 204, 404) or (status == 304 and asked_for_changes):
            return
        if 300 <= status < 400:
            raise self.unreadable(place, f"it answered {status}, which leads elsewhere; declare that address")
        hint = "; look at the connection's login, password and headers" if status in (401, 403, 407) else ""
        raise self.unreadable(place, f"it answered {status}{hint}")

    def _own(self, url: httpx.URL) -> httpx.URL:
        if (url.scheme, url.host, _port(url)) != (self._base.scheme, self._base.host, _port(self._base)):
            raise self.unreadable(
                url.host or "a link", "it is another address than the connection's, and no link is followed there"
            )
        # Only the path of a link counts: it might carry a login.
        return self._base.copy_with(raw_path=url.raw_path)

    def missing(self, place: str) -> SourceMissingError:
        """Return the error that says a page is not there yet."""
        return SourceMissingError(f"{self._name}: {place} is not there yet")

    def unreadable(self, place: str, what: str) -> MlopsError:
        """Return the error that says what is wrong with a page."""
        return SourceUnreadableError(f"{self._name}: {place} cannot be read: {what}")


def place_of(url: httpx.URL) -> str:
    """Return path and query of an address."""
    return url.raw_path.decode("ascii")


def _port(url: httpx.URL) -> int:
    return url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _pause(state: RetryCallState) -> float:
    """Return seconds until the next try: growing and uneven, or what the service asked for if that is longer."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, _TryAgainError) and error.after else 0.0
    growing = wait_exponential(multiplier=0.5, max=60) + wait_random(0, 0.5)
    return max(growing(state), min(asked, LONGEST_PAUSE))


def _seconds(answer: httpx.Response) -> float | None:
    """Return how long the service asks to wait: seconds, or a date that its own clock is held against."""
    said = answer.headers.get("Retry-After", "")
    if said.isdecimal():
        return float(said[:9])
    try:
        now = parsedate_to_datetime(answer.headers["Date"])
        return max(0.0, (parsedate_to_datetime(said) - now).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None
