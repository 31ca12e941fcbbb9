"""Learn the columns of files in one pass, as the basis of a contract."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from airflow_mlops.core.data.drafting.column_facts import ColumnFacts
from airflow_mlops.core.data.drafting.sniff_dialect import SniffedDialect, sniff_dialect
from airflow_mlops.core.declaration.arrow_types import canonical_type
from airflow_mlops.core.declaration.text_form import TextForm
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DataError, DeclarationError
from airflow_mlops.core.ports.partitions import Arrival
from airflow_mlops.core.sources.csv_dialect import CsvDialect
from airflow_mlops.core.sources.csv_source import CsvFiles
from airflow_mlops.core.sources.parquet_source import ParquetFiles

CSV_NAME = re.compile(r"\.csv(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
ANY_PARTITION = "1970-01-01T00:00:00"
"""The partition for which a source is opened; the name of the file does not depend on it."""


@dataclass(frozen=True)
class LearnedTable:
    """The columns of a data set, the number of rows read, and the number of rows that could not be split.

    ``sniffed`` is the guessed form of CSV files; None for files with types.
    """

    rows: int
    broken: int
    columns: dict[str, ColumnFacts]
    sniffed: SniffedDialect | None = None


@contextmanager
def learn_table(files: Sequence[Path], *, delimiter: str | None = None) -> Iterator[LearnedTable]:
    """Return the columns of Parquet or CSV files; leaving the context removes the spooled keys.

    Parameters
    ----------
    files : sequence of Path
        ``.parquet``, or ``.csv`` with or without .gz, .bz2, .xz, .zst; all of one kind.
    delimiter : str, optional
        Character between two values of a CSV file; guessed if not given.

    Raises
    ------
    DeclarationError
        If the files are of several kinds, or of none of these.
    DataError
        If a file cannot be read, there is no row, or a column has different types in two files.
    """
    columns: dict[str, ColumnFacts] = {}
    rows, broken = 0, 0
    is_text = require_one_kind(files) == "csv"
    sniffed = sniff_dialect(files[0], delimiter=delimiter) if is_text else None
    form = sniffed.form if sniffed else TextForm()
    try:
        for file in files:
            with open_file(file, files, sniffed.dialect if sniffed else CsvDialect()) as arrival:
                refuse_repeated_names(arrival.schema.names, file)
                for batch in arrival.batches:
                    rows += batch.num_rows
                    for name, column in zip(batch.schema.names, batch.columns, strict=True):
                        facts = columns.setdefault(name, ColumnFacts(name, form))
                        refuse_another_type(facts, column, file, typed=arrival.typed)
                        facts.add(column, typed=arrival.typed)
                broken += len(arrival.broken)
        if not rows:
            raise DataError(f"{', '.join(map(str, files))}: there is no row, so no column can be learned")
        yield LearnedTable(rows, broken, columns, sniffed)
    finally:
        for facts in columns.values():
            facts.close()


@contextmanager
def open_file(file: Path, files: Sequence[Path], dialect: CsvDialect) -> Iterator[Arrival]:
    """Open one file as its source would; all ``files`` have to be of one kind.

    Raises
    ------
    DeclarationError
        If the files are of several kinds, or neither Parquet nor CSV.
    DataError
        If the file cannot be read.
    """
    kind = require_one_kind(files)
    template, root = str(file.absolute()), Path()
    source = CsvFiles(template, root=root, dialect=dialect) if kind == "csv" else ParquetFiles(template, root=root)
    try:
        with source.open(ANY_PARTITION) as arrival:
            yield arrival
    except DataError as error:
        raise type(error)(str(error).removeprefix(f"partition {ANY_PARTITION}: ")) from error


def require_one_kind(files: Sequence[Path]) -> str:
    """Return the kind of some files: csv or parquet.

    Raises
    ------
    DeclarationError
        If they are of several kinds, or of none of these.
    """
    kinds = {"csv" if CSV_NAME.search(path.name) else path.suffix.lower().removeprefix(".") for path in files}
    if len(kinds) > 1 or not kinds <= {"csv", "parquet"}:
        raise DeclarationError(
            f"files of the kind {', '.join(sorted(kinds))} were given; all have to be .parquet, or all .csv"
        )
    return kinds.pop()


def refuse_repeated_names(names: Sequence[str], file: Path) -> None:
    """Raise DataError if two columns have one name: no contract can tell them apart."""
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise DataError(
            f"{file.name}: column {repeated!r} stands there {names.count(repeated)} times; rename one at the source"
        )


def refuse_another_type(facts: ColumnFacts, column: pa.Array, file: Path, *, typed: bool) -> None:
    """Raise DataError if a typed column had another type in an earlier file."""
    kind = canonical_type(column.type)
    if typed and facts.typed is not None and kind is not None and kind != facts.typed:
        raise DataError(
            f"{file.name}: column {facts.name!r} has the type {kind}; the files before have {facts.typed}. "
            "A contract says one type: correct the files, or draft from those that agree"
        )


def require_column(table: LearnedTable, name: str) -> ColumnFacts:
    """Return the facts of a column.

    Raises
    ------
    DeclarationError
        If there is no such column; names the nearest one.
    """
    if name not in table.columns:
        raise DeclarationError(f"there is no column {name!r}; {suggest_name(name, list(table.columns))}")
    return table.columns[name]
