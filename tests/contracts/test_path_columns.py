"""Folders of Hive and Spark: values in a path are columns where they are declared, and named where they are not."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSystem, LocalFileSystem, S3FileSystem

from airflow_mlops.core.errors import (
    DeclarationError,
    PartitionRefusedError,
    SourceMissingError,
    SourceUnreadableError,
)
from airflow_mlops.core.sources.csv_source import CsvFiles
from airflow_mlops.core.sources.parquet_source import ParquetFiles
from tests.bad_input.world import BAD, CONTRACT, KEYS, World, good_rows

KEY = "2013-01-06T00:00:00"


class Place:
    """A folder on disk or in an object store, and the sources that read it."""

    def __init__(self, folder: Path, store: FileSystem | None) -> None:
        self.folder, self.store = folder, store
        self.base = str(folder) if store is None else f"b{uuid.uuid4().hex}"
        self.files = store or LocalFileSystem()
        if store is not None:
            store.create_dir(self.base)

    def put(self, path: str, *ids: str) -> None:
        if self.store is None:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        with self.files.open_output_stream(f"{self.base}/{path}") as stream:
            if path.endswith(".csv"):
                stream.write("".join(f"{line}\n" for line in ("id", *ids)).encode())
            else:
                pq.write_table(pa.table({"id": list(ids)}), stream)

    def rows(self, uri: str, *columns: str) -> list[dict[str, Any]]:
        kind: Any = CsvFiles if uri.endswith(".csv") or "csv" in uri else ParquetFiles
        template = uri if self.store is None else f"s3://{self.base}/{uri}"
        source = kind(template, root=self.folder, filesystem=self.store, path_columns=columns)
        with source.open(KEY) as arrival:
            assert arrival.untyped == frozenset(columns if kind is ParquetFiles else ())
            rows: list[dict[str, Any]] = pa.Table.from_batches(arrival.batches, schema=arrival.schema).to_pylist()
            return rows


@pytest.fixture(params=["on disk", "in an object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    store: S3FileSystem | None = None
    if request.param == "in an object store":
        store = request.getfixturevalue("object_store")
    return Place(tmp_path, store)


def test_values_in_the_path_are_columns(place: Place) -> None:
    place.put("in/dt=2013-01-06/region=eu/part-0.parquet", "a", "b")
    place.put("in/dt=2013-01-06/region=us/part-0.parquet", "c")
    place.put("in/dt=2013-01-06/_temporary/0/part.parquet", "x")
    place.put("in/dt=2013-01-06/_SUCCESS", "x")
    place.put("in/dt=2013-01-13/region=eu/part-0.parquet", "x")
    expected = [{"id": "a", "region": "eu"}, {"id": "b", "region": "eu"}, {"id": "c", "region": "us"}]
    assert place.rows("in/dt={partition}/", "region") == expected
    assert place.rows("in/dt={partition}/*/part-*.parquet", "region") == expected
    assert place.rows("in/dt={partition}/", "region", "dt")[0] == {"id": "a", "region": "eu", "dt": "2013-01-06"}


def test_values_are_percent_decoded_and_hive_has_a_word_for_null(place: Place) -> None:
    place.put("in/2013-01-06/the%20region=S%C3%BCd%2FOst/shop=1/a.parquet", "a")
    place.put("in/2013-01-06/the%20region=__HIVE_DEFAULT_PARTITION__/shop=a=b/a.parquet", "b")
    rows = place.rows("in/{partition}/", "the region", "shop")
    assert sorted(rows, key=lambda row: str(row["id"])) == [
        {"id": "a", "the region": "Süd/Ost", "shop": "1"},
        {"id": "b", "the region": None, "shop": "a=b"},
    ]


def test_csv_files_have_them_too(place: Place) -> None:
    place.put("csv/2013-01-06/region=eu/a.csv", "a")
    place.put("csv/2013-01-06/region=us/a.csv", "b")
    assert place.rows("csv/{partition}/", "region") == [{"id": "a", "region": "eu"}, {"id": "b", "region": "us"}]


@pytest.mark.parametrize("uri", ["in/dt={partition}/", "in/dt={partition}/*.parquet"])
def test_folders_that_are_not_declared_are_named_with_the_key(place: Place, uri: str) -> None:
    place.put("in/dt=2013-01-06/region=eu/a.parquet", "a")
    place.put("in/dt=2013-01-06/region=us/a.parquet", "b")
    with pytest.raises(
        SourceUnreadableError,
        match=r"not declared: region=eu, region=us; declare data\.source\.path_columns: \[region\]",
    ):
        place.rows(uri)
    place.put("in/dt=2013-01-06/region=eu/shop=1/a.parquet", "a")
    with pytest.raises(SourceUnreadableError, match=r"not declared: shop=1; declare .*: \[region, shop\]"):
        place.rows(uri, "region")


def test_a_folder_without_a_column_is_named_and_an_empty_one_is_not(place: Place) -> None:
    place.put("in/2013-01-06/a.parquet", "a")
    if place.store is None:
        (place.folder / "in" / "2013-01-06" / "empty").mkdir()
    assert place.rows("in/{partition}/") == [{"id": "a"}]
    place.put("in/2013-01-06/old/b.parquet", "b")
    with pytest.raises(SourceUnreadableError, match=r"not declared: old; move their files up, or write .* with a \*"):
        place.rows("in/{partition}/")


def test_a_file_beside_the_folders_is_no_row_without_a_region(place: Place) -> None:
    place.put("in/2013-01-06/region=eu/a.parquet", "a")
    place.put("in/2013-01-06/b.parquet", "b")
    with pytest.raises(SourceUnreadableError, match=r"2013-01-06/b\.parquet lies in no folder region=…"):
        place.rows("in/{partition}/", "region")


def test_a_partition_without_a_folder_is_not_there_yet(place: Place) -> None:
    place.put("in/dt=2013-01-13/region=eu/a.parquet", "a")
    with pytest.raises(SourceMissingError, match=r"in/dt=2013-01-06/ is not there yet"):
        place.rows("in/dt={partition}/", "region")


def test_a_column_that_is_in_the_file_too_is_refused(place: Place) -> None:
    place.put("in/2013-01-06/id=eu/a.parquet", "a")
    with pytest.raises(PartitionRefusedError, match="column 'id' is in the file and in its path"):
        place.rows("in/{partition}/", "id")


def test_a_name_that_is_no_utf8_is_refused(place: Place) -> None:
    place.put("in/2013-01-06/region=%FF/a.parquet", "a")
    with pytest.raises(SourceUnreadableError, match=r"percent-encoded name is no UTF-8"):
        place.rows("in/{partition}/", "region")


@pytest.mark.parametrize(("value", "bad"), [("7", 0), ("__HIVE_DEFAULT_PARTITION__", 0), ("seven", 100)])
def test_the_contract_reads_the_values_as_strictly_as_text(tmp_path: Path, value: str, bad: int) -> None:
    columns = {**CONTRACT["columns"], "shop": {"type": "int"}}
    source = {"kind": "parquet", "uri": "in/{partition}/", "path_columns": ["shop"]}
    world = World(
        tmp_path, contract={**CONTRACT, "columns": columns}, data={"source": source, "tolerance": 0.6, "checks": {}}
    )
    rows = good_rows(KEYS[0])
    for name, part in (("1", rows.slice(0, 100)), (value, rows.slice(100))):
        path = tmp_path / "in" / "2013-01-06" / f"shop={name}" / "a.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(part, path)
    published = world.ingest(KEYS[0])
    assert (published.rows, published.rejected) == (200 - bad, bad)
    values = world.reader.snapshots.read(KEYS[0], version=published.version).column("shop").to_pylist()
    assert sorted(set(values), key=str) == sorted({1, *([7] if value == "7" else [] if bad else [None])}, key=str)


def test_the_time_of_a_cut_file_cannot_be_in_its_path(tmp_path: Path) -> None:
    source = {"kind": "parquet", "uri": "in/", "path_columns": ["at"]}
    world = World(tmp_path, data={"source": source})
    with pytest.raises(DeclarationError, match="'at' is among path_columns"):
        world.ingest(BAD)


def test_files_in_folders_are_cut_by_time_together(tmp_path: Path) -> None:
    columns = {**CONTRACT["columns"], "region": {"type": "text"}}
    source = {"kind": "parquet", "uri": "in/", "path_columns": ["region"]}
    world = World(tmp_path, contract={**CONTRACT, "columns": columns}, data={"source": source})
    for region, keys in (("eu", KEYS[:2]), ("us", KEYS[1:3])):
        path = tmp_path / "in" / f"region={region}" / "a.parquet"
        path.parent.mkdir(parents=True)
        rows = pa.concat_tables([good_rows(key) for key in keys])
        ids = pa.array([f"{region}-{value}" for value in rows.column("id").to_pylist()])
        pq.write_table(rows.set_column(0, "id", ids), path)
    published = [world.ingest(key) for key in KEYS[:3]]
    assert [record.rows for record in published] == [200, 400, 200]
