"""A small loop on real stores, whose next delivery a case spoils: files on disk or rows in PostgreSQL.

Three good weeks are in the ledger when a case begins, so that there is a history to hold the fourth against.
The rows are made by numpy from a seed for each week; the label is ``2 x + noise``.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from airflow_mlops.core.declaration.partition_key import partition_slug
from airflow_mlops.core.declaration.read_loop import read_loop
from airflow_mlops.core.ledger.data_details import SnapshotPublished
from airflow_mlops.core.ledger.record import Record
from airflow_mlops.core.open_workspace import Stores, open_workspace
from airflow_mlops.core.ports.connections import NoConnections
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.judge_in_database import take_judged_snapshot
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace

SourceKind = Literal["parquet", "orc", "csv", "sql"]
Connect = Callable[[], Any]
Writer = Callable[[list[list[str]]], bytes]

KEYS = [f"{date(2013, 1, 6) + timedelta(weeks=number)}T00:00:00" for number in range(6)]
HISTORY, BAD, NEXT = KEYS[:3], KEYS[3], KEYS[4]
ROWS = 200
TYPES = {
    "id": "text",
    "at": "timestamptz",
    "x": "double precision",
    "n": "bigint",
    "kind": "text",
    "paid": "boolean",
    "day": "date",
    "price": "numeric(9, 2)",
    "y": "double precision",
}
CONTRACT: dict[str, Any] = {
    "contract": "orders",
    "key": "id",
    "time": "at",
    "deny": ["*passport*"],
    "ignore": ["_*"],
    "columns": {
        "id": {"type": "text", "nullable": False},
        "at": {"type": "time", "nullable": False},
        "x": {"type": "float"},
        "n": {"type": "int"},
        "kind": {"type": "text"},
        "paid": {"type": "bool"},
        "day": {"type": "date"},
        "price": {"type": "decimal(9, 2)"},
        "y": {"type": "float"},
    },
}
SUITE: dict[str, Any] = {
    "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "min_value": -1000, "max_value": 1000}}
    ]
}


def good_rows(key: str, rows: int = ROWS) -> pa.Table:
    """Return the rows of a week, shape (rows, 9), as they ought to arrive."""
    end = datetime.fromisoformat(key).replace(tzinfo=UTC)
    source = np.random.default_rng(end.toordinal())
    x = source.normal(size=rows)
    # Evenly over the six days before the tick, so that every row lies in the partition.
    times = [end - timedelta(days=6) + timedelta(days=6) * (row / rows) for row in range(rows)]
    return pa.table(
        {
            "id": [f"{partition_slug(key)}-{row}" for row in range(rows)],
            "at": pa.array(times, pa.timestamp("us", tz="UTC")),
            "x": x,
            "n": pa.array(source.integers(0, 50, rows), pa.int64()),
            "kind": source.choice(["a", "b", "c"], rows),
            "paid": pa.array(source.random(rows) < 0.5),
            "day": pa.array([time.date() for time in times], pa.date32()),
            "price": pa.array(
                [Decimal(int(cents)) / 100 for cents in source.integers(1, 99_999, rows)], pa.decimal128(9, 2)
            ),
            "y": 2 * x + source.normal(size=rows),
        }
    )


def as_text(rows: pa.Table) -> list[list[str]]:
    """Return the rows as the cells of a CSV file, the header first."""
    columns = [[_cell(value) for value in column.to_pylist()] for column in rows.columns]
    return [rows.column_names, *map(list, zip(*columns, strict=True))]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_csv(cells: list[list[str]]) -> bytes:
    """Return cells as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(cells)  # or it would leave \r in a cell unquoted
    return text.getvalue().encode()


@dataclass(frozen=True)
class Warehouse(NoConnections):
    """The connections of a place with one database."""

    connect: Connect

    def sql(self, conn_id: str) -> Connect:
        """Return a function that opens a connection."""
        assert conn_id == "warehouse"
        return self.connect


