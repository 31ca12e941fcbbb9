"""A Parquet source: several files read as one partition, and refused by their footers if they hold too much."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import PartitionRefusedError, SourceMissingError, SourceUnreadableError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Source
from airflow_mlops.core.sources.parquet_source import ParquetFiles
from tests.wiped_parquet import wipe_rows

KEY, LATER = "2013-01-06T00:00:00", "2013-01-13T00:00:00"


def rows_of(source: Source, key: str = KEY) -> pa.Table:
    with source.open(key) as arrival:
        return pa.Table.from_batches(arrival.batches, schema=arrival.schema)


def write(path: Path, **columns: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_the_file_of_a_midnight_key_is_named_by_its_day_and_that_of_an_hour_by_its_hour(tmp_path: Path) -> None:
    source = ParquetFiles("in/{partition}.parquet", root=tmp_path)
    assert source.path(KEY) == tmp_path / "in" / "2013-01-06.parquet"
    assert source.path("2013-01-06T06:30:00") == tmp_path / "in" / "2013-01-06T0630.parquet"


@pytest.mark.parametrize(
    "template",
    ["in/{partition}/*.parquet", "in/{partition}/", "*/{partition}/part-*", "{year}*/{partition}/*", "in/2*/*/*.pa*t"],
)
def test_several_files_are_one_partition_in_the_order_of_their_names(tmp_path: Path, template: str) -> None:
    place = {"{": "2013", "i": "in", "*": "in"}[template[0]] + "/" + ("2013-01-06/a" if "/*/" in template else "")
    folder = tmp_path / place / ("" if "/*/" in template else "2013-01-06")
    for number in (2, 10, 1):
        write(folder / f"part-{number:02}.parquet", n=[number, number])
    (folder / "_SUCCESS").write_text("")
    (folder / ".part-00.parquet.crc").write_text("x")
    (folder / "deeper.parquet").mkdir()
    source = ParquetFiles(template, root=tmp_path)
    if template == "*/{partition}/part-*":
        write(tmp_path / "zz" / "2013-01-06" / "part-00.parquet", n=[99])
        assert rows_of(source).column("n").to_pylist() == [1, 1, 2, 2, 10, 10, 99]
    else:
        assert rows_of(source).column("n").to_pylist() == [1, 1, 2, 2, 10, 10]
    with pytest.raises(SourceMissingError, match=r"in/2014-01-05/\*\.parquet is not there yet"):
        rows_of(ParquetFiles("in/{partition}/*.parquet", root=tmp_path), "2014-01-05T00:00:00")


def test_the_origin_names_files_as_they_are_declared_and_nothing_of_the_machine(tmp_path: Path) -> None:
    write(tmp_path / "in" / "2013-01-06-a.parquet", n=[1])
    write(tmp_path / "in" / "2013-01-06-b.parquet", n=[1, 2])
    with ParquetFiles("in/{partition}-*.parquet", root=tmp_path).open(KEY) as arrival:
        sizes = [path.stat().st_size for path in sorted((tmp_path / "in").iterdir())]
        assert arrival.typed
        assert arrival.origin == {
            "files": [
                {"path": "in/2013-01-06-a.parquet", "size": sizes[0], "rows": 1},
                {"path": "in/2013-01-06-b.parquet", "size": sizes[1], "rows": 2},
            ]
        }


def test_columns_in_another_order_are_brought_into_the_order_of_the_first_file(tmp_path: Path) -> None:
    write(tmp_path / "2013-01-06-a.parquet", n=[1], s=["x"])
    write(tmp_path / "2013-01-06-b.parquet", s=["y"], n=[2])
    rows = rows_of(ParquetFiles("{partition}-*.parquet", root=tmp_path))
    assert rows.to_pydict() == {"n": [1, 2], "s": ["x", "y"]}


def test_files_with_other_columns_are_refused_with_each_difference(tmp_path: Path) -> None:
    write(tmp_path / "2013-01-06-a.parquet", n=[1], s=["x"], gone=[1])
    write(tmp_path / "2013-01-06-b.parquet", n=["1"], s=["y"], extra=[1.5])
    with pytest.raises(PartitionRefusedError) as caught:
        rows_of(ParquetFiles("{partition}-*.parquet", root=tmp_path))
    assert str(caught.value) == (
        "partition 2013-01-06T00:00:00: 2013-01-06-b.parquet has other columns than 2013-01-06-a.parquet: "
        "column 'gone' is missing; column 'extra' (double) is new; column 'n' is string, there it is int64; "
        "the files of a partition must have the same columns"
    )


def test_a_small_file_of_200_million_rows_is_refused_from_its_footer_alone(tmp_path: Path) -> None:
    path = tmp_path / "2013-01-06.parquet"
    piece = pa.table({"x": pa.nulls(2_000_000, pa.int8())})
    with pq.ParquetWriter(path, piece.schema, compression="zstd") as writer:
        for _ in range(100):
            writer.write_table(piece)
    assert path.stat().st_size < 1_000_000
    wipe_rows(path)
    with pytest.raises(
        PartitionRefusedError, match=r"2013-01-06\.parquet it has at least 200,000,000 rows.*100,000,000"
    ):
        rows_of(ParquetFiles("{partition}.parquet", root=tmp_path))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(rows=5), r"b\.parquet it has at least 6 rows, and data\.limits\.rows is 5; raise the limit"),
        (Limits(cells=11), r"b\.parquet it has at least 12 cells, and data\.limits\.cells is 11"),
        (Limits(bytes=250), r"b\.parquet it has at least \d+ bytes, and data\.limits\.bytes is 250"),
    ],
)
def test_a_limit_counts_all_files_of_a_partition_together(tmp_path: Path, limits: Limits, reason: str) -> None:
    for name in "ab":
        write(tmp_path / f"2013-01-06-{name}.parquet", n=[1, 2, 3], m=[1, 2, 3])
    with pytest.raises(PartitionRefusedError, match=reason):
        rows_of(ParquetFiles("{partition}-*.parquet", root=tmp_path, limits=limits))
    exact = Limits(rows=6, cells=12)
    assert rows_of(ParquetFiles("{partition}-*.parquet", root=tmp_path, limits=exact)).num_rows == 6


def test_values_that_a_dictionary_makes_small_are_never_in_memory_at_once(tmp_path: Path) -> None:
    path = tmp_path / "2013-01-06.parquet"
    # Five gigabytes of text in a small file; the long value stands in the second row group only.
    with pq.ParquetWriter(path, pa.schema({"s": pa.dictionary(pa.int32(), pa.string())})) as writer:
        writer.write_table(pa.table({"s": pa.array(["short"] * 1000).dictionary_encode()}))
        long = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), pa.array(["x" * 100_000]))
        writer.write_table(pa.table({"s": long}))
    assert path.stat().st_size < 100_000
    with ParquetFiles("{partition}.parquet", root=tmp_path).open(KEY) as arrival:
        largest, rows = 0, 0
        for batch in arrival.batches:
            largest, rows = max(largest, batch.nbytes), rows + batch.num_rows
            if rows > 5_000:
                break
    assert rows > 1_000
    assert largest < 100_000_000
    with pytest.raises(PartitionRefusedError, match=r"data\.limits\.bytes is 1,000,000"):
        rows_of(ParquetFiles("{partition}.parquet", root=tmp_path, limits=Limits(bytes=1_000_000)))


def test_no_batch_is_larger_than_promised_and_none_is_lost(tmp_path: Path) -> None:
    write(tmp_path / "2013-01-06.parquet", n=list(range(200_000)))
    with ParquetFiles("{partition}.parquet", root=tmp_path).open(KEY) as arrival:
        batches = list(arrival.batches)
    assert max(batch.num_rows for batch in batches) <= BATCH_ROWS
    assert pa.Table.from_batches(batches).column("n").to_pylist() == list(range(200_000))


def test_categories_arrive_as_the_values_they_stand_for(tmp_path: Path) -> None:
    write(tmp_path / "2013-01-06.parquet", s=pa.array(["b", "a", None, "b"]).dictionary_encode())
    rows = rows_of(ParquetFiles("{partition}.parquet", root=tmp_path))
    assert rows.schema == pa.schema({"s": pa.string()})
    assert rows.column("s").to_pylist() == ["b", "a", None, "b"]


@pytest.mark.parametrize("kept", [0, 1, 4, 20, 0.3, 0.7, 0.999])
@pytest.mark.bad_input("refused")
def test_a_truncated_parquet_file_is_unreadable_and_named(tmp_path: Path, kept: float) -> None:
    source = ParquetFiles("{partition}.parquet", root=tmp_path)
    path = source.path(KEY)
    write(path, id=[str(row) for row in range(5000)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(
        SourceUnreadableError, match=r"partition 2013-01-06T00:00:00: 2013-01-06.parquet cannot be"
    ) as error:
        rows_of(source)
    assert str(tmp_path) not in str(error.value)


def test_damage_in_the_middle_of_a_parquet_file_is_told_when_the_batches_are_read(tmp_path: Path) -> None:
    source = ParquetFiles("{partition}.parquet", root=tmp_path)
    path = source.path(KEY)
    write(path, id=[str(row) for row in range(5000)])
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with source.open(KEY) as arrival, pytest.raises(SourceUnreadableError, match=r"2013-01-06\.parquet cannot be read"):
        list(arrival.batches)


def test_text_or_a_folder_in_the_place_of_a_parquet_file_is_unreadable(tmp_path: Path) -> None:
    source = ParquetFiles("{partition}.parquet", root=tmp_path)
    source.path(KEY).write_text("id,x\n1,2\n")
    source.path(LATER).mkdir()
    for key in (KEY, LATER):
        with pytest.raises(SourceUnreadableError, match=key):
            rows_of(source, key)
    with pytest.raises(SourceUnreadableError, match="it is a folder; end the template with /"):
        rows_of(source, LATER)


def test_a_file_that_goes_away_while_it_is_read_is_no_crash(tmp_path: Path) -> None:
    source = ParquetFiles("{partition}.parquet", root=tmp_path)
    write(source.path(KEY), n=[1])
    with source.open(KEY) as arrival:
        source.path(KEY).unlink()
        with pytest.raises(SourceMissingError):
            list(arrival.batches)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    source = ParquetFiles("{partition}.parquet", root=tmp_path)
    os.mkfifo(source.path(KEY))
    with pytest.raises(SourceUnreadableError, match="it is not a regular file"):
        rows_of(source)
    with pytest.raises(SourceMissingError):
        rows_of(ParquetFiles("{year}*.parquet", root=tmp_path))


def test_a_name_that_stands_twice_arrives_twice_for_the_contract_to_refuse(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array(["x"]), pa.array([2])], names=["a", "b", "a"])
    for name in "xy":
        pq.write_table(table, tmp_path / f"2013-01-06-{name}.parquet")
    with ParquetFiles("{partition}-*.parquet", root=tmp_path).open(KEY) as arrival:
        assert arrival.schema.names == ["a", "b", "a"]
        assert [batch.column(2).to_pylist() for batch in arrival.batches] == [[2], [2]]
