"""Requests for predictions: tokens, the shape of rows, and the errors of wrong rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.testing.gateway_process import PREDICT_TOKEN, TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import CONTRACT, ToyProject, row


@pytest.fixture(scope="module", params=[CONTRACT, f"{CONTRACT}ignore: [note_*]\n"], ids=["strict", "ignoring"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Yield a gateway with version 3 as champion."""
    project = ToyProject(tmp_path_factory.mktemp("toy"), contract=request.param)
    gateway = project.gateway("gateway", "--body-bytes", "20000").start()
    target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
    target.prepare(project.version(3))
    target.apply(Traffic(1, "3"))
    yield gateway
    project.close()


def send_body(served: GatewayProcess, content: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON of a request for a prediction."""
    with served.client() as client:
        all_headers = {"content-type": "application/json", **headers}
        answer = client.post("/predict", content=content, headers=all_headers)
        return answer.status_code, answer.json()


def expect_422(served: GatewayProcess, value: Any) -> tuple[str | None, str]:
    """Return the field and the reason of a request that is refused with 422."""
    status, reply = send_body(served, value if isinstance(value, bytes) else json.dumps(value).encode())
    assert status == 422, reply
    return reply["field"], reply["reason"]


def row_without(name: str) -> dict[str, Any]:
    return {key: value for key, value in row().items() if key != name}


def test_a_row_alone_and_rows_in_a_list_are_answered_in_order_with_the_version(served: GatewayProcess) -> None:
    assert served.predict(row(x=2.0)) == {"prediction": 6.0, "version": "3"}
    rows = [row(x=float(number)) for number in range(50)]
    assert served.predict(rows) == {"predictions": [3.0 * number for number in range(50)], "versions": ["3"] * 50}


def test_columns_that_the_contract_ignores_may_come_and_no_others(
    served: GatewayProcess, request: pytest.FixtureRequest
) -> None:
    value = {**row(x=1.0), "note_of_somebody": {"any": ["thing"]}}
    if "ignoring" in request.node.name:
        assert served.predict(value) == {"prediction": 3.0, "version": "3"}
    else:
        assert expect_422(served, value)[0] == "note_of_somebody"


def test_time_label_hidden_and_optional_columns_may_be_left_out_or_come(served: GatewayProcess) -> None:
    more = {
        "at": "2013-01-06T12:00:00+02:00",
        "y": None,
        "staff": "Ann",
        "paid": True,
        "on_day": "2013-01-06",
        "price": "12.50",
    }
    assert served.predict({**row(x=1.0), **more}) == served.predict(row(x=1.0)) == {"prediction": 3.0, "version": "3"}


@pytest.mark.parametrize("name", ["id", "x", "kind", "stops"])
def test_a_missing_column_is_named(served: GatewayProcess, name: str) -> None:
    assert expect_422(served, row_without(name)) == (name, "is missing")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("id", None, "is null, and must have a value"),
        ("id", 7, "must be text, and is int"),
        ("kind", None, "is null, and must have a value"),
        ("x", "1.0", "must be float or null, and is text"),
        ("x", True, "must be float or null, and is bool"),
        ("x", [1.0], "must be float or null, and is a list"),
        ("x", float("nan"), "is NaN, which is not finite"),
        ("x", float("inf"), "is Infinity, which is not finite"),
        ("x", float("-inf"), "is -Infinity, which is not finite"),
        ("stops", 1.5, "must be int, and is float"),
        ("stops", 2**63, "Expected `int` <= 9223372036854775807"),
        ("paid", 1, "must be bool or null, and is int"),
        ("on_day", "yesterday", "Invalid RFC3339 encoded date"),
        ("at", "2013-01-06T12:00:00", "Expected `datetime` with a timezone component"),
        ("price", "12345.67", "12345.67 is no decimal128(6, 2)"),
        ("passenger_name", "Ann", "is denied by the contract ('*passenger*')"),
        ("z", 1, "is unknown: no such column is declared"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_and_the_reason(
    served: GatewayProcess, name: str, value: Any, reason: str
) -> None:
    assert expect_422(served, row(**{name: value} if name != "id" else {}) | {name: value}) == (name, reason)


def test_a_number_beyond_floats_is_refused(served: GatewayProcess) -> None:
    content = json.dumps(row(x=7.0)).replace("7.0", "1e999").encode()
    field, reason = expect_422(served, content)
    assert field == "x"
    assert "out of range" in reason


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({**row(), "stops": "none"}, "stops"),
        (row_without("kind"), "kind"),
        ({**row(), "z": 1}, "z"),
        ({**row(), "`": 1}, "`"),
    ],
)
def test_a_wrong_row_of_a_list_is_named_by_its_place_and_no_row_of_it_is_answered(
    served: GatewayProcess, wrong: dict[str, Any], field: str
) -> None:
    rows = [row(), row(), wrong]
    status, reply = send_body(served, json.dumps(rows).encode())
    assert (status, reply["field"], reply["row"]) == (422, field, 2)
    assert "predictions" not in reply


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"7", b'"text"', b"[1]", b"[" * 15_000])
def test_what_is_no_row_is_refused_and_the_gateway_goes_on(served: GatewayProcess, content: bytes) -> None:
    status, reply = send_body(served, content)
    assert status == 422, reply
    assert reply["error"]
    assert served.predict(row(x=1.0))["prediction"] == 3.0


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", PREDICT_TOKEN, f"Bearer {TELL_TOKEN}"])
def test_nothing_is_predicted_without_the_token_for_predictions(
    served: GatewayProcess, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    with served.client(None) as client:
        answer = client.post("/predict", json=row(), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "traffic"), ("GET", "telemetry"), ("PUT", "traffic"), ("PUT", "prepare"), ("PUT", "finalize")],
)
@pytest.mark.parametrize("token", [None, PREDICT_TOKEN])
def test_nothing_is_told_or_shown_without_the_token_for_control(
    served: GatewayProcess, method: str, path: str, token: str | None
) -> None:
    with served.client(token) as client:
        assert client.request(method, f"/control/{path}", json={}).status_code == 401


def test_a_body_over_the_limit_is_refused_whether_or_not_it_says_its_length(served: GatewayProcess) -> None:
    big = json.dumps([row(key="k" * 100)] * 200).encode()
    assert len(big) > 20_000
    with served.client() as client:
        kind = {"content-type": "application/json"}
        assert client.post("/predict", content=big, headers=kind).status_code == 413
        chunks = (big[at : at + 1_000] for at in range(0, len(big), 1_000))
        assert client.post("/predict", content=chunks, headers=kind).status_code == 413
    assert served.predict(row(x=1.0))["prediction"] == 3.0


def test_only_json_is_read(served: GatewayProcess) -> None:
    status, reply = send_body(served, json.dumps(row()).encode(), **{"content-type": "text/plain"})
    assert (status, reply["error"]) == (415, "the Content-Type must be application/json")
    assert (
        send_body(served, json.dumps(row()).encode(), **{"content-type": "application/json; charset=utf-8"})[0] == 200
    )


def test_other_methods_and_pages_are_refused_in_words(served: GatewayProcess) -> None:
    with served.client(TELL_TOKEN) as client:
        assert client.get("/predict").status_code == 405
        assert client.get("/docs").status_code == 404
        assert client.request("DELETE", "/control/traffic").status_code == 405


def test_metrics_count_requests_by_status_and_rows_by_version(served: GatewayProcess) -> None:
    def figure(name: str) -> float:
        with served.client() as client:
            page = client.get("/metrics").text
        return float(next(line.split()[-1] for line in page.splitlines() if line.startswith(name)))

    names = (
        'airflow_mlops_gateway_requests_total{status="200"}',
        'airflow_mlops_gateway_requests_total{status="422"}',
        'airflow_mlops_gateway_version_rows_total{version="3"}',
        'airflow_mlops_gateway_seconds_count{version="3"}',
    )
    served.predict(row())
    expect_422(served, row_without("x"))
    before = [figure(name) for name in names]
    served.predict([row(), row(), row()])
    expect_422(served, row_without("x"))
    assert [figure(name) - was for name, was in zip(names, before, strict=True)] == [1, 1, 3, 3]
    with served.client(None) as client:
        assert client.get("/metrics").status_code == 401


def test_a_row_that_the_champion_cannot_answer_is_told_why_and_is_logged(served: GatewayProcess) -> None:
    status, reply = send_body(served, json.dumps(row(x=None)).encode())
    assert status == 503
    assert "version 3 cannot answer" in reply["error"]
    status, reply = send_body(served, json.dumps([row(x=1.0), row(x=None)]).encode())
    assert (status, reply["row"]) == (503, 1)
