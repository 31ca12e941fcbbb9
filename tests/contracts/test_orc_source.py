"""ORC files: one or several for each partition, or one table of all partitions that is cut by its time column."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import orc

from airflow_mlops.core.data.row_times import DeclaredTimes
from airflow_mlops.core.declaration.data import Data, Limits
from airflow_mlops.core.declaration.loop import Loop
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.dry_run.newest_partition import newest_partition
from airflow_mlops.core.errors import PartitionRefusedError, SourceMissingError, SourceUnreadableError
from airflow_mlops.core.ports.connections import NoConnections
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Source
from airflow_mlops.core.sources.orc_source import BATCH_BYTES, OrcFiles, OrcTable
from airflow_mlops.core.sources.source_factory import open_source
from airflow_mlops.core.sources.time_cut import TimeColumn
from tests.unit.core.toy_loop import toy_fields

FIRST, SECOND, THIRD = "2013-01-06T00:00:00", "2013-01-13T00:00:00", "2013-01-20T00:00:00"


def write(path: Path, table: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    orc.write_table(table, path, **options)
    return path


def files(folder: Path, uri: str = "in/{partition}.orc", **options: Any) -> OrcFiles:
    return OrcFiles(uri, root=folder, **options)


def rows_of(source: Source, key: str = FIRST) -> pa.Table:
    with source.open(key) as arrival:
        table = pa.Table.from_batches(arrival.batches, schema=arrival.schema)
        table.validate(full=True)
        return table


def cut(folder: Path, uri: str = "lake/all.orc", **options: Any) -> OrcTable:
    data = Data.model_validate(
        {"source": {"kind": "orc", "uri": uri}, "key": "id", "time": "at", "label": "y"}, strict=False
    )
    time = TimeColumn("at", PartitionSchedule("@weekly"), DeclaredTimes(data, folder))
    return OrcTable(uri, time=time, root=folder, **options)


def timed(kind: pa.DataType | None = None, **days: str | None) -> pa.Table:
    """Return rows by their ids, each with its time; the keyword is the id."""
    times = pa.array(list(days.values()), pa.string()).cast(pa.timestamp("us"))
    return pa.table({"id": list(days), "at": times.cast(kind or pa.timestamp("us", tz="UTC"))})


def ids_of(source: Source, key: str) -> list[str]:
    try:
        return sorted(rows_of(source, key).column("id").to_pylist())
    except SourceMissingError:
        return []


def test_every_type_arrives_as_it_is(tmp_path: Path) -> None:
    moment = datetime(2013, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    values: dict[str, tuple[pa.DataType, Any]] = {
        "i": (pa.int8(), 1),
        "b": (pa.int64(), -(2**63)),
        "f": (pa.float32(), 0.5),
        "n": (pa.decimal128(10, 2), Decimal("-99999999.99")),
        "s": (pa.string(), "x'y ☃"),
        "o": (pa.bool_(), True),
        "d": (pa.date32(), date(1500, 1, 1)),
        "at": (pa.timestamp("us"), moment.replace(tzinfo=None)),
        "z": (pa.timestamp("us", tz="UTC"), moment),
        "y": (pa.binary(), b"\x00\xff"),
    }
    table = pa.table({name: pa.array([value, None], kind) for name, (kind, value) in values.items()})
    write(tmp_path / "in" / "2013-01-06.orc", table)
    rows = rows_of(files(tmp_path))
    times = {"at": pa.timestamp("ns"), "z": pa.timestamp("ns", tz="UTC")}
    assert rows.schema == pa.schema([field.with_type(times.get(field.name, field.type)) for field in table.schema])
    assert rows.cast(table.schema).equals(table)


def test_several_files_are_one_partition_where_their_columns_are_of_one_kind(tmp_path: Path) -> None:
    write(tmp_path / "in/2013-01-06/region=eu/a.orc", pa.table({"id": ["a"], "n": pa.array([1], pa.int32())}))
    write(tmp_path / "in/2013-01-06/region=us/b.orc", pa.table({"n": pa.array([2**40]), "id": ["b"]}))
    source = files(tmp_path, "in/{partition}/", path_columns=["region"])
    assert rows_of(source).to_pylist() == [
        {"id": "a", "n": 1, "region": "eu"},
        {"id": "b", "n": 2**40, "region": "us"},
    ]
    with source.open(FIRST) as arrival:
        assert arrival.untyped == frozenset(["region"])
        assert [(file["path"], file["rows"]) for file in arrival.origin["files"]] == [
            ("in/2013-01-06/region=eu/a.orc", 1),
            ("in/2013-01-06/region=us/b.orc", 1),
        ]
    write(tmp_path / "in/2013-01-06/region=us/b.orc", pa.table({"id": ["b"], "n": ["2"]}))
    with pytest.raises(PartitionRefusedError, match=r"b\.orc has other columns than .*a\.orc: column 'n' is string"):
        rows_of(source)


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.timestamp("us", tz="UTC"), pa.date32()])
def test_a_row_is_in_the_partition_whose_interval_holds_its_time(tmp_path: Path, kind: pa.DataType) -> None:
    write(tmp_path / "lake" / "1.orc", timed(kind, a="2012-12-30", b="2013-01-05", c="2013-01-06"))
    write(tmp_path / "lake" / "2.orc", timed(kind, d="2012-12-29", e="2013-01-12", f="2013-01-02"))
    source = cut(tmp_path, "lake/*.orc")
    assert [ids_of(source, key) for key in (FIRST, SECOND, THIRD)] == [["a", "b", "f"], ["c", "e"], []]
    with source.open(SECOND) as arrival:
        assert (arrival.origin["start"], arrival.origin["end"]) == (FIRST, SECOND)
    assert source.newest(FIRST) == np.datetime64("2013-01-12", "us")


def test_a_row_without_a_time_is_in_the_partition_of_the_row_before_it(tmp_path: Path) -> None:
    write(tmp_path / "lake" / "all.orc", timed(a=None, b="2013-01-02", c=None, d="2013-01-08", e=None))
    source = cut(tmp_path)
    assert [ids_of(source, key) for key in (FIRST, SECOND)] == [["a", "b", "c"], ["d", "e"]]


def test_each_row_of_many_is_in_exactly_one_partition(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    count = 3 * BATCH_ROWS
    seconds = random.integers(0, 3 * 7 * 86400, count) + int(datetime(2012, 12, 30, tzinfo=UTC).timestamp())
    at = pa.array(seconds * 1_000_000).cast(pa.timestamp("us", tz="UTC"))
    write(tmp_path / "lake" / "all.orc", pa.table({"id": np.arange(count), "at": at}), compression="zstd")
    source = cut(tmp_path, limits=Limits(rows=BATCH_ROWS + 2000))
    tables = [rows_of(source, key) for key in (FIRST, SECOND, THIRD)]
    assert sorted(np.concatenate([table["id"].to_numpy() for table in tables]).tolist()) == list(range(count))


def test_a_table_without_its_time_column_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "lake" / "all.orc", pa.table({"id": ["a"]}))
    with pytest.raises(PartitionRefusedError, match="column 'at', the declared time, is missing"):
        rows_of(cut(tmp_path))
    write(tmp_path / "lake" / "all.orc", pa.table({"id": ["a"], "at": ["2013-01-02"]}))
    with pytest.raises(PartitionRefusedError, match="column 'at', the declared time, has the type string"):
        rows_of(cut(tmp_path))


@pytest.mark.parametrize("kept", [0, 1, 4, 20, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_unreadable_and_named(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "in" / "2013-01-06.orc", pa.table({"n": range(1000), "s": ["x"] * 1000}))
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(
        SourceUnreadableError, match=r"partition 2013-01-06T00:00:00: in/2013-01-06\.orc cannot be read"
    ):
        rows_of(files(tmp_path))


def test_a_column_that_stands_there_twice_is_refused_by_its_name(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a"])
    write(tmp_path / "in" / "2013-01-06.orc", twice)
    with pytest.raises(PartitionRefusedError, match=r"2013-01-06\.orc: column 'a' stands there 2 times; deliver it"):
        rows_of(files(tmp_path))


def test_a_name_is_taken_as_it_is(tmp_path: Path) -> None:
    table = pa.table({"a.b": [1], "x[0]": [2], "": [3], "ä ☃": [4]})
    write(tmp_path / "in" / "2013-01-06.orc", table)
    assert rows_of(files(tmp_path)).to_pylist() == table.to_pylist()


def test_a_time_beyond_what_nanoseconds_can_hold_is_refused_and_not_wrapped(tmp_path: Path) -> None:
    write(tmp_path / "in" / "2013-01-06.orc", pa.table({"at": pa.array([datetime(9999, 1, 1)], pa.timestamp("us"))}))  # noqa: DTZ001
    with pytest.raises(SourceUnreadableError, match=r"cannot be read: .*out of range"):
        rows_of(files(tmp_path))


def test_rows_are_counted_in_the_footers_before_one_is_read(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / "in" / "2013-01-06" / f"{name}.orc", pa.table({"n": range(6), "m": range(6)}))
    for limits, reason in ((Limits(rows=11), "12 rows"), (Limits(cells=23), "24 cells")):
        source = files(tmp_path, "in/{partition}/*.orc", limits=limits)
        with pytest.raises(PartitionRefusedError, match=f"at least {reason}"), source.open(FIRST):
            pytest.fail("it was opened")
    with pytest.raises(PartitionRefusedError, match=r"data\.limits\.bytes is 50"):
        rows_of(files(tmp_path, "in/{partition}/*.orc", limits=Limits(bytes=50)))


def test_a_small_file_of_a_gigabyte_is_never_in_memory_at_once(tmp_path: Path) -> None:
    path = tmp_path / "in" / "2013-01-06.orc"
    path.parent.mkdir()
    block = pa.table({"s": ["x" * 1000] * 100_000})
    with orc.ORCWriter(path, compression="zstd") as writer:
        for _ in range(10):
            writer.write(block)
    assert path.stat().st_size < 1_000_000
    del block
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    with files(tmp_path).open(FIRST) as arrival:
        for batch in arrival.batches:
            rows += batch.num_rows
            most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 1_000_000
    assert most < 4 * BATCH_BYTES
    with pytest.raises(PartitionRefusedError, match=r"data\.limits\.bytes is 10,000,000"):
        rows_of(files(tmp_path, limits=Limits(bytes=10_000_000)))


def test_a_declared_source_is_opened_and_its_newest_partition_found(tmp_path: Path) -> None:
    write(tmp_path / "lake" / "all.orc", timed(a="2013-01-02", b="2013-01-09"))
    write(tmp_path / "in" / "2013-01-06.orc", timed(c="2013-01-02"))
    for uri, newest in (("lake/all.orc", SECOND), ("in/{partition}.orc", FIRST)):
        fields = toy_fields()
        fields["data"] |= {"source": {"kind": "orc", "uri": uri}, "contract": None, "time": "at", "every": "@weekly"}
        loop = Loop(**fields)
        times = DeclaredTimes(loop.data, tmp_path)
        source = open_source(loop, NoConnections(), root=tmp_path, times=times)
        assert newest_partition(loop, source, "2013-01-20T00:00:00") == newest
