"""Connections as Airflow has them: a declared source is opened through its own, and says nothing secret."""

from __future__ import annotations

import builtins
import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow.fs import S3FileSystem
from sqlalchemy import make_url

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.errors import DeclarationError, SourceUnreachableError
from airflow_mlops.core.ports.connections import SparkAddress
from airflow_mlops.core.ports.partitions import Source
from airflow_mlops.core.sources.source_factory import open_source
from airflow_mlops.hooks.connections import AirflowConnections
from airflow_mlops.hooks.workspace import WorkspaceHook
from tests.unit.core.sources.small_service import Answer, small_service
from tests.unit.core.toy_loop import toy_fields

KEY = "2013-01-06T00:00:00"
CONTRACT = """\
contract: rows
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time, zone: none}
  y: {type: float}
  note: {type: text, optional: true}
ignore: ["debug*"]
"""


def declare(monkeypatch: pytest.MonkeyPatch, conn_id: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def loop_of(root: Path, **source: Any) -> Loop:
    (root / "contract.yaml").write_text(CONTRACT)
    fields = toy_fields()
    return Loop(**{**fields, "data": {**fields["data"], "contract": "contract.yaml", "source": source}})


def opened(root: Path, **source: Any) -> Source:
    return open_source(loop_of(root, **source), AirflowConnections(), root=root)


def rows_of(source: Source) -> list[dict[str, Any]]:
    with source.open(KEY) as arrival:
        assert "hunter2" not in json.dumps(arrival.origin)
        rows: list[dict[str, Any]] = pa.Table.from_batches(arrival.batches, schema=arrival.schema).to_pylist()
        return rows


def test_a_connection_of_type_postgres_is_opened_by_its_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    url = make_url(postgres_url)
    host = url.host or url.query["host"]
    declare(
        monkeypatch,
        "warehouse",
        conn_type="postgres",
        host=host,
        login=url.username,
        password="hunter2",
        schema=url.database,
    )
    with closing(AirflowConnections().sql("warehouse")()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("DROP TABLE IF EXISTS toy")
        cursor.execute("CREATE TABLE toy AS SELECT 'a' AS id, TIMESTAMP '2013-01-02' AS at, 1.5::float8 AS y")
        connection.commit()
    arrived_rows = rows_of(opened(tmp_path, kind="sql", conn_id="warehouse", table="toy"))
    assert [(row["id"], row["y"]) for row in arrived_rows] == [("a", 1.5)]


def test_a_connection_of_type_sqlite_needs_no_provider_and_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(monkeypatch, "local", conn_type="sqlite", host=str(tmp_path / "rows.db"))
    source = opened(tmp_path, kind="sql", conn_id="local", table="toy")
    with pytest.raises(SourceUnreachableError, match="there is no connection"):
        rows_of(source)
    assert not (tmp_path / "rows.db").exists()
    with closing(sqlite3.connect(tmp_path / "rows.db")) as connection:
        connection.execute("CREATE TABLE toy (id TEXT, at TEXT, y REAL)")
        connection.execute("INSERT INTO toy VALUES ('a', '2013-01-02', 1.5)")
        connection.commit()
    assert rows_of(source) == [{"id": "a", "at": "2013-01-02", "y": 1.5}]


def test_a_connection_of_type_aws_reaches_s3_with_its_keys_region_and_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, object_store: S3FileSystem, object_store_url: str
) -> None:
    object_store.create_dir("rows")
    with object_store.open_output_stream("rows/in/2013-01-06.csv.gz", compression=None) as stream:
        stream.write(gzip.compress(b"id,at,y\na,2013-01-02,1.5\n"))
    extra = {"region_name": "us-east-1", "endpoint_url": object_store_url}
    declare(monkeypatch, "lake", conn_type="aws", login="keykey", password="hunter2", extra=extra)
    source = opened(tmp_path, kind="csv", uri="s3://rows/in/{partition}.csv.gz", conn_id="lake")
    assert rows_of(source) == [{"id": "a", "at": "2013-01-02", "y": "1.5"}]
    with source.open(KEY) as arrival:
        assert arrival.origin["files"][0]["path"] == "s3://rows/in/2013-01-06.csv.gz"


def test_an_object_store_that_does_not_answer_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9"}
    declare(monkeypatch, "lake", conn_type="aws", login="keykey", password="hunter2", extra=extra)
    with pytest.raises(SourceUnreachableError, match=r"s3://rows/2013-01-06\.parquet cannot be reached") as caught:
        rows_of(opened(tmp_path, kind="parquet", uri="s3://rows/{partition}.parquet", conn_id="lake"))
    assert caught.value.retryable
    assert "hunter2" not in str(caught.value)


def test_a_connection_of_type_http_gives_address_login_and_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = [{"id": "a", "at": "2013-01-02", "y": 1.50, "debug_id": 7}]
    with small_service(lambda *_: Answer(json.dumps(body).encode())) as at:
        extra = {"X-Key": "k1", "headers": {"X-Other": "k2"}, "trust_env": False, "timeout": 3}
        declare(
            monkeypatch,
            "api",
            conn_type="http",
            host="127.0.0.1",
            port=at.port,
            login="me",
            password="hunter2",
            extra=extra,
        )
        arrived_rows = rows_of(opened(tmp_path, kind="http", conn_id="api", path="rows/{partition}"))
        path, headers = at.requests[0]
    assert arrived_rows == [{"id": "a", "at": "2013-01-02", "y": "1.5", "note": None}]
    assert path == "/rows/2013-01-06"
    assert headers["authorization"].startswith("Basic ")
    assert (headers["x-key"], headers["x-other"]) == ("k1", "k2")
    assert "timeout" not in headers


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "h"}, "http://h"),
        ({"host": "h", "schema": "https", "port": 8443}, "https://h:8443"),
        ({"host": "https://h/v1"}, "https://h/v1"),
        ({"host": "https://h/v1", "port": 8443}, "https://h:8443/v1"),
    ],
)
def test_the_address_of_a_service_is_built_as_airflow_builds_it(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], url: str
) -> None:
    declare(monkeypatch, "api", conn_type="http", password="hunter2", **fields)
    address = AirflowConnections().http("api")
    assert address.url == url
    assert "hunter2" not in repr(address)


