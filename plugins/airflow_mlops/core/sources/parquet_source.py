"""A source of Parquet files: one or several files for each partition."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.declaration.partition_schedule import PartitionSchedule
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival
from airflow_mlops.core.sources.partition_files import PartitionFile, PartitionFiles, are_unchanged, columns_error
from airflow_mlops.core.sources.size_limits import Meter

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
    def bytes(self) -> int:
        """Bytes of the columns, encoded and decompressed."""
        return sum(self.metadata.row_group(group).total_byte_size for group in range(self.metadata.num_row_groups))


class ParquetFiles:
    """Parquet files named by a template; see :class:`airflow_mlops.core.sources.partition_files.PartitionFiles`.

    Parameters
    ----------
    template : str
        Path with ``{partition}`` or another placeholder in it.
    root : Path
        Folder that a relative template starts from.
    filesystem : pyarrow.fs.FileSystem, optional
        File system of the files; the local disk by default.
    limits : Limits
        How much a partition may hold; checked against the footers before a row is read.
    schedule : PartitionSchedule, optional
        The ticks of the partitions; weekly in UTC by default.
    """

    def __init__(
        self,
        template: str,
        *,
        root: Path,
        filesystem: FileSystem | None = None,
        limits: Limits | None = None,
        schedule: PartitionSchedule | None = None,
    ) -> None:
        self._files = PartitionFiles(template, root=root, filesystem=filesystem, schedule=schedule)
        self._limits = limits or Limits()

    def path(self, partition: str) -> Path:
        """Return where the file of a partition is expected on the local disk."""
        return self._files.path(partition)

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
        schema = footers[0].schema
        for footer in footers[1:]:
            require_same_schema(footer, footers[0], partition)
        origin = {"files": [{**footer.file.origin(), "rows": footer.metadata.num_rows} for footer in footers]}
        with closing(self._batches(footers, schema, partition)) as batches:
            yield Arrival(schema, batches, origin=origin)

    def _footer(self, file: PartitionFile, partition: str) -> Footer:
        try:
            with self._files.filesystem.open_input_file(file.path) as stream, pq.ParquetFile(stream) as parquet:
                return Footer(file, simplify_schema(parquet.schema_arrow), parquet.metadata)
        except (pa.ArrowException, OSError) as error:
            raise self._files.translate_error(error, partition, file.name) from error

    def _batches(self, footers: Sequence[Footer], schema: pa.Schema, partition: str) -> Generator[pa.RecordBatch]:
        meter = Meter(self._limits, partition)
        for footer in footers:
            rows = footer.metadata.num_rows
            fitting = BATCH_BYTES * max(rows, 1) // max(footer.bytes, 1)
            try:
                with self._files.filesystem.open_input_file(footer.file.path) as stream:
                    for batch in self._pieces(stream, footer, max(1, min(BATCH_ROWS, fitting))):
                        rows -= batch.num_rows
                        # Repeated values take far more memory than the footer says.
                        meter.add_bytes(batch.nbytes, footer.file.name)
                        yield conform_batch(batch, schema)
                if rows:
                    raise pa.ArrowInvalid(f"it ends {rows:,} rows before the number that its footer states")
            except (pa.ArrowException, OSError) as error:
                raise self._files.translate_error(error, partition, footer.file.name) from error

    def _pieces(self, stream: Any, footer: Footer, size: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file in batches, with little of it in memory at once."""
        # From an object store a row group is read as a whole: column by column would be many small requests. On a
        # local disk one thread reads a little ahead of each column; with more threads, memory grows with the file.
        remote = not self._files.is_local
        with pq.ParquetFile(
            stream, metadata=footer.metadata, buffer_size=0 if remote else BUFFER_BYTES, pre_buffer=remote
        ) as file:
            for groups, rows in groups_to_read(stream, footer.metadata, size, one_by_one=remote):
                yield from file.iter_batches(rows, row_groups=groups, use_threads=remote)


def groups_to_read(
    stream: Any, metadata: pq.FileMetaData, size: int, *, one_by_one: bool
) -> Iterator[tuple[list[int], int]]:
    """Yield row groups to read in one pass, and the number of rows of a batch.

    A few kilobytes of Parquet can expand to gigabytes of text where long values repeat. A row group for which that is
    possible is read alone, in batches that fit its longest values.
    """
    groups: list[int] = []
    for group in range(metadata.num_row_groups):
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


def conform_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with its columns in the order of a schema and without dictionaries."""
    names = batch.schema.names
    columns = batch.columns if names == schema.names else [batch.column(names.index(name)) for name in schema.names]
    plain = [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in columns]
    return pa.RecordBatch.from_arrays(plain, schema=schema)


def require_same_schema(footer: Footer, first: Footer, partition: str) -> None:
    """Raise PartitionRefusedError unless a file has the columns of the first file, in any order.

    Raises
    ------
    PartitionRefusedError
        Naming every column that differs, with both types.
    """
    columns, first_columns = sorted(_columns(footer.schema)), sorted(_columns(first.schema))
    if columns == first_columns:
        return
    types, expected = dict(columns), dict(first_columns)
    differences = [f"column {name!r} is missing" for name in expected if name not in types]
    differences += [f"column {name!r} ({types[name]}) is new" for name in types if name not in expected]
    differences += [
        f"column {name!r} is {types[name]}, there it is {kind}"
        for name, kind in expected.items()
        if types.get(name, kind) != kind
    ]
    raise columns_error(f"partition {partition}: {footer.file.name}", first.file.name, differences)


def _columns(schema: pa.Schema) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in schema]
