"""A source of Parquet files: one file for each partition, or several."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from airflow_mlops.core.data.partition_files import FoundFile, PartitionFiles, untouched
from airflow_mlops.core.data.port import BATCH_ROWS, Arrival
from airflow_mlops.core.data.within_limits import Meter
from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.loop import Limits

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
    """Parquet files named by a template; see :class:`airflow_mlops.core.data.partition_files.PartitionFiles`.

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
        """Return the rows of a partition; see :meth:`airflow_mlops.core.data.port.Source.open`."""
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
        if self._files.is_local:
            # One thread: on more, what they hold grows with the file.
            with pq.ParquetFile(stream, metadata=footer.metadata, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
                yield from file.iter_batches(size, use_threads=False)
            return
        # Far away a row group is asked for as a whole, or every column would wait for its own small requests.
        with pq.ParquetFile(stream, metadata=footer.metadata, pre_buffer=True) as file:
            for group in range(footer.metadata.num_row_groups):
                yield from file.iter_batches(size, row_groups=[group])


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