@pytest.mark.parametrize(
    ("source", "connection", "message"),
    [
        ({"kind": "sql", "table": "t"}, None, "Airflow has no connection 'c1'"),
        ({"kind": "sql", "table": "t"}, {"conn_type": "http", "host": "h"}, "of type 'http', "),
        ({"kind": "sql", "table": "t"}, {"conn_type": "nowhere"}, "install the Airflow provider for 'nowhere'"),
        ({"kind": "csv", "uri": "s3://b/{partition}"}, None, "Airflow has no connection 'c1'"),
        ({"kind": "csv", "uri": "s3://b/{partition}"}, {"conn_type": "fs"}, "s3:// needs one of type 'aws'"),
        ({"kind": "csv", "uri": "in/{partition}"}, {"conn_type": "aws"}, "goes with s3://, and the uri is 'in/"),
        ({"kind": "csv", "uri": "gs://b/{partition}"}, {"conn_type": "aws"}, "is neither a path nor s3://bucket/key"),
        ({"kind": "http", "path": "{partition}"}, {"conn_type": "aws"}, "an HTTP source needs type 'http' and a host"),
        ({"kind": "http", "path": "{partition}"}, {"conn_type": "http"}, "an HTTP source needs type 'http' and a host"),
    ],
)
def test_a_connection_that_cannot_serve_a_source_is_an_error_of_the_declaration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], connection: Any, message: str
) -> None:
    if connection is not None:
        declare(monkeypatch, "c1", **connection)
    with pytest.raises(DeclarationError) as caught:
        opened(tmp_path, conn_id="c1", **source)
    assert message in str(caught.value)


def test_a_missing_provider_says_which_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, "c1", conn_type="aws", login="keykey", password="hunter2")
    really = builtins.__import__

    def without_amazon(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("airflow.providers.amazon"):
            raise ImportError(name)
        return really(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_amazon)
    with pytest.raises(DeclarationError, match=r"install airflow-mlops\[amazon\]"):
        opened(tmp_path, kind="csv", uri="s3://b/{partition}", conn_id="c1")


def test_a_workspace_finds_the_connections_of_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    declare(monkeypatch, "local", conn_type="sqlite", host=str(tmp_path / "rows.db"))
    with closing(sqlite3.connect(tmp_path / "rows.db")) as connection:
        connection.execute("CREATE TABLE toy AS SELECT 'a' AS id, '2013-01-02' AS at, 1.5 AS y")
        connection.commit()
    loop = loop_of(tmp_path, kind="sql", conn_id="local", table="toy")
    workspace = WorkspaceHook().workspace(loop, root=tmp_path, actor="test")
    assert rows_of(workspace.source) == [{"id": "a", "at": "2013-01-02", "y": 1.5}]


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"host": "spark://spark.example", "port": 7077}, SparkAddress("spark://spark.example:7077")),
        ({"host": "spark.example", "port": 7077}, SparkAddress("spark://spark.example:7077")),
        ({"host": "local[2]"}, SparkAddress("local[2]")),
        (
            {"host": "yarn", "extra": {"queue": "night", "deploy-mode": "client", "wait": 5, "python": "/opt/python"}},
            SparkAddress("yarn", {"spark.yarn.queue": "night"}, "/opt/python", 5.0),
        ),
        (
            {"host": "k8s://https://cluster", "port": 6443, "extra": {"spark.ui.enabled": True, "namespace": "spark"}},
            SparkAddress("k8s://https://cluster:6443", {"spark.ui.enabled": "true"}),
        ),
    ],
)
def test_a_spark_cluster_is_addressed_as_airflow_has_it(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], address: SparkAddress
) -> None:
    declare(monkeypatch, "mlops_spark", conn_type="spark", **fields)
    assert AirflowConnections().spark() == address


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (None, "engine: Airflow has no connection 'mlops_spark'"),
        ({"conn_type": "http", "host": "spark.example"}, "engine: .* of type 'http' .* a master as host"),
        ({"conn_type": "spark"}, "engine: .* with host ''; .* a master as host"),
        ({"conn_type": "spark", "host": "yarn", "extra": {"deploy-mode": "cluster"}}, "the driver runs in the task"),
        ({"conn_type": "spark", "host": "yarn", "extra": {"wait": "soon"}}, "has wait 'soon'; it is a number"),
    ],
)
def test_a_connection_that_is_no_spark_cluster_is_refused(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any] | None, message: str
) -> None:
    if fields is not None:
        declare(monkeypatch, "mlops_spark", **fields)
    with pytest.raises(DeclarationError, match=message):
        AirflowConnections().spark()
