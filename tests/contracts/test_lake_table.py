"""The contract of every versioned table of a lake: the rows of a partition, in one version that can be read again."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from pyarrow.fs import S3FileSystem
from pyiceberg.catalog import load_catalog
from pyiceberg.types import StringType

from airflow_mlops.core.check_declaration import check_extras
from airflow_mlops.core.data.row_times import DeclaredTimes
from airflow_mlops.core.declaration.data import Data, DeltaSource, Limits
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.errors import (
    DeclarationError,
    PartitionRefusedError,
    SourceMissingError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival
from airflow_mlops.core.sources.delta_source import DeltaRows
from airflow_mlops.core.sources.iceberg_source import IcebergRows
from airflow_mlops.core.sources.lake_table import LakeTable
from airflow_mlops.core.sources.source_factory import open_source
from airflow_mlops.core.sources.time_cut import TimeColumn
from airflow_mlops.hooks.connections import AirflowConnections
from tests.bad_input.world import KEYS, World, good_rows
from tests.unit.core.toy_loop import toy_fields

FIRST, SECOND, THIRD = "2013-01-06T00:00:00", "2013-01-13T00:00:00", "2013-01-20T00:00:00"
NAIVE, MOMENT = pa.timestamp("us"), pa.timestamp("us", tz="UTC")
CONTRACT = """
contract: orders
key: id
time: at
columns:
  id: {{type: text}}
  at: {rule}
