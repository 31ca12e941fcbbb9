"""The contract of every source: the rows of a partition as they were put there, or an error with the reason."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc
from pyarrow.fs import S3FileSystem
from sqlalchemy import make_url

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import NotReadyError, PartitionRefusedError, SourceMissingError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival, Source
from airflow_mlops.core.sources.csv_source import CsvFiles
from airflow_mlops.core.sources.http_source import HttpAnswers
from airflow_mlops.core.sources.json_source import JsonFiles
from airflow_mlops.core.sources.orc_source import OrcFiles
from airflow_mlops.core.sources.parquet_source import ParquetFiles
from airflow_mlops.core.sources.sql_source import SqlRows
from airflow_mlops.testing.in_memory import InMemorySource
from tests.unit.core.sources.small_service import Answer, small_service

KEY, LATER = "2013-01-06T00:00:00", "2013-01-13T00:00:00"
IN_TIME = {KEY: "2013-01-02 03:04:05", LATER: "2013-01-09 03:04:05"}
WORDS = [
    "a",
    "it's",
    'say "x"',
    "é\u4e2d\U0001f600",
    "a,b;c\td",
    "line\nbreak",
    " ",
    "NULL",
    "0017",
    "1e5",
    "{partition}",
]
KINDS = (
    "in memory",
    "parquet",
    "parquet on s3",
    "orc",
    "orc on s3",
    "csv",
    "csv.gz",
    "csv on s3",
    "postgresql",
    "sqlite",
    "jsonl",
    "jsonl.gz",
    "jsonl on s3",
    "json",
    "csv over http",
)


@dataclass
class Kind:
    """A kind of source: how to open it with limits, and how rows (each an ``id`` and a ``word``) get there."""

    open: Callable[[Limits], Source]
    fill: Callable[[str, list[str], list[str | None]], None]
    null: str | None = None
    limited: bool = True
    zero_rows: bool = True


def as_csv(ids: list[str], words: list[str | None]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(
        [("id", "word"), *zip(ids, ["" if word is None else word for word in words], strict=True)]
    )
    return text.getvalue().encode()


def as_parquet(ids: list[str], words: list[str | None]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": pa.array(ids, pa.string()), "word": pa.array(words, pa.string())}), sink)
    return sink.getvalue().to_pybytes()


def as_orc(ids: list[str], words: list[str | None]) -> bytes:
    sink = pa.BufferOutputStream()
    orc.write_table(pa.table({"id": pa.array(ids, pa.string()), "word": pa.array(words, pa.string())}), sink)
    return sink.getvalue().to_pybytes()


def as_json_lines(ids: list[str], words: list[str | None]) -> bytes:
    rows = [{"id": identifier, "word": word} for identifier, word in zip(ids, words, strict=True)]
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


FILES: dict[str, tuple[Any, Any, str | None]] = {
    "parquet": (ParquetFiles, as_parquet, None),
    "orc": (OrcFiles, as_orc, None),
    "csv": (CsvFiles, as_csv, ""),
    "jsonl": (JsonFiles, as_json_lines, None),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    name = request.param
    if name == "in memory":
        frames: dict[str, Any] = {}
        yield Kind(
            lambda _: InMemorySource(frames),
            lambda key, ids, words: frames.update(
                {key: pa.table({"id": pa.array(ids, pa.string()), "word": pa.array(words, pa.string())})}
            ),
            limited=False,
        )
    elif name in ("postgresql", "sqlite"):
        yield database(name, tmp_path, request)
    elif name in ("json", "csv over http"):
        yield from service(name)
    else:
        yield files(name, tmp_path, request)


def files(name: str, folder: Path, request: pytest.FixtureRequest) -> Kind:
    suffix = name.split(" ", maxsplit=1)[0]
    source, content, null = FILES[suffix.split(".")[0]]

    def fill(key: str, ids: list[str], words: list[str | None]) -> None:
        made = content(ids, words)
        made = gzip.compress(made) if suffix.endswith(".gz") else made
        path = f"in/{key[:10]}.{suffix}"
        if "s3" in name:
            with store.open_output_stream(f"{bucket}/{path}") as stream:
                stream.write(made)
        else:
            (folder / "in").mkdir(exist_ok=True)
            (folder / path).write_bytes(made)

    template = f"in/{{partition}}.{suffix}"
    if "s3" not in name:
        return Kind(lambda limits: source(template, root=folder, limits=limits), fill, null)
    store: S3FileSystem = request.getfixturevalue("object_store")
    bucket = f"b{uuid.uuid4().hex}"
    store.create_dir(bucket)
    uri = f"s3://{bucket}/{template}"
    return Kind(lambda limits: source(uri, root=folder, filesystem=store, limits=limits), fill, null)


def database(name: str, folder: Path, request: pytest.FixtureRequest) -> Kind:
    if name == "sqlite":
        mark, connect = "?", lambda: sqlite3.connect(folder / "rows.db")
    else:
        url = make_url(request.getfixturevalue("postgres_url"))
        host: Any = url.host or url.query["host"]
        mark, connect = "%s", lambda: psycopg.connect(host=host, user=url.username, dbname=url.database)
    table = f"t{uuid.uuid4().hex}"
    with closing(connect()) as connection:
        connection.cursor().execute(f"CREATE TABLE {table} (id text, word text, at timestamp)")
        connection.commit()

    def fill(key: str, ids: list[str], words: list[str | None]) -> None:
        with closing(connect()) as connection, closing(connection.cursor()) as cursor:
            rows = [(identifier, word, IN_TIME[key]) for identifier, word in zip(ids, words, strict=True)]
            cursor.executemany(f"INSERT INTO {table} VALUES ({mark}, {mark}, {mark})", rows)
            connection.commit()

    query = f"SELECT id, word FROM {table} WHERE at >= :start AND at < :end"
    return Kind(
        lambda limits: SqlRows(connect, name="db", every="@weekly", time="at", query=query, limits=limits),
        fill,
        zero_rows=False,
    )


def service(name: str) -> Iterator[Kind]:
    held: dict[str, bytes] = {}

    def fill(key: str, ids: list[str], words: list[str | None]) -> None:
        rows = [{"id": identifier, "word": word} for identifier, word in zip(ids, words, strict=True)]
        held[f"/rows/{key[:10]}"] = json.dumps(rows).encode() if name == "json" else as_csv(ids, words)

    with small_service(lambda path, _: Answer(held[path]) if path in held else Answer(status=404)) as at:
        yield Kind(
            lambda limits: HttpAnswers(
                at.address, "rows/{partition}", name="api", form="json" if name == "json" else "csv", limits=limits
            ),
            fill,
            None if name == "json" else "",
        )


def rows_of(source: Source, key: str = KEY) -> list[dict[str, Any]]:
    with source.open(key) as arrival:
        rows: list[dict[str, Any]] = taken(arrival).to_pylist()
        assert arrival.broken == []
        return rows


def taken(arrival: Arrival) -> pa.Table:
    table = pa.Table.from_batches(arrival.batches, schema=arrival.schema)
    table.validate(full=True)
    return table


def test_a_partition_comes_as_it_was_put_there(kind: Kind) -> None:
    ids = [str(number) for number in range(len(WORDS) + 1)]
    kind.fill(KEY, ids, [*WORDS, None])
    kind.fill(LATER, ["z"], ["other"])
    words_by_id = {row["id"]: row["word"] for row in rows_of(kind.open(Limits()))}
    assert words_by_id == dict(zip(ids, [*WORDS, kind.null], strict=True))
    assert rows_of(kind.open(Limits()), LATER) == [{"id": "z", "word": "other"}]


def test_what_is_not_typed_is_text(kind: Kind) -> None:
    kind.fill(KEY, ["1"], ["2"])
    with kind.open(Limits()).open(KEY) as arrival:
        assert arrival.schema == pa.schema({"id": pa.string(), "word": pa.string()})
        assert arrival.unchanged is False
        assert json.loads(json.dumps(arrival.origin)) == arrival.origin


def test_a_partition_that_is_not_there_yet_is_missing_and_not_a_failure(kind: Kind) -> None:
    kind.fill(KEY, ["1"], ["2"])
    with pytest.raises(SourceMissingError, match=LATER) as caught:
        rows_of(kind.open(Limits()), LATER)
    assert isinstance(caught.value, NotReadyError)


def test_a_partition_that_comes_later_is_read_when_it_is_there(kind: Kind) -> None:
    source = kind.open(Limits())
    with pytest.raises(SourceMissingError):
        rows_of(source)
    kind.fill(KEY, ["1"], ["2"])
    assert rows_of(source) == [{"id": "1", "word": "2"}]


def test_a_partition_without_rows_is_read_as_such_where_that_can_be_told(kind: Kind) -> None:
    kind.fill(KEY, [], [])
    if kind.zero_rows:
        assert rows_of(kind.open(Limits())) == []
    else:
        with pytest.raises(SourceMissingError):
            rows_of(kind.open(Limits()))


def test_the_same_content_has_the_same_origin_and_nothing_of_the_machine_in_it(kind: Kind, tmp_path: Path) -> None:
    kind.fill(KEY, ["1", "2"], ["a", "b"])
    origins = []
    for _ in range(2):
        with kind.open(Limits()).open(KEY) as arrival:
            taken(arrival)
            origins.append(json.dumps(arrival.origin))
    assert origins[0] == origins[1]
    assert origins[0] != "{}"
    assert str(tmp_path) not in origins[0]
    assert "127.0.0.1" not in origins[0]


def test_batches_are_bounded_and_no_row_is_lost_between_them(kind: Kind) -> None:
    count = BATCH_ROWS + 1000
    kind.fill(KEY, [str(number) for number in range(count)], ["w"] * count)
    with kind.open(Limits()).open(KEY) as arrival:
        batches = list(arrival.batches)
    assert max(batch.num_rows for batch in batches) <= BATCH_ROWS
    words_by_id = sorted(int(value) for batch in batches for value in batch.column("id").to_pylist())
    assert words_by_id == list(range(count))


@pytest.mark.parametrize("limits", [Limits(rows=9), Limits(cells=19), Limits(bytes=40)])
def test_more_than_the_limits_allow_is_refused_and_says_how_much_it_is(kind: Kind, limits: Limits) -> None:
    kind.fill(KEY, [str(number) for number in range(10)], ["some word"] * 10)
    if not kind.limited:
        return
    with pytest.raises(
        PartitionRefusedError, match=rf"partition {KEY}: .* it has at least .* and data\.limits\.\w+ is"
    ):
        rows_of(kind.open(limits))
    assert len(rows_of(kind.open(Limits(rows=10, cells=20)))) == 10


def test_leaving_early_closes_what_was_opened(kind: Kind) -> None:
    kind.fill(KEY, [str(number) for number in range(BATCH_ROWS + 1)], ["w"] * (BATCH_ROWS + 1))
    with kind.open(Limits()).open(KEY) as arrival:
        assert next(arrival.batches).num_rows > 0
    with pytest.raises(ValueError, match="in the reader"):
        read_and_fail(kind.open(Limits()))


def read_and_fail(source: Source) -> None:
    with source.open(KEY) as arrival:
        next(arrival.batches)
        raise ValueError("in the reader")


@pytest.mark.parametrize("kind", ["parquet on s3", "orc on s3", "csv on s3", "jsonl on s3"], indirect=True)
def test_an_object_store_tells_that_nothing_changed(kind: Kind) -> None:
    kind.fill(KEY, ["1"], ["a"])
    source = kind.open(Limits())
    with source.open(KEY) as arrival:
        known = arrival.origin
        assert known["files"][0]["etag"]
    with source.open(KEY, known=known) as arrival:
        assert arrival.unchanged
        assert (arrival.origin, list(arrival.batches)) == (known, [])
    kind.fill(KEY, ["1"], ["b"])
    with source.open(KEY, known=known) as arrival:
        assert not arrival.unchanged
        assert taken(arrival).column("word").to_pylist() == ["b"]
