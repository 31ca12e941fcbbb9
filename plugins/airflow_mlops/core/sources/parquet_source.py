"""A source of Parquet files: one file for each partition, or several."""

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
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival
from airflow_mlops.core.sources.partition_files import FoundFile, PartitionFiles, untouched
from airflow_mlops.core.sources.size_limits import Meter

BATCH_BYTES = 64 << 20
"""Bytes that a batch should not exceed by far: wide rows come in smaller batches."""
BUFFER_BYTES = 1 << 20
"""Bytes read ahead of each column; without a buffer, a whole row group would be held."""


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says about itself at its end."""

    file: FoundFile
    schema: pa.Schema
    metadata: pq.FileMetaData

    @property
    def bytes(self) -> int:
        """Bytes of its columns, encoded and no longer compressed."""
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
        Where the files are; the local disk if not given.
    limits : Limits
        How much a partition may hold; told from the footers before a row is read.
    """

    def __init__(
        self, template: str, *, root: Path, filesystem: FileSystem | None = None, limits: Limits | None = None
    ) -> None:
        self._files = PartitionFiles(template, root=root, filesystem=filesystem)
        self._limits = limits or Limits()

    def path(self, partition: str) -> Path:
        """Return where the file of a partition is expected on the local disk."""
        return self._files.path(partition)

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        files = self._files.find(partition)
        if untouched(files, known):
            yield Arrival(pa.schema([]), iter(()), origin=dict(known or {}), unchanged=True)
            return
        footers = [self._footer(file, partition) for file in files]
        meter = Meter(self._limits, partition)
        for footer in footers:
            meter.add_rows(footer.metadata.num_rows, footer.metadata.num_columns, footer.file.name)
            meter.add_bytes(footer.bytes, footer.file.name)
        schema = footers[0].schema
        for footer in footers[1:]:
            refuse_another_schema(footer, footers[0], partition)
        origin = {"files": [{**footer.file.origin(), "rows": footer.metadata.num_rows} for footer in footers]}
        with closing(self._batches(footers, schema, partition)) as batches:
            yield Arrival(schema, batches, origin=origin)

    def _footer(self, file: FoundFile, partition: str) -> Footer:
        try:
            with self._files.filesystem.open_input_file(file.path) as stream, pq.ParquetFile(stream) as parquet:
                return Footer(file, plain_schema(parquet.schema_arrow), parquet.metadata)
        except (pa.ArrowException, OSError) as error:
            raise self._files.fault(error, partition, file.name) from error

    def _batches(self, footers: Sequence[Footer], schema: pa.Schema, partition: str) -> Generator[pa.RecordBatch]:
        meter = Meter(self._limits, partition)
        for footer in footers:
            rows = footer.metadata.num_rows
            fitting = BATCH_BYTES * max(rows, 1) // max(footer.bytes, 1)
            try:
                with self._files.filesystem.open_input_file(footer.file.path) as stream:
                    for batch in self._pieces(stream, footer, max(1, min(BATCH_ROWS, fitting))):
                        rows -= batch.num_rows
                        # Values that repeat take far more room than the footer says.
                        meter.add_bytes(batch.nbytes, footer.file.name)
                        yield in_schema(batch, schema)
                if rows:
                    raise pa.ArrowInvalid(f"it ends {rows:,} rows before the number that its footer states")
            except (pa.ArrowException, OSError) as error:
                raise self._files.fault(error, partition, footer.file.name) from error

    def _pieces(self, stream: Any, footer: Footer, size: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file so that little of it is in memory at once."""
        # Far away a row group is asked for as a whole, or every column would wait for its own small requests. Here
        # one thread reads a little ahead of each column: on more, what they hold grows with the file.
        far = not self._files.is_local
        with pq.ParquetFile(
            stream, metadata=footer.metadata, buffer_size=0 if far else BUFFER_BYTES, pre_buffer=far
        ) as file:
            for groups, rows in groups_to_read(stream, footer.metadata, size, alone=far):
                yield from file.iter_batches(rows, row_groups=groups, use_threads=far)


def groups_to_read(
    stream: Any, metadata: pq.FileMetaData, size: int, *, alone: bool
) -> Iterator[tuple[list[int], int]]:
    """Yield row groups that are read together, and how many of their rows at once.

    A few kilobytes of Parquet can stand for gigabytes of text where long values repeat. Where a row group could be
    such a one, its longest values are looked at first.
    """
    together: list[int] = []
    for group in range(metadata.num_row_groups):
        columns = repeating_columns(metadata.row_group(group), size)
        if not columns and not alone:
            together.append(group)
            continue
        if together:
            yield together, size
            together = []
        yield [group], min(size, max(1, BATCH_BYTES // max(1, longest_row(stream, metadata, group, columns))))
    if together:
        yield together, size


def repeating_columns(group: pq.RowGroupMetaData, size: int) -> list[str]:
    """Return the columns of text of which ``size`` rows could be far larger than what is stored of them."""
    chunks = [group.column(index) for index in range(group.num_columns)]
    return [
        chunk.path_in_schema
        for chunk in chunks
        if chunk.physical_type == "BYTE_ARRAY"
        and chunk.has_dictionary_page
        and min(size, group.num_rows) * chunk.total_uncompressed_size > BATCH_BYTES
    ]


def longest_row(stream: Any, metadata: pq.FileMetaData, group: int, columns: list[str]) -> int:
    """Return the bytes of a row that holds the longest of the values that repeat, in each of ``columns``."""
    if not columns:
        return 0
    # The stream stays open when this reader goes.
    reader = pq.ParquetFile(stream, metadata=metadata, read_dictionary=columns, pre_buffer=False)
    first = next(reader.iter_batches(1, row_groups=[group], columns=columns, use_threads=False), None)
    found = [] if first is None else [one for one in first.columns if pa.types.is_dictionary(one.type)]
    return sum(pc.max(pc.binary_length(one.dictionary)).as_py() or 0 for one in found)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return ``schema`` without what only tells how it was written: dictionaries, required columns, notes."""
    fields = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in schema
    ]
    return pa.schema(fields)


def in_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return ``batch`` with its columns in the order of ``schema`` and without dictionaries."""
    names = batch.schema.names
    columns = batch.columns if names == schema.names else [batch.column(names.index(name)) for name in schema.names]
    plain = [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in columns]
    return pa.RecordBatch.from_arrays(plain, schema=schema)


def refuse_another_schema(footer: Footer, first: Footer, partition: str) -> None:
    """Refuse a file whose columns are others than those of the first file; another order is fine.

    Raises
    ------
    PartitionRefusedError
        Naming every column that differs, with both types.
    """
    mine, other = sorted(_columns(footer.schema)), sorted(_columns(first.schema))
    if mine == other:
        return
    types, expected = dict(mine), dict(other)
    told = [f"column {name!r} is missing" for name in expected if name not in types]
    told += [f"column {name!r} ({types[name]}) is new" for name in types if name not in expected]
    told += [
        f"column {name!r} is {types[name]}, there it is {kind}"
        for name, kind in expected.items()
        if types.get(name, kind) != kind
    ]
    told = told or ["a column stands there another number of times"]
    shown = "; ".join(told[:10]) + (f"; and {len(told) - 10} more" if len(told) > 10 else "")
    raise PartitionRefusedError(
        f"partition {partition}: {footer.file.name} has other columns than {first.file.name}: {shown}; "
        "the files of a partition must have the same columns"
    )


def _columns(schema: pa.Schema) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in schema]