"""


def time_column(folder: Path, rule: str | None = None) -> TimeColumn:
    fields = {"source": {"kind": "delta", "uri": "lake/orders"}, "key": "id", "time": "at", "label": "y"}
    if rule is not None:
        (folder / "contract.yaml").write_text(CONTRACT.format(rule=rule))
        fields["contract"] = "contract.yaml"
    return TimeColumn(
        "at", PartitionSchedule("@weekly"), DeclaredTimes(Data.model_validate(fields, strict=False), folder)
    )


def rows(kind: pa.DataType = MOMENT, **days: str | None) -> pa.Table:
    """Return rows by their ids, each with its time; the keyword is the id."""
    times = pa.array(list(days.values()), pa.string()).cast(pa.timestamp("us"))
    return pa.table({"id": list(days), "at": times.cast(kind)})


@dataclass
class Place:
    """A kind of table: how it is written, and how it is opened as a source."""

    append: Callable[[pa.Table], None]
    open: Callable[..., LakeTable]


def delta(folder: Path) -> Place:
    def append(table: pa.Table) -> None:
        write_deltalake(folder / "lake" / "orders", table, mode="append")

    def opened(rule: str | None = None, **options: Any) -> LakeTable:
        return DeltaRows("lake/orders", root=folder, time=time_column(folder, rule), **options)

    return Place(append, opened)


def catalogue(folder: Path) -> dict[str, str]:
    """Return the properties of a catalogue in a file of SQLite."""
    return {"type": "sql", "uri": f"sqlite:///{folder}/catalogue.db", "warehouse": (folder / "warehouse").as_uri()}


def iceberg(folder: Path) -> Place:
    catalog = load_catalog("lake", **catalogue(folder))
    catalog.create_namespace("shop")

    def append(table: pa.Table) -> None:
        catalog.create_table_if_not_exists("shop.orders", schema=table.schema).append(table)

    def opened(rule: str | None = None, **options: Any) -> LakeTable:
        time = time_column(folder, rule)
        return IcebergRows(catalogue(folder), "shop.orders", conn_id="lake", time=time, **options)

    return Place(append, opened)


PLACES: dict[str, Callable[[Path], Place]] = {"delta": delta, "iceberg": iceberg}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES[request.param](tmp_path)


def take(arrival: Arrival) -> pa.Table:
    table = pa.Table.from_batches(arrival.batches, schema=arrival.schema)
    table.validate(full=True)
    return table


def ids_of(source: LakeTable, key: str) -> list[str]:
    """Return the ids of a partition in order; none if it is not there yet."""
    try:
        with source.open(key) as arrival:
            return sorted(take(arrival).column("id").to_pylist())
    except SourceMissingError:
        return []


@pytest.mark.parametrize("kind", [NAIVE, MOMENT, pa.date32()])
def test_a_row_is_in_the_partition_whose_interval_holds_its_time(place: Place, kind: pa.DataType) -> None:
    place.append(rows(kind, a="2012-12-30", b="2013-01-05", c="2013-01-06"))
    place.append(rows(kind, d="2012-12-29", e="2013-01-12", f="2013-01-02"))
    source = place.open()
    assert [ids_of(source, key) for key in (FIRST, SECOND, THIRD)] == [["a", "b", "f"], ["c", "e"], []]


def test_microseconds_at_the_borders_of_a_partition_decide(place: Place) -> None:
    place.append(rows(a="2013-01-05 23:59:59.999999", b="2013-01-06 00:00:00", c="2013-01-05 23:59:59.999001"))
    assert [ids_of(place.open(), key) for key in (FIRST, SECOND)] == [["a", "c"], ["b"]]


@pytest.mark.parametrize(("zone", "key"), [("Pacific/Kiritimati", FIRST), ("America/New_York", SECOND)])
def test_clocks_are_read_in_the_zone_of_the_contract(place: Place, zone: str, key: str) -> None:
    text = "2013-01-06 13:30:00" if key == FIRST else "2013-01-05 19:30:00"
    place.append(rows(NAIVE, a=text))
    source = place.open(f"{{type: time, zone: {zone}}}")
    assert [ids_of(source, tick) for tick in (FIRST, SECOND)] == ([["a"], []] if key == FIRST else [[], ["a"]])


def test_values_arrive_with_the_types_of_the_table(place: Place) -> None:
    place.append(rows(a="2013-01-02"))
    with place.open().open(FIRST) as arrival:
        assert arrival.schema == pa.schema({"id": pa.string(), "at": MOMENT})
        assert arrival.typed


def test_a_table_or_a_partition_that_is_not_there_yet_is_missing(place: Place, tmp_path: Path) -> None:
    source = place.open()
    with pytest.raises(SourceMissingError, match=FIRST) as caught, source.open(FIRST):
        pass
    assert str(tmp_path) not in str(caught.value)
    place.append(rows(a="2013-01-02"))
    assert ids_of(source, FIRST) == ["a"]
    with pytest.raises(SourceMissingError, match=rf"{SECOND}: .*orders: no rows between"), source.open(SECOND):
        pass


def test_the_same_version_is_unchanged_and_a_newer_one_is_read(place: Place, tmp_path: Path) -> None:
    place.append(rows(a="2013-01-02"))
    source = place.open()
    with source.open(FIRST) as arrival:
        origin = arrival.origin
    assert json.loads(json.dumps(origin)) == origin
    assert str(tmp_path) not in json.dumps(origin)
    with source.open(FIRST, known=origin) as arrival:
        assert (arrival.unchanged, arrival.origin, list(arrival.batches)) == (True, origin, [])
    with pytest.raises(SourceMissingError), source.open(SECOND, known=origin):
        pass
    place.append(rows(b="2013-01-03"))
    with source.open(FIRST, known=origin) as arrival:
        assert not arrival.unchanged
        assert arrival.origin != origin
        assert sorted(take(arrival).column("id").to_pylist()) == ["a", "b"]


def test_rows_that_are_written_while_others_are_read_are_not_among_them(place: Place) -> None:
    place.append(rows(a="2013-01-02"))
    with place.open().open(FIRST) as arrival:
        place.append(rows(b="2013-01-03"))
        assert take(arrival).column("id").to_pylist() == ["a"]


def test_rows_without_a_time_are_counted_and_warned_of(place: Place) -> None:
    place.append(rows(a="2013-01-02", b=None))
    place.append(rows(c=None, d="2013-01-09"))
    with place.open().open(FIRST) as arrival:
        assert take(arrival).column("id").to_pylist() == ["a"]
        assert arrival.origin["without_time"] == 2
        assert [warning.partition(" of ")[0] for warning in arrival.warnings] == ["2 rows"]
        origin = arrival.origin
    with place.open().open(FIRST, known=origin) as arrival:
        assert arrival.unchanged
    with pytest.raises(SourceMissingError, match=r"2 rows of .* have no time"), place.open().open(THIRD):
        pass


def test_batches_are_bounded_and_no_row_is_lost_between_them(place: Place) -> None:
    count = BATCH_ROWS + 1_000
    times = pa.array([f"2013-01-{number % 14 + 1:02}" for number in range(count)]).cast(pa.timestamp("us"))
    place.append(pa.table({"id": [str(number) for number in range(count)], "at": times.cast(MOMENT)}))
    seen: list[int] = []
    for key in (FIRST, SECOND, THIRD):
        with place.open().open(key) as arrival:
            for batch in arrival.batches:
                assert 0 < batch.num_rows <= BATCH_ROWS
                seen += map(int, batch.column("id").to_pylist())
    assert sorted(seen) == list(range(count))


@pytest.mark.parametrize("limits", [Limits(rows=1), Limits(cells=3), Limits(bytes=20)])
def test_limits_count_the_rows_of_the_partition_and_not_of_the_table(place: Place, limits: Limits) -> None:
    place.append(rows(a="2013-01-02", b="2013-01-03", c="2013-01-09"))
    assert ids_of(place.open(limits=Limits(rows=2, cells=4)), FIRST) == ["a", "b"]
    with pytest.raises(PartitionRefusedError, match=rf"partition {FIRST}: .* and data\.limits\.\w+ is"):
        ids_of(place.open(limits=limits), FIRST)


def test_a_table_without_the_time_column_is_refused_with_its_columns(place: Place) -> None:
    place.append(pa.table({"id": ["a"], "when": ["2013-01-02"]}))
    with pytest.raises(PartitionRefusedError, match=r"'at', the declared time, is missing.*there are id, when"):
        ids_of(place.open(), FIRST)


def test_a_table_whose_time_is_text_is_refused(place: Place) -> None:
    place.append(pa.table({"id": ["a"], "at": ["2013-01-02"]}))
    with pytest.raises(PartitionRefusedError, match=r"has the type string.*deliver a date or a time"):
        ids_of(place.open(), FIRST)


def test_the_newest_time_is_found_without_a_partition(place: Place) -> None:
    place.append(rows(a="2013-01-02", b=None))
    place.append(rows(c="2013-01-09 03:04:05"))
    assert str(place.open().newest(THIRD)) == "2013-01-09T03:04:05.000000"


def test_the_current_columns_are_read_from_rows_of_every_age(tmp_path: Path) -> None:
    place, table = iceberg(tmp_path), "shop.orders"
    place.append(rows(a="2013-01-02").append_column("cost", pa.array([1.5])))
    catalog = load_catalog("lake", **catalogue(tmp_path))
    with place.open().open(FIRST) as arrival:
        origin = arrival.origin
    with catalog.load_table(table).update_schema() as update:
        update.rename_column("cost", "price")
        update.rename_column("at", "ordered")
        update.add_column("region", StringType())
    renamed = IcebergRows(
        catalogue(tmp_path),
        table,
        conn_id="lake",
        time=TimeColumn("ordered", PartitionSchedule("@weekly"), time_column(tmp_path).times),
    )
    later = rows(b="2013-01-03").rename_columns(["id", "ordered"])
    later = later.append_column("price", pa.array([2.5])).append_column("region", pa.array(["eu"]))
    with renamed.open(FIRST, known=origin) as arrival:
        assert not arrival.unchanged
        assert take(arrival).column("price").to_pylist() == [1.5]
    catalog.load_table(table).append(later)
    with renamed.open(FIRST) as arrival:
        by_id = {row["id"]: (row["price"], row["region"]) for row in take(arrival).to_pylist()}
    assert by_id == {"a": (1.5, None), "b": (2.5, "eu")}


def test_a_snapshot_of_the_ledger_is_named_again(tmp_path: Path) -> None:
    place = iceberg(tmp_path)
    place.append(rows(a="2013-01-02"))
    with place.open().open(FIRST) as arrival:
        origin = arrival.origin
    place.append(rows(b="2013-01-03"))
    with place.open(snapshot=origin["snapshot"]).open(FIRST) as arrival:
        assert arrival.origin == origin
        assert take(arrival).column("id").to_pylist() == ["a"]
    assert ids_of(place.open(), FIRST) == ["a", "b"]
    with pytest.raises(SourceUnreadableError, match=r"no snapshot 7; it may have expired"):
        ids_of(place.open(snapshot=7), FIRST)


def test_files_of_a_catalogue_that_hold_other_partitions_are_not_read(tmp_path: Path) -> None:
    place = iceberg(tmp_path)
    place.append(rows(a="2013-01-02"))
    before = set((tmp_path / "warehouse").rglob("*.parquet"))
    place.append(rows(b="2013-02-20"))
    (path,) = set((tmp_path / "warehouse").rglob("*.parquet")) - before
    path.write_bytes(b"x" * path.stat().st_size)
    assert ids_of(place.open(), FIRST) == ["a"]
    with pytest.raises(SourceUnreadableError, match=r"shop\.orders cannot be read by pyiceberg"):
        ids_of(place.open(), "2013-02-24T00:00:00")


def test_rows_that_were_deleted_from_a_catalogue_are_gone(tmp_path: Path) -> None:
    place = iceberg(tmp_path)
    place.append(rows(a="2013-01-02", b="2013-01-03"))
    load_catalog("lake", **catalogue(tmp_path)).load_table("shop.orders").delete("id = 'a'")
    assert ids_of(place.open(), FIRST) == ["b"]


@pytest.mark.parametrize(
    ("properties", "error", "words"),
    [
        ({"type": "sql", "token": "hunter2"}, SourceUnreadableError, r"cannot be opened \(ValueError\).*type and uri"),
        ({"type": "nothing", "token": "hunter2"}, SourceUnreadableError, r"cannot be opened"),
        (
            {"type": "sql", "uri": "sqlite:////nowhere/hunter2.db", "warehouse": Path("/nowhere").as_uri()},
            SourceUnreachableError,
            r"'lake' does not answer",
        ),
        (
            {"type": "rest", "uri": "http://127.0.0.1:9", "token": "hunter2"},
            SourceUnreachableError,
            r"does not answer \(ConnectionError\)",
        ),
    ],
)
def test_a_catalogue_that_cannot_be_opened_says_nothing_secret(
    tmp_path: Path, properties: dict[str, str], error: type[Exception], words: str
) -> None:
    source = IcebergRows(properties, "shop.orders", conn_id="lake", time=time_column(tmp_path))
    with pytest.raises(error, match=words) as caught:
        ids_of(source, FIRST)
    assert "hunter2" not in str(caught.value)


def test_without_pyiceberg_the_refusal_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyiceberg" else find_spec(name))
    with pytest.raises(DeclarationError, match=r"airflow-mlops\[iceberg\]"):
        IcebergRows({}, "shop.orders", conn_id="lake", time=time_column(tmp_path))
    fields = toy_fields()
    loop = Loop(
        **{**fields, "data": {**fields["data"], "source": {"kind": "iceberg", "conn_id": "lake", "table": "a.b"}}}
    )
    with pytest.raises(DeclarationError, match=r"airflow-mlops\[iceberg\]"):
        check_extras(loop, tmp_path)


def test_a_declared_iceberg_table_is_opened_through_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iceberg(tmp_path).append(rows(a="2013-01-02"))
    connection = {"conn_type": "iceberg", "extra": {**catalogue(tmp_path), "name": "lake", "echo": False}}
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_LAKE", json.dumps(connection))
    fields = toy_fields()
    source = {"kind": "iceberg", "conn_id": "shop_lake", "table": "shop.orders"}
    loop = Loop(**{**fields, "data": {**fields["data"], "source": source}})
    times = DeclaredTimes(loop.data, tmp_path)
    with open_source(loop, AirflowConnections(), root=tmp_path, times=times).open(FIRST) as arrival:
        assert take(arrival).column("id").to_pylist() == ["a"]
    assert AirflowConnections().catalog("shop_lake")["echo"] == "false"
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_LAKE", json.dumps({"conn_type": "http", "host": "x"}))
    with pytest.raises(DeclarationError, match=r"is of type 'http'.*'iceberg'"):
        open_source(loop, AirflowConnections(), root=tmp_path, times=times)


def test_host_and_login_of_a_connection_are_address_and_credential_of_a_catalogue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = {"conn_type": "iceberg", "host": "https://x.example", "login": "me", "password": "hunter2"}
    monkeypatch.setenv("AIRFLOW_CONN_REST", json.dumps({**connection, "extra": {"type": "rest"}}))
    assert AirflowConnections().catalog("rest") == {
        "name": "rest",
        "type": "rest",
        "uri": "https://x.example",
        "credential": "me:hunter2",
    }


# --- Delta ------------------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> list[Path]:
    """Return the data files of the Delta table, the oldest first."""
    files = (folder / "lake" / "orders").rglob("*.parquet")
    return sorted(files, key=lambda path: path.stat().st_mtime_ns)


def test_files_of_other_partitions_are_not_read(tmp_path: Path) -> None:
    place = delta(tmp_path)
    place.append(rows(a="2013-01-02"))
    place.append(rows(b="2013-02-20"))
    path = files_of(tmp_path)[1]
    path.write_bytes(b"x" * path.stat().st_size)
    assert ids_of(place.open(), FIRST) == ["a"]
    with pytest.raises(SourceUnreadableError, match=r"lake/orders.* cannot be read") as caught:
        ids_of(place.open(), "2013-02-24T00:00:00")
    assert str(tmp_path) not in str(caught.value)


def test_a_declared_version_is_read_whatever_came_later(tmp_path: Path) -> None:
    place = delta(tmp_path)
    place.append(rows(a="2013-01-02"))
    place.append(rows(b="2013-01-03"))
    with place.open(version=0).open(FIRST) as arrival:
        assert arrival.origin["version"] == 0
        assert take(arrival).column("id").to_pylist() == ["a"]
    assert ids_of(place.open(), FIRST) == ["a", "b"]
    with pytest.raises(SourceUnreadableError, match="orders"):
        ids_of(place.open(version=7), FIRST)


def test_a_table_that_was_written_anew_is_another_one_though_its_version_is_the_same(tmp_path: Path) -> None:
    place = delta(tmp_path)
    place.append(rows(a="2013-01-02"))
    with place.open().open(FIRST) as arrival:
        origin = arrival.origin
    folder = tmp_path / "lake" / "orders"
    folder.rename(tmp_path / "lake" / "before")
    place.append(rows(b="2013-01-02"))
    with place.open().open(FIRST, known=origin) as arrival:
        assert (arrival.unchanged, arrival.origin["version"]) == (False, origin["version"])


def test_rows_that_were_deleted_and_files_that_were_compacted_are_read_as_they_stand(tmp_path: Path) -> None:
    place = delta(tmp_path)
    place.append(rows(a="2013-01-02", b="2013-01-03"))
    place.append(rows(c="2013-01-04"))
    table = DeltaTable(tmp_path / "lake" / "orders")
    table.delete("id = 'a'")
    table.optimize.compact()
    assert ids_of(place.open(), FIRST) == ["b", "c"]


def test_a_table_with_folders_and_a_column_that_was_added_later_is_read_as_its_schema_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "orders"
    before = rows(a="2013-01-02").append_column("region", pa.array(["eu & us"]))
    write_deltalake(folder, before, partition_by=["region"])
    after = rows(b="2013-01-03").append_column("region", pa.array(["asia"])).append_column("price", pa.array([1.5]))
    write_deltalake(folder, after, mode="append", schema_mode="merge")
    with delta(tmp_path).open().open(FIRST) as arrival:
        by_id = {row["id"]: (row["region"], row["price"]) for row in take(arrival).to_pylist()}
    assert by_id == {"a": ("eu & us", None), "b": ("asia", 1.5)}


def test_files_without_statistics_are_read_and_their_rows_without_a_time_counted(tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "orders"
    none = {"delta.dataSkippingNumIndexedCols": "0"}
    write_deltalake(folder, rows(a="2013-01-02", b=None), configuration=none)
    with delta(tmp_path).open().open(FIRST) as arrival:
        assert take(arrival).column("id").to_pylist() == ["a"]
        assert arrival.origin["without_time"] == 1


def rewrite_log(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the actions of the first commit as another writer would have written them."""
    path = folder / "lake" / "orders" / "_delta_log" / f"{0:020}.json"
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    for action in actions:
        change(action)
    path.write_text("\n".join(map(json.dumps, actions)))


