"""What every source promises: the rows of a partition, or an error that says what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.data.parquet_source import ParquetFiles
from airflow_mlops.core.data.port import Source
from airflow_mlops.core.errors import NotReadyError, SourceMissingError, SourceUnreadableError
from airflow_mlops.testing.in_memory import InMemorySource

KEY, LATER = "2013-01-06T00:00:00", "2013-01-13T00:00:00"
ROWS = pa.table({"id": ["a", "b"], "x": [1.5, None]})
Fill = Callable[[str, pa.Table], None]


@pytest.fixture(params=["parquet", "in memory"])
def source_and_fill(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Source, Fill]:
    if request.param == "parquet":
        source = ParquetFiles("{partition}.parquet", root=tmp_path)
        return source, lambda key, rows: pq.write_table(rows, source.path(key))
    frames: dict[str, pa.Table] = {}
    return InMemorySource(frames), lambda key, rows: frames.update({key: rows})


def test_a_partition_comes_as_it_was_put_there(source_and_fill: tuple[Source, Fill]) -> None:
    source, fill = source_and_fill
    fill(KEY, ROWS)
    fill(LATER, ROWS.slice(1))
    assert source.read(KEY).equals(ROWS)
    assert source.read(LATER).equals(ROWS.slice(1))


def test_a_partition_that_is_not_there_yet_is_missing_and_not_a_failure(source_and_fill: tuple[Source, Fill]) -> None:
    source, fill = source_and_fill
    fill(KEY, ROWS)
    with pytest.raises(SourceMissingError, match=LATER) as caught:
        source.read(LATER)
    assert isinstance(caught.value, NotReadyError)


def test_a_partition_that_comes_later_is_read_when_it_is_there(source_and_fill: tuple[Source, Fill]) -> None:
    source, fill = source_and_fill
    with pytest.raises(SourceMissingError):
        source.read(KEY)
    fill(KEY, ROWS)
    assert source.read(KEY).num_rows == 2


def test_a_partition_without_rows_is_read_as_such(source_and_fill: tuple[Source, Fill]) -> None:
    source, fill = source_and_fill
    fill(KEY, ROWS.slice(0, 0))
    assert source.read(KEY).num_rows == 0


def test_the_file_of_a_midnight_key_is_named_by_its_day_and_that_of_an_hour_by_its_hour(tmp_path: Path) -> None:
    source = ParquetFiles("in/{partition}.parquet", root=tmp_path)
    assert source.path(KEY) == tmp_path / "in" / "2013-01-06.parquet"
    assert source.path("2013-01-06T06:30:00") == tmp_path / "in" / "2013-01-06T0630.parquet"


@pytest.mark.parametrize("kept", [0, 1, 4, 20, 0.3, 0.7, 0.999])
def test_a_truncated_parquet_file_is_unreadable_and_named(tmp_path: Path, kept: float) -> None:
    source = ParquetFiles("{partition}.parquet", root=tmp_path)
    path = source.path(KEY)
    pq.write_table(pa.table({"id": [str(row) for row in range(5000)]}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(SourceUnreadableError, match=r"partition 2013-01-06T00:00:00: .*2013-01-06.parquet cannot be"):
        source.read(KEY)


def test_damage_in_the_middle_of_a_parquet_file_is_unreadable(tmp_path: Path) -> None:
    source = ParquetFiles("{partition}.parquet", root=tmp_path)
    path = source.path(KEY)
    pq.write_table(pa.table({"id": [str(row) for row in range(5000)]}), path)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(SourceUnreadableError):
        source.read(KEY)


def test_text_or_a_folder_in_the_place_of_a_parquet_file_is_unreadable(tmp_path: Path) -> None:
    source = ParquetFiles("{partition}.parquet", root=tmp_path)
    source.path(KEY).write_text("id,x\n1,2\n")
    source.path(LATER).mkdir()
    for key in (KEY, LATER):
        with pytest.raises(SourceUnreadableError, match=key):
            source.read(key)
