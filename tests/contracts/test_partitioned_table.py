"""The contract of every table of partitions: replaced whole, never mixed, and every version readable for good."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from airflow_mlops.core.data import delta_snapshots
from airflow_mlops.core.data.content_digest import content_digest
from airflow_mlops.core.data.delta_snapshots import DeltaPartitions
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ports.partitions import PartitionedTable
from airflow_mlops.testing.in_memory import InMemoryTable

FIRST, SECOND, THIRD = (f"2013-01-{day:02}T00:00:00" for day in (6, 13, 20))


@pytest.fixture(params=["delta", "in memory"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> PartitionedTable:
    return DeltaPartitions(tmp_path / "lake" / "rows") if request.param == "delta" else InMemoryTable()


def rows(*values: float) -> pa.Table:
    return pa.table({"id": [str(number) for number in range(len(values))], "x": pa.array(values, pa.float64())})


def values_of(stored: pa.Table) -> list[Any]:
    return sorted(stored.column("x").to_pylist())


def test_a_partition_comes_back_as_it_was_written(table: PartitionedTable) -> None:
    table.write(FIRST, rows(1, 2, 3))
    stored = table.read(FIRST)
    assert values_of(stored) == [1, 2, 3]
    assert stored.column_names == ["id", "x"]


def test_replacing_a_partition_leaves_the_others_as_they_were(table: PartitionedTable) -> None:
    for key in (FIRST, SECOND, THIRD):
        table.write(key, rows(1, 2))
    table.write(SECOND, rows(7))
    assert [values_of(table.read(key)) for key in (FIRST, SECOND, THIRD)] == [[1, 2], [7], [1, 2]]


def test_a_partition_replaced_by_no_rows_leaves_the_others_as_they_were(table: PartitionedTable) -> None:
    for key in (FIRST, SECOND):
        table.write(key, rows(1, 2))
    table.write(FIRST, rows())
    assert table.partitions() == [SECOND]
    assert table.read(SECOND).column_names == ["id", "x"]
    assert values_of(table.read(SECOND)) == [1, 2]


def test_every_earlier_version_stays_readable(table: PartitionedTable) -> None:
    versions = [table.write(FIRST, rows(number)) for number in range(5)]
    assert versions == sorted(set(versions))
    assert [values_of(table.read(FIRST, version=version)) for version in versions] == [[n] for n in range(5)]
    assert values_of(table.read(FIRST)) == [4]


def test_an_earlier_version_does_not_know_later_partitions(table: PartitionedTable) -> None:
    before = table.write(FIRST, rows(1))
    table.write(SECOND, rows(2))
    with pytest.raises(DataError, match=f"no partition {SECOND}"):
        table.read(SECOND, version=before)


def test_only_the_columns_asked_for_are_read(table: PartitionedTable) -> None:
    table.write(FIRST, rows(1, 2))
    assert table.read(FIRST, columns=["x"]).column_names == ["x"]


def test_a_column_that_is_not_there_is_a_data_error_that_names_it(table: PartitionedTable) -> None:
    table.write(FIRST, rows(1))
    with pytest.raises(DataError, match="label"):
        table.read(FIRST, columns=["x", "label"])


def test_a_missing_table_partition_or_version_is_a_data_error(table: PartitionedTable) -> None:
    with pytest.raises(DataError):
        table.read(FIRST)
    table.write(FIRST, rows(1))
    with pytest.raises(DataError, match=SECOND):
        table.read(SECOND)
    for version in (99, -1):
        with pytest.raises(DataError, match=f"version {version}"):
            table.read(FIRST, version=version)


def test_a_partition_replaced_by_no_rows_is_gone_and_its_past_is_not(table: PartitionedTable) -> None:
    before = table.write(FIRST, rows(1))
    table.write(FIRST, rows())
    with pytest.raises(DataError, match=FIRST):
        table.read(FIRST)
    assert values_of(table.read(FIRST, version=before)) == [1]


COLUMNS = {
    "text": pa.array(["ä", None, ""]),
    "large text": pa.array(["ä", None, ""], pa.large_string()),
    "text view": pa.array(["ä", None, ""], pa.string_view()),
    "categories": pa.array(["x", None, "x"]).dictionary_encode(),
    "numbers": pa.array([float("nan"), None, -0.0]),
    "small numbers": pa.array([1.5, None, 0], pa.float32()),
    "integers": pa.array([2**62, None, -1]),
    "bytes": pa.array([250, None, 0], pa.uint8()),
    "booleans": pa.array([True, None, False]),
    "days": pa.array([date(2013, 1, 6), None, date(1900, 1, 1)]),
    "times": pa.array([datetime(2013, 1, 6, 1, 2, 3, 4), None, None]),  # noqa: DTZ001
    "times in nanoseconds": pa.array([1_000, None, 0], pa.timestamp("ns")),
    "times in seconds": pa.array([1, None, 0], pa.timestamp("s")),
    "times in a zone": pa.array([1, None, 0], pa.timestamp("us", tz="America/New_York")),
    "nothing": pa.nulls(3),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_what_a_table_says_survives_being_written(table: PartitionedTable, kind: str) -> None:
    # A training window is pinned by this digest: were it another one after writing, nothing could be trained.
    written = pa.table({"id": ["a", "b", "c"], "x": COLUMNS[kind]})
    table.write(FIRST, written)
    assert content_digest(table.read(FIRST)) == content_digest(written)


def test_writers_of_different_partitions_at_once_all_succeed(table: PartitionedTable) -> None:
    table.write(FIRST, rows(0))
    keys, failed = [f"2014-01-{day:02}T00:00:00" for day in range(1, 5)], []

    def write(key: str, value: float) -> None:
        try:
            table.write(key, rows(value))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(key, number)) for number, key in enumerate(keys)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [values_of(table.read(key)) for key in [FIRST, *keys]] == [[0], [0], [1], [2], [3]]


def test_a_type_that_delta_cannot_keep_is_a_data_error_and_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    table = DeltaPartitions(tmp_path / "rows")
    table.write(FIRST, rows(1))
    with pytest.raises(DataError, match=f"{SECOND} cannot be written"):
        table.write(SECOND, pa.table({"id": ["a"], "x": pa.array([1], pa.duration("s"))}))
    assert values_of(table.read(FIRST)) == [1]


def test_a_table_that_was_never_written_has_nothing_to_tidy_or_to_purge(table: PartitionedTable) -> None:
    assert (table.partitions(), table.vacuum([]), table.purge(FIRST)) == ([], 0, 0)


def test_tidying_keeps_the_partitions_that_are_named_in_their_versions(table: PartitionedTable) -> None:
    kept = table.write(FIRST, rows(1))
    gone = table.write(FIRST, rows(2))
    newest = table.write(FIRST, rows(3))
    table.vacuum([(FIRST, kept)], after_hours=0)
    assert values_of(table.read(FIRST, version=kept)) == [1]
    assert values_of(table.read(FIRST, version=newest)) == [3]
    if not isinstance(table, InMemoryTable):
        with pytest.raises(DataError):
            table.read(FIRST, version=gone)


def test_purging_leaves_only_what_the_newest_version_holds(table: PartitionedTable) -> None:
    before = table.write(FIRST, rows(1))
    other = table.write(SECOND, rows(5))
    table.write(FIRST, rows(2))
    assert table.purge(FIRST) >= 1
    with pytest.raises(DataError):
        table.read(FIRST, version=before)
    assert values_of(table.read(FIRST)) == [2]
    assert values_of(table.read(SECOND, version=other)) == [5]


def test_a_reader_that_fails_leaves_the_table_as_it_was(table: PartitionedTable) -> None:
    table.write(FIRST, rows(1))

    def failing() -> Iterator[pa.RecordBatch]:
        yield from rows(7).to_batches()
        raise DataError("the source broke off")

    with pytest.raises(DataError, match="broke off"):
        table.write(FIRST, pa.RecordBatchReader.from_batches(rows(7).schema, failing()))
    assert values_of(table.read(FIRST)) == [1]


def test_two_writers_of_a_new_partition_at_once_leave_the_rows_of_one(table: PartitionedTable) -> None:
    table.write(FIRST, rows(0))
    failed: list[Exception] = []

    def write(value: float) -> None:
        try:
            table.write(SECOND, rows(value))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(values_of(table.read(SECOND))) == 1


def test_a_column_that_came_later_is_null_in_the_partitions_before(table: PartitionedTable) -> None:
    table.write(FIRST, rows(1))
    table.write(SECOND, rows(2).append_column("later", pa.array([9])))
    assert table.read(SECOND).column("later").to_pylist() == [9]
    assert values_of(table.read(FIRST)) == [1]


def test_a_partition_with_fewer_columns_hides_none_of_the_others(table: PartitionedTable) -> None:
    table.write(FIRST, rows(1).append_column("more", pa.array([9])))
    table.write(SECOND, rows(2))
    assert table.read(FIRST).column("more").to_pylist() == [9]


def test_a_table_that_another_writer_creates_in_the_same_moment_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rows"
    opened = DeltaPartitions._table

    def created_meanwhile(self: DeltaPartitions, version: int | None) -> DeltaTable:
        monkeypatch.setattr(DeltaPartitions, "_table", opened)
        try:
            return opened(self, version)
        finally:
            DeltaPartitions(folder).write(SECOND, pa.table({"x": [2]}))

    monkeypatch.setattr(DeltaPartitions, "_table", created_meanwhile)
    table = DeltaPartitions(folder)
    table.write(FIRST, pa.table({"x": [1]}))
    assert table.partitions() == [FIRST, SECOND]


def test_the_version_that_a_write_returns_holds_what_was_written_whoever_writes_at_the_same_time(
    tmp_path: Path,
) -> None:
    script = Path(__file__).with_name("racing_writer.py")
    writers = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "rows"), str(number), "16"], stdout=subprocess.PIPE, text=True
        )
        for number in range(1, 5)
    ]
    answers = [json.loads(writer.communicate(timeout=120)[0]) for writer in writers]
    assert answers == [[], [], [], []]


def test_after_many_writes_every_version_and_partition_is_as_it_was(
    table: PartitionedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_snapshots, "RECENT", 20)
    monkeypatch.setattr(delta_snapshots, "LASTING", 20)
    keys = [f"2014-01-01T00:{minute:02}:00" for minute in range(30)]
    versions = [(key, table.write(key, rows(number)), number) for number, key in enumerate([*keys, *keys])]
    for key, version, number in versions:
        assert values_of(table.read(key, version=version)) == [number]
    assert [values_of(table.read(key)) for key in keys] == [[30 + number] for number in range(30)]
    assert table.partitions() == keys


def test_a_table_is_loaded_from_a_checkpoint_and_few_commits_and_old_checkpoints_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_snapshots, "RECENT", 20)
    monkeypatch.setattr(delta_snapshots, "LASTING", 20)
    table, log = DeltaPartitions(tmp_path / "rows"), tmp_path / "rows" / "_delta_log"
    for minute in range(60):
        newest = table.write(f"2014-01-01T00:{minute:02}:00", rows(minute))
    checkpoints = sorted(int(path.name[:20]) for path in log.glob("*.checkpoint.parquet"))
    assert newest - checkpoints[-1] <= delta_snapshots.CHECKPOINT_EVERY
    assert checkpoints == [19, 39, 49, 59]
    assert len(list(log.glob("*.json"))) == newest + 1, "commits lead to the versions between checkpoints"


def test_a_checkpoint_that_cannot_be_written_fails_no_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_table: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("deltalake.DeltaTable.create_checkpoint", failing)
    table = DeltaPartitions(tmp_path / "rows")
    for minute in range(12):
        table.write(f"2014-01-01T00:{minute:02}:00", rows(minute))
    assert len(table.partitions()) == 12


def test_a_partition_in_the_version_that_wrote_it_is_read_without_loading_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = DeltaPartitions(tmp_path / "rows")
    first = table.write(FIRST, rows(1))
    second = table.write(SECOND, rows(2).append_column("later", pa.array([9])))
    narrow = table.write(THIRD, rows(3))
    with monkeypatch.context() as patched:
        patched.setattr(DeltaPartitions, "_table", lambda *_: pytest.fail("the table was loaded"))
        pinned = [(FIRST, first), (SECOND, second), (THIRD, narrow)]
        read = [table.read(key, version=version) for key, version in pinned]
    assert [values_of(each) for each in read] == [[1], [2], [3]]
    assert read[2].column("later").to_pylist() == [None]
    loaded = table.read(FIRST, version=second)
    assert (values_of(loaded), loaded.column_names) == ([1], ["id", "x", "later"])
    assert read[0].column_names == ["id", "x"]