@dataclass
class World:
    """One loop and its folder. ``contract`` and ``data`` may be changed between deliveries.

    ``data`` are keys of the declaration's ``data`` that differ from the usual ones, ``texts`` what files of
    declarations say instead of the usual, by their names, ``writer`` writes cells as the text of a CSV file.
    """

    folder: Path
    source: SourceKind = "parquet"
    contract: dict[str, Any] | None = field(default_factory=lambda: CONTRACT)
    data: dict[str, Any] = field(default_factory=dict)
    suite: dict[str, Any] = field(default_factory=lambda: SUITE)
    connect: Connect | None = None
    table: str = "orders"
    texts: dict[str, bytes] = field(default_factory=dict)
    writer: Writer = as_csv

    @property
    def fields(self) -> dict[str, Any]:
        """The declaration."""
        source: dict[str, Any] = {"kind": self.source}
        if self.source == "sql":
            source |= {"conn_id": "warehouse", "table": self.table}
        else:
            source |= {"uri": f"in/{{partition}}.{self.source}"}
        data = {
            "source": source,
            "key": "id",
            "time": "at",
            "label": "y",
            "expectations": "suite.yaml",
            "checks": {"at_least": len(HISTORY)},
            **self.data,
        }
        if self.contract is not None:
            data["contract"] = "contract.yaml"
        return {
            "model": "orders",
            "owner": "tests",
            "data": data,
            "train": {"function": "nobody:candidates", "window": 2},
            "gates": [{"metric": "mae", "at_most": 5}],
        }

    @property
    def workspace(self) -> Workspace:
        """The loop's workspace, opened afresh as each task of a Dag does."""
        defaults = {"loop.yaml": self.fields, "contract.yaml": self.contract, "suite.yaml": self.suite}
        for name, content in defaults.items():
            (self.folder / name).write_bytes(self.texts.get(name, json.dumps(content).encode()))
        loop = read_loop(self.folder / "loop.yaml")
        stores = Stores.embedded(self.folder / "home")
        if self.connect is not None:
            stores = Stores(**{**vars(stores), "connections": Warehouse(self.connect)})
        return open_workspace(loop, stores, root=self.folder, actor="tests")

    @cached_property
    def reader(self) -> Workspace:
        """A workspace for what the test itself looks at, whatever is wrong with the declaration."""
        return replace(self, data={}, texts={}).workspace

    def file(self, key: str) -> Path:
        """Return the path of the delivery of a week."""
        path = self.folder / "in" / f"{partition_slug(key)}.{self.source}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def put(self, key: str, rows: pa.Table | None = None) -> None:
        """Deliver a week, the good one if no rows are given."""
        rows = good_rows(key) if rows is None else rows
        if self.source == "parquet":
            pq.write_table(rows, self.file(key))
        elif self.source == "orc":
            orc.write_table(rows, self.file(key), compression="zstd")
        elif self.source == "csv":
            self.file(key).write_bytes(self.writer(as_text(rows)))
        else:
            self.insert(rows)

    def create(self, **types: str) -> None:
        """Create the table of the warehouse, with other types than usual where they are given."""
        columns = ", ".join(f"{name} {kind}" for name, kind in {**TYPES, **types}.items())
        self.run(f"CREATE TABLE {self.table} ({columns})")

    def insert(self, rows: pa.Table) -> None:
        """Insert rows into the table of the warehouse."""
        marks = ", ".join(["%s"] * rows.num_columns)
        values = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
        assert self.connect is not None
        with closing(self.connect()) as connection:
            connection.cursor().executemany(
                f"INSERT INTO {self.table} ({', '.join(rows.column_names)}) VALUES ({marks})",
                values,
            )
            connection.commit()

    def run(self, statement: str) -> None:
        """Run one statement in the warehouse."""
        assert self.connect is not None
        with closing(self.connect()) as connection:
            connection.cursor().execute(statement)
            connection.commit()

    def ingest(self, key: str) -> SnapshotPublished:
        """Take, validate and publish a week; return what its record says."""
        workspace = self.workspace
        manifest = take_judged_snapshot(workspace, key)
        return publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, GxValidator())).details

    def records(self, kind: str, key: str) -> list[Record]:
        """Return the records of a kind about a week."""
        return [
            record for record in list(self.reader.ledger.records()) if record.kind == kind and record.partition == key
        ]

    def quarantined(self, key: str) -> list[dict[str, Any]]:
        """Return the rows of a week in quarantine."""
        if key not in self.reader.quarantine.partitions():
            return []
        rows: list[dict[str, Any]] = self.reader.quarantine.read(key).to_pylist()
        return rows

    def seed(self) -> Iterator[str]:
        """Ingest the good weeks of the history, one after another."""
        for key in HISTORY:
            self.put(key)
            self.ingest(key)
            yield key

    def copy_stores(self, other: World) -> World:
        """Take over the stores of another world, as they are now."""
        shutil.copytree(other.folder / "home", self.folder / "home")
        return self
