"""A source of Parquet files: one or several files for each partition."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival, SplitNotes, Splits
from airflow_mlops.core.sources.batch_sizes import fill_batches, take_rows
from airflow_mlops.core.sources.common_columns import FileColumns, conform_batch, unite_columns
from airflow_mlops.core.sources.file_source import FileSource
from airflow_mlops.core.sources.parquet_ranges import RowRange, row_ranges
from airflow_mlops.core.sources.partition_files import PartitionFile, are_unchanged
from airflow_mlops.core.sources.path_columns import add_path_fields
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.source_splits import add_size, check_size

BATCH_BYTES = 64 << 20
"""Bytes that a batch should hardly exceed: wide rows come in smaller batches."""
BUFFER_BYTES = 1 << 20
"""Bytes read ahead of each column; without a buffer, a whole row group would be held."""


@dataclass(frozen=True)
class Footer:
    """The metadata at the end of a Parquet file."""

    file: PartitionFile
    schema: pa.Schema
    metadata: pq.FileMetaData

    @property
    def batch_rows(self) -> int:
        """Rows of a batch that hardly exceeds ``BATCH_BYTES``."""
        fitting: int = BATCH_BYTES * max(self.metadata.num_rows, 1) // max(self.bytes, 1)
        return max(1, min(BATCH_ROWS, fitting))

    @property
    def bytes(self) -> int:
        """Bytes of the columns, encoded and decompressed."""
        return sum(self.metadata.row_group(group).total_byte_size for group in range(self.metadata.num_row_groups))


class ParquetFiles(FileSource):
    """Parquet files: limits are checked against their footers before a row is read."""

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        files = self._files.find(partition)
        if are_unchanged(files, known):
            yield Arrival(pa.schema([]), iter(()), origin=dict(known or {}), unchanged=True)
            return
        footers = [self._footer(file, partition) for file in files]
        meter = Meter(self._limits, partition)
        for footer in footers:
            meter.add_rows(footer.metadata.num_rows, footer.metadata.num_columns, footer.file.name)
            meter.add_bytes(footer.bytes, footer.file.name)
        schema = common_schema(footers, partition)
        origin = {"files": [{**footer.file.origin(), "rows": footer.metadata.num_rows} for footer in footers]}
        with closing(self._batches(footers, schema, partition, Meter(self._limits, partition))) as batches:
            untyped, warnings = frozenset(self._files.path_columns), self._files.warnings(files, partition)
            splits = partial(self._splits, footers, schema, partition)
            yield Arrival(schema, batches, origin=origin, untyped=untyped, warnings=warnings, splits=splits)

    def _splits(self, footers: Sequence[Footer], schema: pa.Schema, partition: str) -> Splits:
        ranges = [(footer, part) for footer in footers for part in self._row_ranges(footer)]
        return Splits(
            tuple(partial(self._read_split, footer, part, schema, partition) for footer, part in ranges),
            partial(check_size, self._limits, partition, [footer.file.name for footer, _ in ranges]),
        )

    def _row_ranges(self, footer: Footer) -> list[RowRange]:
        with self._files.filesystem.open_input_file(footer.file.path) as stream:
            together = groups_to_read(stream, footer.metadata, footer.batch_rows, one_by_one=not self._files.is_local)
            return [part for groups, size in together for part in row_ranges(footer.metadata, groups, size)]

    def _read_split(
        self, footer: Footer, part: RowRange, schema: pa.Schema, partition: str, notes: SplitNotes
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a range in the batches that they have where the file is read as a whole."""
        meter, where = Meter(self._limits, partition), f"partition {partition}: {footer.file.name}"
        try:
            with (
                self._files.filesystem.open_input_file(footer.file.path) as stream,
                self._open(stream, footer) as file,
            ):
                batches = file.iter_batches(
                    part.size, row_groups=list(part.groups), use_threads=not self._files.is_local
                )
                for batch in fill_batches(take_rows(batches, part.skip, part.rows), part.size):
                    meter.add_bytes(batch.nbytes, footer.file.name)
                    yield conform_batch(batch, schema, where, footer.file.values)
        except (pa.ArrowException, OSError) as error:
            raise self._files.translate_error(error, partition, footer.file.name) from error
        add_size(notes, meter)

    def _open(self, stream: Any, footer: Footer) -> pq.ParquetFile:
        remote = not self._files.is_local
        return pq.ParquetFile(
            stream, metadata=footer.metadata, buffer_size=0 if remote else BUFFER_BYTES, pre_buffer=remote
        )

    def _footer(self, file: PartitionFile, partition: str) -> Footer:
        try:
            with self._files.filesystem.open_input_file(file.path) as stream, pq.ParquetFile(stream) as parquet:
                schema = simplify_schema(parquet.schema_arrow)
                return Footer(
                    file,
                    add_path_fields(schema, file.values, f"partition {partition}: {file.name}"),
                    parquet.metadata,
                )
        except (pa.ArrowException, OSError) as error:
            raise self._files.translate_error(error, partition, file.name) from error

    def _batches(
        self, footers: Sequence[Footer], schema: pa.Schema, partition: str, meter: Meter
    ) -> Generator[pa.RecordBatch]:
        for footer in footers:
            rows = footer.metadata.num_rows
            try:
                with self._files.filesystem.open_input_file(footer.file.path) as stream:
                    for batch in self._pieces(stream, footer, footer.batch_rows):
                        rows -= batch.num_rows
                        # Repeated values take far more memory than the footer says.
                        meter.add_bytes(batch.nbytes, footer.file.name)
                        yield conform_batch(
                            batch, schema, f"partition {partition}: {footer.file.name}", footer.file.values
                        )
                if rows:
                    raise pa.ArrowInvalid(f"it ends {rows:,} rows before the number that its footer states")
            except (pa.ArrowException, OSError) as error:
                raise self._files.translate_error(error, partition, footer.file.name) from error

    def _pieces(
        self, stream: Any, footer: Footer, size: int, groups: Sequence[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file, or of some of its row groups, in batches, with little of it in memory at once."""
        # From an object store a row group is read as a whole: column by column would be many small requests. On a
        # local disk one thread reads a little ahead of each column; with more threads, memory grows with the file.
        remote = not self._files.is_local
        with self._open(stream, footer) as file:
            for together, rows in groups_to_read(stream, footer.metadata, size, one_by_one=remote, chosen=groups):
                yield from file.iter_batches(rows, row_groups=together, use_threads=remote)


def groups_to_read(
    stream: Any, metadata: pq.FileMetaData, size: int, *, one_by_one: bool, chosen: Sequence[int] | None = None
) -> Iterator[tuple[list[int], int]]:
    """Yield row groups to read in one pass, all or those that are chosen, and the number of rows of a batch.

    A few kilobytes of Parquet can expand to gigabytes of text where long values repeat. A row group for which that is
    possible is read alone, in batches that fit its longest values.
    """
    groups: list[int] = []
    for group in range(metadata.num_row_groups) if chosen is None else chosen:
        columns = dictionary_columns(metadata.row_group(group), size)
        if not columns and not one_by_one:
            groups.append(group)
            continue
        if groups:
            yield groups, size
            groups = []
        yield [group], min(size, max(1, BATCH_BYTES // max(1, longest_row_bytes(stream, metadata, group, columns))))
    if groups:
        yield groups, size


def dictionary_columns(group: pq.RowGroupMetaData, size: int) -> list[str]:
    """Return the text columns of which ``size`` rows could be far larger than their dictionary-encoded bytes."""
    chunks = [group.column(index) for index in range(group.num_columns)]
    return [
        chunk.path_in_schema
        for chunk in chunks
        if chunk.physical_type == "BYTE_ARRAY"
        and chunk.has_dictionary_page
        and min(size, group.num_rows) * chunk.total_uncompressed_size > BATCH_BYTES
    ]


def longest_row_bytes(stream: Any, metadata: pq.FileMetaData, group: int, columns: list[str]) -> int:
    """Return the bytes of a row with the longest dictionary value in each column."""
    if not columns:
        return 0
    # The reader is not closed: that would close the stream, too.
    reader = pq.ParquetFile(stream, metadata=metadata, read_dictionary=columns, pre_buffer=False)
    first = next(reader.iter_batches(1, row_groups=[group], columns=columns, use_threads=False), None)
    encoded = [] if first is None else [column for column in first.columns if pa.types.is_dictionary(column.type)]
    return sum(pc.max(pc.binary_length(column.dictionary)).as_py() or 0 for column in encoded)


def simplify_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema without the traces of its writer: dictionaries, nullability and metadata."""
    fields = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in schema
    ]
    return pa.schema(fields)


def common_schema(footers: Sequence[Footer], partition: str) -> pa.Schema:
    """Return the columns of the files of a partition.

    Raises
    ------
    PartitionRefusedError
        If the files have different columns.
    """
    return unite_columns([FileColumns(footer.file.name, footer.schema) for footer in footers], partition)
