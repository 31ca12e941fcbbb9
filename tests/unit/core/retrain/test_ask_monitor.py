"""A monitor outside is asked where its connection says, and what it answers is held within bounds."""

from __future__ import annotations

import pytest

from airflow_mlops.core.errors import DeclarationError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.ports.connections import HttpAddress
from airflow_mlops.core.retrain import ask_monitor as asking
from airflow_mlops.core.retrain.ask_monitor import LARGEST, ask_monitor
from tests.unit.core.sources.small_service import Answer, small_service


@pytest.mark.parametrize(
    "path", ["", "/", "alarms", "/v1/alarms?open=1&of=a%20b", "//elsewhere.example/alarms", "@else"]
)
def test_every_path_lies_below_the_address(path: str) -> None:
    with small_service(lambda _path, _headers: Answer(b"[]")) as service:
        assert ask_monitor(service.address, path) == b"[]"
        assert service.paths == ["/" + path.lstrip("/")]


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (Answer(status=503), SourceUnreachableError, "the monitor answered 503"),
        (Answer(status=429), SourceUnreachableError, "the monitor answered 429"),
        (Answer(status=404), SourceUnreadableError, "the monitor answered 404"),
        (Answer(status=302, headers={"Location": "/else"}), SourceUnreadableError, "the monitor answered 302"),
        (Answer(b"x" * (LARGEST + 1)), SourceUnreadableError, "more than 1,048,576 bytes"),
        (Answer(b"[", length=9), SourceUnreachableError, "does not answer"),
    ],
)
def test_an_answer_that_is_none_says_whether_asking_again_may_help(
    answer: Answer, error: type[Exception], message: str
) -> None:
    with small_service(lambda _path, _headers: answer) as service:
        with pytest.raises(error, match=message):
            ask_monitor(service.address, "alarms")
        assert service.paths == ["/alarms"]


def test_an_answer_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE", -1.0)
    listed = Answer(b'[{"id": "a"}]')
    with (
        small_service(lambda _path, _headers: listed) as service,
        pytest.raises(SourceUnreachableError, match="took more than"),
    ):
        ask_monitor(service.address, "")


def test_a_monitor_that_lists_nothing_may_answer_without_a_body() -> None:
    with small_service(lambda _path, _headers: Answer(status=204)) as service:
        assert ask_monitor(service.address, "") == b"[]"


@pytest.mark.parametrize("url", ["ftp://monitor", "monitor", "file" + ":///etc"])
def test_an_address_that_is_none_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(DeclarationError, match="begins with http"):
        ask_monitor(HttpAddress(url), "alarms")


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(DeclarationError, match="is not a valid path"):
        ask_monitor(HttpAddress("http://monitor"), "alarms\x00")
