"""Read files once to learn what a contract can be drafted from: their columns, and what those hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from airflow_mlops.core.data.drafting.column_facts import ColumnFacts
from airflow_mlops.core.data.shape import refuse_names
from airflow_mlops.core.declaration.arrow_types import canonical_type
from airflow_mlops.core.errors import DataError, DeclarationError
from airflow_mlops.core.ports.partitions import Arrival
from airflow_mlops.core.sources.csv_source import CsvFiles
from airflow_mlops.core.sources.parquet_source import ParquetFiles

CSV = re.compile(r"\.csv(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
NO_PARTITION = "1970-01-01T00:00:00"
"""A file is named in full, so that it does not matter which partition its source is asked for."""


@dataclass(frozen=True)
class LearnedTable:
    """What files of one data set say about it: the rows that could be read, those that could not, the columns."""

    rows: int
    broken: int
    columns: dict[str, ColumnFacts]


@contextmanager
def learned(files: Sequence[Path], *, delimiter: str = ",") -> Iterator[LearnedTable]:
    """Return what Parquet or CSV files say about their columns; leaving the context removes what was spooled.

    Parameters
    ----------
    files : sequence of Path
        ``.parquet``, or ``.csv`` with or without .gz, .bz2, .xz, .zst; all of one kind.
    delimiter : str
        Character between two values of a CSV file.

    Raises
    ------
    DeclarationError
        If the files are of several kinds, or of none of these.
    DataError
        If a file cannot be read, or columns of one name have several types.
    """
    columns: dict[str, ColumnFacts] = {}
    rows, broken = 0, 0
    try:
        for file in files:
            with arrival_of(file, files, delimiter) as arrival:
                refuse_names(arrival.schema)
                for batch in arrival.batches:
                    rows += batch.num_rows
                    for name, column in zip(batch.schema.names, batch.columns, strict=True):
                        facts = columns.setdefault(name, ColumnFacts(name))
                        refuse_another_type(facts, column, file, typed=arrival.typed)
                        facts.add(column, typed=arrival.typed)
                broken += len(arrival.broken)
        if not rows:
            raise DataError(f"{', '.join(map(str, files))}: there is no row, so nothing can be learned")
        yield LearnedTable(rows, broken, columns)
    finally:
        for facts in columns.values():
            facts.close()


@contextmanager
def arrival_of(file: Path, files: Sequence[Path], delimiter: str) -> Iterator[Arrival]:
    """Return the rows of one file as its source would give them."""
    kinds = {"csv" if CSV.search(each.name) else each.suffix.lower().removeprefix(".") for each in files}
    if len(kinds) > 1 or not kinds <= {"csv", "parquet"}:
        raise DeclarationError(
            f"files of the kind {', '.join(sorted(kinds))} were given; all have to be .parquet, or all .csv"
        )
    template, root = str(file.absolute()), Path()
    source = CsvFiles(template, root=root, delimiter=delimiter) if "csv" in kinds else ParquetFiles(template, root=root)
    try:
        with source.open(NO_PARTITION) as arrival:
            yield arrival
    except DataError as error:
        raise type(error)(str(error).removeprefix(f"partition {NO_PARTITION}: ")) from error


def refuse_another_type(facts: ColumnFacts, column: pa.Array, file: Path, *, typed: bool) -> None:
    """Refuse a typed column that had another type in a file before."""
    kind = canonical_type(column.type)
    if typed and facts.typed is not None and kind is not None and kind != facts.typed:
        raise DataError(
            f"{file.name}: column {facts.name!r} has the type {kind}; the files before have {facts.typed}. "
            "A contract says one type: correct the files, or draft from those that agree"
        )
