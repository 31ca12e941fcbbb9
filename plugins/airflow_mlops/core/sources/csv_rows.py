"""Read the rows of a CSV text, every value as text, and set broken rows aside.

A line that is no row by the rules of :mod:`airflow_mlops.core.sources.csv_lines`, and a row with an invalid character,
go to ``broken`` and shift no other row. Lines are the physical lines of the file, counted from 1.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, read_csv

from airflow_mlops.core.errors import SourceUnreadableError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, BrokenRow
from airflow_mlops.core.sources.csv_dialect import CsvDialect
from airflow_mlops.core.sources.csv_lines import CsvLines, OpenQuoteError, RowBlock, RowTooLongError
from airflow_mlops.core.sources.size_limits import Meter
from airflow_mlops.core.sources.utf8_stream import MARKS, Utf8Stream, restore_bytes

ROW_BYTES = 1 << 20
"""Bytes of the longest row; a quote that is never closed makes one row of all that follows."""
HEADER_BYTES = 1 << 20
MAX_COLUMNS = 10_000
MAX_BROKEN_ROWS = 100_000
MAX_BROKEN_CHARACTERS = 100_000_000


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
    dialect : CsvDialect
        Signs of the text.
    meter : Meter
        Counts rows and cells.
    broken : list of BrokenRow
        List to which broken rows are added.

    Attributes
    ----------
    names : list of str
        Names of the columns. Nameless columns at the end, from a delimiter at the end of each line, are left out;
        a row with a value there is broken.
    lines : ndarray of int
        Lines on which the rows of the newest batch begin.
    broken_lines : list of int
        Lines of the broken rows so far.

    Raises
    ------
    SourceUnreadableError
        If the header is missing or cannot be read.
    """

    def __init__(
        self,
        stream: Utf8Stream,
        *,
        name: str,
        partition: str,
        dialect: CsvDialect,
        meter: Meter,
        broken: list[BrokenRow],
    ) -> None:
        self._stream, self._name, self._partition, self._dialect = stream, name, partition, dialect
        self._meter, self._broken = meter, broken
        self._broken_characters = 0
        self.lines, self.broken_lines = np.array([], np.int64), list[int]()
        header, self._first_line = self._header()
        self.names = header[: len(header) - _nameless_at_end(header)]
        self._width = len(header)

    def batches(self) -> Generator[pa.RecordBatch]:
        """Yield the rows, at most ``BATCH_ROWS`` at once, every column as text.

        Raises
        ------
        SourceUnreadableError
            If the text ends within a quote, a row is longer than 1 MB, or far too many rows are broken.
        PartitionRefusedError
            If there is more than the declared limits allow.
        """
        lines = CsvLines(
            self._stream.read,
            self._dialect,
            width=self._width,
            line=self._first_line,
            row_bytes=ROW_BYTES,
            reject=self._reject_line,
        )
        try:
            for block in lines.blocks():
                yield from self._valid_rows(block)
        except OpenQuoteError:
            raise self._unreadable(
                "a quote that opens a value is never closed, so the end of the text is missing"
            ) from None
        except RowTooLongError:
            raise self._unreadable(f"a row is longer than {ROW_BYTES:,} bytes, or a quote is never closed") from None
        except pa.ArrowException as error:
            raise self._unreadable(str(error)) from error

    def _header(self) -> tuple[list[str], int]:
        """Return the names of the columns, and the number of the first line behind the header."""
        content = b""
        while len(content) < HEADER_BYTES and (more := self._stream.read(HEADER_BYTES)):
            content += more
        lines = content.splitlines(keepends=True)
        skipped = self._lines_before_header(lines)
        if self._dialect.names is not None:
            self._stream.push_back(b"".join(lines[skipped:]))
            return list(self._dialect.names), skipped + 1
        reader = csv.reader((line.decode() for line in lines[skipped:]), strict=True, **self._reader_options())
        try:
            names = next((row for row in reader if row), None)
        except csv.Error as error:
            raise self._unreadable(f"its header is not CSV: {error}") from None
        if names is None:
            raise self._unreadable("it is empty: there is not even a header")
        done = skipped + reader.line_num
        if done == len(lines) and len(content) >= HEADER_BYTES:
            raise self._unreadable(f"its header is longer than {HEADER_BYTES:,} bytes")
        self._require_legal_names(names)
        self._stream.push_back(b"".join(lines[done:]))
        return names, done + 1

    def _require_legal_names(self, names: list[str]) -> None:
        """Raise SourceUnreadableError for too many columns, or a name that is not of the encoding."""
        if len(names) > MAX_COLUMNS:
            raise self._unreadable(f"its header has {len(names):,} columns; the limit is {MAX_COLUMNS:,}")
        for name in names:
            if restore_bytes(name) != name:
                raise self._unreadable(f"its header is not {self._stream.encoding} at column {restore_bytes(name)!r}")

    def _lines_before_header(self, lines: list[bytes]) -> int:
        """Return the number of the lines that are skipped by declaration, and of the comments behind them."""
        skipped = min(self._dialect.skip_rows, len(lines))
        if self._dialect.comment is not None:
            comment = self._dialect.comment.encode()
            while skipped < len(lines) and (lines[skipped].startswith(comment) or not lines[skipped].strip(b"\r\n")):
                skipped += 1
        return skipped

    def _reader_options(self) -> dict[str, Any]:
        """Return the dialect in the words of Python's reader."""
        dialect = self._dialect
        quoting: dict[str, Any] = {"quotechar": dialect.quote} if dialect.quote else {"quoting": csv.QUOTE_NONE}
        return {"delimiter": dialect.delimiter, "escapechar": dialect.escape, **quoting}

    def _valid_rows(self, block: RowBlock) -> Generator[pa.RecordBatch]:
        """Count the rows of a block and yield the intact ones."""
        self._meter.add_rows(len(block.lines), len(self.names), self._name)
        rows = self._parse(block)
        intact = None
        if self._width > len(self.names):
            intact = self._reject_nameless_values(rows, block)
            rows = rows.select(range(len(self.names)))
        rows = rows.rename_columns(self.names)
        if self._stream.damaged:
            whole = self._reject_damaged_rows(rows, block)
            intact = whole if intact is None else pc.and_(intact, whole)
        lines = block.lines
        if intact is not None:
            rows, lines = rows.filter(intact), lines[intact.to_numpy()]
        for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
            if batch.num_rows:
                self.lines, lines = lines[: batch.num_rows], lines[batch.num_rows :]
                yield batch

    def _parse(self, block: RowBlock) -> pa.Table:
        """Return the values of a block's rows; the columns have numbers for names."""
        columns = [f"c{index}" for index in range(self._width)]
        dialect = self._dialect
        rows = read_csv(
            pa.BufferReader(block.text),
            # One thread and one block, which ends with a row: no line break within a value can cut it.
            read_options=ReadOptions(use_threads=False, block_size=len(block.text) + 1, column_names=columns),
            parse_options=ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote or False,
                escape_char=dialect.escape or False,
            ),
            # Nothing is null and nothing is a number until the contract says so.
            convert_options=ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
                null_values=[],
                check_utf8=False,
            ),
        )
        if rows.num_rows != len(block.lines):
            raise self._unreadable(
                f"two readers find {rows.num_rows:,} and {len(block.lines):,} rows from line {block.lines[0]} on"
            )
        return rows

    def _reject_nameless_values(self, rows: pa.Table, block: RowBlock) -> pa.ChunkedArray:
        """Return which rows have no value in the columns without a name; the others go to ``broken``."""
        empty = pc.equal(rows.column(len(self.names)), "")
        for index in range(len(self.names) + 1, self._width):
            empty = pc.and_(empty, pc.equal(rows.column(index), ""))
        self._reject_rows(rows, block, pc.invert(empty), lambda _row: "has a value in a column without a name")
        return empty

    def _reject_damaged_rows(self, rows: pa.Table, block: RowBlock) -> pa.ChunkedArray:
        """Return which rows are without invalid bytes; the others go to ``broken``."""
        damaged = [pc.match_substring_regex(column, MARKS) for column in rows.columns]
        any_damaged = damaged[0]
        for flags in damaged[1:]:
            any_damaged = pc.or_(any_damaged, flags)

        def reason(row: int) -> str:
            name = next(name for name, flags in zip(self.names, damaged, strict=True) if flags[row].as_py())
            return f"is not {self._stream.encoding} in column {name!r}"

        self._reject_rows(rows, block, any_damaged, reason)
        return pc.invert(any_damaged)

    def _reject_rows(
        self, rows: pa.Table, block: RowBlock, chosen: pa.ChunkedArray, reason: Callable[[int], str]
    ) -> None:
        """Set the chosen rows aside."""
        for row in pc.indices_nonzero(chosen).to_pylist():
            text = io.StringIO()
            values = [column[row].as_py() for column in rows.columns]
            csv.writer(text, delimiter=self._dialect.delimiter, lineterminator="").writerow(values)
            self._reject(text.getvalue(), reason(row), int(block.lines[row]))

    def _reject_line(self, text: bytes, reason: str, line: int) -> None:
        self._reject(text.decode(), reason, line)

    def _reject(self, text: str, reason: str, line: int) -> None:
        """Add a row to ``broken``; raise SourceUnreadableError if there are too many."""
        self._broken_characters += len(text)
        if len(self._broken) >= MAX_BROKEN_ROWS or self._broken_characters > MAX_BROKEN_CHARACTERS:
            raise self._unreadable(
                f"more than {MAX_BROKEN_ROWS:,} rows, or {MAX_BROKEN_CHARACTERS:,} characters of them, are broken, "
                f"the first at {self._broken[0].at}: it {self._broken[0].reason}"
            )
        self._broken.append(BrokenRow(restore_bytes(text), reason, f"{self._name}, line {line}"))
        self.broken_lines.append(line)

    def _unreadable(self, what: str) -> SourceUnreadableError:
        return SourceUnreadableError(f"partition {self._partition}: {self._name} cannot be read: {what}")


def _nameless_at_end(header: list[str]) -> int:
    """Return how many columns at the end of a header have no name."""
    named = [index for index, name in enumerate(header) if name != ""]
    return len(header) - 1 - named[-1] if named else 0
