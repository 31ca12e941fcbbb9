"""Whole loops on what people have: rows out of PostgreSQL, and files, lake and models' files in S3."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSelector, S3FileSystem

from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.lake import Lake
from airflow_mlops.core.open_workspace import Stores
from airflow_mlops.testing.child_processes import start_child, stop_sessions, wait_until_ready
from airflow_mlops.testing.embedded_postgres import EmbeddedPostgres
from airflow_mlops.testing.free_ports import free_port
from tests.loop.invariants import assert_invariants
from tests.loop.project import KEYS, Project, embedded_stores, make_project, states, week

if TYPE_CHECKING:
    from tests.loop.conftest import SchedulerFactory

CONTRACT = """
contract: warehouse
key: id
time: at
columns:
  id: {type: text, nullable: false}
  at: {type: time, zone: UTC}
  x1: {type: float}
  x2: {type: float}
  place: {type: text}
  y: {type: float}
"""
SUITE = """
expectations:
  - {type: expect_column_values_to_be_between, kwargs: {column: x1, min_value: -50, max_value: 50}}
"""


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    """A PostgreSQL with an empty table of sales, which Airflow knows as ``warehouse``."""
    server = EmbeddedPostgres(tmp_path / "pg", ["sales"])
    server.start()
    uri = server.uri("sales", "psycopg").replace("postgresql+psycopg", "postgresql")
    # A place in the file system is no host of a URI, so the connection is written as JSON.
    with psycopg.connect(uri, autocommit=True) as connection:
        info = connection.info
        monkeypatch.setenv(
            "AIRFLOW_CONN_WAREHOUSE",
            json.dumps(
                {
                    "conn_type": "postgres",
                    "host": info.host,
                    "port": info.port,
                    "login": info.user,
                    "password": info.password,
                    "schema": info.dbname,
                }
            ),
        )
        connection.execute(
            'create schema shop; create table shop.sales (id text, "at" timestamptz, x1 double precision,'
            " x2 double precision, place text, y double precision)"
        )
        yield connection
    server.stop()


def sell(connection: psycopg.Connection[Any], key: str, *, spoilt: int = 0) -> None:
    """Put the rows of a week into the table; the first few have an ``x1`` that the suite forbids."""
    rows = week(key, rows=400).to_pylist()
    with connection.cursor() as cursor:
        for number, row in enumerate(rows):
            moment = row["at"].isoformat() + "+00:00"
            x1 = 1e6 if number < spoilt else row["x1"]
            cursor.execute(
                "insert into shop.sales values (%s, %s, %s, %s, %s, %s)",
                (row["id"], moment, x1, row["x2"], row["place"], row["y"]),
            )


@pytest.mark.parametrize("engine", ["local", "sql"])
def test_a_loop_over_postgresql_goes_from_rows_to_served_predictions(
    tmp_path: Path, start_scheduler: SchedulerFactory, warehouse: psycopg.Connection[Any], engine: str
) -> None:
    project = make_project(tmp_path, engine=engine)
    data = project.fields["data"] | {
        "source": {"kind": "sql", "conn_id": "warehouse", "table": "shop.sales"},
        "contract": "include/contract.yaml",
        "expectations": "include/suite.yaml",
    }
    rewrite(project, data)
    scheduler = start_scheduler(project.dags)

    # Nothing is there for the week yet: no failure, and nothing follows.
    project.ingest(scheduler, KEYS[0])
    assert states(scheduler, project.dag("ingest"))["snapshot"] == "skipped"

    # Two bad rows of 400 are under the tolerance: the week goes on without them.
    for key in KEYS[:3]:
        sell(warehouse, key, spoilt=2 if key == KEYS[1] else 0)
        project.ingest(scheduler, key)
    project.at_night(scheduler, KEYS[1])
    champion = project.workspace.state().champion
    assert champion is not None, scheduler.failures()
    project.ingest(scheduler, KEYS[2])
    sell(warehouse, KEYS[3])
    project.ingest(scheduler, KEYS[3])

    published = {record.partition: record.details for record in project.of_kind("snapshot_published")}
    assert [(published[key].rows, published[key].quarantined) for key in KEYS[:4]] == [
        (400, 0),
        (398, 2),
        (400, 0),
        (400, 0),
    ]
    assert "hunter2" not in json.dumps([record.stored for record in project.records])
    assert project.details_of("predictions_published", KEYS[3]).rows == 400
    assert_invariants(project.workspace)

    # Rows that arrived late are taken by ingesting again, and the model made without them is named.
    before = len(project.of_kind("snapshot_published"))
    late = week(KEYS[0], rows=1).to_pylist()[0]
    warehouse.execute(
        "insert into shop.sales values ('late', %s, %s, %s, 'a', %s)",
        (late["at"].isoformat() + "+00:00", late["x1"], late["x2"], late["y"]),
    )
    project.ingest(scheduler, KEYS[0])
    again = project.of_kind("snapshot_published")[before:]
    assert [(record.partition, record.details.rows, record.details.outdated) for record in again] == [
        (KEYS[0], 401, (champion.number,))
    ]
    assert_invariants(project.workspace)

    # A week with too many bad rows is refused with the same words, by the database before a row of it is fetched.
    sell(warehouse, KEYS[4], spoilt=40)
    project.ingest(scheduler, KEYS[4])
    refused = project.details_of("partition_refused", KEYS[4])
    assert (refused.stage, refused.reason.partition("; all of")[0]) == (
        "validation",
        "40 of 400 rows are bad (10.00%); the declared tolerance is 1.00%; most often x1: "
        "expect_column_values_to_be_between (40 rows)",
    )
    assert (KEYS[4] in project.workspace.snapshots.partitions()) == (engine == "local")
    assert states(scheduler, project.dag("ingest"), KEYS[4])["snapshot" if engine == "sql" else "validate"] == "failed"
    assert_invariants(project.workspace)


@pytest.fixture
def object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3FileSystem]:
    """An S3 with an empty bucket, which Airflow knows as ``store``, with the lake in it."""
    port = free_port()
    # A process of its own: delta-rs holds the interpreter's lock while it waits for an answer.
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    child = start_child("s3", command, dict(os.environ), tmp_path / "s3.log")
    endpoint = f"http://127.0.0.1:{port}"
    wait_until_ready(child, lambda: answers(endpoint), timeout_seconds=60)
    connection = {
        "conn_type": "aws",
        "login": "key",
        "password": "hunter2",
        "extra": {"region_name": "us-east-1", "endpoint_url": endpoint, "path": "s3://company/lake"},
    }
    for name in ("STORE", "MLOPS_LAKE"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
    files = S3FileSystem(
        access_key="key",
        secret_key="hunter2",
        region="us-east-1",
        endpoint_override=endpoint,
        allow_bucket_creation=True,
    )
    files.create_dir("company")
    yield files
    stop_sessions([child.pid], patience_seconds=2)
    child.process.wait()


def answers(address: str) -> bool:
    """Return whether a server answers at an address."""
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except urllib.error.URLError:
        return False


def stores_in(files: S3FileSystem, endpoint: str) -> Stores:
    """Return the stores of the session with their lake in S3."""
    access = {"key": "key", "secret": "hunter2", "region": "us-east-1", "endpoint": endpoint}
    return Stores(**{**vars(embedded_stores()), "lake": Lake("s3://company/lake", access)})


def test_a_loop_in_s3_goes_from_files_to_served_predictions(
    tmp_path: Path, start_scheduler: SchedulerFactory, object_store: S3FileSystem
) -> None:
    endpoint = json.loads(os.environ["AIRFLOW_CONN_STORE"])["extra"]["endpoint_url"]
    project = make_project(tmp_path)
    project.stores = stores_in(object_store, endpoint)
    source = {"kind": "parquet", "uri": "s3://company/in/{partition}/*.parquet", "conn_id": "store"}
    rewrite(project, project.fields["data"] | {"source": source})
    scheduler = start_scheduler(project.dags)
    for key in KEYS[:2]:
        put(object_store, key)
        project.ingest(scheduler, key)
    project.at_night(scheduler, KEYS[1])
    assert project.workspace.state().champion is not None, scheduler.failures()
    put(object_store, KEYS[2])
    project.ingest(scheduler, KEYS[2])
    assert project.details_of("predictions_published", KEYS[2]).rows == 120
    assert_invariants(project.workspace)

    # Everything of the loop lies in the bucket, and a second ingest of the same files writes nothing.
    folder = f"company/lake/{project.model}"
    kept = listing(object_store, folder)
    assert {path.removeprefix(f"{folder}/").split("/")[0] for path in kept} >= {
        "snapshots",
        "predictions",
        "evidence",
        "shared",
    }
    for key in KEYS[:3]:
        project.ingest(scheduler, key)
    assert listing(object_store, folder) == kept
    assert "hunter2" not in json.dumps([record.stored for record in project.records])


def put(files: S3FileSystem, key: str) -> None:
    """Put the two files of a week into the bucket."""
    rows = week(key)
    for number, part in enumerate((rows.slice(0, 50), rows.slice(50))):
        pq.write_table(part, f"company/in/{partition_slug(key)}/{number}.parquet", filesystem=files)


def listing(files: S3FileSystem, folder: str) -> dict[str, int]:
    """Return the size of every object below a folder."""
    return {info.path: info.size for info in files.get_file_info(FileSelector(folder, recursive=True)) if info.is_file}


def rewrite(project: Project, data: dict[str, Any]) -> None:
    """Declare other data."""
    project.fields["data"] = data
    (project.root / "include" / "contract.yaml").write_text(CONTRACT)
    (project.root / "include" / "suite.yaml").write_text(SUITE)
    (project.root / "include" / "loops" / f"{project.model}.yaml").write_text(json.dumps(project.fields))
