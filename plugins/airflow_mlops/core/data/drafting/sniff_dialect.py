"""Guess how a CSV file is written from its beginning: encoding, delimiter, lines above the header, signs of numbers.

A guess is made only where the text allows one reading; what allows two is listed as undecided, with both.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from airflow_mlops.core.declaration.text_form import TextForm
from airflow_mlops.core.errors import SourceMissingError, SourceUnreadableError
from airflow_mlops.core.sources.csv_dialect import CsvDialect
from airflow_mlops.core.sources.utf8_stream import DAMAGES, open_decompressed

SAMPLE_BYTES = 1 << 18
DELIMITERS = ";\t|,"
"""Signs that may separate values; of two that fit as well the first is taken, for commas stand in numbers."""
WORDS = {"ja": "nein", "yes": "no", "y": "n", "oui": "non", "si": "no", "sim": "não", "wahr": "falsch", "on": "off"}
"""Words for true, and for false beside each."""

_WIDE_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_NO_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_COMMA = re.compile(r"[+-]?(\d+,(\d{1,2}|\d{4,})|\d{1,3}([. '\u2019\u00a0\u202f]\d{3})+,\d+|0,\d+|,\d+)")
_POINT = re.compile(r"[+-]?(\d+\.(\d{1,2}|\d{4,})|\d{1,3}([, '\u2019\u00a0\u202f]\d{3})+\.\d+|0\.\d+|\.\d+)")
_GROUPS = re.compile(r"[+-]?\d{1,3}(([., '\u2019\u00a0\u202f])\d{3})+([.,]\d+)?")
_DATA = re.compile(r"[+-]?[\d.,]+|\d{1,4}[./-]\d{1,2}[./-]\d{1,4}.*")


@dataclass(frozen=True)
class SniffedDialect:
    """The guessed form of a CSV file.

    Parameters
    ----------
    dialect : CsvDialect
        Signs of the text.
    form : TextForm
        Signs of numbers and words for truth values.
    undecided : tuple of str
        What allows two readings, in words.
    """

    dialect: CsvDialect = field(default_factory=CsvDialect)
    form: TextForm = field(default_factory=TextForm)
    undecided: tuple[str, ...] = ()

    @property
    def keys(self) -> dict[str, object]:
        """The keys of ``data.source`` that differ from their defaults, with their values."""
        dialect, form, usual = self.dialect, self.form, CsvDialect()
        keys: dict[str, object] = {
            name: getattr(dialect, name)
            for name in ("delimiter", "quote", "escape", "comment", "encoding", "skip_rows")
            if getattr(dialect, name) != getattr(usual, name)
        }
        if dialect.names is not None:
            keys["header"] = list(dialect.names)
        if form.decimal != ".":
            keys["decimal"] = form.decimal
        if form.thousands is not None:
            keys["thousands"] = form.thousands
        if form.true != TextForm().true:
            keys |= {"true_values": list(form.true), "false_values": list(form.false)}
        return keys


def sniff_dialect(file: Path, *, delimiter: str | None = None) -> SniffedDialect:
    """Return the guessed form of a CSV file.

    Parameters
    ----------
    file : Path
        The file, plain or compressed.
    delimiter : str, optional
        Character between two values; guessed if not given.

    Raises
    ------
    SourceMissingError, SourceUnreadableError
        If the file is not there, or cannot be read.
    """
    sample, is_whole = _read_sample(file)
    encoding, undecided = guess_encoding(sample)
    lines = sample.decode(encoding, errors="replace").removeprefix("\ufeff").splitlines(keepends=True)
    lines = lines if is_whole else lines[:-1]
    comment = "#" if lines and lines[0].startswith("#") else None
    written = [line for line in lines if comment is None or not line.startswith(comment)]
    delimiter = delimiter or guess_delimiter(written)
    escape = guess_escape(written, delimiter)
    rows, ends = read_rows(written, delimiter, escape)
    first = first_row(rows)
    names = guess_names(rows[first:])
    cells = [row for row in rows[first + (names is None) :] if any(row)]
    form, unclear = guess_form(cells)
    dialect = CsvDialect(
        delimiter=delimiter,
        escape=escape,
        comment=comment,
        encoding=encoding,
        skip_rows=0 if comment or not first else ends[first - 1],
        names=names,
    )
    return SniffedDialect(dialect, form, (*undecided, *unclear))


def _read_sample(file: Path) -> tuple[bytes, bool]:
    """Return the decompressed beginning of a file, and whether that is all of it."""
    try:
        with pa.OSFile(str(file)) as raw:
            stream, sample = open_decompressed(raw, file.name), b""
            while len(sample) <= SAMPLE_BYTES and (more := bytes(stream.read(SAMPLE_BYTES))):
                sample += more
    except FileNotFoundError:
        raise SourceMissingError(f"{file} is not there yet") from None
    except DAMAGES as error:
        raise SourceUnreadableError(f"{file} cannot be read: {error}") from None
    return sample[:SAMPLE_BYTES], len(sample) <= SAMPLE_BYTES


def guess_encoding(sample: bytes) -> tuple[str, list[str]]:
    """Return the encoding of a text, and what is undecided about it."""
    for mark, name in _WIDE_MARKS.items():
        if sample.startswith(mark):
            return name, []
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        name = "iso-8859-1" if _NO_CP1252.search(sample) else "cp1252"
    else:
        return "utf-8", []
    text = sample.decode(name)
    words = list(dict.fromkeys(re.findall(r"\w*[^\x00-\x7f]\w*", text)))[:3]
    return name, [
        f"the encoding is not UTF-8; as {name} there stands {', '.join(map(repr, words))}: another encoding of one "
        "byte reads other letters"
    ]


def read_rows(lines: Sequence[str], delimiter: str, escape: str | None = None) -> tuple[list[list[str]], list[int]]:
    """Return the rows of a text, and the number of the line on which each ends."""
    reader = csv.reader(lines, delimiter=delimiter, escapechar=escape)
    rows, ends = [], []
    try:
        for row in reader:
            rows.append(row)
            ends.append(reader.line_num)
    except csv.Error:
        return rows, ends
    return rows, ends


def usual_width(rows: Sequence[Sequence[str]]) -> int:
    """Return the most frequent number of values, 0 without rows."""
    widths = Counter(len(row) for row in rows if row)
    return widths.most_common(1)[0][0] if widths else 0


def guess_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter by which most rows have the same number of values, the first of them too."""

    def fit(delimiter: str) -> tuple[bool, float, int]:
        rows = [row for row in read_rows(lines, delimiter)[0] if row]
        width = usual_width(rows)
        if width < 2:
            return False, 0.0, 0
        share = sum(len(row) == width for row in rows) / len(rows)
        # Beside a comma in numbers the header has one value only.
        header = next((row for row in rows if len(row) == width), [])
        is_header = not any(_DATA.fullmatch(cell.strip()) for cell in header)
        return share > 0.5 and is_header, round(share, 1), -DELIMITERS.index(delimiter)

    best = max(DELIMITERS, key=fit)
    return best if fit(best)[1] else ","


