"""Executors read from S3 and write into a lake in S3, at a cluster that a connection of Airflow names."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import S3FileSystem

from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.hooks.connections import AirflowConnections
from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.free_ports import free_port
from tests.same_records import facts, rows_of
from tests.spark.engines import LOCAL
from tests.spark.test_ingest_on_spark import CONTRACT, KEYS, as_csv, fields_of, ingest, parts_of

ACCESS = {"key": "x", "secret": "y", "region": "us-east-1"}


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty object store, in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    child = start_child("moto", command, dict(os.environ), tmp_path / "moto.log")
    try:
        wait_until_ready(child, lambda: "Running on" in child.log.read_text(), timeout_seconds=120)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop_sessions([child.pid], patience_seconds=2)
        child.process.wait()


@pytest.fixture
def store(endpoint: str) -> S3FileSystem:
    files = S3FileSystem(
        access_key="x",
        secret_key="y",
        region="us-east-1",
        endpoint_override=endpoint,
        allow_bucket_creation=True,
    )
    for bucket in ("deliveries", "lakes"):
        files.create_dir(bucket)
    return files


def declare(monkeypatch: pytest.MonkeyPatch, conn_id: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def test_rows_go_from_s3_to_s3_by_the_connections_of_airflow(
    endpoint: str, store: S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = {"endpoint_url": endpoint, "region_name": ACCESS["region"]}
    declare(monkeypatch, "shop", conn_type="aws", login=ACCESS["key"], password=ACCESS["secret"], extra=access)
    declare(monkeypatch, "mlops_spark", conn_type="spark", host=LOCAL.master, extra=dict(LOCAL.settings))
    (tmp_path / "contract.yaml").write_text(json.dumps(CONTRACT))
    for key in KEYS[:2]:
        for place, rows in enumerate(parts_of(key)):
            with store.open_output_stream(f"deliveries/{key[:10]}/{place}.csv") as stream:
                stream.write(as_csv(rows, f"broken {place}"))
    fields = fields_of({"kind": "csv", "uri": "s3://deliveries/{partition}/*.csv", "conn_id": "shop"})

    def open_at(engine: str) -> Workspace:
        lake = Lake(f"s3://lakes/{engine}", {**ACCESS, "endpoint": endpoint})
        embedded = Stores.embedded(tmp_path / engine)
        stores = replace(embedded, lake=lake, connections=AirflowConnections(), secret="s" * 40)
        return open_workspace(Loop(**fields, engine=engine), stores, root=tmp_path, actor="tests")

    local, spark = open_at("local"), open_at("spark")
    for key in KEYS[:2]:
        assert ingest(spark, key) == ingest(local, key)
    assert facts(spark) == facts(local)
    for table in ("snapshots", "quarantine"):
        assert rows_of(spark, table) == rows_of(local, table)
