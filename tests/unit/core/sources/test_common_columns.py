"""Parts of a partition that several writers wrote: one type where the values are of one kind, a refusal where not."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops.core.errors import PartitionRefusedError, SourceUnreadableError
from airflow_mlops.core.sources.parquet_source import ParquetFiles

KEY = "2013-01-06T00:00:00"
NOON = datetime.fromisoformat("2013-01-05T12:00:00.123")


def rows_of(folder: Path, *parts: pa.Array) -> pa.Table:
    for number, part in enumerate(parts):
        schema = pa.schema({"id": pa.int64(), "x": part.type})
        rows = pa.table([pa.array(range(len(part)), pa.int64()), part], schema=schema)
        pq.write_table(rows, folder / f"2013-01-06-{number}.parquet")
    with ParquetFiles("{partition}-*.parquet", root=folder).open(KEY) as arrival:
        return pa.Table.from_batches(arrival.batches, schema=arrival.schema)


@pytest.mark.parametrize(
    ("parts", "kind", "values"),
    [
        ([pa.array([1], pa.int32()), pa.array([2**40])], pa.int64(), [1, 2**40]),
        ([pa.array([200], pa.uint8()), pa.array([-1], pa.int8())], pa.int64(), [200, -1]),
        ([pa.array([0.5], pa.float32()), pa.array([0.1])], pa.float64(), [0.5, 0.1]),
        ([pa.array(["a"]), pa.array(["b"], pa.large_string())], pa.string(), ["a", "b"]),
        ([pa.array(["a"]).dictionary_encode(), pa.array(["b"], pa.large_string())], pa.string(), ["a", "b"]),
        ([pa.array([date(2013, 1, 5)]), pa.array([date(2013, 1, 4)], pa.date64())], pa.date32(), None),
        (
            [pa.array([NOON], pa.timestamp(unit)) for unit in ("us", "ns", "ms")],
            pa.timestamp("us"),
            [NOON, NOON, NOON],
        ),
        (
            [pa.array([NOON], pa.timestamp("ns", tz="Europe/Berlin")), pa.array([NOON], pa.timestamp("ms", tz="UTC"))],
            pa.timestamp("us", tz="UTC"),
            [NOON.replace(tzinfo=UTC)] * 2,
        ),
        (
            [pa.array([Decimal("1.5")], pa.decimal128(4, 1)), pa.array([Decimal("1.25")], pa.decimal128(4, 2))],
            pa.decimal128(5, 2),
            [Decimal("1.50"), Decimal("1.25")],
        ),
        ([pa.nulls(2), pa.array([1], pa.int16())], pa.int16(), [None, None, 1]),
        ([pa.array(["a"]), pa.nulls(1), pa.nulls(1)], pa.string(), ["a", None, None]),
        ([pa.nulls(1), pa.nulls(1)], pa.null(), [None, None]),
    ],
)
def test_values_of_one_kind_are_one_column_whatever_wrote_them(
    tmp_path: Path, parts: list[pa.Array], kind: pa.DataType, values: list[Any] | None
) -> None:
    for order in (parts, parts[::-1]):
        rows = rows_of(tmp_path, *order)
        assert rows.schema.field("x").type == kind
        expected = [value for part in order for value in part.to_pylist()] if values is None else values
        assert sorted(map(str, rows.column("x").to_pylist())) == sorted(map(str, expected))


def test_parts_of_one_type_keep_it(tmp_path: Path) -> None:
    assert rows_of(tmp_path, pa.array([1], pa.int32()), pa.array([2], pa.int32())).schema.field("x").type == pa.int32()


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (pa.array([1]), pa.array(["1"]), "column 'x' is string, there it is int64"),
        (pa.array([1]), pa.array([1.5]), "column 'x' is double, there it is int64"),
        (pa.array([True]), pa.array([1]), "column 'x' is int64, there it is bool"),
        (
            pa.array([NOON]),
            pa.array([NOON], pa.timestamp("us", tz="UTC")),
            r"column 'x' is timestamp\[us, tz=UTC\], there it is timestamp\[us\]",
        ),
        (pa.array([date(2013, 1, 5)]), pa.array([NOON]), r"column 'x' is timestamp\[us\], there it is date32"),
        (
            pa.array([Decimal(1)], pa.decimal128(38, 0)),
            pa.array([Decimal(1)], pa.decimal128(38, 20)),
            r"column 'x' is decimal128\(38, 20\)",
        ),
        (pa.array([b"1"]), pa.array(["1"]), "column 'x' is string, there it is binary"),
    ],
)
@pytest.mark.bad_input("refused")
def test_another_kind_is_refused_with_both_files_and_the_column(
    tmp_path: Path, first: pa.Array, second: pa.Array, words: str
) -> None:
    with pytest.raises(
        PartitionRefusedError, match=rf"2013-01-06-1\.parquet has other columns than 2013-01-06-0\.parquet: {words}"
    ):
        rows_of(tmp_path, first, second)


def test_the_file_that_gave_a_column_its_type_is_named_and_not_one_of_nulls(tmp_path: Path) -> None:
    with pytest.raises(
        PartitionRefusedError, match=r"-2\.parquet has .*'x' is string, in 2013-01-06-1\.parquet it is int64"
    ):
        rows_of(tmp_path, pa.nulls(1), pa.array([1]), pa.array(["1"]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1]), pa.array([2**63], pa.uint64())),
        (pa.array([NOON]), pa.array([1], pa.timestamp("ns"))),
    ],
)
def test_a_value_that_the_common_type_cannot_hold_is_refused_and_not_changed(
    tmp_path: Path, first: pa.Array, second: pa.Array
) -> None:
    with pytest.raises(SourceUnreadableError, match=r"-1\.parquet: column 'x' is .* a value does not fit: .*one type"):
        rows_of(tmp_path, first, second)
