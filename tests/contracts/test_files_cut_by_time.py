"""Files without a placeholder: each row is in exactly one partition, whatever becomes of its time."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import S3FileSystem

from airflow_mlops.core.data.forget_subject import forget_subject
from airflow_mlops.core.data.row_times import DeclaredTimes
from airflow_mlops.core.declaration.data import Data, Limits
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.errors import (
    PartitionRefusedError,
    SourceMissingError,
    SourceUnreachableError,
    SourceUnreadableError,
)
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Source
from airflow_mlops.core.sources.csv_table import CsvTable
from airflow_mlops.core.sources.parquet_table import ParquetTable
from airflow_mlops.core.sources.table_copies import TableCopies
from airflow_mlops.core.sources.time_cut import TimeColumn
from tests.bad_input.world import CONTRACT as CONTRACT_OF_ORDERS
from tests.bad_input.world import KEYS, World, as_csv, as_text, good_rows

FIRST = "2013-01-06T00:00:00"
CONTRACT = """
contract: orders
key: id
time: at
columns:
  id: {type: text}
  at: {type: time, zone: none}
"""


def ticks(count: int, first: str = FIRST) -> list[str]:
    keys = [first]
    while len(keys) < count:
        keys.append(PartitionSchedule("@weekly").next(keys[-1]))
    return keys


def time_column(folder: Path, contract: str | None = CONTRACT) -> TimeColumn:
    if contract is not None:
        (folder / "contract.yaml").write_text(contract)
    source = {"kind": "csv" if contract else "parquet", "uri": "in/all"}
    data = Data.model_validate(
        {"source": source, "key": "id", "time": "at", "label": "y"}
        | ({"contract": "contract.yaml"} if contract else {}),
        strict=False,
    )
    return TimeColumn("at", PartitionSchedule("@weekly"), DeclaredTimes(data, folder))


def csv_table(folder: Path, *, copied: bool = False, uri: str = "in/all.csv", **options: Any) -> CsvTable:
    copies = (
        TableCopies(folder / "scratch", settings="", columns=frozenset(("id", "at")), worthwhile_bytes=0)
        if copied
        else None
    )
    return CsvTable(uri, time=time_column(folder), root=folder, copies=copies, **options)


def write_csv(folder: Path, *lines: str, name: str = "all.csv") -> Path:
    path = folder / "in" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in ("id,at", *lines)))
    return path


def ids_of(source: Source, key: str) -> list[str]:
    """Return the ids of a partition, and the lines of its broken rows in brackets; none if it is not there yet."""
    try:
        with source.open(key) as arrival:
            rows = pa.Table.from_batches(arrival.batches, schema=arrival.schema)
            return [*rows.column("id").to_pylist(), *(f"[{row.at.rpartition(' ')[2]}]" for row in arrival.broken)]
    except SourceMissingError:
        return []


@pytest.fixture(params=["every partition reads the file", "partitions read a copy"])
def open_csv(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., CsvTable]:
    copied = request.param == "partitions read a copy"
    return lambda **options: csv_table(tmp_path, copied=copied, **options)


def test_a_row_is_in_the_partition_whose_interval_holds_its_time(tmp_path: Path, open_csv: Any) -> None:
    write_csv(
        tmp_path,
        "late,2013-01-19 23:59:59.999999",
        "start,2013-01-06 00:00:00",
        "end,2013-01-05 23:59:59",
        "middle,2013-01-09 12:00:00",
        "next,2013-01-13 00:00:00",
    )
    source = open_csv()
    assert ids_of(source, FIRST) == ["end"]
    assert ids_of(source, "2013-01-13T00:00:00") == ["start", "middle"]
    assert ids_of(source, "2013-01-20T00:00:00") == ["late", "next"]


def test_a_partition_without_a_row_is_not_there_yet(tmp_path: Path, open_csv: Any) -> None:
    write_csv(tmp_path, "a,2013-01-02 00:00:00")
    words = r"in/all\.csv: no rows between 2013-01-06T00:00:00 and 2013-01-13"
    with pytest.raises(SourceMissingError, match=words), open_csv().open("2013-01-13T00:00:00"):
        pass
    (tmp_path / "in" / "all.csv").write_text("id,at\n")
    with pytest.raises(SourceMissingError, match="no rows between"), open_csv().open(FIRST):
        pass
    (tmp_path / "in" / "all.csv").unlink()
    with pytest.raises(SourceMissingError, match=r"in/all\.csv is not there yet"), open_csv().open(FIRST):
        pass


def test_a_row_without_a_time_and_a_broken_line_belong_to_the_row_before_them(tmp_path: Path, open_csv: Any) -> None:
    write_csv(
        tmp_path,
        "title,",
        "too,many,values",
        "a,2013-01-02 00:00:00",
        "empty,",
        "b,2013-01-09 00:00:00",
        "no time,yesterday",
        "too,many,values",
        "c,2013-01-10 00:00:00",
        "d,2013-01-16 00:00:00",
        "total,",
        "too,many,values",
    )
    source = open_csv()
    assert ids_of(source, FIRST) == ["title", "a", "empty", "[3]"]
    assert ids_of(source, "2013-01-13T00:00:00") == ["b", "no time", "c", "[8]"]
    assert ids_of(source, "2013-01-20T00:00:00") == ["d", "total", "[12]"]


def test_all_partitions_together_hold_each_row_exactly_once(tmp_path: Path, open_csv: Any) -> None:
    keys = ticks(14)
    lines = []
    for number in range(BATCH_ROWS + 5_000):
        month, day = number % 3 + 1, number * 7 % 28 + 1
        lines.append(
            ",".join([f"{number}", f"2013-{month:02}-{day:02} 0{number % 10}:00:00" if number % 11 else "?"])
            if number % 1_001
            else f"{number},too,many"
        )
    write_csv(tmp_path, *lines)
    source, rows, broken = open_csv(), list[str](), list[str]()
    for key in keys:
        entries = ids_of(source, key)
        rows += [entry for entry in entries if not entry.startswith("[")]
        broken += [entry for entry in entries if entry.startswith("[")]
    assert sorted(map(int, rows)) == [number for number in range(len(lines)) if number % 1_001]
    assert sorted(broken) == sorted(f"[{number + 2}]" for number in range(0, len(lines), 1_001))


def test_what_is_appended_moves_no_row_that_was_there_before(tmp_path: Path, open_csv: Any) -> None:
    lines = ["a,2013-01-02 00:00:00", "b,", "c,2013-01-09 00:00:00", "d,?", "too,many,values"]
    path = write_csv(tmp_path, *lines)
    source = open_csv()
    before = [ids_of(source, key) for key in ticks(2)]
    with path.open("a") as file:
        file.write("e,2013-01-15 00:00:00\nf,2013-01-10 00:00:00\n")
    assert [ids_of(source, key) for key in ticks(3)] == [before[0], ["c", "d", "f", "[6]"], ["e"]]
    assert before == [["a", "b"], ["c", "d", "[6]"]]


def test_a_file_of_the_same_size_that_was_written_again_is_read_again(tmp_path: Path, open_csv: Any) -> None:
    path = write_csv(tmp_path, "a,2013-01-02 00:00:00")
    source = open_csv()
    assert ids_of(source, FIRST) == ["a"]
    write_csv(tmp_path, "b,2013-01-02 00:00:00")
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert ids_of(source, FIRST) == ["b"]


@pytest.mark.parametrize("lines", [["a,1.2.2013", "b,2.2.2013"], ["x,"] * (BATCH_ROWS + 2), ["too,many,values"]])
def test_a_file_without_any_readable_time_is_refused_and_not_taken_for_late(
    tmp_path: Path, open_csv: Any, lines: list[str]
) -> None:
    write_csv(tmp_path, *lines)
    words = r"readable time in column 'at'.*declare the format"
    with pytest.raises(PartitionRefusedError, match=words), open_csv().open(FIRST):
        pass
    assert list(tmp_path.glob("scratch/*/*.arrow*")) == []


def test_a_file_without_the_time_column_is_refused_with_its_columns(tmp_path: Path, open_csv: Any) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "all.csv").write_text("id,when\n1,2013-01-02\n")
    words = r"'at', the declared time, is missing.*there are id, when"
    with pytest.raises(PartitionRefusedError, match=words), open_csv().open(FIRST):
        pass


def test_limits_count_the_rows_of_the_partition_and_not_of_the_file(tmp_path: Path, open_csv: Any) -> None:
    write_csv(tmp_path, *(f"{number},2013-01-{number % 28 + 1:02} 00:00:00" for number in range(280)))
    assert len(ids_of(open_csv(limits=Limits(rows=70)), "2013-01-13T00:00:00")) == 70
    with pytest.raises(PartitionRefusedError, match=r"at least 70 rows, and data\.limits\.rows is 69"):
        ids_of(open_csv(limits=Limits(rows=69)), "2013-01-13T00:00:00")


def test_several_files_are_cut_one_after_another(tmp_path: Path, open_csv: Any) -> None:
    write_csv(tmp_path, "a,2013-01-02 00:00:00", "b,2013-01-09 00:00:00", name="1.csv")
    write_csv(tmp_path, "c,", "d,2013-01-09 00:00:00", "e,2013-01-02 00:00:00", name="2.csv")
    source = open_csv(uri="in/*.csv")
    assert [ids_of(source, key) for key in ticks(2)] == [["a", "e"], ["b", "c", "d"]]


def test_the_origin_is_the_file_and_the_interval(tmp_path: Path, open_csv: Any) -> None:
    path = write_csv(tmp_path, "a,2013-01-02 00:00:00")
    with open_csv().open(FIRST) as arrival:
        assert arrival.typed is False
        assert arrival.origin == {
            "files": [{"path": "in/all.csv", "size": path.stat().st_size}],
            "start": "2012-12-30T00:00:00",
            "end": FIRST,
        }


def test_a_copy_is_read_instead_of_the_text_and_only_its_user_can_read_it(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "a,2013-01-02 00:00:00", "b,2013-01-09 00:00:00")
    source = csv_table(tmp_path, copied=True)
    assert ids_of(source, FIRST) == ["a"]
    stamp, content = path.stat().st_mtime_ns, path.read_bytes()
    path.write_bytes(content.replace(b"b,", b"x,"))
    os.utime(path, ns=(stamp, stamp))  # nothing shows that the text is another one
    assert ids_of(source, "2013-01-13T00:00:00") == ["b"]
    copies = list(tmp_path.glob("scratch/*/*.arrow"))
    assert len(copies) == 2
    assert {copy.stat().st_mode & 0o077 for copy in copies} == {0}


def test_partitions_that_are_read_at_once_share_one_reading_of_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path, *(f"{number},2013-01-{number * 7 + 2:02} 00:00:00" for number in range(4)))
    readings: list[int] = []
    read = DeclaredTimes.moments

    def count(self: DeclaredTimes, column: pa.Array, *, typed: bool) -> Any:
        readings.append(len(column))
        return read(self, column, typed=typed)

    monkeypatch.setattr(DeclaredTimes, "moments", count)
    tables = [csv_table(tmp_path, copied=True) for _ in range(4)]  # each writes the contract that all of them read
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(ids_of, tables, ticks(4)))
    assert rows == [["0"], ["1"], ["2"], ["3"]]
    assert readings == [4]


def test_a_copy_holds_no_column_that_the_contract_does_not_declare(tmp_path: Path) -> None:
    path = write_csv(tmp_path)
    path.write_text("id,at,phone\na,2013-01-02 00:00:00,555-0100\n")
    with csv_table(tmp_path, copied=True).open(FIRST) as arrival:
        assert arrival.schema.names == ["id", "at", "phone"]
        assert pa.Table.from_batches(arrival.batches).to_pydict()["id"] == ["a"]
    assert not any(b"555-0100" in file.read_bytes() for file in tmp_path.glob("scratch/*/*"))


def test_a_text_that_is_written_while_it_is_read_is_read_again_later(
    tmp_path: Path, open_csv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path, "a,2013-01-02 00:00:00")
    source = open_csv()
    read = DeclaredTimes.moments

    def append_meanwhile(self: DeclaredTimes, column: pa.Array, *, typed: bool) -> Any:
        with path.open("a") as file:
            file.write("b,2013-01-03 00:00:00\n")
        return read(self, column, typed=typed)

    monkeypatch.setattr(DeclaredTimes, "moments", append_meanwhile)
    with pytest.raises(SourceUnreachableError, match=r"in/all\.csv was written while it was read"):
        ids_of(source, FIRST)
    monkeypatch.undo()
    assert ids_of(source, FIRST) == ["a", "b"]


def test_a_damaged_file_leaves_no_copy_behind(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "a,2013-01-02 00:00:00")
    with path.open("a") as file:
        file.write('b,"2013-01-03 00:00:00\n')
    source = csv_table(tmp_path, copied=True)
    with pytest.raises(SourceUnreadableError, match="never closed"):
        ids_of(source, FIRST)
    write_csv(tmp_path, "a,2013-01-02 00:00:00")
    assert ids_of(source, FIRST) == ["a"]
    assert len(list(tmp_path.glob("scratch/*/*.arrow*"))) == 2


def test_in_an_object_store_the_entity_tag_is_the_identity(tmp_path: Path, object_store: S3FileSystem) -> None:
    bucket = f"b{uuid.uuid4().hex}"
    object_store.create_dir(bucket)

    def put(text: str) -> None:
        with object_store.open_output_stream(f"{bucket}/all.csv") as stream:
            stream.write(text.encode())

    put("id,at\na,2013-01-02 00:00:00\nb,2013-01-09 00:00:00\n")
    source = csv_table(tmp_path, copied=True, uri=f"s3://{bucket}/all.csv", filesystem=object_store)
    assert [ids_of(source, key) for key in ticks(2)] == [["a"], ["b"]]
    with source.open(FIRST) as arrival:
        origin = arrival.origin
    with source.open(FIRST, known=origin) as arrival:
        assert arrival.unchanged
    put("id,at\nx,2013-01-02 00:00:00\ny,2013-01-09 00:00:00\n")
    with source.open(FIRST, known=origin) as arrival:
        assert not arrival.unchanged
    assert [ids_of(source, key) for key in ticks(2)] == [["x"], ["y"]]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("{type: time}", "2013-01-06 00:30:00+01:00"),
        ("{type: time, zone: Europe/Berlin}", "2013-01-06 00:30:00"),
        ("{type: date}", "2013-01-05"),
        ('{type: time, zone: none, format: "%d.%m.%Y %H:%M"}', "05.01.2013 23:30"),
    ],
)
def test_times_are_read_as_the_contract_has_them(tmp_path: Path, rule: str, text: str) -> None:
    write_csv(tmp_path, f"a,{text}")
    contract = CONTRACT.replace("{type: time, zone: none}", rule)
    source = CsvTable("in/all.csv", time=time_column(tmp_path, contract), root=tmp_path)
    assert ids_of(source, FIRST) == ["a"]


def test_a_loop_accounts_for_each_line_of_the_file_as_published_or_in_quarantine(tmp_path: Path) -> None:
    world = World(tmp_path, source="csv", data={"source": {"kind": "csv", "uri": "in/all.csv"}, "tolerance": 0.5})
    (tmp_path / "in").mkdir()
    lines = as_csv(as_text(good_rows(KEYS[0]))).splitlines(keepends=True)
    for key in KEYS[1:3]:
        lines += as_csv(as_text(good_rows(key))).splitlines(keepends=True)[1:]
    lines.insert(250, b"too,few\r\n")
    lines.append(b"Total,,,,,,,,\r\n")
    (tmp_path / "in" / "all.csv").write_bytes(b"".join(lines))
    published = [world.ingest(key) for key in KEYS[:3]]
    assert [(record.rows, record.rejected) for record in published] == [(200, 0), (200, 1), (200, 1)]
    assert [len(world.quarantined(key)) for key in KEYS[:3]] == [0, 1, 1]
    assert "line 251" in str(world.quarantined(KEYS[1]))
    assert "Total" in str(world.quarantined(KEYS[2]))


def loop_with_copies(folder: Path, **contract: Any) -> World:
    """Return a loop on a file of 17 MB, from which copies are made."""
    world = World(folder, source="csv", data={"source": {"kind": "csv", "uri": "in/all.csv"}})
    world.contract = {**CONTRACT_OF_ORDERS, **contract}
    (folder / "in").mkdir()
    lines = as_csv(as_text(good_rows(KEYS[0]))).splitlines(keepends=True)
    comments = b"\r\n" * (17 << 19)
    (folder / "in" / "all.csv").write_bytes(b"".join(lines) + comments)
    return world


def copies_of(folder: Path) -> list[Path]:
    return list((folder / "home").rglob("table-copies/*/*.arrow"))


def test_a_loop_copies_a_large_file_and_an_erasure_deletes_the_copies(tmp_path: Path) -> None:
    world = loop_with_copies(tmp_path)
    assert world.ingest(KEYS[0]).rows == 200
    assert len(copies_of(tmp_path)) == 2
    forget_subject(replace(world.workspace, secret="s" * 40), "2013-01-06-7")
    assert copies_of(tmp_path) == []


@pytest.mark.parametrize("subject", [{"subject": "kind"}, {}])
def test_a_file_about_persons_is_never_copied(tmp_path: Path, subject: dict[str, str]) -> None:
    columns = dict(CONTRACT_OF_ORDERS["columns"])
    if not subject:
        columns["kind"] = {"type": "text", "privacy": "personal", "feature": False}
    world = loop_with_copies(tmp_path, columns=columns, **subject)
    assert world.ingest(KEYS[0]).rows == 200
    assert copies_of(tmp_path) == []


# --- Parquet ----------------------------------------------------------------------------------------------------------


def parquet_table(folder: Path, rows: pa.Table, *, group: int = 1_000, **options: Any) -> ParquetTable:
    path = folder / "in" / "all.parquet"
    path.parent.mkdir(exist_ok=True)
    pq.write_table(rows, path, row_group_size=group)
    return ParquetTable("in/all.parquet", time=time_column(folder, None), root=folder, **options)


def at(texts: list[str | None], kind: pa.DataType | None = None) -> pa.Array:
    kind = kind or pa.timestamp("us")
    return pa.array(texts, pa.string()).cast(pa.timestamp(getattr(kind, "unit", "us"))).cast(kind)


@pytest.mark.parametrize(
    "kind", [pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ms", tz="UTC"), pa.date32(), pa.timestamp("s")]
)
@pytest.mark.parametrize("group", [1, 2, 1_000])
def test_parquet_is_cut_by_every_type_of_time(tmp_path: Path, kind: pa.DataType, group: int) -> None:
    days = ["2013-01-09", None, "2013-01-05", "2013-01-06", None, "2013-01-02"]
    rows = pa.table({"id": list("abcdef"), "at": at(days, kind)})
    source = parquet_table(tmp_path, rows, group=group)
    assert ids_of(source, FIRST) == ["c", "f"]
    assert ids_of(source, "2013-01-13T00:00:00") == ["a", "b", "d", "e"]
    assert ids_of(source, "2013-01-20T00:00:00") == []


@pytest.mark.parametrize("group", [1, 3, 1_000])
def test_all_partitions_of_a_parquet_file_hold_each_row_exactly_once(tmp_path: Path, group: int) -> None:
    days = [None if number % 5 == 0 else f"2013-01-{number * 11 % 28 + 1:02}" for number in range(200)]
    rows = pa.table({"id": list(map(str, range(200))), "at": at(days)})
    source = parquet_table(tmp_path, rows, group=group)
    by_partition = [ids_of(source, key) for key in ticks(6)]
    assert sorted(int(entry) for entries in by_partition for entry in entries) == list(range(200))
    whole = parquet_table(tmp_path, rows, group=1_000)
    assert by_partition == [ids_of(whole, key) for key in ticks(6)]


def test_row_groups_of_other_partitions_are_not_read(tmp_path: Path) -> None:
    days = [f"2013-01-{day:02}" for day in range(1, 29)]
    rows = pa.table({"id": [str(day) * 1_000 for day in range(28)], "at": at(days)})
    source = parquet_table(tmp_path, rows, group=7)
    path = tmp_path / "in" / "all.parquet"
    groups = pq.read_metadata(path)
    end = groups.row_group(3).column(0)
    content = bytearray(path.read_bytes())
    start = end.dictionary_page_offset or end.data_page_offset
    content[start : start + end.total_compressed_size] = bytes(end.total_compressed_size)
    path.write_bytes(content)
    assert [entry[:1] for entry in ids_of(source, FIRST)] == list("01234")
    with pytest.raises(SourceUnreadableError, match=r"in/all\.parquet cannot be read"):
        ids_of(source, "2013-01-27T00:00:00")


def test_a_parquet_file_that_grows_gives_its_old_partitions_as_before(tmp_path: Path) -> None:
    rows = pa.table({"id": ["a", "b"], "at": at(["2013-01-02", None])})
    assert ids_of(parquet_table(tmp_path, rows), FIRST) == ["a", "b"]
    more = pa.concat_tables([rows, pa.table({"id": ["c"], "at": at(["2013-01-09"])})])
    source = parquet_table(tmp_path, more)
    assert [ids_of(source, key) for key in ticks(2)] == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("column", "words"),
    [(pa.array(["2013-01-02"]), "has the type string.*deliver a date or a time"), (pa.nulls(1), "readable time")],
)
def test_a_parquet_file_whose_time_is_none_is_refused(tmp_path: Path, column: pa.Array, words: str) -> None:
    source = parquet_table(tmp_path, pa.table({"id": ["a"], "at": column}))
    with pytest.raises(PartitionRefusedError, match=words):
        ids_of(source, FIRST)


def test_limits_count_the_rows_of_the_partition_of_a_parquet_file(tmp_path: Path) -> None:
    rows = pa.table({"id": list("abc"), "at": at(["2013-01-02", "2013-01-03", "2013-01-09"])})
    assert ids_of(parquet_table(tmp_path, rows, limits=Limits(rows=2)), FIRST) == ["a", "b"]
    with pytest.raises(PartitionRefusedError, match=r"data\.limits\.rows is 1"):
        ids_of(parquet_table(tmp_path, rows, limits=Limits(rows=1)), FIRST)
