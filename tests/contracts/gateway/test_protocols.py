"""Clients of other protocols: the same row gets the same prediction and the same refusal as by ``/predict``."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression

from airflow_mlops.core.data.masking import keyed_hash, mask_key
from airflow_mlops.core.ports.rollout_target import Traffic
from airflow_mlops.core.rollout.targets.gateway.gateway_target import GatewayTarget
from airflow_mlops.gateway.settings import MASK_SECRET
from airflow_mlops.testing.gateway_process import TELL_TOKEN, GatewayProcess
from tests.contracts.gateway.toy_project import CONTRACT, ToyProject, row

COLUMNS = ("id", "x", "kind", "stops", "paid", "on_day", "price", "at", "staff", "z")
INFER = "/v2/models/toy/infer"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Yield a gateway with version 3 as champion."""
    project = ToyProject(tmp_path_factory.mktemp("toy"))
    gateway = project.gateway().start()
    target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
    target.prepare(project.version(3))
    target.apply(Traffic(1, "3"))
    yield gateway
    project.close()


@pytest.fixture(scope="module")
def client(served: GatewayProcess) -> Iterator[httpx.Client]:
    with served.client() as connected:
        yield connected


def datatype(values: list[Any]) -> str:
    """Return the datatype that a client gives to values."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} and kinds:
        return "BOOL"
    if kinds <= {int} and kinds:
        return "INT64"
    return "FP64" if kinds <= {int, float} else "BYTES"


def tensors(rows: list[dict[str, Any]], *, nested: bool = False) -> dict[str, Any]:
    """Return rows that have the same columns as a request of the Open Inference Protocol."""
    inputs = []
    for name in rows[0]:
        values = [one[name] for one in rows]
        shape, data = ([len(rows), 1], [[value] for value in values]) if nested else ([len(rows)], values)
        inputs.append({"name": name, "datatype": datatype(values), "shape": shape, "data": data})
    return {"inputs": inputs}


def forms(rows: list[dict[str, Any]]) -> dict[str, tuple[str, Any]]:
    """Return the path and the body of rows by each protocol."""
    names = list(rows[0])
    split = {"columns": names, "index": list(range(len(rows))), "data": [[one[name] for name in names] for one in rows]}
    return {
        "tensors": (INFER, tensors(rows)),
        "nested tensors": ("/v2/models/toy/versions/3/infer", {"id": "42", **tensors(rows, nested=True)}),
        "split": ("/invocations", {"dataframe_split": split}),
        "records": ("/invocations", {"dataframe_records": rows}),
        "instances": ("/invocations", {"instances": rows}),
        "inputs by column": ("/invocations", {"inputs": {name: [one[name] for one in rows] for name in names}}),
        "inputs by row": ("/invocations", {"inputs": rows, "params": {}}),
    }


def post(client: httpx.Client, path: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
    """Return the status and the JSON of an answer; NaN is written as Python writes it."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=content, headers={"content-type": kind})
    return answer.status_code, answer.json()