def with_features(*features: str) -> Callable[[dict[str, Any]], None]:
    def change(action: dict[str, Any]) -> None:
        if "protocol" in action:
            action["protocol"] = {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": list(features),
                "writerFeatures": list(features),
            }

    return change


def with_mapping(action: dict[str, Any]) -> None:
    """Declare a column mapping as tables of reader version 2 do."""
    if "protocol" in action:
        action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
    if "metaData" in action:
        action["metaData"]["configuration"] = {
            "delta.columnMapping.mode": "name",
            "delta.columnMapping.maxColumnId": "2",
        }
        schema = json.loads(action["metaData"]["schemaString"])
        for number, field in enumerate(schema["fields"], 1):
            field["metadata"] = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"c{number}"}
        action["metaData"]["schemaString"] = json.dumps(schema)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_features("deletionVectors"), "deletionVectors, which delta-rs cannot read: .*REORG TABLE"),
        (with_features("columnMapping"), "columnMapping, which delta-rs cannot read: .*deliver a copy"),
        (with_mapping, "columnMapping, which delta-rs cannot read"),
        (with_features("newerThanDeltaRs"), "newerThanDeltaRs"),
    ],
)
def test_a_feature_that_cannot_be_read_is_refused_by_its_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    place = delta(tmp_path)
    place.append(rows(a="2013-01-02"))
    rewrite_log(tmp_path, change)
    with pytest.raises(SourceUnreadableError, match=words) as caught:
        ids_of(place.open(), FIRST)
    assert str(caught.value).startswith(f"partition {FIRST}: lake/orders")