def guess_escape(lines: Sequence[str], delimiter: str) -> str | None:
    r"""Return ``\`` if the rows have the same number of values only with it."""
    if not any("\\" in line for line in lines):
        return None

    def ragged(escape: str | None) -> int:
        rows = [row for row in read_rows(lines, delimiter, escape)[0] if row]
        width = usual_width(rows)
        return sum(len(row) != width for row in rows) + len(lines) - len(rows)

    return "\\" if ragged("\\") < ragged(None) else None


def first_row(rows: Sequence[Sequence[str]]) -> int:
    """Return the number of rows before the first with the usual number of values, all of them filled."""
    width = usual_width(rows)
    for index, row in enumerate(rows):
        if len(row) == width and sum(map(bool, row)) >= max(1, width - 1):
            return index
    return 0


def guess_names(rows: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    """Return names for the columns of a text without a header: column_1, column_2 …; None if the first row has them."""
    if not rows or not any(_DATA.fullmatch(cell.strip()) for cell in rows[0]):
        return None
    return tuple(f"column_{number}" for number in range(1, len(rows[0]) + 1))


def guess_form(rows: Sequence[Sequence[str]]) -> tuple[TextForm, list[str]]:
    """Return the signs of numbers and the words for truth values, and what is undecided about them."""
    values = [cell.strip() for row in rows for cell in row]
    commas = [value for value in values if _COMMA.fullmatch(value)]
    points = [value for value in values if _POINT.fullmatch(value)]
    groups = [(value, match[2]) for value in values if (match := _GROUPS.fullmatch(value))]
    undecided = []
    if commas and points:
        undecided.append(
            f"numbers with a decimal comma ({commas[0]!r}) and with a decimal point ({points[0]!r}) stand in one file"
        )
    decimal = "," if commas and not points else "."
    separators = {sign for _, sign in groups if sign != decimal}
    thousands = separators.pop() if len(separators) == 1 and (commas or points or not separators & {",", "."}) else None
    if thousands in (",", ".") and not (commas or points):
        thousands = None
    if groups and thousands is None and not commas and not points:
        undecided.append(f"{groups[0][0]!r} is a number with groups of digits, or one with three places")
    true, false = guess_words(rows)
    return TextForm(decimal, thousands, true, false), undecided


def guess_words(rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words for true and false in columns that hold nothing else."""
    true, false = TextForm().true, TextForm().false
    width = usual_width(rows)
    for place in range(width):
        texts = {row[place].strip().lower() for row in rows if len(row) == width} - {""}
        pair = next(((yes, no) for yes, no in WORDS.items() if texts == {yes, no}), None)
        if pair is not None:
            return (pair[0],), (pair[1],)
    return true, false