def predictions(path: str, answer: Any) -> list[float]:
    """Return the predictions of an answer."""
    if path.startswith("/v2"):
        (output,) = answer["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("prediction", "FP64", [len(output["data"])])
        return list(output["data"])
    return list(answer["predictions"])


def expect_same(client: httpx.Client, rows: list[dict[str, Any]]) -> None:
    """Assert that every protocol answers rows as ``/predict`` does."""
    status, expected = post(client, "/predict", rows)
    for name, (path, body) in forms(rows).items():
        there, answer = post(client, path, body)
        assert there == status, (name, answer, expected)
        if status == 200:
            assert predictions(path, answer) == expected["predictions"], name
        elif path.startswith("/v2"):
            # A single tensor is a single row, as a row outside a list is by /predict.
            assert set(answer) == {"error"}
            place = f"row {expected['row']}: " if expected["row"] is not None and len(rows) > 1 else ""
            assert answer["error"] == place + expected["error"], name
        else:
            fields = ("error", "field", "row", "reason") if status == 422 else ("error", "row")
            assert [answer[field] for field in fields] == [expected[field] for field in fields], name
            assert answer["message"] == expected["error"]


good = {
    "id": st.text(max_size=8),
    "x": st.floats(allow_nan=False, allow_infinity=False, width=64) | st.integers(-(10**6), 10**6),
    "kind": st.text(max_size=8),
    "stops": st.integers(-(2**63), 2**63 - 1),
}
more = {
    "paid": st.none() | st.booleans(),
    "on_day": st.none() | st.dates().map(str),
    "price": st.none() | st.decimals(0, 999, places=2).map(str),
    "at": st.none() | st.just("2013-01-06T12:00:00+02:00"),
    "staff": st.none() | st.text(max_size=8),
}
anything = st.sampled_from(
    [None, True, 0, 1, 2**63, 1.5, float("nan"), float("inf"), "", "one", "2013-01-06", "12345.67", [1.0], {"a": 1}]
)


@st.composite
def row_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return one to three rows of the same columns, good but for a few values and columns."""
    names = [*good, *draw(st.lists(st.sampled_from(list(more)), unique=True))]
    missing = draw(st.sampled_from([None, None, None, *good]))
    values = {**good, **more}
    rows = [{name: draw(values[name]) for name in names if name != missing} for _ in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        name = draw(st.sampled_from(["z", *rows[0]]))
        wrong = draw(st.lists(anything, min_size=len(rows), max_size=len(rows)))
        rows = [{**one, name: value} for one, value in zip(rows, wrong, strict=True)]
    return rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=row_lists())
def test_the_same_rows_get_the_same_answer_by_every_protocol(client: httpx.Client, rows: list[dict[str, Any]]) -> None:
    values = {type(value) for one in rows for value in one.values()}
    kinds = [{type(one[name]) for one in rows if one[name] is not None} for name in rows[0]]
    if values & {list, dict} or any(len(kind) > 1 and not kind <= {int, float} for kind in kinds):
        # Neither a tensor nor a column of a frame holds these; what is left of the protocols must agree all the same.
        status, expected = post(client, "/predict", rows)
        for name in ("records", "instances", "inputs by row"):
            path, body = forms(rows)[name]
            there, answer = post(client, path, body)
            assert (there, answer["error"]) == (status, expected["error"]), name
        return
    expect_same(client, rows)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    x=st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.none(), min_size=1, max_size=4),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=6),
)
def test_csv_of_pandas_gets_the_answer_of_predict(client: httpx.Client, x: list[float | None], text: str) -> None:
    rows = [row(f"k{place}", x=value, kind=text, paid=None, stops=place) for place, value in enumerate(x)]
    written = io.StringIO()
    pd.DataFrame(rows).to_csv(written, index=False)
    status, expected = post(client, "/predict", rows)
    there, answer = post(client, "/invocations", written.getvalue().encode(), "text/csv")
    assert (there, answer.get("predictions")) == (status, expected.get("predictions")), (answer, expected)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60)
    | st.recursive(
        anything,
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["inputs", "name", "shape", "data", "datatype", "instances", "columns", "dataframe_split"]
                ),
                inner,
            )
        ),
    )
)
def test_no_body_breaks_a_reader(client: httpx.Client, content: Any) -> None:
    for path in (INFER, "/invocations"):
        status, answer = post(client, path, content)
        assert status == 422
        assert answer["error"]
    assert post(client, "/invocations", content if isinstance(content, bytes) else b"x", "text/csv")[0] == 422
    assert post(client, "/predict", row(x=1.0))[0] == 200


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        ({"inputs": []}, "there are no inputs"),
        ({}, "missing required field `inputs`"),
        (
            {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1.0]}]},
            "x: has 1 values, and its shape",
        ),
        ({"inputs": [{"name": "x", "datatype": "FP65", "shape": [1], "data": [1.0]}]}, "x: has the datatype 'FP65'"),
        ({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [1.5]}]}, "INT64, and holds 1.5"),
        ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": ["a"]}]}, 'FP64, and holds "a"'),
        ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]}]}, "[n] or [n, 1]"),
        ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1], "data": []}]}, "has the shape [-1]"),
        ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [0], "data": []}]}, "the list of rows is empty"),
        ({"inputs": [{"name": "a", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}]}, "'kind' is none"),
        ({**tensors([row()]), "outputs": [{"name": "y"}]}, "there is no output 'y'; there is prediction"),
        ({**tensors([row()]), "parameters": {"content_type": "base64"}}, "the content_type is 'base64'"),
    ],
)
def test_a_request_that_is_not_of_the_open_protocol_is_refused_in_words(
    client: httpx.Client, request_body: dict[str, Any], words: str
) -> None:
    status, answer = post(client, INFER, request_body)
    assert status == 422
    assert set(answer) == {"error"}
    assert words in answer["error"]


def test_tensors_must_have_one_value_for_each_row_and_a_name_of_their_own(client: httpx.Client) -> None:
    body = tensors([row(), row()])
    body["inputs"][1] = {"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}
    assert "x: has 1 values, and 'id' has 2" in post(client, INFER, body)[1]["error"]
    body["inputs"][1] = body["inputs"][0]
    assert "the column 'id' is there 2 times" in post(client, INFER, body)[1]["error"]


def test_what_clients_of_kserve_and_mlserver_send_beside_the_data_is_taken(client: httpx.Client) -> None:
    body = tensors([row(x=2.0), row(x=3.0)], nested=True)
    body |= {"id": "42", "parameters": {"content_type": "pd"}, "outputs": [{"name": "prediction"}]}
    for tensor in body["inputs"]:
        tensor["parameters"] = {"content_type": "str" if tensor["datatype"] == "BYTES" else "np"}
    status, answer = post(client, INFER, body)
    assert status == 200
    assert answer == {
        "model_name": "toy",
        "model_version": "3",
        "id": "42",
        "outputs": [{"name": "prediction", "datatype": "FP64", "shape": [2], "data": [6.0, 9.0]}],
    }


def test_the_open_protocol_says_what_is_served_and_what_a_row_needs(client: httpx.Client) -> None:
    assert client.get("/v2").json() == {"name": "airflow-mlops", "version": "0.1.0", "extensions": []}
    assert client.get("/v2/").status_code == 200
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json()["ready"] is True
    for path in ("/v2/models/toy/ready", "/v2/models/toy/versions/3/ready"):
        assert client.get(path).json() == {"name": "toy", "ready": True}
    described = client.get("/v2/models/toy").json()
    assert described == client.get("/v2/models/toy/versions/3").json()
    assert {tensor["name"]: tensor["datatype"] for tensor in described["inputs"]} == {
        "id": "BYTES",
        "x": "FP64",
        "kind": "BYTES",
        "stops": "INT64",
        "paid": "BOOL",
        "on_day": "BYTES",
        "price": "BYTES",
    }
    assert all(tensor["shape"] == [-1] for tensor in described["inputs"])
    assert (described["versions"], described["platform"]) == (["3"], "sklearn_skops")
    assert described["outputs"] == [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]


def test_another_model_and_another_version_are_refused_in_words(client: httpx.Client) -> None:
    for end in ("", "/ready"):
        answer = client.get(f"/v2/models/bread{end}")
        assert (answer.status_code, answer.json()) == (
            404,
            {"error": "there is no model 'bread'; this gateway serves 'toy'"},
        )
        answer = client.get(f"/v2/models/toy/versions/2{end}")
        assert answer.status_code == 404
        assert answer.json()["error"] == "version '2' of 'toy' is not live, '3' is; ask without a version"
    assert post(client, "/v2/models/toy/versions/2/infer", tensors([row()]))[0] == 404


def test_one_tensor_stands_for_all_features_where_they_are_numbers(tmp_path_factory: pytest.TempPathFactory) -> None:
    contract = """
contract: toy
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time}
  x: {type: float}
  stops: {type: int, nullable: false}
  paid: {type: bool, nullable: false}
  staff: {type: text, feature: false}
  y: {type: float}
