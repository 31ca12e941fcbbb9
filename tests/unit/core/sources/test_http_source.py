"""An HTTP source: retries, pages and links on the same service only, values kept as text."""

from __future__ import annotations

import base64
import gzip
import json
import time
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops.core.declaration.data import Limits, Pages
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.errors import (
    DeclarationError,
    PartitionRefusedError,
    SourceMissingError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from airflow_mlops.core.ports.connections import HttpAddress
from airflow_mlops.core.ports.partitions import BrokenRow
from airflow_mlops.core.sources import http_source, json_rows
from airflow_mlops.core.sources.http_source import HttpAnswers
from airflow_mlops.core.sources.json_rows import JsonRows, read_json
from tests.unit.core.sources.small_service import Answer, SmallService, small_service

KEY = "2013-01-06T00:00:00"
ROWS = [{"id": "a", "x": 1.50, "ok": True, "n": None}, {"id": "b", "x": 12345678901234567890, "ok": False, "n": ""}]


def json_answer(rows: Any, **headers: str) -> Answer:
    return Answer(json.dumps(rows).encode(), headers=headers)


def build_source(service: SmallService, path: str = "rows/{partition}", **kwargs: Any) -> HttpAnswers:
    return HttpAnswers(service.address, path, name="api", **{"sleep": lambda _: None, **kwargs})


def read_all(source: HttpAnswers) -> tuple[list[dict[str, Any]], list[BrokenRow], dict[str, Any]]:
    with source.open(KEY) as arrival:
        assert not arrival.typed
        rows = pa.Table.from_batches(arrival.batches, schema=arrival.schema)
        return rows.to_pylist(), arrival.broken, arrival.origin


def test_json_values_arrive_as_the_text_that_stands_there_and_null_as_null() -> None:
    with small_service(
        lambda *_: Answer(b'[{"id":7,"x":1.50,"y":1e400,"z":NaN,"ok":true,"n":null,"s":"\\u00e9"}]')
    ) as service:
        rows, broken, origin = read_all(build_source(service))
    assert rows == [{"id": "7", "x": "1.50", "y": "1e400", "z": "NaN", "ok": "true", "n": None, "s": "é"}]
    assert broken == []
    assert origin == {"pages": [{"url": "/rows/2013-01-06"}]}


def test_a_path_names_the_bounds_of_a_partition_as_an_address_needs_them() -> None:
    schedule = PartitionSchedule("30 * * * *", "Asia/Kolkata")
    with small_service(lambda *_: json_answer(ROWS)) as service:
        read_all(build_source(service, "rows?from={start:%Y-%m-%dT%H:%M%z}&day={end:%d %m}", schedule=schedule))
        path, _ = service.requests[0]
    assert path == "/rows?from=2013-01-06T04:30%2B0530&day=06%2001"


def test_records_may_stand_below_a_dotted_path() -> None:
    with small_service(lambda *_: json_answer({"data": {"items": [{"id": 1}]}, "total": 1})) as service:
        assert read_all(build_source(service, records="data.items"))[0] == [{"id": "1"}]
        with pytest.raises(
            SourceUnreadableError, match=r"at 'data\.rows' it is not a list of records; it has the keys 'da"
        ):
            read_all(build_source(service, records="data.rows"))
        with pytest.raises(SourceUnreadableError, match="as a whole it is not a list of records"):
            read_all(build_source(service))


def test_the_service_is_asked_with_login_and_headers_and_below_its_own_path() -> None:
    with small_service(lambda *_: json_answer(ROWS)) as service:
        address = HttpAddress(
            f"{service.address.url}/v1/", login="me", password="hunter2", headers={"X-Key": "k"}, trust_env=False
        )
        read_all(HttpAnswers(address, "/rows?day={day}&month={month}", name="api"))
        path, headers = service.requests[0]
    assert path == "/v1/rows?day=06&month=01"
    assert headers["authorization"] == "Basic " + base64.b64encode(b"me:hunter2").decode()
    assert headers["x-key"] == "k"
    assert "hunter2" not in repr(address)


class Flaky:
    """Gives the answers in turn, and the last of them for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def __call__(self, path: str, headers: Mapping[str, str]) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_service_that_is_busy_is_asked_again_after_growing_pauses(status: int) -> None:
    pauses: list[float] = []
    busy = Answer(status=status)
    with small_service(Flaky(busy, busy, busy, json_answer(ROWS))) as service:
        rows, _, _ = read_all(build_source(service, sleep=pauses.append))
    assert [row["x"] for row in rows] == ["1.5", "12345678901234567890"]
    assert len(pauses) == 3
    assert 0.5 <= pauses[0] <= 1
    assert 1 <= pauses[1] <= 1.5
    assert 2 <= pauses[2] <= 2.5


@pytest.mark.parametrize(
    ("reason", "least", "most"),
    [
        ("7", 7, 7),
        ("100000", 300, 300),
        ("Sun, 06 Jan 2013 00:00:30 GMT", 30, 30),
        ("Sun, 06 Jan 2012 00:00:30 GMT", 0, 1),
        ("soon", 0, 1),
        ("9" * 5000, 300, 300),
    ],
)
def test_a_service_that_says_how_long_to_wait_is_heeded_within_reason(reason: str, least: float, most: float) -> None:
    pauses: list[float] = []

    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        if len(service.requests) > 1:
            return json_answer(ROWS)
        return Answer(status=503, headers={"Retry-After": reason})

    with small_service(answer) as service, pytest.MonkeyPatch.context() as patch:
        patch.setattr("http.server.BaseHTTPRequestHandler.date_time_string", lambda *_: "Sun, 06 Jan 2013 00:00:00 GMT")
        read_all(build_source(service, sleep=pauses.append))
    assert least <= pauses[0] <= most


def test_a_service_that_stays_busy_is_left_for_another_attempt_of_the_task() -> None:
    with small_service(lambda *_: Answer(status=503)) as service:
        with pytest.raises(SourceUnreachableError, match=r"api: /rows/2013-01-06 answered 503, 3 times") as caught:
            read_all(build_source(service, attempts=3))
        assert len(service.requests) == 3
    assert caught.value.retryable


def test_a_truncated_answer_is_asked_for_again_and_never_taken_for_the_whole() -> None:
    whole = json.dumps([{"id": 1}]).encode()
    cut = Answer(whole[:5], length=len(whole))
    with small_service(Flaky(cut, json_answer([{"id": 1}]))) as service:
        assert read_all(build_source(service))[0] == [{"id": "1"}]
    with (
        small_service(lambda *_: cut) as service,
        pytest.raises(SourceUnreachableError, match=r"broke off or did not answer \(RemoteProtocolError\), 2 times"),
    ):
        read_all(build_source(service, attempts=2))
    damaged = Answer(gzip.compress(whole)[:-9] + b"?" * 9, headers={"Content-Encoding": "gzip"})
    with small_service(lambda *_: damaged) as service, pytest.raises(SourceUnreachableError, match=r"DecodingError"):
        read_all(build_source(service, attempts=2))


def test_a_service_that_does_not_answer_at_all_is_tried_again_later() -> None:
    with small_service(lambda *_: Answer()) as service:
        gone = service
    with pytest.raises(SourceUnreachableError, match=r"did not answer \(ConnectError\), 2 times"):
        read_all(build_source(gone, attempts=2))


def test_a_page_that_takes_longer_than_declared_is_given_up() -> None:
    def slow(path: str, headers: Mapping[str, str]) -> Answer:
        time.sleep(0.5)
        return json_answer(ROWS)

    with small_service(slow) as service, pytest.raises(SourceUnreachableError, match=r"\(ReadTimeout\), 1 times"):
        read_all(build_source(service, attempts=1, timeout=0.1))


@pytest.mark.parametrize("status", [204, 404])
def test_what_is_not_there_yet_is_missing(status: int) -> None:
    with small_service(lambda *_: Answer(status=status)) as service:
        with pytest.raises(SourceMissingError, match="partition 2013-01-06T00:00:00: api: /rows/2013-01-06 is not the"):
            read_all(build_source(service))
        assert len(service.requests) == 1


@pytest.mark.parametrize(("status", "reason"), [(400, ""), (401, "login"), (403, "login"), (410, ""), (422, "")])
def test_a_refusal_is_told_at_once_with_its_status(status: int, reason: str) -> None:
    with small_service(lambda *_: Answer(b"secret", status=status)) as service:
        with pytest.raises(SourceUnreadableError, match=rf"it answered {status}.*{reason}") as caught:
            read_all(build_source(service))
        assert len(service.requests) == 1
    assert "secret" not in str(caught.value)


def test_a_redirect_is_not_followed() -> None:
    with (
        small_service(lambda *_: Answer(status=302, headers={"Location": "http://127.0.0.1:1/"})) as service,
        pytest.raises(SourceUnreadableError, match="it answered 302, which leads elsewhere; declare that address"),
    ):
        read_all(build_source(service))


def paged(path: str, headers: Mapping[str, str]) -> Answer:
    number = int(path.partition("page=")[2] or 1)
    tag = {"ETag": f'"p{number}"'}
    if headers.get("if-none-match") == tag["ETag"]:
        return Answer(status=304, headers=tag)
    following = f"/rows/2013-01-06?page={number + 1}" if number < 3 else None
    link = {"Link": f'<{following}>; rel="next", </>; rel="first"'} if following else {}
    body = {"rows": [{"id": f"{number}{letter}"} for letter in "ab"], "links": {"next": following}}
    return Answer(json.dumps(body).encode(), headers={**tag, **link})


@pytest.mark.parametrize("following", ["links.next", "header:Link"])
def test_pages_are_followed_by_a_link_in_the_answer_or_in_its_header(following: str) -> None:
    with small_service(paged) as service:
        rows, _, origin = read_all(build_source(service, records="rows", pages=Pages(next=following)))
        assert [row["id"] for row in rows] == ["1a", "1b", "2a", "2b", "3a", "3b"]
        assert origin["pages"] == [
            {"url": "/rows/2013-01-06", "etag": '"p1"'},
            {"url": "/rows/2013-01-06?page=2", "etag": '"p2"'},
            {"url": "/rows/2013-01-06?page=3", "etag": '"p3"'},
        ]


@pytest.mark.parametrize("last", [json_answer([]), Answer(status=404), Answer(status=204)])
def test_pages_are_counted_until_one_is_empty(last: Answer) -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        number = int(path.rpartition("page=")[2])
        return json_answer([{"id": number}]) if number < 3 else last

    with small_service(answer) as service:
        rows, _, _ = read_all(build_source(service, path="rows?until={partition}", pages=Pages(number="page", first=0)))
        assert [row["id"] for row in rows] == ["0", "1", "2"]
        assert service.paths == [f"/rows?until=2013-01-06&page={number}" for number in range(4)]


def test_nothing_is_read_again_where_the_service_says_that_no_page_changed() -> None:
    with small_service(paged) as service:
        source = build_source(service, records="rows", pages=Pages(next="links.next"))
        origin = read_all(source)[2]
        with source.open(KEY, known=origin) as arrival:
            assert arrival.unchanged
            assert arrival.origin == origin
            assert list(arrival.batches) == []
        assert [headers["if-none-match"] for _, headers in service.requests[3:]] == ['"p1"', '"p2"', '"p3"']
        changed = {"pages": [*origin["pages"][:2], {**origin["pages"][2], "etag": '"old"'}]}
        without = {"pages": [*origin["pages"][:2], {"url": origin["pages"][2]["url"]}]}
        previous: list[dict[str, Any]] = [changed, without, {"pages": []}, {}, {"files": []}]
        for origin_before in previous:
            with source.open(KEY, known=origin_before) as arrival:
                assert not arrival.unchanged
                assert sum(batch.num_rows for batch in arrival.batches) == 6


@pytest.mark.parametrize(
    "link",
    [
        "http://elsewhere.invalid/rows",
        "https://127.0.0.1:{port}/rows",
        "http://127.0.0.1:1/rows",
        "//elsewhere.invalid/rows",
        "http://127.0.0.1:{port}@elsewhere.invalid/rows",
        "ftp://127.0.0.1:{port}/rows",
        "http://localhost:{port}/rows",
    ],
)
@pytest.mark.parametrize("following", ["next", "header:Link"])
def test_a_link_that_leads_elsewhere_is_never_followed(link: str, following: str) -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        foreign = link.format(port=service.port)
        return Answer(
            json.dumps({"rows": ROWS, "next": foreign}).encode(), headers={"Link": f'<{foreign}>; rel="next"'}
        )

    with small_service(answer) as service:
        with pytest.raises(
            SourceUnreadableError, match="another address than the connection's, and no link is followed"
        ):
            read_all(build_source(service, records="rows", pages=Pages(next=following)))
        assert len(service.requests) == 1


def test_a_login_in_a_link_is_not_used() -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        following = f"http://me:pw@127.0.0.1:{service.port}/rows/2" if path != "/rows/2" else None
        return json_answer({"rows": [{"id": path}], "next": following})

    with small_service(answer) as service:
        rows, _, origin = read_all(build_source(service, records="rows", pages=Pages(next="next")))
        assert [row["id"] for row in rows] == ["/rows/2013-01-06", "/rows/2"]
        assert "authorization" not in service.requests[1][1]
    assert "pw" not in json.dumps(origin)


def test_a_circle_of_links_ends() -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        return json_answer({"rows": [{"id": path}], "next": "/b" if path == "/a" else "/a"})

    with small_service(answer) as service:
        with pytest.raises(SourceUnreadableError, match="/a cannot be read: the links from page to page lead in a cir"):
            read_all(build_source(service, records="rows", pages=Pages(next="next")))
        assert service.paths == ["/rows/2013-01-06", "/a", "/b"]


def test_a_service_that_does_not_know_the_number_of_the_page_is_found_out() -> None:
    with (
        small_service(lambda *_: json_answer(ROWS)) as service,
        pytest.raises(SourceUnreadableError, match=r"same as the page before; does the service know 'page'\?"),
    ):
        read_all(build_source(service, pages=Pages(number="page")))


def test_a_link_to_a_page_that_is_not_there_is_no_end() -> None:
    with (
        small_service(lambda path, _: paged(path, {}) if "page" not in path else Answer(status=404)) as service,
        pytest.raises(SourceUnreadableError, match="the page before links to it, and it is not there"),
    ):
        read_all(build_source(service, records="rows", pages=Pages(next="links.next")))


def test_endless_pages_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_source, "MAX_PAGES", 5)
    with (
        small_service(lambda path, _: json_answer([{"id": path}])) as service,
        pytest.raises(SourceUnreadableError, match="there are more than 5 pages"),
    ):
        read_all(build_source(service, pages=Pages(number="page")))


def test_a_record_that_is_no_row_is_set_aside_with_its_place() -> None:
    body = b'[{"id":1,"x":{"deep":[1]}},7,{"id":2,"id":3},{"id":4,"x":"\\ud800"},{"id":5}]'
    with small_service(lambda *_: Answer(body)) as service:
        rows, broken, _ = read_all(build_source(service))
    assert rows == [{"id": "5", "x": None}]
    assert broken == [
        BrokenRow('{"id": "1", "x": {"deep": ["1"]}}', "holds no single value in 'x'", "/rows/2013-01-06, record 1"),
        BrokenRow('"7"', "is no object", "/rows/2013-01-06, record 2"),
        BrokenRow('{"id": "3"}', "has the key 'id' twice", "/rows/2013-01-06, record 3"),
        BrokenRow(
            '{"id": "4", "x": "\\ud800"}', "holds half of a character (a lone surrogate)", "/rows/2013-01-06, record 4"
        ),
    ]


def two_pages(second: dict[str, Any]) -> Any:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        return json_answer({"rows": [second], "next": None} if path == "/2" else {"rows": [{"id": 1}], "next": "/2"})

    return answer


def test_a_key_that_comes_later_is_a_column_if_the_contract_knows_it_and_else_refuses_the_partition() -> None:
    paging: dict[str, Any] = {"records": "rows", "pages": Pages(next="next")}
    with small_service(two_pages({"id": 2, "late": "x"})) as service:
        assert read_all(build_source(service, columns=("id", "late"), **paging))[0] == [
            {"id": "1", "late": None},
            {"id": "2", "late": "x"},
        ]
        assert read_all(build_source(service, ignored=("la*",), **paging))[0] == [{"id": "1"}, {"id": "2"}]
        with pytest.raises(
            PartitionRefusedError, match=r"/2, record 1 has the key 'late', which neither the first page"
        ):
            read_all(build_source(service, columns=("id",), **paging))


def test_a_column_of_the_contract_that_no_record_has_refuses_the_partition() -> None:
    with small_service(lambda *_: json_answer([{"id": 1}, {"id": 2}])) as service:
        with pytest.raises(PartitionRefusedError, match=r"column 'x' is in none of 2 records, though the contract has"):
            read_all(build_source(service, columns=("id", "x"), required=frozenset({"id", "x"})))
        assert read_all(build_source(service, columns=("id", "x"), required=frozenset({"id"})))[0][0] == {
            "id": "1",
            "x": None,
        }
    with small_service(lambda *_: json_answer([])) as service:
        assert read_all(build_source(service, columns=("id", "x"), required=frozenset({"id", "x"})))[0] == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it is not JSON: Expecting value"),
        (b"<html>", "it is not JSON: Expecting value"),
        (b'[{"id": 1}', "it is not JSON: Expecting ',' delimiter"),
        (b"[" * 100_000, "it is not JSON: it is nested too deep"),
        ('[{"id": "é"}]'.encode("latin-1"), "it is not JSON: 'utf-8' codec can't decode byte 0xe9 in position 9"),
        (b'"text"', "as a whole it is not a list of records"),
    ],
)
@pytest.mark.bad_input("refused")
def test_what_is_no_json_is_unreadable(body: bytes, reason: str) -> None:
    with small_service(lambda *_: Answer(body)) as service, pytest.raises(SourceUnreadableError) as caught:
        read_all(build_source(service))
    assert reason in str(caught.value)


@pytest.mark.parametrize("limits", [Limits(rows=1), Limits(cells=7), Limits(bytes=90)])
def test_limits_hold_over_all_pages(limits: Limits) -> None:
    with (
        small_service(lambda *_: json_answer(ROWS)) as service,
        pytest.raises(PartitionRefusedError, match=r"data\.limits\."),
    ):
        read_all(build_source(service, limits=limits))


def test_a_bomb_of_an_answer_ends_at_the_largest_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_source, "PAGE_BYTES", 1_000_000)
    bomb = Answer(gzip.compress(b" " * 50_000_000), headers={"Content-Encoding": "gzip"})
    with small_service(lambda *_: bomb) as service:
        with pytest.raises(SourceUnreadableError, match="it has more than 1,000,000 bytes; ask for smaller pages"):
            read_all(build_source(service))
        assert len(service.requests) == 1


def test_csv_answers_are_read_as_csv_files_are() -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        bodies = {"1": b"id,x\n1,2\n3\n", "2": b"x,id\n5,4\n", "3": b"id,x\n"}
        return Answer(bodies[path.rpartition("=")[2]])

    with small_service(answer) as service:
        rows, broken, origin = read_all(build_source(service, form="csv", pages=Pages(number="page")))
    assert rows == [{"id": "1", "x": "2"}, {"id": "4", "x": "5"}]
    place = "/rows/2013-01-06?page="
    assert broken == [BrokenRow("3", "has 1 values, the header has 2", f"{place}1, line 3")]
    assert [page["url"] for page in origin["pages"]] == [f"{place}{number}" for number in (1, 2, 3)]


def test_a_csv_answer_may_be_a_compressed_file_and_a_page_with_other_columns_is_refused() -> None:
    with small_service(lambda *_: Answer(gzip.compress(b"id,x\n1,2\n"))) as service:
        assert read_all(build_source(service, path="{partition}.csv.gz", form="csv"))[0] == [{"id": "1", "x": "2"}]
    with (
        small_service(lambda path, _: Answer(b"id,x\n1,2\n" if path.endswith("=1") else b"id,y\n1,2\n")) as service,
        pytest.raises(PartitionRefusedError, match="column 'x' is missing; column 'y' is new"),
    ):
        read_all(build_source(service, form="csv", pages=Pages(number="page")))
    with (
        small_service(lambda *_: Answer(b"")) as service,
        pytest.raises(SourceUnreadableError, match="not even a header"),
    ):
        read_all(build_source(service, form="csv"))


def test_a_declaration_that_cannot_work_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(DeclarationError, match=r"a CSV answer has no place for 'links\.next'; take header:Link"):
        HttpAnswers(HttpAddress("http://x"), "/", name="api", form="csv", pages=Pages(next="links.next"))
    for url in ("ftp://x", "x", "http://"):
        with pytest.raises(DeclarationError, match="names no address that begins with http"):
            read_all(HttpAnswers(HttpAddress(url), "{day}", name="api"))


def test_too_many_broken_records_refuse_the_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_BROKEN_ROWS", 3)
    with (
        small_service(lambda *_: json_answer([1, 2, 3, 4])) as service,
        pytest.raises(PartitionRefusedError, match="more than 3 records are broken, the first at /rows/2013-01-06"),
    ):
        read_all(build_source(service))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200)
@given(st.lists(JSON, max_size=6))
def test_every_record_is_a_row_or_a_broken_row(records: list[Any]) -> None:
    broken: list[BrokenRow] = []
    parsed = read_json(json.dumps(records).encode())
    rows = JsonRows(parsed, where="w", broken=broken)
    assert sum(batch.num_rows for batch in rows.batches(parsed, "/")) + len(broken) == len(records)
