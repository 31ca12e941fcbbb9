"""JSON lines: one object on each line, every value as text, and no line lost or shifted by a broken one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceUnreadableError
from airflow_mlops.core.ports.partitions import BrokenRow
from airflow_mlops.core.sources import json_source
from airflow_mlops.core.sources.json_source import JsonFiles
from tests.bad_input.world import CONTRACT, KEYS, World, good_rows

KEY = "2013-01-06T00:00:00"


def read(folder: Path, *lines: str | bytes, **contract: Any) -> tuple[list[dict[str, Any]], list[BrokenRow]]:
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    (folder / "2013-01-06.jsonl").write_bytes(b"\n".join(encoded))
    with JsonFiles("{partition}.jsonl", root=folder, **contract).open(KEY) as arrival:
        assert arrival.typed is False
        rows = pa.Table.from_batches(arrival.batches, schema=arrival.schema)
        return rows.to_pylist(), arrival.broken


def test_values_keep_their_digits_and_a_null_is_a_null(tmp_path: Path) -> None:
    line = '{"a": 9007199254740993, "b": 1.10, "c": true, "d": null, "e": "x\\ny", "f": 1e400}'
    rows, broken = read(tmp_path, "\ufeff" + line + "\r", "", "  ", '{"a": "z"}')
    assert broken == []
    assert rows == [
        {"a": "9007199254740993", "b": "1.10", "c": "true", "d": None, "e": "x\ny", "f": "1e400"},
        {"a": "z", "b": None, "c": None, "d": None, "e": None, "f": None},
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{'a': 1}", "is no JSON: Expecting property name enclosed in double quotes at character 2"),
        ('{"a": 1} {"a": 2}', "is no JSON: Extra data at character 10"),
        ('{"a": 1', "is no JSON: Expecting ',' delimiter at character 8"),
        ("[" * 100_000, "is no JSON: it is nested too deep"),
        ("[1]", "is no object"),
        ("{}", "is an empty object"),
        ('{"a": 1, "a": 2}', "has the key 'a' twice"),
        ('{"a": {"b": 1}}', "holds no single value in 'a'"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        ('{"a": "\\ud800"}', "holds half of a character (a lone surrogate)"),
    ],
)
@pytest.mark.bad_input("quarantined")
def test_a_broken_line_goes_to_quarantine_with_its_number(tmp_path: Path, line: str | bytes, reason: str) -> None:
    rows, broken = read(tmp_path, '{"a": "1"}', "", line, '{"a": "2"}')
    assert [row["a"] for row in rows] == ["1", "2"]
    assert [(row.reason, row.at) for row in broken] == [(reason, "2013-01-06.jsonl, line 3")]


def test_a_key_that_neither_the_first_lines_nor_the_contract_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_source, "PAGE_LINES", 2)
    lines = ['{"a": 1}', '{"a": 2}', '{"a": 3, "b": 4}']
    with pytest.raises(PartitionRefusedError, match=r"2013-01-06\.jsonl, line 3 has the key 'b', which neither"):
        read(tmp_path, *lines)
    assert read(tmp_path, *lines, columns=("b",))[0][2] == {"a": "3", "b": "4"}
    assert read(tmp_path, *lines, ignored=("b",))[0][2] == {"a": "3"}
    with pytest.raises(PartitionRefusedError, match="column 'c' is in none of 3 records"):
        read(tmp_path, *lines, columns=("b", "c"), required=frozenset(("c",)))


def test_several_files_are_read_one_after_another(tmp_path: Path) -> None:
    for name, value in (("b", 2), ("a", 1)):
        (tmp_path / f"2013-01-06-{name}.ndjson").write_text(f'{{"x": {value}}}\nbroken\n')
    with JsonFiles("{partition}-*.ndjson", root=tmp_path).open(KEY) as arrival:
        assert [value for batch in arrival.batches for value in batch.column("x").to_pylist()] == ["1", "2"]
        assert [row.at for row in arrival.broken] == ["2013-01-06-a.ndjson, line 2", "2013-01-06-b.ndjson, line 2"]


def test_what_is_no_text_of_lines_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "2013-01-06.jsonl")
    with pytest.raises(SourceUnreadableError, match=r"2013-01-06\.jsonl cannot be read"):
        JsonFiles("{partition}.jsonl", root=tmp_path).open(KEY).__enter__()
    (tmp_path / "2013-01-06.jsonl.gz").write_bytes(b"{}")
    with pytest.raises(SourceUnreadableError, match=r"jsonl\.gz cannot be read"):
        JsonFiles("{partition}.jsonl.gz", root=tmp_path).open(KEY).__enter__()
    monkeypatch.setattr(json_source, "LINE_BYTES", 100)
    monkeypatch.setattr(json_source, "READ_BYTES", 50)
    with pytest.raises(SourceUnreadableError, match="line 2 is longer than 100 bytes"):
        read(tmp_path, '{"a": 1}', "[" + "1," * 200)
    monkeypatch.setattr(json_source, "MAX_BROKEN_ROWS", 3)
    with pytest.raises(SourceUnreadableError, match=r"more than 3 lines are broken, the first at .*line 1"):
        read(tmp_path, *["x"] * 5)


def test_limits_hold_while_lines_are_read(tmp_path: Path) -> None:
    lines = ['{"a": 1}'] * 10
    assert len(read(tmp_path, *lines, limits=Limits(rows=10))[0]) == 10
    with pytest.raises(PartitionRefusedError, match=r"data\.limits\.rows is 9"):
        read(tmp_path, *lines, limits=Limits(rows=9))
    with pytest.raises(PartitionRefusedError, match=r"data\.limits\.bytes is 50"):
        read(tmp_path, *lines, limits=Limits(bytes=50))


def test_a_loop_ingests_json_lines_by_its_contract(tmp_path: Path) -> None:
    source = {"kind": "json", "uri": "in/{partition}.jsonl"}
    with pytest.raises(DeclarationError, match="a json source carries no types"):
        World(tmp_path, contract=None, data={"source": source}).ingest(KEYS[0])
    world = World(tmp_path, contract=CONTRACT, data={"source": source})
    rows = good_rows(KEYS[0]).to_pylist()
    lines = [json.dumps(row, default=str) for row in rows]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "2013-01-06.jsonl").write_text("\n".join([*lines, "{broken", ""]))
    published = world.ingest(KEYS[0])
    assert (published.rows, published.rejected) == (200, 1)
    kept = world.reader.snapshots.read(KEYS[0], version=published.version)
    assert sorted(kept.column("n").to_pylist()) == sorted(row["n"] for row in rows)
