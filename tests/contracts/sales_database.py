"""A database of sales, and the workspaces of one declaration that differ in the engine alone."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from airflow_mlops.core.errors import DataError
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.ports.connections import NoConnections
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.judge_in_database import take_judged_snapshot
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace
from tests.unit.core.toy_loop import toy_fields, toy_loop, toy_rows, week

COLUMNS: dict[str, Any] = {
    "id": {"type": "text", "nullable": False},
    "at": {"type": "time", "zone": "none"},
    "x": {"type": "float"},
    "n": {"type": "int"},
    "kind": {"type": "text"},
    "y": {"type": "float"},
}
QUERY = "SELECT * FROM {table} WHERE at >= :start AND at < :end"


@dataclass(frozen=True)
class Warehouse(NoConnections):
    """The connections of a place with one database."""

    connect: Callable[[], Any]

    def sql(self, conn_id: str) -> Callable[[], Any]:
        """Return how to connect."""
        assert conn_id == "warehouse"
        return self.connect


@dataclass
class Sales:
    """A table of sales in a database of one kind."""

    connect: Callable[[], Any]
    is_sqlite: bool
    table: str = field(default_factory=lambda: f"t{uuid.uuid4().hex}")

    def run(self, statement: str, rows: list[tuple[Any, ...]] | None = None) -> None:
        """Run a statement, for each of some rows if there are any, and commit."""
        text = statement if self.is_sqlite else statement.replace("?", "%s")
        with closing(self.connect()) as connection, closing(connection.cursor()) as cursor:
            if rows is None:
                cursor.execute(text)
            else:
                cursor.executemany(text, rows)
            connection.commit()

    def create(self) -> None:
        """Create the empty table."""
        kinds = "id TEXT, at TIMESTAMP, x DOUBLE PRECISION, n BIGINT, kind TEXT, y DOUBLE PRECISION"
        self.run(f"CREATE TABLE {self.table} ({kinds})")

    def sell(self, number: int, **made: Any) -> None:
        """Put the rows of a week into the table."""
        frame = toy_rows(number, **made)
        frame.insert(3, "n", range(len(frame)))
        frame["at"] = [str(moment) for moment in frame["at"]]
        rows = list(frame[["id", "at", "x", "n", "kind", "y"]].itertuples(index=False, name=None))
        self.run(f"INSERT INTO {self.table} VALUES (?, ?, ?, ?, ?, ?)", rows)


def sqlite_sales(folder: Path) -> Sales:
    """Return sales in a file of SQLite."""
    return Sales(lambda: sqlite3.connect(folder / "sales.db"), is_sqlite=True)


def postgres_sales(address: str, driver: Any = psycopg) -> Sales:
    """Return sales in PostgreSQL, by the module of a driver."""
    url = make_url(address)
    host = url.host or url.query["host"]
    return Sales(lambda: driver.connect(host=host, user=url.username, dbname=url.database), is_sqlite=False)


@dataclass
class Engines:
    """The same declaration with each engine, on stores of its own, over one database."""

    root: Path
    sales: Sales
    suite: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=lambda: dict(COLUMNS))
    by_query: bool = False

    def workspace(self, engine: str, connect: Callable[[], Any] | None = None) -> Workspace:
        """Return a workspace of the loop with an engine, opened afresh as each task does."""
        key = self.data.get("key", "id")
        contract = {"contract": "toy", "key": key, "time": "at", "columns": self.columns}
        (self.root / "contract.yaml").write_text(json.dumps(contract))
        (self.root / "suite.yaml").write_text(json.dumps({"expectations": self.suite}))
        place = {"query": QUERY.format(table=self.sales.table)} if self.by_query else {"table": self.sales.table}
        data = {
            **toy_fields()["data"],
            "contract": "contract.yaml",
            "expectations": "suite.yaml",
            "tolerance": 0.05,
            "source": {"kind": "sql", "conn_id": "warehouse", **place},
            **self.data,
        }
        stores = replace(
            Stores.embedded(self.root / engine), connections=Warehouse(connect or self.sales.connect), secret="s" * 40
        )
        return open_workspace(toy_loop(data=data, engine=engine), stores, root=self.root, actor="tests")


def ingest(workspace: Workspace, number: int) -> str:
    """Take, validate and publish a week as the tasks do, by plain values; return why it is refused, or nothing."""
    key = week(number)
    try:
        manifest = take_judged_snapshot(workspace, key)
        manifest = type(manifest).from_dict(json.loads(json.dumps(manifest.to_dict())))
        publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, GxValidator()))
    except DataError as error:
        return str(error)
    return ""


@contextmanager
def traced(sales: Sales) -> Iterator[tuple[Callable[[], Any], list[str]]]:
    """Yield a function that connects to SQLite, and the list of the statements that run on its connections."""
    statements: list[str] = []

    def connect() -> Any:
        connection = sales.connect()
        connection.set_trace_callback(statements.append)
        return connection

    yield connect, statements
