"""A source of CSV files, plain or compressed: one or several files for each partition."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pyarrow as pa

from airflow_mlops.core.ports.partitions import Arrival, BrokenRow, SplitNotes, Splits
from airflow_mlops.core.sources.csv_dialect import CsvDialect
from airflow_mlops.core.sources.csv_rows import CsvRows
from airflow_mlops.core.sources.file_source import FileSource
from airflow_mlops.core.sources.partition_files import PartitionFile, are_unchanged, columns_error
from airflow_mlops.core.sources.path_columns import add_path_columns, add_path_fields
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.source_splits import add_size, check_size
from airflow_mlops.core.sources.utf8_stream import DAMAGES, Utf8Stream, open_decompressed


class CsvFiles(FileSource):
    """CSV files named by a template; see :class:`airflow_mlops.core.sources.partition_files.PartitionFiles`.

    Every column arrives as text, and an empty value as empty text: the contract decides on types and nulls.

    Parameters
    ----------
    template : str
        Path with ``{partition}`` or another placeholder in it; .gz, .bz2, .xz and .zst are decompressed.
    dialect : CsvDialect, optional
        Signs of the text; RFC 4180 in UTF-8 by default.
    **options
        As of :class:`airflow_mlops.core.sources.file_source.FileSource`.
    """

    def __init__(self, template: str, *, dialect: CsvDialect | None = None, **options: Any) -> None:
        super().__init__(template, **options)
        self._dialect = dialect or CsvDialect()

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        files = self._files.find(partition)
        if are_unchanged(files, known):
            yield Arrival(pa.schema([]), iter(()), typed=False, origin=dict(known or {}), unchanged=True)
            return
        schema = self._common_schema(files, partition)
        broken: list[BrokenRow] = []
        with closing(self._batches(files, schema, partition, broken, Meter(self._limits, partition))) as batches:
            origin = {"files": [file.origin() for file in files]}
            warnings = self._files.warnings(files, partition)
            splits = partial(self._splits, files, schema, partition)
            yield Arrival(schema, batches, typed=False, origin=origin, broken=broken, warnings=warnings, splits=splits)

    def _splits(self, files: Sequence[PartitionFile], schema: pa.Schema, partition: str) -> Splits:
        return Splits(
            tuple(partial(self._read_split, file, schema, partition) for file in files),
            partial(check_size, self._limits, partition, [file.name for file in files]),
        )

    def _read_split(
        self, file: PartitionFile, schema: pa.Schema, partition: str, notes: SplitNotes
    ) -> Iterator[pa.RecordBatch]:
        meter = Meter(self._limits, partition)
        yield from self._batches([file], schema, partition, notes.broken, meter)
        add_size(notes, meter)

    def _common_schema(self, files: Sequence[PartitionFile], partition: str) -> pa.Schema:
        """Return the columns that the headers of all files have."""
        names: list[str] | None = None
        for file in files:
            with self._open_rows(file, partition, Meter(self._limits, partition), []) as rows:
                names = rows.names if names is None else names
                require_same_columns(rows.names, names, f"partition {partition}: {file.name}", files[0].name)
        schema = pa.schema([pa.field(name, pa.string()) for name in names or ()])
        return add_path_fields(schema, files[0].values, f"partition {partition}: {files[0].name}")

    @contextmanager
    def _open_rows(
        self, file: PartitionFile, partition: str, meter: Meter, broken: list[BrokenRow]
    ) -> Iterator[CsvRows]:
        try:
            with self._files.filesystem.open_input_stream(file.path, compression=None) as stream:
                text = Utf8Stream(
                    open_decompressed(stream, file.name),
                    name=file.name,
                    meter=meter,
                    translate_error=lambda error: self._files.translate_error(error, partition, file.name),
                    encoding=self._dialect.encoding,
                )
                yield CsvRows(
                    text, name=file.name, partition=partition, dialect=self._dialect, meter=meter, broken=broken
                )
        except DAMAGES as error:
            raise self._files.translate_error(error, partition, file.name) from error

    def _batches(
        self,
        files: Sequence[PartitionFile],
        schema: pa.Schema,
        partition: str,
        broken: list[BrokenRow],
        meter: Meter,
    ) -> Generator[pa.RecordBatch]:
        for file in files:
            with self._open_rows(file, partition, meter, broken) as rows:
                names = [name for name in schema.names if name not in file.values]
                require_same_columns(rows.names, names, f"partition {partition}: {file.name}", files[0].name)
                for batch in rows.batches():
                    yield add_path_columns(batch, schema, file.values)


def require_same_columns(names: Sequence[str], expected: Sequence[str], name: str, first: str) -> None:
    """Raise PartitionRefusedError unless a header has the names of the first header, in any order.

    Raises
    ------
    PartitionRefusedError
        Naming every column that differs.
    """
    if sorted(names) == sorted(expected):
        return
    differences = [f"column {column!r} is missing" for column in expected if column not in names]
    differences += [f"column {column!r} is new" for column in names if column not in expected]
    raise columns_error(name, first, differences)