def test_a_version_whose_files_were_vacuumed_says_so(tmp_path: Path) -> None:
    place = delta(tmp_path)
    place.append(rows(a="2013-01-02"))
    files_of(tmp_path)[0].unlink()
    with pytest.raises(SourceUnreadableError, match=r"is gone.*read a newer version") as caught:
        ids_of(place.open(), FIRST)
    assert str(tmp_path) not in str(caught.value)


def test_a_delta_table_in_an_object_store_is_read(
    tmp_path: Path, object_store: S3FileSystem, object_store_url: str
) -> None:
    bucket = f"b{uuid.uuid4().hex}"
    object_store.create_dir(bucket)
    s3 = {"key": "key", "secret": "hunter2", "region": "us-east-1", "endpoint": object_store_url}
    options = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": object_store_url,
        "AWS_ALLOW_HTTP": "true",
    }
    uri = f"s3://{bucket}/orders"
    write_deltalake(uri, rows(a="2013-01-02"), storage_options=options)
    source = DeltaRows(uri, root=tmp_path, s3=s3, time=time_column(tmp_path))
    assert [ids_of(source, key) for key in (FIRST, SECOND)] == [["a"], []]
    with source.open(FIRST) as arrival:
        assert arrival.origin["table"] == uri
        assert "hunter2" not in json.dumps(arrival.origin)


