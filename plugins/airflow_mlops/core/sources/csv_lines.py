"""Split a CSV text into rows as RFC 4180 has it, and set aside the lines that it does not allow.

A value in quotes begins with a quote and ends with one that a delimiter or the end of the line follows; a quote within
is written twice. Each physical line belongs to a row with as many values as the header, is set aside with a reason, or
is empty or a comment. Lines are counted from 1; a line break within quotes begins a line, too.

After a quote that breaks the rule two readings are possible: it is a stray quote at the beginning of a value, and the
lines behind it are rows; or the lines are one value, and its end is broken. Lines that all look like rows are taken for
rows, and only the line of the stray quote is set aside; otherwise all the lines are. A quote that is never closed may
also mean that the end of the text is missing: only after another stray quote is it taken for one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from airflow_mlops.core.sources.csv_dialect import CsvDialect

Positions = npt.NDArray[np.int64]

BLOCK_BYTES = 1 << 22
SMALL_BLOCK_BYTES = 1 << 12
"""Bytes that are split after a line was set aside: where one is broken, the next often is."""
WITHIN = (
    "has a quote within a value that does not begin with one; write the value in quotes and its quotes twice, or "
    "declare quote: null"
)
BEHIND = "has text behind the quote that closes a value; write a quote within a value twice"
OPEN = "has a quote that opens a value and is never closed"
_LF, _CR = 10, 13


class RowTooLongError(Exception):
    """A row is longer than allowed."""


class OpenQuoteError(Exception):
    """The text ends within a value in quotes."""


@dataclass(frozen=True)
class RowBlock:
    """Rows with the right number of values: their text, and the line on which each begins."""

    text: bytes
    lines: Positions


@dataclass(frozen=True)
class _Rows:
    """The complete rows of a text, up to the first that breaks a rule.

    Attributes
    ----------
    starts, ends : ndarray of int, shape (n_rows,)
        First byte of each row, and the first byte behind its line end.
    widths : ndarray of int, shape (n_rows,)
        Number of values.
    blank : ndarray of bool, shape (n_rows,)
        Whether a row has no character.
    breaks : ndarray of int
        Last byte of each physical line.
    broken : tuple of (int, str), optional
        Place of the first byte that breaks a rule, and the reason.
    open : bool
        Whether the text ends within quotes.
    """

    starts: Positions
    ends: Positions
    widths: Positions
    blank: npt.NDArray[np.bool_]
    breaks: Positions
    broken: tuple[int, str] | None
    open: bool

    @property
    def length(self) -> int:
        """Number of bytes of the complete rows."""
        return int(self.ends[-1]) if len(self.ends) else 0


class CsvLines:
    """The rows of a CSV text behind its header.

    Parameters
    ----------
    read : callable
        Returns up to so many bytes of ASCII-compatible text; none at the end.
    dialect : CsvDialect
        Signs of the text.
    width : int
        Number of values of a row.
    line : int
        Number of the first line.
    row_bytes : int
        Bytes of the longest row.
    reject : callable
        Called with the text, the reason and the line number of each line that is set aside.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        dialect: CsvDialect,
        *,
        width: int,
        line: int,
        row_bytes: int,
        reject: Callable[[bytes, str, int], None],
    ) -> None:
        self._read, self._dialect, self._width, self._line = read, dialect, width, line
        self._row_bytes, self._reject = row_bytes, reject
        self._comment = None if dialect.comment is None else ord(dialect.comment)
        self._has_stray_quotes = False

    def blocks(self) -> Iterator[RowBlock]:
        """Yield the rows with the right number of values, and set all other lines aside.

        Raises
        ------
        RowTooLongError
            If a row is longer than allowed.
        OpenQuoteError
            If the text ends within a value in quotes, which is no stray quote among others.
        """
        rest, ended = b"", False
        while not ended:
            more = self._read(BLOCK_BYTES)
            ended = not more
            text = rest + more
            if ended and text and text[-1] not in (_LF, _CR):
                text += b"\n"
            position = yield from self._split(text, ended)
            rest = text[position:]
            if len(rest) > self._row_bytes:
                position = self._set_open_quote_aside(rest, RowTooLongError())
                rest = rest[position:]

    def _split(self, text: bytes, ended: bool) -> Generator[RowBlock, None, int]:
        """Yield the rows of a text as far as they are complete; return the number of bytes that are done with."""
        position, size = 0, BLOCK_BYTES * 2
        while position < len(text):
            part = text[position : position + size]
            whole = ended and position + size >= len(text)
            rows = find_rows(part, self._dialect, whole=whole)
            yield from self._take(part, rows)
            position += rows.length
            if rows.broken is not None:
                done = self._set_aside(text[position:], rows.broken[0] - rows.length, rows.broken[1], ended)
                if not done:
                    break
                position, size = position + done, SMALL_BLOCK_BYTES
            elif position + len(part) - rows.length < len(text):
                size *= 2
            elif whole and position < len(text):
                position += self._set_open_quote_aside(text[position:], OpenQuoteError())
                size = SMALL_BLOCK_BYTES
            else:
                break
        return position

    def _take(self, text: bytes, rows: _Rows) -> Iterator[RowBlock]:
        """Yield the rows of a text with the right number of values, and set the others aside."""
        if not len(rows.starts):
            return
        if int((rows.ends - rows.starts).max()) > self._row_bytes:
            raise RowTooLongError
        lines = self._line + np.searchsorted(rows.breaks, rows.starts)
        passed = rows.blank
        if self._comment is not None:
            first = np.frombuffer(text, np.uint8)[rows.starts]
            passed = passed | (first == self._comment)
        wrong = (rows.widths != self._width) & ~passed
        for row in np.flatnonzero(wrong).tolist():
            reason = f"has {rows.widths[row]} values, the header has {self._width}"
            self._reject_lines(text[rows.starts[row] : rows.ends[row]], reason, int(lines[row]))
        self._line += int(np.searchsorted(rows.breaks, rows.length))
        good = ~(wrong | passed)
        if good.all():
            yield RowBlock(text[: rows.length], lines)
        elif good.any():
            yield RowBlock(_join(text, rows, good), lines[good])

    def _set_aside(self, text: bytes, place: int, reason: str, ended: bool) -> int:
        """Set the lines aside that a broken rule at ``place`` concerns; return their bytes, 0 if more text is needed.

        ``text`` begins with the row that breaks the rule.
        """
        last = _line_end(text, place, ended)
        if not last:
            return 0
        first = _line_end(text, 0, ended)
        if self._comment == text[0]:
            last = first
        elif reason == BEHIND and self._look_like_rows(text, first, place):
            last, self._has_stray_quotes = first, True
        self._reject_lines(text[:last], reason, self._line)
        self._line += len(_physical_lines(text[:last]))
        return last

    def _set_open_quote_aside(self, text: bytes, error: Exception) -> int:
        """Set the line aside whose quote is never closed; raise the error unless the lines behind it are rows."""
        first = _line_end(text, 0, ended=True)
        behind = text[first:]
        if self._comment != text[0]:
            complete = behind[: max(behind.rfind(b"\n"), behind.rfind(b"\r")) + 1]
            if not self._has_stray_quotes or not complete.strip() or not self._are_rows(complete):
                raise error
        self._reject_lines(text[:first], OPEN, self._line)
        self._line += 1
        return first

    def _look_like_rows(self, text: bytes, first: int, place: int) -> bool:
        """Return whether all lines between the first one and that of a place look like rows."""
        last = max(text.rfind(b"\n", 0, place), text.rfind(b"\r", 0, place)) + 1
        return last <= first or self._are_rows(text[first:last])

    def _are_rows(self, text: bytes) -> bool:
        """Return whether every line of a text is a row by itself; lines of one value always would be, so never."""
        rows = find_rows(text, self._dialect, whole=True)
        if self._width == 1 or rows.broken or rows.open or len(rows.starts) != len(rows.breaks):
            return False
        return bool(((rows.widths == self._width) | rows.blank).all())

    def _reject_lines(self, text: bytes, reason: str, line: int) -> None:
        """Set each physical line of a text aside; comments are skipped."""
        if self._comment == text[0]:
            return
        for number, content in enumerate(_physical_lines(text)):
            self._reject(content, reason, line + number)


