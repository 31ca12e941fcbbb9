"""Any table and any text is refused, or published without a row lost, a row bent, or a second time."""

from __future__ import annotations

import itertools
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from airflow_mlops.core.declaration.contract import Contract
from airflow_mlops.core.errors import DataError
from airflow_mlops.core.ledger.record import verify_chain
from tests.bad_input.any_tables import CONTRACT, END, any_texts, csv_rows, tables
from tests.bad_input.world import BAD, SourceKind, World, as_csv

SCHEMA = Contract.model_validate(CONTRACT).schema
_SERIAL = itertools.count(1)

quick = settings(max_examples=45)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


def open_world(folder: Path, source: SourceKind) -> World:
    """Return a loop without a history that bears nearly any share of bad rows."""
    place = folder / str(next(_SERIAL))
    place.mkdir()
    return World(place, source, contract=CONTRACT, data={"tolerance": 0.99})


def ingest_or_reason(world: World) -> dict[str, Any] | str:
    """Ingest the partition; return what its record says, or why it was refused."""
    try:
        return world.ingest(BAD)
    except DataError as error:
        return str(error)


def versions(world: World) -> list[Path]:
    """Return the commits of all tables."""
    return sorted((world.folder / "home" / "lake").glob("**/_delta_log/*.json"))


def assert_kept_or_refused(world: World, arrived: int | None, result: dict[str, Any] | str) -> None:
    """Assert what the ledger, the snapshots and the quarantine hold, against what arrived."""
    state = world.reader.state()
    assert verify_chain(list(world.reader.ledger.records())) == 1
    if isinstance(result, str):
        assert state.refused[BAD].reason == result
        assert not state.published
        return
    rows = world.reader.snapshots.read(BAD, version=result.version)
    quarantined = world.quarantined(BAD)
    assert (rows.num_rows, len(quarantined)) == (result.rows, result.quarantined)
    if arrived is not None:
        assert rows.num_rows + len(quarantined) == arrived
    assert all(row["reasons"] != "[]" for row in quarantined)
    assert_meets_the_contract(rows)


def assert_meets_the_contract(rows: pa.Table) -> None:
    """Assert that types, nulls, keys, numbers and times are those that were declared."""
    assert rows.select(SCHEMA.names).schema.equals(SCHEMA)
    for name in ("id", "at", "x"):
        assert rows[name].null_count == 0
    assert len(set(rows["id"].to_pylist())) == rows.num_rows
    x = rows["x"].to_numpy()
    assert np.isfinite(x).all()
    assert (np.abs(x) <= 1000).all()
    times: list[datetime] = rows["at"].to_pylist()
    assert all(time < END for time in times)


def write_shuffled(world: World, rows: pa.Table, seed: int) -> None:
    """Deliver the same rows in another order, of rows and of columns, in other groups and encodings."""
    source = random.Random(seed)
    order = source.sample(range(rows.num_rows), rows.num_rows)
    names = source.sample(range(rows.num_columns), rows.num_columns)
    shuffled = rows.take(pa.array(order, pa.int64())).select(names)
    pq.write_table(
        shuffled,
        world.file(BAD),
        row_group_size=source.choice([1, 7, 1000]),
        use_dictionary=source.random() < 0.5,
        compression=source.choice(["none", "zstd", "gzip"]),
        data_page_version=source.choice(["1.0", "2.0"]),
    )


@quick
@given(rows=tables(), seed=st.integers(0, 1000))
def test_any_table_is_refused_or_kept_whole_and_never_twice(folder: Path, rows: pa.Table, seed: int) -> None:
    world = open_world(folder, "parquet")
    pq.write_table(rows, world.file(BAD))
    result = ingest_or_reason(world)
    assert_kept_or_refused(world, rows.num_rows, result)
    event(result[:30] if isinstance(result, str) else "published")
    before = versions(world)
    write_shuffled(world, rows, seed)
    again = ingest_or_reason(world)
    assert isinstance(again, str) == isinstance(result, str)
    if not isinstance(result, str):
        assert again == result
        assert versions(world) == before
        assert world.reader.state().sequence == 1


@quick
@given(rows=csv_rows(), seed=st.integers(0, 1000))
def test_any_cells_of_a_csv_file_are_refused_or_kept_whole(folder: Path, rows: list[list[str]], seed: int) -> None:
    world = open_world(folder, "csv")
    header = list(CONTRACT["columns"])
    world.file(BAD).write_bytes(as_csv([header, *rows]))
    result = ingest_or_reason(world)
    assert_kept_or_refused(world, len(rows), result)
    event(result[:30] if isinstance(result, str) else "published")
    before = versions(world)
    shuffled = random.Random(seed).sample(rows, len(rows))
    world.file(BAD).write_bytes(as_csv([header, *shuffled]))
    again = ingest_or_reason(world)
    if not isinstance(result, str):
        assert again == result
        assert versions(world) == before
        assert world.reader.state().sequence == 1


@quick
@given(content=any_texts)
def test_any_bytes_in_a_csv_file_are_refused_or_kept(folder: Path, content: bytes) -> None:
    world = open_world(folder, "csv")
    world.file(BAD).write_bytes(content)
    result = ingest_or_reason(world)
    assert_kept_or_refused(world, None, result)
    assert ingest_or_reason(world) == result
    assert world.reader.state().sequence == 1
