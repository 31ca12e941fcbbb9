"""Rows of a real database on their way into the ledger: rows without a time are told, times kept as text are read."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from sqlalchemy import make_url

from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.ports.connections import NoConnections
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import ingest, toy_fields, toy_loop

KEY = "2013-01-06T00:00:00"
COLUMNS: dict[str, Any] = {
    "id": {"type": "text"},
    "at": {"type": "time", "zone": "none"},
    "day": {"type": "date"},
    "y": {"type": "float"},
}


class Warehouse(NoConnections):
    """The connections of a place with one database."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self.connect = connect

    def sql(self, conn_id: str) -> Callable[[], Any]:
        assert conn_id == "warehouse"
        return self.connect


def opened(folder: Path, connect: Callable[[], Any], source: dict[str, Any], columns: dict[str, Any]) -> Workspace:
    """Return a loop over a database, on stores on disk."""
    document = {"contract": "toy", "key": "id", "time": "at", "columns": columns}
    (folder / "contract.yaml").write_text(json.dumps(document))
    data = {
        **toy_fields()["data"],
        "contract": "contract.yaml",
        "tolerance": 0.4,
        "source": {"kind": "sql", "conn_id": "warehouse", **source},
    }
    stores = Stores(**{**vars(Stores.embedded(folder / "home")), "connections": Warehouse(connect)})
    return open_workspace(toy_loop(data=data), stores, root=folder, actor="tests")


def test_rows_without_a_time_are_a_warning_of_the_publication(tmp_path: Path, postgres_url: str) -> None:
    url, name = make_url(postgres_url), f"t{uuid.uuid4().hex}"

    def connect() -> Any:
        return psycopg.connect(host=url.host or url.query["host"], user=url.username, dbname=url.database)

    with closing(connect()) as connection:
        connection.execute(f"CREATE TABLE public.{name} (id text, at timestamp, day date, y float8)")
        connection.execute(f"INSERT INTO {name} VALUES ('a', '2013-01-02', NULL, 1), ('b', NULL, NULL, 2)")
        connection.commit()
    published = ingest(opened(tmp_path, connect, {"table": f"public.{name}"}, COLUMNS), KEY)
    assert published.warnings == (f"1 row of public.{name} has no time and belongs to no partition",)
    assert (published.rows, published.origin["without_time"]) == (1, 1)


@pytest.fixture
def sqlite(tmp_path: Path) -> Callable[[], Any]:
    """Return a function that connects to a database with one good row and one without a valid date."""
    with closing(sqlite3.connect(tmp_path / "rows.db")) as connection:
        connection.execute("CREATE TABLE sales (id TEXT, at TIMESTAMP, day DATE, y REAL)")
        rows = [("a", "2013-01-02 03:04:05", "2013-01-02", 1.0), ("b", "2013-01-02T03:04:05.5", None, 2.0)]
        bad = ("c", "2013-01-03 00:00:00", "03.01.2013", 3.0)
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", [*rows, bad])
        connection.commit()
    return lambda: sqlite3.connect(tmp_path / "rows.db")


@pytest.mark.parametrize(
    "source",
    [{"table": "sales"}, {"query": "SELECT * FROM sales WHERE at >= :start AND at < :end"}],
    ids=["table", "query"],
)
def test_dates_and_times_of_sqlite_are_read_by_the_contract_and_bad_ones_set_aside(
    tmp_path: Path, sqlite: Callable[[], Any], source: dict[str, Any]
) -> None:
    workspace = opened(tmp_path, sqlite, source, COLUMNS)
    published = ingest(workspace, KEY)
    assert (published.rows, published.quarantined, published.warnings) == (2, 1, ())
    kept = workspace.snapshots.read(KEY, version=published.version)
    assert kept.schema.field("at").type == pa.timestamp("us")
    assert kept.schema.field("day").type == pa.date32()
    assert [str(row["at"]) for row in kept.to_pylist()] == ["2013-01-02 03:04:05", "2013-01-02 03:04:05.500000"]
    (held,) = workspace.quarantine.read(KEY).to_pylist()
    assert json.loads(held["reasons"]) == ["day: '03.01.2013' is no date"]


def test_numbers_that_sqlite_keeps_as_text_are_still_another_type(tmp_path: Path, sqlite: Callable[[], Any]) -> None:
    with closing(sqlite()) as connection:
        connection.execute("CREATE TABLE texts AS SELECT id, at, day, cast(y AS TEXT) AS y FROM sales")
        connection.commit()
    with pytest.raises(PartitionRefusedError, match="column 'y' has the type string; the contract says float"):
        ingest(opened(tmp_path, sqlite, {"table": "texts"}, COLUMNS), KEY)
