"""The rows of one CSV text as they stand there: every value text, every row that is no row set aside.

A row with too few or too many values, or with bytes that are no UTF-8, shifts nothing: it goes to ``broken``. Lines are
counted from 1, the header included; a row with line breaks in a value counts as one and an empty line as none.
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
from airflow_mlops.core.sources.utf8_stream import MARKS, TextFeed, unmarked

ROW_BYTES = 1 << 20
"""Bytes of the longest row; a quote that is never closed makes one row of all that follows."""
HEADER_BYTES = 1 << 20
MAX_COLUMNS = 10_000
MAX_BROKEN_ROWS = 100_000
MAX_BROKEN_CHARACTERS = 100_000_000


def require_delimiter(delimiter: str) -> None:
    """Refuse a character that cannot stand between values.

    Raises
    ------
    DeclarationError
    """
    if not delimiter.isascii() or delimiter in '"\r\n\0':
        raise DeclarationError(
            f"{delimiter!r} cannot stand between values; take an ASCII character that is no quote and no line break",
            key="data.source.delimiter",
        )


class CsvRows:
    """One CSV text, its header read.

    Parameters
    ----------
    feed : TextFeed
        The text.
    name : str
        What a person calls it.
    partition : str
        Whose rows they are, for errors.
    delimiter : str
        Character between two values.
    meter : Meter
        Counts rows and cells.
    broken : list of BrokenRow
        Where broken rows are put.

    Raises
    ------
    SourceUnreadableError
        If there is no header, or none that can be read.
    """

    def __init__(
        self, feed: TextFeed, *, name: str, partition: str, delimiter: str, meter: Meter, broken: list[BrokenRow]
    ) -> None:
        self._feed, self._name, self._partition, self._delimiter = feed, name, partition, delimiter
        self._meter, self._broken = meter, broken
        self._broken_characters = 0
        self._too_broken = False
        self._ragged: list[int] = []  # numbers of the rows that the parser left out
        self._good = self._passed = 0  # rows handed on, and ragged rows before the row looked at
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
        # A row that no text can hold: where it does not come out last, an open quote has swallowed it.
        last = secrets.token_hex(16)
        self._feed.ending = f"\n{self._delimiter.join([last] * len(self.names))}\n".encode()
        held: pa.RecordBatch | None = None
        try:
            for batch in self._parser():
                if not batch.num_rows:
                    continue
                if held is not None:
                    yield from self._checked(held, schema)
                held = batch
        except pa.ArrowException as error:
            raise self._told(error) from error
        if held is None or any(column[-1].as_py() != last for column in held.columns):
            raise self._unreadable("a quote that opens a value is never closed, so the end of the text is missing")
        yield from self._checked(held.slice(0, held.num_rows - 1), schema)

    def _header(self) -> tuple[list[str], int]:
        content = b""
        while len(content) < HEADER_BYTES and (more := self._feed.read(HEADER_BYTES)):
            content += more
        lines = content.splitlines(keepends=True)
        reader = csv.reader((line.decode() for line in lines), delimiter=self._delimiter, strict=True)
        try:
            names = next((row for row in reader if row), None)
        except csv.Error as error:
            raise self._unreadable(f"its header is no CSV: {error}") from None
        if names is None:
            raise self._unreadable("it is empty: there is not even a header")
        if reader.line_num == len(lines) and len(content) >= HEADER_BYTES:
            raise self._unreadable(f"its header is longer than {HEADER_BYTES:,} bytes")
        if len(names) > MAX_COLUMNS:
            raise self._unreadable(f"its header has {len(names):,} columns; the limit is {MAX_COLUMNS:,}")
        for name in names:
            if unmarked(name) != name:
                raise self._unreadable(f"its header is not UTF-8 at column {unmarked(name)!r}")
        self._feed.push_back(b"".join(lines[reader.line_num :]))
        return names, reader.line_num

    def _parser(self) -> CSVStreamingReader:
        columns = [f"c{index}" for index in range(len(self.names))]
        return open_csv(
            pa.PythonFile(self._feed, mode="r"),
            # One thread, so that rows can be numbered.
            read_options=ReadOptions(use_threads=False, block_size=ROW_BYTES, column_names=columns),
            parse_options=ParseOptions(
                delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=self._set_ragged_aside
            ),
            # Nothing is null and nothing is a number until the contract says so.
            convert_options=ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False, null_values=[],
                check_utf8=False,
            ),
        )  # fmt: skip

    def _set_ragged_aside(self, row: InvalidRow) -> str:
        self._ragged.append(row.number)
        self._set_aside(
            row.text, f"has {row.actual_columns} values, the header has {row.expected_columns}", row.number
        )  # fmt: skip
        return "error" if self._too_broken else "skip"

    def _set_aside(self, text: str, reason: str, number: int) -> None:
        self._broken_characters += len(text)
        if len(self._broken) >= MAX_BROKEN_ROWS or self._broken_characters > MAX_BROKEN_CHARACTERS:
            self._too_broken = True
        else:
            at = f"{self._name}, line {number + self._header_lines}"
            self._broken.append(BrokenRow(unmarked(text), reason, at))

    def _checked(self, batch: pa.RecordBatch, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        """Yield what is whole in a batch; count all of it."""
        self._meter.add_rows(batch.num_rows, len(schema), self._name)
        named = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        whole = self._without_damaged(named) if self._feed.damaged else named
        self._good += batch.num_rows
        if self._too_broken:
            raise self._told(None)
        for start in range(0, whole.num_rows, BATCH_ROWS):
            yield whole.slice(start, BATCH_ROWS)

    def _without_damaged(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a batch whose bytes were UTF-8; the others go to ``broken``."""
        damaged = [pc.match_substring_regex(column, MARKS) for column in batch.columns]
        whole = pc.invert(damaged[0])
        for column in damaged[1:]:
            whole = pc.and_(whole, pc.invert(column))
        for index in pc.indices_nonzero(pc.invert(whole)).to_pylist():
            place = self._good + index + 1
            while self._passed < len(self._ragged) and self._ragged[self._passed] <= place + self._passed:
                self._passed += 1
            column = next(name for name, found in zip(batch.schema.names, damaged, strict=True) if found[index].as_py())
            values = [column[index].as_py() for column in batch.columns]
            self._set_aside(self._joined(values), f"is not UTF-8 in column {column!r}", place + self._passed)
        return batch.filter(whole)

    def _joined(self, values: list[str]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self._delimiter, lineterminator="").writerow(values)
        return text.getvalue()

    def _told(self, error: Any) -> Exception:
        """Return what the parser raised in words that help."""
        if self._feed.error is not None:
            return self._feed.error
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
