"""Learn the columns of files in one pass, as the basis of a contract."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from airflow_mlops.core.data.drafting.column_facts import ColumnFacts
from airflow_mlops.core.data.drafting.sniff_dialect import SniffedDialect, sniff_dialect
from airflow_mlops.core.data.drafting.sniff_sheet import sniff_sheet
from airflow_mlops.core.declaration.arrow_types import canonical_type
from airflow_mlops.core.declaration.validation_errors import suggest_name
from airflow_mlops.core.errors import DataError, DeclarationError
from airflow_mlops.core.ports.partitions import Arrival, Source
from airflow_mlops.core.sources.csv_dialect import CsvDialect
from airflow_mlops.core.sources.csv_source import CsvFiles
from airflow_mlops.core.sources.json_source import JsonFiles
from airflow_mlops.core.sources.orc_source import OrcFiles
from airflow_mlops.core.sources.parquet_source import ParquetFiles
from airflow_mlops.core.sources.xlsx_rows import SheetForm
from airflow_mlops.core.sources.xlsx_source import XlsxFiles

PACKED = r"(\.(gz|bz2|xz|zst))?$"
KINDS = {
    "parquet": re.compile(r"\.parquet$", re.IGNORECASE),
    "orc": re.compile(r"\.orc$", re.IGNORECASE),
    "csv": re.compile(rf"\.(csv|tsv|txt){PACKED}", re.IGNORECASE),
    "json": re.compile(rf"\.(jsonl|ndjson|json){PACKED}", re.IGNORECASE),
    "xlsx": re.compile(r"\.xlsx$", re.IGNORECASE),
}
"""The kinds of files that are drafted from, by the ends of their names."""
WITH_PATH_COLUMNS = ("parquet", "orc", "csv")
ANY_PARTITION = "1970-01-01T00:00:00"
"""The partition for which a source is opened; the name of the file does not depend on it."""


@dataclass(frozen=True)
class FileForm:
    """How files are written.

    Parameters
    ----------
    dialect : CsvDialect
        Signs of CSV files.
    sheet : SheetForm
        Layout of sheets.
    path_columns : sequence of str
        Columns whose values are in the paths of the files.
    """

    dialect: CsvDialect = field(default_factory=CsvDialect)
    sheet: SheetForm = field(default_factory=SheetForm)
    path_columns: Sequence[str] = ()


@dataclass(frozen=True)
class LearnedTable:
    """The columns of a data set, the number of rows read, and the number of rows that could not be split.

    ``source`` are the keys of ``data.source`` that the files need, ``undecided`` what allows two readings, and ``form``
    is how the files are written.
    """

    rows: int
    broken: int
    columns: dict[str, ColumnFacts]
    source: dict[str, object] = field(default_factory=dict)
    undecided: tuple[str, ...] = ()
    form: FileForm = field(default_factory=FileForm)


@contextmanager
def learn_table(
    files: Sequence[Path],
    *,
    delimiter: str | None = None,
    sheet: str | None = None,
    path_columns: Sequence[str] = (),
) -> Iterator[LearnedTable]:
    """Return the columns of files; leaving the context removes the spooled keys.

    Parameters
    ----------
    files : sequence of Path
        ``.parquet``, ``.orc``, ``.xlsx``, or ``.csv``, ``.tsv``, ``.txt``, ``.jsonl``, ``.ndjson`` and ``.json`` (JSON
        lines) with or without .gz, .bz2, .xz, .zst; all of one kind.
    delimiter : str, optional
        Character between two values of a CSV file; guessed if not given.
    sheet : str, optional
        Name of the sheet of workbooks; the first one if not given.
    path_columns : sequence of str
        Columns whose values are in the paths of the files, as in ``region=eu/``.

    Raises
    ------
    DeclarationError
        If the files are of several kinds, or of none of these, or their kind has no columns in paths.
    DataError
        If a file cannot be read, there is no row, or a column has different types in two files.
    """
    columns: dict[str, ColumnFacts] = {}
    rows, broken = 0, 0
    kind = require_one_kind(files)
    require_path_columns(kind, path_columns)
    sniffed = sniff_dialect(files[0], delimiter=delimiter) if kind == "csv" else SniffedDialect()
    sheet_form = sniff_sheet(files[0], sheet) if kind == "xlsx" else SheetForm()
    file_form = FileForm(sniffed.dialect, sheet_form, path_columns)
    try:
        for file in files:
            with open_file(file, files, file_form) as arrival:
                refuse_repeated_names(arrival.schema.names, file)
                for batch in arrival.batches:
                    rows += batch.num_rows
                    for name, column in zip(batch.schema.names, batch.columns, strict=True):
                        facts = columns.setdefault(name, ColumnFacts(name, sniffed.form))
                        typed = arrival.typed and name not in arrival.untyped
                        refuse_another_type(facts, column, file, typed=typed)
                        facts.add(column, typed=typed)
                broken += len(arrival.broken)
        if not rows:
            raise DataError(f"{', '.join(map(str, files))}: there is no row, so no column can be learned")
        undecided = (*sniffed.undecided, *folders_that_may_be_columns(files, kind, path_columns))
        yield LearnedTable(rows, broken, columns, source_keys(sniffed, file_form), undecided, file_form)
    finally:
        for facts in columns.values():
            facts.close()


def source_keys(sniffed: SniffedDialect, form: FileForm) -> dict[str, object]:
    """Return the keys of ``data.source`` that differ from their defaults, with their values."""
    keys = dict(sniffed.keys)
    if form.sheet.sheet is not None:
        keys["sheet"] = form.sheet.sheet
    if form.sheet.skip_rows:
        keys["skip_rows"] = form.sheet.skip_rows
    if form.path_columns:
        keys["path_columns"] = list(form.path_columns)
    return keys


def require_path_columns(kind: str, columns: Sequence[str]) -> None:
    """Raise DeclarationError if columns in paths are named for a kind of files that has none."""
    if columns and kind not in WITH_PATH_COLUMNS:
        raise DeclarationError(
            f"a {kind} source has no path_columns; leave out --path-column, or deliver {', '.join(WITH_PATH_COLUMNS)}"
        )


def folders_that_may_be_columns(files: Sequence[Path], kind: str, columns: Sequence[str]) -> list[str]:
    """Return a remark for each folder ``name=…`` in the paths of all files that is not among the columns."""
    if kind not in WITH_PATH_COLUMNS:
        return []
    names = [[unquote(part.split("=", 1)[0]) for part in file.parent.parts if "=" in part] for file in files]
    shared = [name for name in dict.fromkeys(names[0]) if name and all(name in others for others in names)]
    return [
        f"the files lie in folders {name}=…; --path-column {name} makes their values a column, unless the name of the "
        "partition stands there"
        for name in shared
        if name not in columns
    ]


@contextmanager
def open_file(file: Path, files: Sequence[Path], form: FileForm) -> Iterator[Arrival]:
    """Open one file as its source would; all ``files`` have to be of one kind.

    Raises
    ------
    DeclarationError
        If the files are of several kinds, or of none that is drafted from.
    DataError
        If the file cannot be read.
    """
    source = source_of(file, require_one_kind(files), form)
    try:
        with source.open(ANY_PARTITION) as arrival:
            yield arrival
    except DataError as error:
        raise type(error)(str(error).removeprefix(f"partition {ANY_PARTITION}: ")) from error


def source_of(file: Path, kind: str, form: FileForm) -> Source:
    """Return a source of one file."""
    template, root = str(file.absolute()), Path()
    if kind == "csv":
        return CsvFiles(template, root=root, dialect=form.dialect, path_columns=form.path_columns)
    if kind == "json":
        return JsonFiles(template, root=root)
    if kind == "xlsx":
        return XlsxFiles(template, root=root, form=form.sheet)
    typed = OrcFiles if kind == "orc" else ParquetFiles
    return typed(template, root=root, path_columns=form.path_columns)


def require_one_kind(files: Sequence[Path]) -> str:
    """Return the kind of some files, as a source has it.

    Raises
    ------
    DeclarationError
        If they are of several kinds, or of none that is drafted from.
    """
    kinds = {
        next((kind for kind, name in KINDS.items() if name.search(path.name)), path.suffix.removeprefix("."))
        for path in files
    }
    if len(kinds) > 1 or not kinds <= KINDS.keys():
        raise DeclarationError(
            f"files of the kind {', '.join(sorted(kinds))} were given; all have to be of one kind: .parquet, .orc, "
            ".csv, .jsonl or .xlsx"
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
