"""A source of ORC files: one or several for each partition, or some that hold the rows of all partitions.

The footer of an ORC file states its rows and columns, but not the size of its values, so the rows are read in small
pieces and counted against the limits piece by piece.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import orc
from pyarrow.dataset import OrcFileFormat

from airflow_mlops.core.errors import PartitionRefusedError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, Arrival, SplitNotes, Splits
from airflow_mlops.core.sources.common_columns import FileColumns, conform_batch, unite_columns
from airflow_mlops.core.sources.file_source import FileSource
from airflow_mlops.core.sources.partition_files import PartitionFile, are_unchanged
from airflow_mlops.core.sources.path_columns import add_path_fields
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.source_splits import add_size, check_size
from airflow_mlops.core.sources.time_cut import (
    ALWAYS,
    Interval,
    TimeColumn,
    TimedRows,
    TimePlacer,
    missing_rows,
    newest_moment,
)

PIECE_ROWS = 4_096
PIECE_CELLS = 1_000_000
BATCH_BYTES = 64 << 20


@dataclass(frozen=True)
class OrcFooter:
    """The metadata at the end of an ORC file: its columns, without and with those of its path, and its rows."""

    file: PartitionFile
    schema: pa.Schema
    rows: int


class OrcFiles(FileSource):
    """ORC files: limits of rows and cells are checked against their footers before a row is read."""

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        files = self._files.find(partition)
        if are_unchanged(files, known):
            yield Arrival(pa.schema([]), iter(()), origin=dict(known or {}), unchanged=True)
            return
        footers = [self._footer(file, partition) for file in files]
        schema = unite_columns([FileColumns(footer.file.name, footer.schema) for footer in footers], partition)
        self._check_footers(footers, partition)
        origin = {"files": [self._file_origin(footer) for footer in footers], **self._origin(partition)}
        with closing(self._batches(footers, schema, partition, Meter(self._limits, partition))) as batches:
            first = next(batches, None)
            if first is None:
                self._require_rows(files, partition)
            rows = chain([first] if first is not None else [], batches)
            untyped, warnings = frozenset(self._files.path_columns), self._files.warnings(files, partition)
            splits = partial(self._splits, footers, schema, partition)
            yield Arrival(schema, rows, origin=origin, untyped=untyped, warnings=warnings, splits=splits)

    def _splits(self, footers: Sequence[OrcFooter], schema: pa.Schema, partition: str) -> Splits:
        return Splits(
            tuple(partial(self._read_split, footer, schema, partition) for footer in footers),
            partial(check_size, self._limits, partition, [footer.file.name for footer in footers]),
        )

    def _read_split(
        self, footer: OrcFooter, schema: pa.Schema, partition: str, notes: SplitNotes
    ) -> Iterator[pa.RecordBatch]:
        meter = Meter(self._limits, partition)
        yield from self._batches([footer], schema, partition, meter)
        add_size(notes, meter)

    def _origin(self, partition: str) -> dict[str, Any]:  # noqa: ARG002
        """Return the entries of an origin beside its files."""
        return {}

    def _file_origin(self, footer: OrcFooter) -> dict[str, Any]:
        return {**footer.file.origin(), "rows": footer.rows}

    def _require_rows(self, files: Sequence[PartitionFile], partition: str) -> None:
        """Accept a partition without rows: its file is there."""

    def _check_footers(self, footers: Sequence[OrcFooter], partition: str) -> None:
        meter = Meter(self._limits, partition)
        for footer in footers:
            meter.add_rows(footer.rows, len(footer.schema), footer.file.name)

    def _footer(self, file: PartitionFile, partition: str) -> OrcFooter:
        where = f"partition {partition}: {file.name}"
        try:
            with self._files.filesystem.open_input_file(file.path) as stream:
                reader = orc.ORCFile(stream)
                # The metadata are notes of the writer.
                schema, rows = reader.schema.remove_metadata(), reader.nrows
        except (pa.ArrowException, OSError) as error:
            raise self._files.translate_error(error, partition, file.name) from error
        repeated = next((name for name in schema.names if schema.names.count(name) > 1), None)
        if repeated is not None:  # its columns are read by their names
            raise PartitionRefusedError(
                f"{where}: column {repeated!r} stands there {schema.names.count(repeated)} times; deliver it once"
            )
        return OrcFooter(file, add_path_fields(schema, file.values, where), rows)

    def _batches(
        self, footers: Sequence[OrcFooter], schema: pa.Schema, partition: str, meter: Meter
    ) -> Generator[pa.RecordBatch]:
        for footer in footers:
            where = f"partition {partition}: {footer.file.name}"
            try:
                with closing(self._parts(footer, partition)) as parts:
                    for part in parts:
                        meter.add_rows(part.num_rows, part.num_columns, footer.file.name)
                        meter.add_bytes(part.nbytes, footer.file.name)
                        yield conform_batch(part, schema, where, footer.file.values)
            except (pa.ArrowException, OSError) as error:
                raise self._files.translate_error(error, partition, footer.file.name) from error

    def _parts(self, footer: OrcFooter, partition: str) -> Generator[pa.RecordBatch]:  # noqa: ARG002
        """Yield the rows of a file that are in the partition."""
        yield from joined(self._pieces(footer))

    def _pieces(self, footer: OrcFooter) -> Generator[pa.RecordBatch]:
        """Yield the rows of a file in small pieces, which are all that is in memory."""
        left = footer.rows
        size = max(1, min(PIECE_ROWS, PIECE_CELLS // max(1, len(footer.schema))))
        fragment = OrcFileFormat().make_fragment(footer.file.path, filesystem=self._files.filesystem)
        for piece in fragment.scanner(batch_size=size, batch_readahead=1, use_threads=False).to_batches():
            left -= piece.num_rows
            if piece.num_rows:
                yield piece.replace_schema_metadata(None)
        if left:
            raise pa.ArrowInvalid(f"it ends {left:,} rows before the number that its footer states")


class OrcTable(OrcFiles):
    """ORC files without a placeholder in their name; see :mod:`airflow_mlops.core.sources.time_cut`.

    Parameters
    ----------
    template : str
        Path of one file, or of several with a ``*``.
    time : TimeColumn
        The column that assigns rows to partitions.
    **options
        As for :class:`OrcFiles`; limits count the rows of a partition.
    """

    def __init__(self, template: str, *, time: TimeColumn, **options: Any) -> None:
        super().__init__(template, **options)
        self._time = time

    def newest(self, partition: str) -> np.datetime64:
        """Return the newest time of a row, NaT without one; ``partition`` is named in errors."""
        footers = [self._footer(file, partition) for file in self._files.find(partition)]
        return newest_moment(
            timed.moments for footer in footers for timed in self._timed_rows(footer, partition, ALWAYS)
        )

    def _origin(self, partition: str) -> dict[str, Any]:
        return dict(self._time.interval(partition).origin())

    def _file_origin(self, footer: OrcFooter) -> dict[str, Any]:
        return footer.file.origin()

    def _require_rows(self, files: Sequence[PartitionFile], partition: str) -> None:
        raise missing_rows(partition, [file.name for file in files], self._time.interval(partition))

    def _check_footers(self, footers: Sequence[OrcFooter], partition: str) -> None:
        """Require the time column; the footers count the rows of all partitions."""
        for footer in footers:
            self._time.position(footer.schema.names, f"partition {partition}: {footer.file.name}")

    def _parts(self, footer: OrcFooter, partition: str) -> Generator[pa.RecordBatch]:
        interval = self._time.interval(partition)
        timed_rows = self._timed_rows(footer, partition, interval)
        yield from joined(timed.batch for timed in timed_rows if timed.batch.num_rows)

    def _timed_rows(self, footer: OrcFooter, partition: str, interval: Interval) -> Iterator[TimedRows]:
        """Yield the rows of an interval with the times that decide on their partitions."""
        where = f"partition {partition}: {footer.file.name}"
        position, placer = self._time.position(footer.schema.names, where), TimePlacer(self._time.name, where)
        for piece in self._pieces(footer):
            moments = self._time.times.moments(piece.column(position), typed=True)
            for timed in placer.place(piece, moments):
                yield timed.within(interval)
        placer.end()


def joined(pieces: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield pieces as fewer batches, each of at most ``BATCH_ROWS`` rows and little more than ``BATCH_BYTES`` bytes."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for piece in pieces:
        if held and (rows + piece.num_rows > BATCH_ROWS or size > BATCH_BYTES):
            yield pa.concat_batches(held)
            held, rows, size = [], 0, 0
        held.append(piece)
        rows, size = rows + piece.num_rows, size + piece.nbytes
    if held:
        yield pa.concat_batches(held)