def test_a_source_that_is_built_and_not_opened_has_not_touched_delta_rs(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from airflow_mlops.core.ports.connections import NoConnections\n"
        "from airflow_mlops.core.declaration.loop import Loop\n"
        "from airflow_mlops.core.sources.source_factory import open_source\n"
        "from airflow_mlops.core.data.row_times import DeclaredTimes\n"
        "from tests.unit.core.toy_loop import toy_fields\n"
        "fields = toy_fields()\n"
        "loop = Loop(**{**fields, 'data': {**fields['data'], 'source': {'kind': 'delta', 'uri': 'lake/orders'}}})\n"
        "open_source(loop, NoConnections(), root=Path(), times=DeclaredTimes(loop.data, Path()))\n"
        "sys.exit('deltalake' in sys.modules)\n"
    )
    path = os.pathsep.join(["plugins", "."])
    result = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert result.returncode == 0


def test_a_loop_publishes_the_partitions_of_a_delta_table_once(tmp_path: Path) -> None:
    world = World(tmp_path, source="parquet", data={"source": {"kind": "delta", "uri": "lake/orders"}})
    for key in KEYS[:2]:
        write_deltalake(
            tmp_path / "lake" / "orders",
            good_rows(key),
            mode="append",
            commit_properties=CommitProperties(custom_metadata={"by": "another team"}),
        )
    published = [world.ingest(key) for key in KEYS[:2]]
    assert [record.rows for record in published] == [200, 200]
    with pytest.raises(SourceMissingError, match="no rows between"):
        world.ingest(KEYS[2])


@pytest.mark.parametrize(("uri", "words"), [("lake/{partition}", "takes no placeholder"), ("", "at least 1 character")])
def test_a_folder_with_a_placeholder_is_no_table(uri: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DeltaSource(kind="delta", uri=uri)
