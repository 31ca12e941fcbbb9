"""A source of JSON lines, plain or compressed: one object on each line, one or several files for each partition."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from typing import Any

import pyarrow as pa

from airflow_mlops.core.errors import SourceUnreadableError
from airflow_mlops.core.ports.partitions import Arrival, BrokenRow, SplitNotes, Splits
from airflow_mlops.core.sources.file_source import FileSource
from airflow_mlops.core.sources.json_rows import MAX_BROKEN_ROWS, JsonRows, read_json, require_seen
from airflow_mlops.core.sources.partition_files import PartitionFile, are_unchanged
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.source_splits import add_size, check_size
from airflow_mlops.core.sources.utf8_stream import DAMAGES, MARKS, Utf8Stream, open_decompressed, restore_bytes

LINE_BYTES = 16 << 20
"""Bytes of the longest line; a file without line ends is no JSON lines."""
READ_BYTES = 1 << 20
PAGE_LINES = 10_000
PAGE_BYTES = 16 << 20

Page = tuple[PartitionFile, list[Any], list[int]]
"""Records of a file, with their lines."""


class JsonFiles(FileSource):
    """Files of JSON lines, named by a template; see :mod:`airflow_mlops.core.sources.partition_files`.

    Every value arrives as text: the contract decides on types. A line that is no object with single values goes to
    quarantine. The columns are the keys of the first 10,000 lines and those of the contract.

    Parameters
    ----------
    template : str
        Path with ``{partition}`` or another placeholder in it; .gz, .bz2, .xz and .zst are decompressed.
    columns, required, ignored
        The contract, as of :class:`airflow_mlops.core.sources.json_rows.JsonRows`.
    **options
        As of :class:`airflow_mlops.core.sources.file_source.FileSource`.
    """

    def __init__(
        self,
        template: str,
        *,
        columns: Sequence[str] = (),
        required: frozenset[str] = frozenset(),
        ignored: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__(template, **options)
        self._contract: dict[str, Any] = {"columns": columns, "required": required, "ignored": ignored}

    @contextmanager
    def open(self, partition: str, *, known: Mapping[str, Any] | None = None) -> Iterator[Arrival]:
        """Return the rows of a partition; see :meth:`airflow_mlops.core.ports.partitions.Source.open`."""
        files = self._files.find(partition)
        if are_unchanged(files, known):
            yield Arrival(pa.schema([]), iter(()), typed=False, origin=dict(known or {}), unchanged=True)
            return
        broken: list[BrokenRow] = []
        meter = Meter(self._limits, partition)
        with closing(self._pages(files, partition, meter, broken)) as pages:
            first = next(pages, None)
            where = f"partition {partition}: {files[0].name}"
            rows = JsonRows(first[1] if first else [], where=where, broken=broken, **self._contract)
            batches = _batches(rows, chain([first] if first else [], pages), meter)
            origin = {"files": [file.origin() for file in files]}
            splits = partial(self._splits, files, rows.schema.names, partition, where)
            with closing(batches):
                yield Arrival(rows.schema, batches, typed=False, origin=origin, broken=broken, splits=splits)

    def _splits(self, files: Sequence[PartitionFile], names: Sequence[str], partition: str, where: str) -> Splits:
        return Splits(
            tuple(partial(self._read_split, file, names, partition, where) for file in files),
            partial(self._check_splits, [file.name for file in files], partition, where),
        )

    def _read_split(
        self, file: PartitionFile, names: Sequence[str], partition: str, where: str, notes: SplitNotes
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file with the columns of the partition."""
        meter = Meter(self._limits, partition)
        contract = {**self._contract, "columns": names, "required": frozenset()}
        rows = JsonRows([], where=where, broken=notes.broken, **contract)
        yield from _batches(rows, self._pages([file], partition, meter, notes.broken), meter)
        add_size(notes, meter)
        notes.names |= rows.seen_keys
        notes.records += rows.count

    def _check_splits(self, files: Sequence[str], partition: str, where: str, notes: Sequence[SplitNotes]) -> None:
        """Check the splits together: their sizes, and that each required column is in one of them."""
        check_size(self._limits, partition, files, notes)
        seen = set[str]().union(*(split.names for split in notes))
        require_seen(self._contract["required"], seen, sum(split.records for split in notes), where)

    def _pages(
        self, files: Sequence[PartitionFile], partition: str, meter: Meter, broken: list[BrokenRow]
    ) -> Generator[Page]:
        """Yield the records of the files in pages; lines that are no JSON go to ``broken``."""
        for file in files:
            records: list[Any] = []
            numbers: list[int] = []
            size = 0
            for number, line in self._lines(file, partition, meter):
                if not line.strip():
                    continue
                size += len(line)
                try:
                    records.append(_parse(line))
                    numbers.append(number)
                except ValueError as error:
                    self._reject(line, str(error), f"{file.name}, line {number}", partition, broken)
                if len(records) >= PAGE_LINES or size >= PAGE_BYTES:
                    yield file, records, numbers
                    records, numbers, size = [], [], 0
            if records:
                yield file, records, numbers

    def _lines(self, file: PartitionFile, partition: str, meter: Meter) -> Generator[tuple[int, bytes]]:
        """Yield the lines of a file with their numbers, from 1."""
        try:
            with self._files.filesystem.open_input_stream(file.path, compression=None) as stream:
                text = Utf8Stream(
                    open_decompressed(stream, file.name),
                    name=file.name,
                    meter=meter,
                    translate_error=lambda error: self._files.translate_error(error, partition, file.name),
                )
                number, rest = 0, b""
                while content := text.read(READ_BYTES):
                    *lines, rest = (rest + content).split(b"\n")
                    for line in lines:
                        number += 1
                        yield number, line
                    if len(rest) > LINE_BYTES:
                        raise SourceUnreadableError(
                            f"partition {partition}: {file.name} cannot be read: line {number + 1} is longer than "
                            f"{LINE_BYTES:,} bytes; kind json reads one object on each line"
                        )
                if rest:
                    yield number + 1, rest
        except DAMAGES as error:
            raise self._files.translate_error(error, partition, file.name) from error

    def _reject(self, line: bytes, reason: str, at: str, partition: str, broken: list[BrokenRow]) -> None:
        if len(broken) >= MAX_BROKEN_ROWS:
            raise SourceUnreadableError(
                f"partition {partition}: more than {MAX_BROKEN_ROWS:,} lines are broken, the first at {broken[0].at}: "
                f"it {broken[0].reason}; kind json reads one object on each line"
            )
        broken.append(BrokenRow(restore_bytes(line.decode()), reason, at))


def _parse(line: bytes) -> Any:
    """Return the record on a line.

    Raises
    ------
    ValueError
        With the reason, if it is no JSON in UTF-8.
    """
    if re.search(MARKS, line.decode()):
        raise ValueError("is not UTF-8")
    try:
        return read_json(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error.msg} at character {error.colno}") from None
    except ValueError as error:
        raise ValueError(f"is no JSON: {error}") from None


def _batches(rows: JsonRows, pages: Iterator[Page], meter: Meter) -> Generator[pa.RecordBatch]:
    for file, records, numbers in pages:
        meter.add_rows(len(records), len(rows.schema), file.name)
        yield from rows.batches(records, file.name, lines=numbers)
    rows.end()
