"""Partitions of several files, and values in the names of folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops.core.declaration.partition_key import partition_slug
from tests.bad_input.case import Case, Deliver, bad_declaration, published, quarantined, refused, table
from tests.bad_input.world import BAD, CONTRACT, World, good_rows

PARTS = {"kind": "parquet", "uri": "in/{partition}/*.parquet"}
FOLDERS = {"kind": "parquet", "uri": "in/dt={partition}/", "path_columns": ["region"]}
WITH_REGION = {"columns": {**CONTRACT["columns"], "region": {"type": "text", "optional": True}}}
Spoil = Callable[[pa.Table], pa.Table]


def in_files(files: Mapping[str, Spoil]) -> Deliver:
    """Deliver the good week in files of equal parts, named below ``in``; each part is changed by a function."""

    def deliver(world: World) -> None:
        rows, size = good_rows(BAD), good_rows(BAD).num_rows // len(files)
        for place, (name, spoil) in enumerate(files.items()):
            path = world.folder / "in" / name.replace("{partition}", partition_slug(BAD))
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(spoil(rows.slice(place * size, size)), path)

    return deliver


def same(rows: pa.Table) -> pa.Table:
    """Return the rows as they are."""
    return rows


def with_types(**types: pa.DataType) -> Spoil:
    """Return a function that gives columns other types; a column of type null loses its values."""

    def spoil(rows: pa.Table) -> pa.Table:
        for name, kind in types.items():
            values = pa.nulls(rows.num_rows) if kind == pa.null() else rows[name].cast(kind)
            rows = rows.set_column(rows.column_names.index(name), name, values)
        return rows

    return spoil


def in_regions(*regions: str, spoil: Spoil = same) -> Deliver:
    """Deliver the good week with a folder for each region, as Hive names them."""
    return in_files({f"dt={{partition}}/region={region}/part-0.parquet": spoil for region in regions})


def usual_source(world: World) -> None:
    """Declare the usual source again, for the weeks that follow."""
    world.data = {}


def case(make: Callable[..., Case], line: str, *words: str, source: Mapping[str, Any], **more: Any) -> Case:
    """Return a case of Parquet files at another place than the usual one."""
    return make(line, *words, data={"source": dict(source)}, check=usual_source, **more)


def plain_and(name: str, values: Sequence[str]) -> Spoil:
    """Return a function that adds a column of repeated texts."""
    return lambda rows: rows.append_column(name, pa.array([values[n % len(values)] for n in range(rows.num_rows)]))


PARTS_AND_FOLDERS: list[Case] = [
    case(
        published,
        "parts of several writers: narrow and wide numbers, texts of three kinds, times of three units",
        source=PARTS,
        deliver=in_files(
            {
                "{partition}/a.parquet": with_types(
                    n=pa.int32(), kind=pa.large_string(), at=pa.timestamp("ns", tz="UTC")
                ),
                "{partition}/b.parquet": with_types(
                    n=pa.int16(), kind=pa.dictionary(pa.int32(), pa.string()), at=pa.timestamp("ms", tz="UTC")
                ),
            }
        ),
    ),
    case(
        published,
        "a part in which a column holds nothing but nulls",
        source=PARTS,
        deliver=in_files({"{partition}/a.parquet": same, "{partition}/b.parquet": with_types(kind=pa.null())}),
    ),
    case(
        refused,
        "a part in which numbers are text",
        "column 'n'",
        "string",
        source=PARTS,
        deliver=in_files({"{partition}/a.parquet": same, "{partition}/b.parquet": with_types(n=pa.string())}),
        arrived=None,
    ),
    case(
        refused,
        "a part that lacks a column",
        "has other columns than",
        "'price'",
        source=PARTS,
        deliver=in_files({"{partition}/a.parquet": same, "{partition}/b.parquet": lambda rows: rows.drop(["price"])}),
        arrived=None,
    ),
    case(
        published,
        "folders named region=eu, declared as a column",
        source=FOLDERS,
        contract=WITH_REGION,
        deliver=in_regions("eu", "__HIVE_DEFAULT_PARTITION__"),
        fresh=True,
    ),
    case(
        published,
        "a folder whose name is percent-encoded",
        source=FOLDERS,
        contract=WITH_REGION,
        deliver=in_regions("S%C3%BCd", "Nord%20West"),
        fresh=True,
    ),
    case(
        refused,
        "folders named region=eu, declared as none",
        "has files in folders that are not declared: region=eu, region=us",
        "declare data.source.path_columns: [region]",
        source={"kind": "parquet", "uri": "in/dt={partition}/"},
        deliver=in_regions("eu", "us"),
    ),
    case(
        published,
        "folders named region=eu, for which a * stands",
        "the files lie in the folders region=eu, region=us, whose values are no columns",
        source={"kind": "parquet", "uri": "in/dt={partition}/*/*.parquet"},
        deliver=in_regions("eu", "us"),
    ),
    case(
        refused,
        "a file beside the folders of a declared column",
        "lies in no folder region=…",
        source=FOLDERS,
        contract=WITH_REGION,
        deliver=in_files({"dt={partition}/region=eu/a.parquet": same, "dt={partition}/b.parquet": same}),
        fresh=True,
    ),
    case(
        refused,
        "a column that is in the files and in their path",
        "column 'region' is in the file and in its path",
        source=FOLDERS,
        contract=WITH_REGION,
        deliver=in_regions("eu", "us", spoil=plain_and("region", ["eu"])),
        fresh=True,
    ),
    case(
        quarantined,
        "a folder whose value is none of its type",
        "region: 'eu' is no int",
        source=FOLDERS,
        contract={"columns": {**CONTRACT["columns"], "region": {"type": "int", "optional": True}}},
        deliver=in_files(
            {
                "dt={partition}/region=eu/a.parquet": lambda rows: rows.slice(0, 1),
                "dt={partition}/region=7/b.parquet": same,
            }
        ),
        arrived=101,
        fresh=True,
    ),
    bad_declaration(
        "a path column that is named twice",
        "data.source",
        "path_columns",
        "names 'region' more than once",
        deliver=table(same),
        data={"source": {**FOLDERS, "path_columns": ["region", "region"]}},
    ),
]