"""
    project = ToyProject(tmp_path_factory.mktemp("numbers"), contract=contract)
    try:
        gateway = project.gateway().start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        target.prepare(project.version(3))
        target.apply(Traffic(1, "3"))
        keys = {"name": "id", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
        matrix = {"name": "input-0", "datatype": "FP32", "shape": [2, 3], "data": [2.0, 1.0, 1.0, 0.1, 7.0, 0.0]}
        nested = {**matrix, "data": [[2.0, 1.0, 1.0], [0.1, 7.0, 0.0]]}
        with gateway.client() as client:
            rows = [
                {"id": "a", "x": 2.0, "stops": 1, "paid": True},
                {"id": "b", "x": 0.1, "stops": 7, "paid": False},
            ]
            expected = post(client, "/predict", rows)[1]["predictions"]
            for tensor in (matrix, nested):
                status, answer = post(client, INFER, {"inputs": [tensor, keys]})
                assert status == 200, answer
                assert predictions(INFER, answer) == expected
            assert "id: is missing" in post(client, INFER, {"inputs": [matrix]})[1]["error"]
            half = {**matrix, "data": [2.0, 1.5, 1.0, 0.1, 7.0, 0.0]}
            assert "stops: must be int, and is float" in post(client, INFER, {"inputs": [half, keys]})[1]["error"]
            wide = {**matrix, "shape": [2, 4], "data": [0.0] * 8}
            answer = post(client, INFER, {"inputs": [wide, keys]})[1]
            assert "has 4 columns, and the model has 3 features: x, stops, paid" in answer["error"]
    finally:
        project.close()


def test_the_pages_of_mlflows_scoring_server_are_there(served: GatewayProcess) -> None:
    with served.client(None) as client:
        ping, version = client.get("/ping"), client.get("/version")
        assert (ping.status_code, ping.text) == (200, "\n")
        assert client.get("/health").status_code == 200
    assert version.text.split(".")[0] == mlflow.__version__.split(".")[0]


def test_mlflows_own_client_asks_the_gateway(tmp_path_factory: pytest.TempPathFactory) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    project = ToyProject(tmp_path_factory.mktemp("open"))
    try:
        # MLflow's client sends no token.
        gateway = project.gateway("gateway", "--insecure").start()
        scoring = ScoringServerClient("127.0.0.1", gateway.port)
        with pytest.raises(Exception, match="ping failed"):
            scoring.ping()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        target.prepare(project.version(3))
        target.apply(Traffic(1, "3"))
        scoring.wait_server_ready()
        assert scoring.get_version() == "3.17.2"
        rows = pd.DataFrame([row("a", x=1.5), row("b", x=2.0)])
        assert scoring.invoke(rows).get_predictions(predictions_format="ndarray").ravel().tolist() == [4.5, 6.0]
        records = rows.to_dict("records")
        assert json.loads(scoring.invoke(records).to_json()) == {"predictions": [4.5, 6.0]}
        with pytest.raises(Exception, match=r"error code 422.*kind: is missing"):
            scoring.invoke(rows.drop(columns="kind"))
    finally:
        project.close()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "must have exactly one of"),
        ({"inputs": {}, "instances": []}, "has instances and inputs"),
        ({"dataframe_records": {"x": [1.0]}}, "must be a list of records"),
        ({"instances": [[1.0, 2.0]]}, "has values without names"),
        ({"dataframe_split": {"data": [[1.0]]}}, "has no columns"),
        ({"dataframe_split": {"columns": ["x"], "data": [[1.0]], "rows": 1}}, "has data, columns and index"),
        ({"dataframe_split": {"columns": ["x"], "data": [[1.0, 2.0]]}}, "has 2 values, and there are 1 columns"),
        ({"dataframe_split": {"columns": ["x", "x"], "data": [[1.0, 2.0]]}}, "the column 'x' is there 2 times"),
        ({"inputs": {"x": [1.0], "kind": "a"}}, "is one value, and other columns are lists"),
        ({"inputs": {"x": [1.0], "kind": ["a", "b"]}}, "has 2 values, and 'x' has 1"),
    ],
)
def test_a_request_that_is_not_of_mlflows_protocol_is_refused_in_words(
    client: httpx.Client, body: dict[str, Any], words: str
) -> None:
    status, answer = post(client, "/invocations", body)
    assert (status, answer["error_code"]) == (422, "BAD_REQUEST")
    assert words in answer["message"]


def test_csv_is_read_as_pandas_writes_it(client: httpx.Client) -> None:
    rows = pd.DataFrame([row("a", x=1.5), row("b", x=2.0)]).assign(paid=[True, False], at="2013-01-06 12:00:00+00:00")
    with_index = rows.to_csv().encode()
    assert post(client, "/invocations", with_index, "text/csv; charset=utf-8")[1] == {"predictions": [4.5, 6.0]}
    for content, words in (
        (b"", "the body is empty"),
        (b"\xff", "not CSV in UTF-8"),
        (b"id,x\na\n", "has 1 values, and there are 2 columns"),
        (b"x,x\n1,2\n", "the column 'x' is there 2 times"),
        (b"id,x,kind,stops\na,one,b,0\n", "x: must be float or null, and is text"),
        (b"id,x,kind,stops\na,1,,0\n", "kind: is null, and must have a value"),
        (b"id,x\n", "the list of rows is empty"),
    ):
        status, answer = post(client, "/invocations", content, "text/csv")
        assert (status, words in answer["error"]) == (422, True), answer
    status, answer = post(client, "/invocations", b"PAR1", "application/vnd.apache.parquet")
    assert (status, answer["message"]) == (415, "the Content-Type must be application/json or text/csv")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/predict", b'{"id": "a", "x": 1.0, "x": 2.0, "kind": "a", "stops": 0}'),
        ("/predict", b'{"id": "a:", "x": 1.0, "kind": "a", "stops": 0, "paid": true, "\\u0078": 2.0}'),
        (
            "/predict",
            b'[{"id": "a", "x": 1, "kind": "a", "stops": 0}, {"id": "a", "x": 1, "x": 1, "kind": "a", "stops": 0}]',
        ),
        ("/invocations", b'{"instances": [{"id": "a", "x": 1.0, "x": 2.0, "kind": "a", "stops": 0}]}'),
        ("/invocations", b'{"inputs": {"id": "a", "x": 1.0, "x": 2.0, "kind": "a", "stops": 0}}'),
        (
            INFER,
            json.dumps(tensors([row(x=1.0)])).replace('"name": "x"', '"name": "y", "name": "x"').encode(),
        ),
    ],
)
def test_a_key_twice_is_refused_with_its_name(client: httpx.Client, path: str, content: bytes) -> None:
    status, answer = post(client, path, content)
    assert status == 422, answer
    name = "name" if path == INFER else "x"
    assert answer["error"] == f"{name}: is there twice in one object; send it once"
    if content.startswith(b"["):
        assert answer["row"] == 1


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/predict", "POST"),
        ("PUT", "/invocations", "POST"),
        ("GET", INFER, "POST"),
        ("POST", "/v2/models/toy", "GET, HEAD"),
        ("POST", "/v2/health/ready", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/openapi.json", "GET, HEAD"),
    ],
)
def test_another_method_is_405_with_the_allowed_ones(client: httpx.Client, method: str, path: str, allow: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert answer.json()["error"].startswith("use ")


@pytest.mark.parametrize("path", ["/", "/nothing", "/predict/more", "/v2/models", "/v2/models/toy/explain", "/v3"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_404_by_every_method(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (404, f"there is no {path}")


@pytest.mark.parametrize("path", [INFER, "/invocations", "/v2/models/toy", "/openapi.json"])
def test_every_protocol_needs_the_token_for_predictions(served: GatewayProcess, path: str) -> None:
    method = "POST" if path in (INFER, "/invocations") else "GET"
    with served.client(None) as client:
        answer = client.request(method, path, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_openapi_describes_every_path_and_the_columns_of_the_contract(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    version = {"{version}": "3"}
    for path, operations in document["paths"].items():
        place = path.replace("{version}", version["{version}"])
        if place.startswith("/control/"):
            continue
        for method in ("get", "post"):
            status = client.request(method, place).status_code
            assert (status != 405) == (method in operations), (method, path)
            assert status != 404, path
    schemas = document["components"]["schemas"]
    columns = schemas["Row"]
    assert columns["required"] == ["id", "x", "kind", "stops"]
    assert columns["additionalProperties"] is False
    assert columns["properties"]["x"] == {"type": ["number", "null"]}
    assert columns["properties"]["id"] == {"type": "string"}
    assert columns["properties"]["stops"]["type"] == "integer"
    assert columns["properties"]["on_day"] == {"type": ["string", "null"], "format": "date"}
    text = json.dumps(document)
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references == set(schemas), references ^ set(schemas)


def test_rows_of_every_protocol_are_split_logged_and_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    project = ToyProject(tmp_path_factory.mktemp("split"))
    try:
        gateway = project.gateway().start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        for number in (3, 4):
            target.prepare(project.version(number))
        target.apply(Traffic(1, "3", "4", "canary", 50.0, "salt"))
        rows = [row(f"key{number}", x=1.0) for number in range(40)]
        with gateway.client() as client:
            expected = post(client, "/predict", rows)[1]
            assert set(expected["versions"]) == {"3", "4"}
            for name, (path, body) in forms(rows).items():
                status, answer = post(client, path, body)
                assert status == 200, name
                assert predictions(path, answer) == expected["predictions"], name
                if path.startswith("/v2"):
                    assert answer["parameters"]["versions"].split(",") == expected["versions"]
                    assert "model_version" not in answer
        gateway.stop()
        counts = gateway.final_counts()
        requests = 1 + len(forms(rows))
        assert counts["requests"] == {"200": requests}
        assert counts["rows"] == counts["answered"] == len(gateway.lines()) == requests * len(rows)
    finally:
        project.close()


def test_a_shadow_gets_the_rows_of_every_protocol(tmp_path_factory: pytest.TempPathFactory) -> None:
    project = ToyProject(tmp_path_factory.mktemp("shadow"))
    try:
        gateway = project.gateway().start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        for number in (3, 4):
            target.prepare(project.version(number))
        target.apply(Traffic(1, "3", "4", "shadow", 100.0, "salt"))
        with gateway.client() as client:
            for path, body in forms([row("a", x=1.0), row("b", x=2.0)]).values():
                assert post(client, path, body)[0] == 200
        gateway.stop()
        shadow = [line["challenger_prediction"] for line in gateway.lines("shadow")]
        assert sorted(shadow) == sorted([4.0, 8.0] * 7)
    finally:
        project.close()


def test_a_masked_key_is_masked_once_whatever_the_protocol(tmp_path_factory: pytest.TempPathFactory) -> None:
    contract = CONTRACT.replace("id: {type: text, nullable: false}", "id: {type: text, nullable: false, mask: true}")
    project = ToyProject(tmp_path_factory.mktemp("masked"), contract=contract)
    try:
        gateway = project.gateway()
        gateway.environment = {MASK_SECRET: "a secret of sixteen bytes"}
        gateway.start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        target.prepare(project.version(3))
        target.apply(Traffic(1, "3"))
        requests = {"predict": ("/predict", [row("passenger", x=1.0)]), **forms([row("passenger", x=1.0)])}
        with gateway.client() as client:
            for path, body in requests.values():
                assert post(client, path, body)[0] == 200
        gateway.stop()
        expected = keyed_hash("passenger", mask_key("a secret of sixteen bytes", "id"))
        assert [line["key"] for line in gateway.lines()] == [expected] * len(requests)
    finally:
        project.close()


def test_the_examples_of_the_page_get_one_prediction(tmp_path_factory: pytest.TempPathFactory) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "serve-with-the-gateway.md").read_text()
    requests = re.findall(r"curl http://gateway\.example:8600(/\S+) .*?-d\s+'(.*?)'", page, flags=re.DOTALL)
    assert [path for path, _body in requests] == ["/predict", "/v2/models/bakery/infer", "/invocations"]
    contract = """