def find_rows(text: bytes, dialect: CsvDialect, *, whole: bool) -> _Rows:
    """Return the complete rows of a text that begins with a row.

    Parameters
    ----------
    text : bytes
        The text; of a text that is not whole the end may be missing.
    dialect : CsvDialect
        Signs of the text.
    whole : bool
        Whether nothing follows the text.
    """
    codes = _without_escaped(np.frombuffer(text, np.uint8), dialect)
    breaks = _line_breaks(codes, has_returns=b"\r" in text, whole=whole)
    separators = np.flatnonzero(codes == ord(dialect.delimiter))
    broken, ends, is_open = None, breaks, False
    if dialect.quote is not None and dialect.quote.encode() in text:
        quotes = np.flatnonzero(codes == ord(dialect.quote))
        broken = _first_broken_quote(codes, quotes, dialect)
        ends = breaks[_outside(quotes, breaks)]
        separators = separators[_outside(quotes, separators)]
        is_open = len(quotes) % 2 == 1
    if broken is not None:
        ends = ends[: np.searchsorted(ends, broken[0])]
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(ends)]
    bounds = np.searchsorted(separators, np.concatenate([starts[:1], ends]))
    # A line end of two characters is no character of the row.
    lengths = ends - starts
    blank = (lengths == 0) | ((lengths == 1) & (codes[starts] == _CR)) if len(starts) else np.zeros(0, np.bool_)
    return _Rows(starts, ends + 1, np.diff(bounds) + 1, blank, breaks, broken, is_open)


