"""Files that are broken, empty, too large, or something else than their name says."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from tests.bad_input.case import Case, column, content, lines, refused, table, values
from tests.bad_input.world import BAD, World, good_rows

CLAIMED = 200_000_000


def deliver_folder(world: World) -> None:
    """Deliver a folder where a file is declared."""
    world.file(BAD).mkdir()


def deliver_many_rows(world: World) -> None:
    """Deliver a Parquet file of less than 1 MB with 200 million rows, every value of which is the same."""
    block = pa.table({"n": np.zeros(5_000_000, np.int64)})
    with pq.ParquetWriter(world.file(BAD), block.schema, compression="zstd", data_page_size=1 << 26) as writer:
        for _ in range(CLAIMED // block.num_rows):
            writer.write_table(block, row_group_size=block.num_rows)
    assert world.file(BAD).stat().st_size < 1_000_000


def deliver_many_orc_rows(world: World) -> None:
    """Deliver an ORC file of less than 1 MB with 200 million rows, every value of which is the same."""
    block = pa.table({"n": np.zeros(5_000_000, np.int64)})
    with orc.ORCWriter(world.file(BAD), compression="zstd") as writer:
        for _ in range(CLAIMED // block.num_rows):
            writer.write(block)
    assert world.file(BAD).stat().st_size < 1_000_000


def deliver_twice_named_orc(world: World) -> None:
    """Deliver an ORC file in which a name stands twice."""
    rows = good_rows(BAD)
    orc.write_table(pa.Table.from_arrays([*rows.columns, rows["x"]], [*rows.column_names, "x"]), world.file(BAD))


def deliver_bomb(world: World) -> None:
    """Deliver a compressed CSV file of a few kilobytes that holds 30 MB."""
    header, first = lines_of(world)[:2]
    content = header + first * (30_000_000 // len(first))
    path = world.file(BAD).with_suffix(".csv.gz")
    path.write_bytes(gzip.compress(content, 9))
    assert path.stat().st_size < 200_000


def lines_of(world: World) -> list[bytes]:
    """Return the lines of the good week's CSV file."""
    world.put(BAD)
    lines = world.file(BAD).read_bytes().splitlines(keepends=True)
    world.file(BAD).unlink()
    return lines


FILES: list[Case] = [
    Case("no file at all", "not ready", ("in/2013-01-27.parquet is not there yet",), lambda _world: None),
    refused("a Parquet file of 0 bytes", "in/2013-01-27.parquet cannot be read", deliver=content(lambda _old: b"")),
    refused(
        "a CSV file of 0 bytes",
        "in/2013-01-27.csv cannot be read",
        "it is empty: there is not even a header",
        deliver=content(lambda _old: b""),
        source="csv",
    ),
    refused(
        "a CSV file with a header alone",
        "the partition is empty: 0 rows arrived",
        deliver=lines(lambda all: all[:1]),
        source="csv",
    ),
    refused(
        "a Parquet file without rows",
        "the partition is empty: 0 rows arrived",
        deliver=table(lambda rows: rows.slice(0, 0)),
    ),
    refused(
        "a truncated Parquet file",
        "in/2013-01-27.parquet cannot be read",
        deliver=content(lambda old: old[: len(old) // 2]),
    ),
    refused(
        "a Parquet file with damaged bytes inside",
        "in/2013-01-27.parquet cannot be read",
        deliver=content(lambda old: old[:200] + b"\xff" * 2000 + old[2200:]),
    ),
    refused(
        "text in place of Parquet",
        "in/2013-01-27.parquet cannot be read",
        deliver=content(lambda _old: b"id,at,x\n1,2,3\n" * 20),
    ),
    refused(
        "an ORC file of 0 bytes", "in/2013-01-27.orc cannot be read", deliver=content(lambda _old: b""), source="orc"
    ),
    refused(
        "a truncated ORC file",
        "in/2013-01-27.orc cannot be read",
        deliver=content(lambda old: old[: len(old) // 2]),
        source="orc",
    ),
    refused(
        "Parquet in place of ORC",
        "in/2013-01-27.orc cannot be read",
        deliver=lambda world: pq.write_table(good_rows(BAD), world.file(BAD)),
        source="orc",
    ),
    refused(
        "an ORC file without rows",
        "the partition is empty: 0 rows arrived",
        deliver=table(lambda rows: rows.slice(0, 0)),
        source="orc",
    ),
    refused(
        "an ORC file with a list in a column",
        "column 'x' has the type list<item: double>; the contract says float",
        deliver=column("x", lambda rows: pa.array([[value] for value in rows["x"].to_pylist()])),
        source="orc",
    ),
    refused(
        "an ORC file in which a column stands twice",
        "in/2013-01-27.orc: column 'x' stands there 2 times; deliver it once",
        deliver=deliver_twice_named_orc,
        source="orc",
    ),
    refused(
        "an ORC file with a time that nanoseconds cannot hold",
        "in/2013-01-27.orc cannot be read",
        "is out of range for nanosecond resolution",
        deliver=values("at", datetime(9999, 1, 1, tzinfo=UTC)),
        source="orc",
    ),
    refused(
        "an ORC file of less than 1 MB that holds 200 million rows",
        "it has at least 200,000,000 rows, and data.limits.rows is 100,000,000",
        deliver=deliver_many_orc_rows,
        source="orc",
    ),
    refused(
        "Parquet in place of CSV",
        "in/2013-01-27.csv cannot be read",
        deliver=lambda world: pq.write_table(good_rows(BAD), world.file(BAD)),
        source="csv",
    ),
    refused(
        "a folder in place of a file", "in/2013-01-27.parquet cannot be read", "it is a folder", deliver=deliver_folder
    ),
    refused(
        "a Parquet file of less than 1 MB that holds 200 million rows",
        "it has at least 200,000,000 rows, and data.limits.rows is 100,000,000",
        deliver=deliver_many_rows,
    ),
    refused(
        "a compressed CSV file of a few kilobytes that holds 30 MB",
        "and data.limits.bytes is 10,000,000",
        deliver=deliver_bomb,
        source="csv",
        data={"limits": {"bytes": 10_000_000}, "source": {"kind": "csv", "uri": "in/{partition}.csv*"}},
    ),
]