contract: bakery
key: row_id
time: opened
columns:
  row_id: {type: text, nullable: false}
  shop: {type: text, nullable: false}
  product: {type: text, nullable: false}
  opened: {type: time, zone: none, nullable: false}
  price: {type: float, nullable: false}
  rain: {type: float, nullable: false}
  sold: {type: float}
"""
    names = {"key": "row_id", "time": "opened", "label": "sold"}
    project = ToyProject(tmp_path_factory.mktemp("page"), contract=contract, data=names)
    try:
        gateway = project.gateway().start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        rows = pd.DataFrame({"price": [1.0, 2.0, 3.0], "rain": [0.0, 1.0, 0.5]})
        target.prepare(project.version(2, LinearRegression().fit(rows, [1.0, 7.0, 3.0])))
        target.apply(Traffic(1, "2"))
        with gateway.client() as client:
            (_, single), (_, tensor), (_, scores) = (
                post(client, path.replace("bakery", "toy"), body.encode()) for path, body in requests
            )
        assert (tensor["id"], tensor["model_version"]) == ("42", single["version"])
        assert predictions(INFER, tensor) == scores["predictions"] == [single["prediction"]]
    finally:
        project.close()


def test_of_a_class_the_probability_is_named_as_such(tmp_path_factory: pytest.TempPathFactory) -> None:
    project = ToyProject(tmp_path_factory.mktemp("classes"), gates=[{"metric": "log_loss", "at_most": 5}])
    try:
        gateway = project.gateway().start()
        target = GatewayTarget(project.workspace, [gateway.url], TELL_TOKEN)
        rows = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})
        target.prepare(project.version(1, LogisticRegression().fit(rows, [0, 0, 1, 1])))
        target.apply(Traffic(1, "1"))
        with gateway.client() as client:
            expected = post(client, "/predict", row(x=1.2))[1]["prediction"]
            assert 0 < expected < 1
            outputs = post(client, INFER, tensors([row(x=1.2)]))[1]["outputs"]
            assert {output["name"]: output["data"] for output in outputs} == {
                "prediction": [expected],
                "probability": [expected],
            }
            body = {**tensors([row(x=1.2)]), "outputs": [{"name": "probability"}]}
            assert [output["name"] for output in post(client, INFER, body)[1]["outputs"]] == ["probability"]
            assert [tensor["name"] for tensor in client.get("/v2/models/toy").json()["outputs"]] == [
                "prediction",
                "probability",
            ]
    finally:
        project.close()
