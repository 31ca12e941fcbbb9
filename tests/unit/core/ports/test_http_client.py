"""The guarded HTTP client: limits of size and time, no redirects, no credentials in messages."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

import httpx
import pytest

from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.ports.connections import HttpAddress
from airflow_mlops.core.ports.http_client import (
    OversizedBodyError,
    SlowBodyError,
    is_busy,
    iterate_body,
    open_client,
    parse_base_url,
    read_body,
)
from tests.unit.core.sources.small_service import Answer, small_service


def fetch(address: HttpAddress, *, limit: int, seconds: float | None = None) -> bytes:
    with open_client(address, timeout=5) as client, client.stream("GET", address.url) as response:
        return read_body(response, limit=limit, seconds=seconds)


@pytest.mark.parametrize("url", ["ftp://me:hush@host", "host", "http://", "file" + ":///etc", "http://me:hush@h:x"])
def test_an_address_of_another_kind_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(DeclarationError, match=r"^api: the connection names no address that begins with") as refusal:
        parse_base_url(HttpAddress(url), name="api")
    assert "hush" not in str(refusal.value)


def test_a_body_ends_at_its_limit_and_counts_decompressed() -> None:
    bomb = Answer(gzip.compress(b" " * 5_000_000), headers={"Content-Encoding": "gzip"})
    with small_service(lambda *_: bomb) as service:
        assert len(fetch(service.address, limit=5_000_000)) == 5_000_000
        with pytest.raises(OversizedBodyError, match="more than 4,999,999 bytes"):
            fetch(service.address, limit=4_999_999)


def test_a_piece_goes_out_before_the_limit_is_checked() -> None:
    response = httpx.Response(200, content=b"abc")
    pieces = iterate_body(response, limit=1)
    assert next(pieces) == b"abc"
    with pytest.raises(OversizedBodyError):
        next(pieces)


def test_a_body_that_takes_longer_than_it_may_is_a_timeout() -> None:
    with small_service(lambda *_: Answer(b"abc")) as service:
        with pytest.raises(SlowBodyError) as slow:
            fetch(service.address, limit=10, seconds=-1.0)
        assert isinstance(slow.value, httpx.TimeoutException)


def test_a_redirect_is_an_answer_and_the_login_goes_to_the_address_only() -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        return Answer(status=302, headers={"Location": "/elsewhere"})

    with small_service(answer) as service:
        address = HttpAddress(service.address.url, "me", "hush", {"X-Key": "k"}, trust_env=False)
        with open_client(address, timeout=5) as client:
            assert client.get(address.url).status_code == 302
        assert service.paths == ["/"]
        assert service.requests[0][1]["authorization"].startswith("Basic ")
        assert service.requests[0][1]["x-key"] == "k"


@pytest.mark.parametrize(("status", "busy"), [(200, False), (404, False), (408, True), (429, True), (500, True)])
def test_a_busy_status_is_one_after_which_the_same_request_may_succeed(status: int, busy: bool) -> None:
    assert is_busy(status) is busy