def _outside(quotes: Positions, places: Positions) -> npt.NDArray[np.bool_]:
    """Return which places have an even number of quotes before them."""
    return np.asarray(np.searchsorted(quotes, places) % 2 == 0)


def _without_escaped(codes: npt.NDArray[np.uint8], dialect: CsvDialect) -> npt.NDArray[np.uint8]:
    """Return the codes of a text with every escaped character, and its escape, replaced by a letter."""
    if dialect.escape is None:
        return codes
    escapes = np.flatnonzero(codes == ord(dialect.escape))
    if not len(escapes):
        return codes
    # In a run of escapes every second one is escaped itself.
    run_starts = np.concatenate([[True], np.diff(escapes) > 1])
    first_of_run = escapes[np.flatnonzero(run_starts)[np.cumsum(run_starts) - 1]]
    active = escapes[(escapes - first_of_run) % 2 == 0]
    codes = codes.copy()
    codes[active] = ord("x")
    codes[active[active + 1 < len(codes)] + 1] = ord("x")
    return codes


def _line_breaks(codes: npt.NDArray[np.uint8], *, has_returns: bool, whole: bool) -> Positions:
    """Return the last byte of each physical line: LF, or CR that no LF follows."""
    if not has_returns:
        return np.flatnonzero(codes == _LF)
    is_return = codes == _CR
    is_break = (codes == _LF) | is_return
    is_break[:-1] &= ~(is_return[:-1] & (codes[1:] == _LF))
    if not whole and is_return[-1]:
        is_break[-1] = False
    return np.flatnonzero(is_break)


def _first_broken_quote(codes: npt.NDArray[np.uint8], quotes: Positions, dialect: CsvDialect) -> tuple[int, str] | None:
    """Return the place and the reason of the first quote that neither opens nor closes a value nor is doubled."""
    edge = np.zeros(256, np.bool_)
    edge[[ord(dialect.delimiter), _LF, _CR]] = True
    opening, closing = quotes[::2], quotes[1::2]
    before = np.where(opening > 0, edge[codes[opening - 1]], True)
    doubled = np.zeros(len(opening), np.bool_)
    doubled[1:] = opening[1:] == closing[: len(opening) - 1] + 1
    wrong_opening = opening[~(before | doubled)]
    behind = np.minimum(closing + 1, len(codes) - 1)
    at_end = closing + 1 >= len(codes)
    followed = edge[codes[behind]] | at_end
    again = np.zeros(len(closing), np.bool_)
    again[: len(opening) - 1] = doubled[1:]
    wrong_closing = closing[~(followed | again)]
    firsts = [
        (int(wrong[0]), reason) for wrong, reason in ((wrong_opening, WITHIN), (wrong_closing, BEHIND)) if len(wrong)
    ]
    return min(firsts, default=None)


def _line_end(text: bytes, place: int, ended: bool) -> int:
    """Return the number of bytes up to the end of the physical line that holds a place; 0 if it is not there yet."""
    ends = [at for at in (text.find(b"\n", place), text.find(b"\r", place)) if at >= 0]
    if not ends:
        return len(text) if ended else 0
    end = min(ends)
    if text[end] == _CR:
        if end + 1 == len(text):
            return len(text) if ended else 0
        end += text[end + 1] == _LF
    return end + 1


def _physical_lines(text: bytes) -> list[bytes]:
    return text.splitlines()


def _join(text: bytes, rows: _Rows, good: npt.NDArray[np.bool_]) -> bytes:
    """Return the text of some rows."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    runs = zip(rows.starts[edges[::2]].tolist(), rows.ends[edges[1::2] - 1].tolist(), strict=True)
    return b"".join(text[start:end] for start, end in runs)
