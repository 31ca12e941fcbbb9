"""Splits of a source give the batches of the whole, in any process."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import PartitionRefusedError, SourceUnreadableError
from airflow_mlops.core.ports.partitions import Source, SplitNotes, Splits
from airflow_mlops.core.sources import source_splits
from airflow_mlops.core.sources.csv_source import CsvFiles
from airflow_mlops.core.sources.json_source import JsonFiles
from airflow_mlops.core.sources.parquet_source import ParquetFiles

KEY = "2013-01-06T00:00:00"


def sent(splits: Splits) -> Splits:
    """Return splits as another process gets them."""
    received: Splits = pickle.loads(pickle.dumps(splits))
    return received


def read_both(source: Source) -> tuple[list[pa.RecordBatch], list[pa.RecordBatch], list[SplitNotes], Splits, Any]:
    with source.open(KEY) as arrival:
        whole = list(arrival.batches)
        assert arrival.splits is not None
        splits = sent(arrival.splits())
        notes = [SplitNotes() for _ in splits.read]
        parts = [batch for read, note in zip(splits.read, notes, strict=True) for batch in read(note)]
    return whole, parts, notes, splits, arrival


@pytest.mark.parametrize("rows_of_group", [10_000, 65_536, 100_000, 300_000, 1_000_000])
@pytest.mark.parametrize("rows", [1, 262_144, 700_001])
def test_ranges_of_a_parquet_file_are_read_in_the_batches_of_the_whole(
    rows: int, rows_of_group: int, tmp_path: Path
) -> None:
    table = pa.table({"a": np.arange(rows), "s": pa.array(np.array(["x", "yy"])[np.arange(rows) % 2], pa.string())})
    pq.write_table(table, tmp_path / "2013-01-06.parquet", row_group_size=rows_of_group)
    whole, parts, notes, splits, _ = read_both(ParquetFiles("{partition}.parquet", root=tmp_path))
    assert [batch.num_rows for batch in parts] == [batch.num_rows for batch in whole]
    assert pa.Table.from_batches(parts) == pa.Table.from_batches(whole)
    assert len(splits.read) > 1 or rows <= max(rows_of_group, 262_144)
    splits.check(notes)


def put(folder: Path, suffix: str, texts: list[str]) -> None:
    for place, text in enumerate(texts):
        (folder / f"2013-01-06-{place}.{suffix}").write_text(text)


TEXTS: dict[str, tuple[Callable[..., Source], list[str]]] = {
    "csv": (
        lambda root, **more: CsvFiles("{partition}-*.csv", root=root, **more),
        ["id,x\na,1\nb\n", "id,x\nc,3\n", "x,id\n4,d,5\n6,e\n"],
    ),
    "jsonl": (
        lambda root, **more: JsonFiles(
            "{partition}-*.jsonl", root=root, columns=("id", "x"), required=frozenset({"id", "x"}), **more
        ),
        ['{"id": "a"}\n{"id": "b", "x": 1}\nno json\n', '{"id": "c"}\n[]\n', '{"id": "d", "x": 2}\n'],
    ),
}


@pytest.fixture(params=TEXTS)
def text(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Source]:
    opened, texts = TEXTS[request.param]
    put(tmp_path, request.param, texts)
    return lambda **more: opened(tmp_path, **more)


def test_files_of_text_are_read_alike_and_their_broken_rows_are_noted(text: Callable[..., Source]) -> None:
    whole, parts, notes, splits, arrival = read_both(text())
    assert [batch.to_pylist() for batch in parts] == [batch.to_pylist() for batch in whole]
    assert [row for note in notes for row in note.broken] == arrival.broken
    assert len(splits.read) == 3
    splits.check(notes)


@pytest.mark.parametrize("limit", ["rows", "cells", "bytes"])
def test_limits_hold_for_the_splits_together(text: Callable[..., Source], limit: str) -> None:
    _, _, notes, splits, _ = read_both(text())
    total = sum(getattr(note, limit) for note in notes)
    assert total > max(getattr(note, limit) for note in notes)
    splits.check(notes)
    with text(limits=Limits(**{limit: total - 1})).open(KEY) as arrival:
        assert arrival.splits is not None
        with pytest.raises(PartitionRefusedError, match=rf"at least {total} {limit}, and data\.limits\.{limit} is"):
            arrival.splits().check(notes)


def test_far_too_many_broken_rows_of_all_splits_are_refused(
    text: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, notes, splits, arrival = read_both(text())
    monkeypatch.setattr(source_splits, "MAX_BROKEN_ROWS", 1)
    with pytest.raises(SourceUnreadableError, match="more than 1 rows of its files are broken, the first at"):
        splits.check(notes)
    assert len(arrival.broken) == 2


def test_a_required_key_may_be_in_one_split_alone_and_not_in_none(tmp_path: Path) -> None:
    lines = [json.dumps({"id": name}) for name in "ab"]
    put(tmp_path, "jsonl", [*lines, '{"id": "c", "x": 3}'])
    source = JsonFiles("{partition}-*.jsonl", root=tmp_path, columns=("id", "x"), required=frozenset({"id", "x"}))
    _, _, notes, splits, _ = read_both(source)
    splits.check(notes)
    with pytest.raises(PartitionRefusedError, match="column 'x' is in none of 2 records"):
        splits.check([notes[0], notes[1], SplitNotes()])
