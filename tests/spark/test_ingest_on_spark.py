"""Ingest on executors: the digests, profiles, quarantined rows and records of one process, bit for bit."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyarrow import orc
from pyiceberg.catalog import load_catalog

from airflow_mlops.core.data.forget_subject import forget_subject
from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceUnreadableError
from airflow_mlops.core.validation.publish_snapshot import publish_snapshot
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace
from airflow_mlops.testing.in_memory import AcceptingValidator
from tests.same_records import facts, rows_of
from tests.spark.deleted_positions import delete_positions
from tests.spark.engines import catalogue_of, open_engine, open_engines
from tests.spark.whole_loop import compare_loops

KEYS = ["2013-01-06T00:00:00", "2013-01-13T00:00:00", "2013-01-20T00:00:00"]
FILES = 3
ROWS = 2_000
CONTRACT: dict[str, Any] = {
    "contract": "orders",
    "key": "id",
    "time": "at",
    "subject": "who",
    "columns": {
        "id": {"type": "text", "nullable": False},
        "at": {"type": "time", "nullable": False},
        "who": {"type": "text", "privacy": "personal", "mask": True},
        "x": {"type": "float"},
        "n": {"type": "int"},
        "kind": {"type": "category", "levels": ["a", "b", "c"], "unseen": "error"},
        "y": {"type": "float"},
    },
}


def rows_of_week(key: str) -> pa.Table:
    """Return the rows of a week: some are bad, some late, and some keys stand there more than once."""
    week = KEYS.index(key)
    source = np.random.default_rng(week)
    end = datetime.fromisoformat(f"{key}+00:00")
    # Of magnitudes for which the sum of floats depends on the order in which they are added.
    x = source.normal(size=ROWS) * 10.0 ** source.integers(-9, 9, ROWS)
    rows = pa.table(
        {
            "id": [f"{week}-{row}" for row in range(ROWS)],
            "at": pa.array([end - timedelta(hours=1 + row % 100) for row in range(ROWS)], pa.timestamp("us", tz="UTC")),
            "who": [f"person {row % 50}" for row in range(ROWS)],
            "x": pa.array(x, mask=source.random(ROWS) < 0.05),
            "n": source.integers(-5, 5, ROWS),
            "kind": ["z" if row % 500 == 499 else "abc"[row % 3] for row in range(ROWS)],
            "y": np.where(source.random(ROWS) < 0.002, np.nan, source.normal(size=ROWS)),
        }
    )
    if week != 1:
        return rows
    copies = rows.slice(0, 5)  # of the first file, at the end of the last: the later row is the copy
    others = rows.slice(5, 5).set_column(4, "n", pa.array([7] * 5))
    late = rows.slice(20, 3).set_column(0, "id", pa.array(["late 1", "late 2", "late 3"]))
    late = late.set_column(1, "at", pa.array([end - timedelta(days=9)] * 3, pa.timestamp("us", tz="UTC")))
    return pa.concat_tables([rows, copies, others, late])


def parts_of(key: str) -> list[pa.Table]:
    rows = rows_of_week(key)
    size = -(-rows.num_rows // FILES)
    return [rows.slice(place * size, size) for place in range(FILES)]


def as_csv(rows: pa.Table, broken: str) -> bytes:
    text = io.StringIO()
    cells = [["" if value is None else str(value) for value in column.to_pylist()] for column in rows.columns]
    csv.writer(text).writerows([rows.column_names, *zip(*cells, strict=True)])
    return f"{text.getvalue()}{broken},one cell too few\n".encode()


def as_json(rows: pa.Table, broken: str) -> bytes:
    lines = [json.dumps({**row, "at": str(row["at"])}) for row in rows.to_pylist()]
    return "\n".join([*lines, f'{{"id": "{broken}", "x": [1, 2]}}', "{no json"]).encode()


def put_files(suffix: str, content: Callable[[pa.Table, str], bytes]) -> Callable[[Path], None]:
    """Return a function that delivers every week as a folder of files."""

    def put(root: Path) -> None:
        for key in KEYS:
            folder = root / "in" / key[:10]
            folder.mkdir(parents=True)
            for place, rows in enumerate(parts_of(key)):
                (folder / f"{place}.{suffix}").write_bytes(content(rows, f"broken {place}"))

    return put


def as_parquet(rows: pa.Table, _broken: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, row_group_size=300)
    return sink.getvalue().to_pybytes()


def put_table(root: Path) -> None:
    """Deliver all weeks as files without a placeholder, each with rows of every week."""
    (root / "in").mkdir()
    for place in range(FILES):
        pq.write_table(pa.concat_tables([parts_of(key)[place] for key in KEYS]), root / "in" / f"{place}.parquet")


def put_delta(root: Path) -> None:
    """Deliver all weeks as a Delta table of several files."""
    for place in range(FILES):
        write_deltalake(root / "in", pa.concat_tables([parts_of(key)[place] for key in KEYS]), mode="append")


def as_orc(rows: pa.Table, _broken: str) -> bytes:
    sink = pa.BufferOutputStream()
    orc.write_table(rows, sink, stripe_size=16_384)
    return sink.getvalue().to_pybytes()


def put_orc_table(root: Path) -> None:
    """Deliver all weeks as files of ORC without a placeholder, each with rows of every week."""
    (root / "in").mkdir()
    for place in range(FILES):
        rows = pa.concat_tables([parts_of(key)[place] for key in KEYS])
        (root / "in" / f"{place}.orc").write_bytes(as_orc(rows, ""))


def put_iceberg(root: Path) -> None:
    """Deliver all weeks as a table of Iceberg of several files, each with a file of deletes."""
    catalog = load_catalog("lake", **catalogue_of(root))
    catalog.create_namespace("shop")
    for place in range(FILES):
        rows = pa.concat_tables([parts_of(key)[place] for key in KEYS])
        table = catalog.create_table_if_not_exists("shop.orders", schema=rows.schema)
        table.append(rows)
    # This file holds no row of the weeks that are ingested, so no executor gets it.
    table.append(
        rows_of_week(KEYS[2]).slice(0, 10).set_column(0, "id", pa.array([f"later {row}" for row in range(10)]))
    )
    delete_positions(table, [0, 700])


@dataclass(frozen=True)
class Kind:
    """A kind of source that is split, what fills it, and the rows that are late: none where time cuts a table."""

    source: dict[str, Any]
    put: Callable[[Path], None]
    late: int = 3


KINDS = {
    "parquet": Kind({"kind": "parquet", "uri": "in/{partition}/"}, put_files("parquet", as_parquet)),
    "parquet cut by time": Kind({"kind": "parquet", "uri": "in/*.parquet"}, put_table, late=0),
    "csv": Kind({"kind": "csv", "uri": "in/{partition}/*.csv"}, put_files("csv", as_csv)),
    "csv.gz": Kind(
        {"kind": "csv", "uri": "in/{partition}/*.csv.gz"},
        put_files("csv.gz", lambda rows, broken: gzip.compress(as_csv(rows, broken))),
    ),
    "json": Kind({"kind": "json", "uri": "in/{partition}/*.jsonl"}, put_files("jsonl", as_json)),
    "delta": Kind({"kind": "delta", "uri": "in"}, put_delta, late=0),
    "orc": Kind({"kind": "orc", "uri": "in/{partition}/"}, put_files("orc", as_orc)),
    "orc cut by time": Kind({"kind": "orc", "uri": "in/*.orc"}, put_orc_table, late=0),
    "iceberg": Kind({"kind": "iceberg", "conn_id": "lake", "table": "shop.orders"}, put_iceberg, late=0),
}


def fields_of(source: dict[str, Any], **data: Any) -> dict[str, Any]:
    return {
        "model": "orders",
        "owner": "tests",
        "data": {
            "source": source,
            "contract": "contract.yaml",
            "key": "id",
            "time": "at",
            "label": "y",
            "tolerance": 0.5,
            **data,
        },
        "train": {"function": "nobody:candidates", "window": 2},
        "gates": [{"metric": "mae", "at_most": 5}],
    }


def ingest(workspace: Workspace, key: str) -> dict[str, Any]:
    """Take, accept and publish a partition; return its manifest."""
    manifest = take_snapshot(workspace, key)
    if not manifest.adopted:
        publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, AcceptingValidator()))
    return manifest.to_dict()


def assert_equal(local: Workspace, spark: Workspace) -> None:
    """Assert that both ledgers hold the same records, and both lakes the same rows in the same order."""
    assert facts(spark) == facts(local)
    for table in ("snapshots", "quarantine"):
        assert rows_of(spark, table) == rows_of(local, table)


def compare_engines(kind: Kind, root: Path) -> None:
    """Ingest two weeks with both engines, and assert that all of it is equal."""
    kind.put(root)
    (root / "contract.yaml").write_text(json.dumps(CONTRACT))
    local, spark = open_engines(fields_of(kind.source), root)
    for key in KEYS[:2]:  # the first makes the bins of the profile, the second is counted on them
        manifest = ingest(local, key)
        assert ingest(spark, key) == manifest
        assert manifest["rejected"] > 4
    assert manifest["late"] == kind.late
    assert_equal(local, spark)
    assert len(list((spark.scratch / "snapshots").glob("partition=2013-01-13/*.parquet"))) == FILES


def compare_after_an_erasure(root: Path) -> None:
    """Forget a subject, ingest a week with its rows by both engines, and adopt it when it comes again."""
    KINDS["csv"].put(root)
    (root / "contract.yaml").write_text(json.dumps(CONTRACT))
    local, spark = open_engines(fields_of(KINDS["csv"].source), root)
    for workspace in (local, spark):
        ingest(workspace, KEYS[0])
        forget_subject(workspace, "person 7")
    manifest = ingest(local, KEYS[2])
    assert manifest["erased"] > 0
    assert ingest(spark, KEYS[2]) == manifest
    assert ingest(spark, KEYS[2])["adopted"]
    assert_equal(local, spark)


@pytest.mark.parametrize("name", KINDS)
def test_the_records_and_rows_are_those_of_one_process(name: str, tmp_path: Path) -> None:
    compare_engines(KINDS[name], tmp_path)


def test_rows_of_a_forgotten_subject_are_dropped_and_an_unchanged_partition_is_adopted(tmp_path: Path) -> None:
    compare_after_an_erasure(tmp_path)


def test_the_weeks_of_the_flights_are_the_same(tmp_path: Path) -> None:
    from airflow_mlops.core.declaration.read_loop import read_loop
    from airflow_mlops.core.validation.gx_validator import GxValidator

    root = Path(__file__).parents[2]
    fields = read_loop(root / "include" / "loops" / "flight_air_time.yaml").to_dict()
    workspaces = [open_engine(fields, root, engine, home=tmp_path / engine) for engine in ("local", "spark")]
    for workspace in workspaces:
        for key in KEYS[:2]:
            manifest = take_snapshot(workspace, key)
            publish_snapshot(workspace, manifest, validate_snapshot(workspace, manifest, GxValidator()))
    assert_equal(*workspaces)


def test_one_line_changed_there_and_back_gives_the_same_ledger_apart_from_times(tmp_path: Path) -> None:
    compare_loops(tmp_path, ("spark", "local"))


def test_rows_that_a_delete_file_of_iceberg_names_are_not_read_on_executors(tmp_path: Path) -> None:
    kind = KINDS["iceberg"]
    kind.put(tmp_path)
    (tmp_path / "contract.yaml").write_text(json.dumps(CONTRACT))
    spark = open_engine(fields_of(kind.source), tmp_path, "spark")
    ingest(spark, KEYS[0])
    kept = spark.snapshots.read(KEYS[0]).column("id").to_pylist()
    for part in parts_of(KEYS[0]):
        first = part.column("id").to_pylist()[:2]
        assert [row in kept for row in first] == [False, True]


def test_a_broken_file_of_iceberg_is_told_in_the_words_of_one_process(tmp_path: Path) -> None:
    kind = KINDS["iceberg"]
    kind.put(tmp_path)
    (tmp_path / "contract.yaml").write_text(json.dumps(CONTRACT))
    # The task reads the beginning of the first file before it starts Spark, so the broken one must not be the first.
    table = load_catalog("lake", **catalogue_of(tmp_path)).load_table("shop.orders")
    broken = Path(urlsplit([task.file.file_path for task in table.scan().plan_files()][-2]).path)
    broken.write_bytes(b"x" * broken.stat().st_size)
    messages = []
    for workspace in open_engines(fields_of(kind.source), tmp_path):
        with pytest.raises(SourceUnreadableError, match=r"shop\.orders cannot be read by pyiceberg") as raised:
            take_snapshot(workspace, KEYS[0])
        messages.append(str(raised.value))
        assert list((workspace.scratch / "snapshots").rglob("*.parquet")) == []
    assert messages[0] == messages[1]


def test_limits_hold_for_all_files_together(tmp_path: Path) -> None:
    KINDS["csv"].put(tmp_path)
    (tmp_path / "contract.yaml").write_text(json.dumps(CONTRACT))
    spark = open_engine(fields_of(KINDS["csv"].source, limits={"rows": 1_500}), tmp_path, "spark")
    with pytest.raises(PartitionRefusedError, match="1,500"):
        take_snapshot(spark, KEYS[0])
    assert not spark.state().published
    assert list((spark.scratch / "snapshots").rglob("*.parquet")) == [], "no file of a refused partition is left"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"kind": "sql", "conn_id": "warehouse", "table": "orders"}, "a database answers one query"),
        ({"kind": "http", "conn_id": "shop", "path": "/{partition}"}, "one page after another"),
        ({"kind": "csv", "uri": "in/all.csv"}, "cut in one pass"),
        ({"kind": "xlsx", "uri": "in/{partition}.xlsx"}, "read in one pass"),
    ],
)
def test_a_source_that_is_read_in_one_pass_is_refused_where_it_is_declared(
    source: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(
        DeclarationError, match=f"engine: is spark, and the source is of kind {source['kind']}"
    ) as raised:
        open_engine(fields_of(source), tmp_path, "spark")
    assert reason in str(raised.value)
    assert "declare engine: local" in str(raised.value)
