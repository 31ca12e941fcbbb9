"""Queried metrics: keys are split by the version that served them, and a missing answer never passes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from airflow_mlops.core.declaration.rollout import OnlineMetric
from airflow_mlops.core.errors import DeclarationError, SourceUnreachableError, SourceUnreadableError
from airflow_mlops.core.ledger.facts import FoldedFacts
from airflow_mlops.core.ledger.state import LoopState
from airflow_mlops.core.ledger.state_machine import OpenRollout, StateMachine, Version
from airflow_mlops.core.ledger.training_details import CandidateRegistered
from airflow_mlops.core.ports.connections import HttpAddress, NoConnections
from airflow_mlops.core.rollout.analysis.judge_metric import Look
from airflow_mlops.core.rollout.analysis.prometheus_number import prometheus_number, query_for
from airflow_mlops.core.rollout.analysis.queried_metric import judge_number, judge_query
from airflow_mlops.core.rollout.analysis.values_by_key import values_by_key
from airflow_mlops.core.rollout.sticky_share import sticky_share
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import in_memory_workspace
from tests.unit.core.ledger.histories import draft_of
from tests.unit.core.sources.small_service import Answer, small_service
from tests.unit.core.toy_loop import toy_loop

LAST, FIRST = Look(1, (1.0,), 1), Look(1, (0.2,), 5)
SINCE = "2026-01-05T10:00:00+01:00"


@pytest.fixture
def connect(tmp_path: Path) -> Callable[[], Any]:
    """Return a connect function: the database has two orders of 400 customers each, after and before 9:00 UTC."""
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (customer INTEGER, at TEXT, revenue REAL)")
        rows = [
            (customer, f"2026-01-05 {hour}", float(customer))
            for customer in range(400)
            for hour in ("08:59:59", "09:00:01")
        ]
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
        connection.commit()
    return lambda: sqlite3.connect(path)


def query_values(connect: Callable[[], Any], query: str) -> Any:
    return values_by_key(connect, query, since=SINCE, salt="rollout-7", percent=25, name="shop")


def test_each_key_belongs_to_the_version_that_the_sticky_split_gave_it(connect: Callable[[], Any]) -> None:
    challenger, champion, lost = query_values(connect, "SELECT customer AS key, revenue AS value FROM orders")
    served = sticky_share(range(400), salt="rollout-7", percent=25)
    assert sorted(challenger.total / 2) == np.flatnonzero(served).tolist()
    assert sorted(champion.total / 2) == np.flatnonzero(~served).tolist()
    assert set(challenger.count) == set(champion.count) == {2.0}
    assert lost == 0


def test_since_is_when_the_stage_was_entered_in_utc(connect: Callable[[], Any]) -> None:
    challenger, champion, _ = query_values(
        connect, "SELECT revenue AS VALUE, customer AS KEY FROM orders WHERE at >= :since"
    )
    assert challenger.count.sum() + champion.count.sum() == 400


def test_rows_without_key_or_value_are_left_out_and_counted(connect: Callable[[], Any]) -> None:
    _, _, lost = query_values(connect, "SELECT nullif(customer, 5) AS key, nullif(revenue, 9) AS value FROM orders")
    assert lost == 4
    challenger, champion, lost = query_values(connect, "SELECT customer AS key, revenue AS value FROM orders WHERE 0")
    assert (challenger.total.size, champion.total.size, lost) == (0, 0, 0)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT customer, revenue FROM orders", "gives the columns customer, revenue; it must give key and value"),
        ("SELECT customer AS key, revenue AS value FROM orders WHERE at > :start", "it can bind :since"),
        ("DELETE FROM orders", "one SELECT"),
        ("SELECT 1 AS key, 2 AS value; DROP TABLE orders", "more than one statement"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused_as_a_declaration(
    connect: Callable[[], Any], query: str, words: str
) -> None:
    with pytest.raises(DeclarationError, match=words) as refused:
        query_values(connect, query)
    assert refused.value.key == "rollout.metrics.query"


def test_what_a_database_refuses_or_cannot_be_a_number_is_said(connect: Callable[[], Any]) -> None:
    with pytest.raises(SourceUnreadableError, match="no such table"):
        query_values(connect, "SELECT 1 AS key, 2 AS value FROM missing")
    with pytest.raises(SourceUnreadableError, match="a value is no number"):
        query_values(connect, "SELECT customer AS key, at AS value FROM orders")

    def refused() -> Any:
        raise OSError("host=secret.example password=hush")

    with pytest.raises(SourceUnreachableError, match="no connection") as lost:
        query_values(refused, "SELECT 1 AS key, 2 AS value")
    assert "hush" not in str(lost.value)


def prometheus(*numbers: str) -> bytes:
    result = [{"metric": {}, "value": [1.0, number]} for number in numbers]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


def test_the_number_of_a_version_is_asked_of_the_service_that_the_connection_names() -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        assert headers["authorization"].startswith("Basic ")
        query = parse_qs(urlsplit(path).query)["query"][0]
        return Answer(prometheus("0.25" if 'version="12"' in query else "0.5"))

    with small_service(answer) as service:
        address = HttpAddress(f"{service.address.url}/prom/", "me", "hush", trust_env=False)
        query = 'sum(rate(failed{version="$version"}[5m]))'
        numbers = [prometheus_number(address, query_for(query, version), name="prom") for version in ("12", "13")]
        assert numbers == [0.25, 0.5]
        assert all(path.startswith("/prom/api/v1/query?") for path in service.paths)


@pytest.mark.parametrize("body", [prometheus(), prometheus("NaN"), prometheus("+Inf")], ids=["none", "NaN", "infinite"])
def test_an_answer_without_a_number_is_none(body: bytes) -> None:
    with small_service(lambda *_: Answer(body)) as service:
        assert prometheus_number(service.address, "up", name="prom") is None


def test_a_scalar_is_a_number_too() -> None:
    body = json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1.0, "3"]}}).encode()
    with small_service(lambda *_: Answer(body)) as service:
        assert prometheus_number(service.address, "scalar(up)", name="prom") == 3.0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(prometheus("1", "2")), "2 numbers; add them up"),
        (Answer(b"<html>", 200), "not in JSON"),
        (Answer(b'{"status": "error", "error": "parse error: unexpected )"}', 400), "answered 400: parse error"),
        (Answer(b'{"status": "success", "data": {"resultType": "matrix", "result": []}}'), "a matrix"),
        (Answer(b'{"status": "success", "data": {"result": []}}'), "did not answer with a number"),
        (Answer(b'{"status": "success", "data": []}'), "did not answer with a number"),
        (Answer(b"[]"), "answered 200"),
        (Answer(b"{}", 302, {"Location": "http://127.0.0.1:1/"}), "answered 302"),
        (Answer(b" " * (2 << 20)), "more than 1,048,576 bytes"),
    ],
)
def test_an_answer_that_is_none_is_said_in_words(answer: Answer, words: str) -> None:
    with small_service(lambda *_: answer) as service, pytest.raises(SourceUnreadableError, match=words):
        prometheus_number(service.address, "up", name="prom")


def test_a_service_that_fails_is_asked_three_times() -> None:
    answers = iter([Answer(status=503), Answer(b"{", length=10), Answer(prometheus("2"))])
    with small_service(lambda *_: next(answers)) as service:
        assert prometheus_number(service.address, "up", name="prom", sleep=lambda _: None) == 2.0
    with small_service(lambda *_: Answer(status=500)) as service:
        with pytest.raises(SourceUnreachableError, match="prom answered 500, 3 times"):
            prometheus_number(service.address, "up", name="prom", sleep=lambda _: None)
        assert len(service.requests) == 3
    with pytest.raises(SourceUnreachableError, match="did not answer"):
        prometheus_number(service.address, "up", name="prom", sleep=lambda _: None)


@pytest.mark.parametrize("version", ['1"} or vector(0) #', "", "1\n", "$version", "v" * 65])
def test_a_version_that_could_end_the_text_it_stands_in_is_refused(version: str) -> None:
    with pytest.raises(DeclarationError, match="cannot stand in a query"):
        query_for('x{version="$version"}', version)


def test_a_bare_number_fails_at_any_look_and_passes_at_the_last() -> None:
    def verdict_of(challenger: float, champion: float | None, look: Look, **limits: Any) -> str:
        usual: dict[str, Any] = {"at_most": None, "worse_by": None, "better": "lower", "metric": "slow"}
        return judge_number(challenger, champion, look, **{**usual, **limits}).verdict

    assert verdict_of(0.3, None, FIRST, at_most=0.2) == "fail"
    assert verdict_of(0.1, None, FIRST, at_most=0.2) == "inconclusive"
    assert verdict_of(0.1, None, LAST, at_most=0.2) == "pass"
    assert verdict_of(1.05, 1.0, LAST, worse_by=0.1) == "pass"
    assert verdict_of(1.2, 1.0, FIRST, worse_by=0.1) == "fail"
    assert verdict_of(0.95, 1.0, LAST, worse_by=0.1, better="higher") == "pass"
    assert verdict_of(0.8, 1.0, LAST, worse_by=0.1, better="higher") == "fail"
    assert verdict_of(-1.05, -1.0, LAST, worse_by=0.1, better="higher") == "pass"
    assert verdict_of(-0.8, -1.0, LAST, worse_by=0.1) == "fail"
    assert verdict_of(1.0, None, LAST, worse_by=0.1) == "inconclusive"
    assert verdict_of(1.0, None, LAST) == "inconclusive"
    assert verdict_of(0.1, 1.0, LAST, at_most=0.05, worse_by=0.1) == "fail"


@dataclass(frozen=True)
class Place(NoConnections):
    """Connections to one database and one service."""

    connect: Callable[[], Any]
    address: HttpAddress

    def sql(self, conn_id: str) -> Callable[[], Any]:
        assert conn_id == "shop"
        return self.connect

    def http(self, conn_id: str) -> HttpAddress:
        assert conn_id == "prom"
        return self.address


def at_a_canary(folder: Path, place: Place, kind: str = "canary") -> tuple[Workspace, LoopState]:
    """Return a loop with champion 6, and 7 at a canary of 25 % since the only record of its ledger."""
    usual = in_memory_workspace(toy_loop(), {}, scratch=folder)
    workspace = replace(usual, ports=replace(usual.ports, connections=lambda: place))
    entered = draft_of(workspace, "stage_entered", "stage", "2026-01-05", version="7", stage=0, kind="canary", share=25)
    record = workspace.ledger.append(entered, read=0)
    versions = {number: Version(number, "2026-01-05", CandidateRegistered(version=number)) for number in ("6", "7")}
    rollout = OpenRollout(versions["7"], 1, 0, "2026-01-05", 25, kind)
    machine = StateMachine(champion=versions["6"], rollout=rollout, traffic_record=record.sequence)
    return workspace, LoopState(record.sequence, machine, FoldedFacts())


def revenue(**fields: Any) -> OnlineMetric:
    query = "SELECT customer AS key, revenue AS value FROM orders WHERE :since IS NOT NULL"
    return OnlineMetric(metric="kpi", name="revenue", query=query, conn_id="shop", better="higher", **fields)


def test_a_figure_of_the_shop_decides_a_stage(connect: Callable[[], Any], tmp_path: Path) -> None:
    workspace, state = at_a_canary(tmp_path, Place(connect, HttpAddress("http://127.0.0.1:1")))
    same = judge_query(workspace, state, revenue(worse_by=0.5), LAST)
    assert (same.metric, same.verdict) == ("revenue", "pass")
    with closing(connect()) as shop:
        shop.create_function("served", 1, lambda key: int(sticky_share([key], salt="rollout-7", percent=25)[0]))
        shop.execute("UPDATE orders SET revenue = revenue / 10 WHERE served(customer)")
        shop.commit()
    worse = judge_query(workspace, state, revenue(worse_by=0.5), LAST)
    assert worse.verdict == "fail"
    limited = judge_query(workspace, state, revenue(worse_by=0.95, at_most=5.0), LAST)
    assert limited.verdict == "fail"
    assert {"worse_by.z", "at_most.limit"} <= set(limited.numbers)
    json.dumps(limited.to_dict(), allow_nan=False)


def test_a_figure_by_key_says_nothing_of_replicas_and_no_answer_is_inconclusive(
    connect: Callable[[], Any], tmp_path: Path
) -> None:
    place = Place(connect, HttpAddress("http://127.0.0.1:1", trust_env=False))
    rolling = judge_query(*at_a_canary(tmp_path, place, "rolling"), revenue(), LAST)
    assert rolling.verdict == "inconclusive"
    with closing(connect()) as shop:
        shop.execute("DROP TABLE orders")
        shop.commit()
    gone = judge_query(*at_a_canary(tmp_path, place), revenue(), LAST)
    assert gone.verdict == "inconclusive"
    assert "no such table" in gone.reason


def test_prometheus_decides_a_stage_by_one_number_of_each_version(tmp_path: Path, connect: Callable[[], Any]) -> None:
    numbers = {"6": prometheus("0.10"), "7": prometheus("0.30")}

    def answer(path: str, _: Mapping[str, str]) -> Answer:
        query = parse_qs(urlsplit(path).query)["query"][0]
        return Answer(numbers[query.split('"')[1]])

    with small_service(answer) as service:
        workspace, state = at_a_canary(tmp_path, Place(connect, service.address))
        usual: dict[str, Any] = {"metric": "prometheus", "query": 'slow{v="$version"}', "conn_id": "prom"}
        asked_for = OnlineMetric(**usual, worse_by=0.5)
        assert judge_query(workspace, state, asked_for, FIRST).verdict == "fail"
        numbers["7"] = prometheus("0.12")
        assert judge_query(workspace, state, asked_for, LAST).verdict == "pass"
        numbers["6"] = prometheus()
        result = judge_query(workspace, state, asked_for, LAST)
        assert (result.verdict, result.reason) == ("inconclusive", "prom has no number of the champion, 6")
        assert judge_query(workspace, state, OnlineMetric(**usual, at_most=0.2), LAST).verdict == "pass"
        numbers["7"] = prometheus("NaN")
        assert judge_query(workspace, state, OnlineMetric(**usual, at_most=0.2), LAST).verdict == "inconclusive"
