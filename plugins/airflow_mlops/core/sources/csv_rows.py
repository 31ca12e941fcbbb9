"""Read the rows of a CSV text, every value as text, and set broken rows aside.

A row with too few or too many values, or with invalid UTF-8, goes to ``broken`` and shifts no other row. Lines are
counted from 1, the header included; a row with line breaks in a value counts as one line, an empty line as none.
"""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Generator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import ConvertOptions, CSVStreamingReader, InvalidRow, ParseOptions, ReadOptions, open_csv

from airflow_mlops.core.errors import DeclarationError, SourceUnreadableError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, BrokenRow
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.utf8_stream import MARKS, Utf8Stream, restore_bytes

ROW_BYTES = 1 << 20
"""Bytes of the longest row; a quote that is never closed makes one row of all that follows."""
HEADER_BYTES = 1 << 20
MAX_COLUMNS = 10_000
MAX_BROKEN_ROWS = 100_000
MAX_BROKEN_CHARACTERS = 100_000_000


def require_delimiter(delimiter: str) -> None:
    """Raise DeclarationError unless a character can separate values.

    Raises
    ------
    DeclarationError
        If it is a quote, a line break, NUL or not ASCII.
    """
    if not delimiter.isascii() or delimiter in '"\r\n\0':
        raise DeclarationError(
            f"{delimiter!r} cannot separate values; take an ASCII character that is neither a quote nor a line break",
            key="data.source.delimiter",
        )


