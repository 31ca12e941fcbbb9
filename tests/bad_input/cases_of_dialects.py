"""CSV as other people write it: declared signs, words and forms, and the lines that no declaration makes rows of."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.bad_input.case import Case, Deliver, Writer, cells, content, lines, published, quarantined, refused
from tests.bad_input.cases_of_values import contract_with
from tests.bad_input.world import BAD, World

Cells = list[list[str]]
NUMBERS = ("x", "price", "y")


def source(**keys: Any) -> dict[str, Any]:
    """Return the section ``data`` of a CSV source with a dialect."""
    return {"source": {"kind": "csv", "uri": "in/{partition}.csv", **keys}}


def good(world: World) -> None:
    """Deliver the good week as the writer of the case writes it."""
    world.put(BAD)


def mapped(columns: tuple[str, ...], change: Callable[[str], str]) -> Callable[[Cells], Cells]:
    """Return a function that changes the texts of some columns."""

    def spoil(all_cells: Cells) -> Cells:
        header, *rows = all_cells
        places = {header.index(name) for name in columns}
        return [header, *([change(text) if at in places else text for at, text in enumerate(row)] for row in rows)]

    return spoil


def writer(
    *changes: Callable[[Cells], Cells], encoding: str = "utf-8", before: str = "", end: str = "", **signs: Any
) -> Writer:
    """Return a function that writes cells as a CSV text with other signs."""

    def write(all_cells: Cells) -> bytes:
        for change in changes:
            all_cells = change(all_cells)
        text = io.StringIO()
        csv.writer(text, lineterminator=f"{end}\r\n", **signs).writerows(all_cells)
        return (before + text.getvalue()).encode(encoding)

    return write


def first_line(spoil: Callable[[str], str]) -> Deliver:
    """Deliver the good week with another first row."""
    return lines(lambda all_lines: [all_lines[0], spoil(all_lines[1]), *all_lines[2:]])


def without_header(all_cells: Cells) -> Cells:
    """Return the rows alone."""
    return all_cells[1:]


def in_berlin(text: str) -> str:
    """Return a moment as a clock in Berlin shows it, to the microsecond."""
    return datetime.fromisoformat(text).astimezone(ZoneInfo("Europe/Berlin")).strftime("%d.%m.%Y %H:%M:%S.%f")


COMMA = mapped(NUMBERS, lambda text: text.replace(".", ","))
EUROPE = writer(COMMA, delimiter=";")
YES = mapped(("paid",), lambda text: {"true": "ja", "false": "nein"}[text])
GERMAN_DAY = mapped(("day",), lambda text: ".".join(reversed(text.split("-"))))
BERLIN = mapped(("at",), in_berlin)
ESCAPED = writer(quoting=csv.QUOTE_NONE, escapechar="\\", quotechar=None)
AT = contract_with("at", zone="Europe/Berlin", format="%d.%m.%Y %H:%M:%S.%f")


def half_comma(all_cells: Cells) -> Cells:
    """Return the cells with commas, but for the first row."""
    return [*all_cells[:2], *COMMA([all_cells[0], *all_cells[2:]])[1:]]


def stray(line: str) -> str:
    """Return a line whose fifth value begins with a quote."""
    parts = line.split(",")
    return ",".join([*parts[:4], f'"{parts[4]}', *parts[5:]])


DIALECTS: list[Case] = [
    published(
        "semicolons and decimal commas, declared",
        deliver=good,
        source="csv",
        writer=EUROPE,
        fresh=True,
        data=source(delimiter=";", decimal=","),
    ),
    quarantined(
        "a decimal point where a decimal comma is declared",
        "x: '1.5' is no float",
        deliver=cells("x", "1.5"),
        source="csv",
        writer=writer(
            lambda all_cells: COMMA(all_cells) if all_cells[1][2] != "1.5" else half_comma(all_cells), delimiter=";"
        ),
        fresh=True,
        data=source(delimiter=";", decimal=","),
    ),
    published(
        "points between thousands, declared",
        deliver=good,
        source="csv",
        writer=writer(mapped(("n",), lambda text: f"{int(text):,}".replace(",", ".")), COMMA, delimiter=";"),
        fresh=True,
        data=source(delimiter=";", decimal=",", thousands="."),
    ),
    quarantined(
        "points between thousands at the wrong places",
        "n: '12.34' is no int",
        deliver=cells("n", "12.34"),
        source="csv",
        writer=EUROPE,
        fresh=True,
        data=source(delimiter=";", decimal=",", thousands="."),
    ),
    published(
        "title lines above the header, declared",
        deliver=good,
        source="csv",
        writer=writer(before='Report "January\r\n,,,\r\n'),
        fresh=True,
        data=source(skip_rows=2),
    ),
    published(
        "lines of comment, declared",
        deliver=good,
        source="csv",
        writer=writer(before='# made on Monday, "at noon\r\n'),
        fresh=True,
        data=source(comment="#"),
    ),
    published(
        "no header, and the columns in the order of the contract",
        deliver=good,
        source="csv",
        writer=writer(without_header),
        fresh=True,
        data=source(header=False),
    ),
    published(
        "no header, and the columns named in the declaration",
        deliver=good,
        source="csv",
        writer=writer(without_header),
        fresh=True,
        data=source(header=["id", "at", "x", "n", "kind", "paid", "day", "price", "y"]),
    ),
    published(
        "a file in cp1252, declared",
        deliver=good,
        source="csv",
        writer=writer(encoding="cp1252"),
        fresh=True,
        data=source(encoding="cp1252"),
    ),
    quarantined(
        "a byte that cp1252 does not have",
        "is not CP1252 in column 'kind'",
        deliver=content(lambda old: old.replace(b",a,", b",\x81,", 1)),
        source="csv",
        fresh=True,
        data=source(encoding="cp1252"),
    ),
    published(
        "a UTF-16 file, declared",
        deliver=good,
        source="csv",
        writer=writer(encoding="utf-16"),
        fresh=True,
        data=source(encoding="utf-16"),
    ),
    published(
        "a delimiter at the end of every line",
        deliver=good,
        source="csv",
        writer=writer(end=","),
        fresh=True,
    ),
    quarantined(
        "a value behind the last column that has a name",
        "has a value in a column without a name",
        deliver=first_line(lambda line: line.replace(",\r\n", ",note\r\n")),
        source="csv",
        writer=writer(end=","),
        fresh=True,
    ),
    published(
        "quotes, delimiters and line breaks in quoted values",
        deliver=cells("kind", 'say "hi", now\nand then'),
        source="csv",
    ),
    quarantined(
        "a quote within a value that has no quotes around it",
        "has a quote within a value that does not begin with one",
        deliver=first_line(
            lambda line: line.replace(",a,", ',5" nail,').replace(",b,", ',5" nail,').replace(",c,", ',5" nail,')
        ),
        source="csv",
    ),
    quarantined(
        "two stray quotes, many lines apart",
        "has text behind the quote that closes a value",
        "has a quote that opens a value and is never closed",
        deliver=lines(
            lambda all_lines: [stray(line) if at in (51, 121) else line for at, line in enumerate(all_lines)]
        ),
        source="csv",
        bad=2,
    ),
    refused(
        "text behind a closing quote in many lines",
        "200 of 200 rows are bad",
        "has text behind the quote that closes a value",
        deliver=lines(
            lambda all_lines: [all_lines[0], *(f'"{line.replace(",", chr(34) + "x,", 1)}' for line in all_lines[1:])]
        ),
        source="csv",
        bad=200,
    ),
    published(
        "quotes that mean nothing, declared",
        deliver=cells("kind", '5" nail', '"bolt'),
        source="csv",
        writer=writer(quoting=csv.QUOTE_NONE, quotechar=None, escapechar=None),
        fresh=True,
        data=source(quote=None),
    ),
    published(
        "signs with a backslash before them, declared",
        deliver=cells("kind", "a,b", "c\\d"),
        source="csv",
        writer=ESCAPED,
        fresh=True,
        data=source(escape="\\", quote=None),
    ),
    published(
        "ja and nein for truth values, declared",
        deliver=good,
        source="csv",
        writer=writer(YES),
        fresh=True,
        data=source(true_values=["ja"], false_values=["nein"]),
    ),
    published(
        "t and f for truth values, as PostgreSQL writes them",
        deliver=good,
        source="csv",
        writer=writer(mapped(("paid",), lambda text: text[0])),
        fresh=True,
    ),
    published(
        "texts that mean null, declared for the source",
        deliver=cells("x", "k.A.", "-"),
        source="csv",
        fresh=True,
        data=source(nulls=["", "k.A.", "-"]),
    ),
    published(
        "dates the other way round, with their form in the contract",
        deliver=good,
        source="csv",
        writer=writer(GERMAN_DAY),
        fresh=True,
        contract=contract_with("day", format="%d.%m.%Y"),
    ),
    quarantined(
        "the 31st of February in a declared form",
        "day: '31.02.2013' is no date",
        deliver=cells("day", "2013-02-31"),
        source="csv",
        writer=writer(GERMAN_DAY),
        fresh=True,
        contract=contract_with("day", format="%d.%m.%Y"),
    ),
    published(
        "clocks of Berlin in a declared form",
        deliver=good,
        source="csv",
        writer=writer(BERLIN),
        fresh=True,
        contract=AT,
    ),
    published(
        "times with UTC, +01 and +0100 for their zone, as databases write them",
        deliver=cells("at", "2013-01-21 00:00:00 UTC", "2013-01-21 02:00:00+01", "2013-01-21T02:00:00,5+0100"),
        source="csv",
    ),
]