class CsvRows:
    """The rows of a CSV text whose header has been read.

    Parameters
    ----------
    stream : Utf8Stream
        The text.
    name : str
        Name of the text in errors.
    partition : str
        Key of the partition, for errors.
    delimiter : str
        Character between two values.
    meter : Meter
        Counts rows and cells.
    broken : list of BrokenRow
        List to which broken rows are added.

    Raises
    ------
    SourceUnreadableError
        If the header is missing or cannot be read.
    """

    def __init__(
        self, stream: Utf8Stream, *, name: str, partition: str, delimiter: str, meter: Meter, broken: list[BrokenRow]
    ) -> None:
        self._stream, self._name, self._partition, self._delimiter = stream, name, partition, delimiter
        self._meter, self._broken = meter, broken
        self._broken_characters = 0
        self._too_broken = False
        self._ragged: list[int] = []  # numbers of the rows that the parser skipped
        self._passed_rows = self._passed_ragged = 0  # good rows so far, and ragged rows before the current row
        self.names, self._header_lines = self._header()

    def batches(self) -> Generator[pa.RecordBatch]:
        """Yield the rows, at most ``BATCH_ROWS`` at once, every column as text.

        Raises
        ------
        SourceUnreadableError
            If the text ends within a quote, a row is longer than 1 MB, or far too many rows are broken.
        PartitionRefusedError
            If there is more than the declared limits allow.
        """
        schema = pa.schema([pa.field(name, pa.string()) for name in self.names])
        # A random row behind the text. If it is not the last row that comes out, an open quote has swallowed it.
        last = secrets.token_hex(16)
        self._stream.ending = f"\n{self._delimiter.join([last] * len(self.names))}\n".encode()
        held: pa.RecordBatch | None = None
        try:
            for batch in self._parser():
                if not batch.num_rows:
                    continue
                if held is not None:
                    yield from self._valid_rows(held, schema)
                held = batch
        except pa.ArrowException as error:
            raise self._translate_error(error) from error
        if held is None or any(column[-1].as_py() != last for column in held.columns):
            raise self._unreadable("a quote that opens a value is never closed, so the end of the text is missing")
        yield from self._valid_rows(held.slice(0, held.num_rows - 1), schema)

    def _header(self) -> tuple[list[str], int]:
        content = b""
        while len(content) < HEADER_BYTES and (more := self._stream.read(HEADER_BYTES)):
            content += more
        lines = content.splitlines(keepends=True)
        reader = csv.reader((line.decode() for line in lines), delimiter=self._delimiter, strict=True)
        try:
            names = next((row for row in reader if row), None)
        except csv.Error as error:
            raise self._unreadable(f"its header is not CSV: {error}") from None
        if names is None:
            raise self._unreadable("it is empty: there is not even a header")
        if reader.line_num == len(lines) and len(content) >= HEADER_BYTES:
            raise self._unreadable(f"its header is longer than {HEADER_BYTES:,} bytes")
        if len(names) > MAX_COLUMNS:
            raise self._unreadable(f"its header has {len(names):,} columns; the limit is {MAX_COLUMNS:,}")
        for name in names:
            if restore_bytes(name) != name:
                raise self._unreadable(f"its header is not UTF-8 at column {restore_bytes(name)!r}")
        self._stream.push_back(b"".join(lines[reader.line_num :]))
        return names, reader.line_num

    def _parser(self) -> CSVStreamingReader:
        columns = [f"c{index}" for index in range(len(self.names))]
        return open_csv(
            pa.PythonFile(self._stream, mode="r"),
            # One thread, so that rows can be numbered.
            read_options=ReadOptions(use_threads=False, block_size=ROW_BYTES, column_names=columns),
            parse_options=ParseOptions(
                delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=self._reject_ragged_row
            ),
            # Nothing is null and nothing is a number until the contract says so.
            convert_options=ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
                null_values=[],
                check_utf8=False,
            ),
        )

    def _reject_ragged_row(self, row: InvalidRow) -> str:
        self._ragged.append(row.number)
        self._reject_row(
            row.text, f"has {row.actual_columns} values, the header has {row.expected_columns}", row.number
        )
        return "error" if self._too_broken else "skip"

    def _reject_row(self, text: str, reason: str, number: int) -> None:
        self._broken_characters += len(text)
        if len(self._broken) >= MAX_BROKEN_ROWS or self._broken_characters > MAX_BROKEN_CHARACTERS:
            self._too_broken = True
        else:
            at = f"{self._name}, line {number + self._header_lines}"
            self._broken.append(BrokenRow(restore_bytes(text), reason, at))

    def _valid_rows(self, batch: pa.RecordBatch, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        """Count the rows of a batch and yield the intact ones."""
        self._meter.add_rows(batch.num_rows, len(schema), self._name)
        named = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        whole = self._drop_damaged_rows(named) if self._stream.damaged else named
        self._passed_rows += batch.num_rows
        if self._too_broken:
            raise self._translate_error(None)
        for start in range(0, whole.num_rows, BATCH_ROWS):
            yield whole.slice(start, BATCH_ROWS)

    def _drop_damaged_rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a batch without invalid bytes; the others go to ``broken``."""
        damaged = [pc.match_substring_regex(column, MARKS) for column in batch.columns]
        whole = pc.invert(damaged[0])
        for column in damaged[1:]:
            whole = pc.and_(whole, pc.invert(column))
        for index in pc.indices_nonzero(pc.invert(whole)).to_pylist():
            place = self._passed_rows + index + 1
            while (
                self._passed_ragged < len(self._ragged)
                and self._ragged[self._passed_ragged] <= place + self._passed_ragged
            ):
                self._passed_ragged += 1
            column = next(name for name, flags in zip(batch.schema.names, damaged, strict=True) if flags[index].as_py())
            values = [column[index].as_py() for column in batch.columns]
            self._reject_row(
                self._format_row(values), f"is not UTF-8 in column {column!r}", place + self._passed_ragged
            )
        return batch.filter(whole)

    def _format_row(self, values: list[str]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self._delimiter, lineterminator="").writerow(values)
        return text.getvalue()

    def _translate_error(self, error: Any) -> Exception:
        """Return the error that explains why the parser stopped."""
        if self._stream.error is not None:
            return self._stream.error
        if self._too_broken:
            return self._unreadable(
                f"more than {MAX_BROKEN_ROWS:,} rows, or {MAX_BROKEN_CHARACTERS:,} characters of them, are broken, "
                f"the first at {self._broken[0].at}: it {self._broken[0].reason}"
            )
        if "straddl" in str(error) or "out of sync" in str(error):
            return self._unreadable(f"a row is longer than {ROW_BYTES:,} bytes, or a quote is never closed")
        return self._unreadable(str(error))

    def _unreadable(self, what: str) -> SourceUnreadableError:
        return SourceUnreadableError(f"partition {self._partition}: {self._name} cannot be read: {what}")
