"""Text that is no CSV, or only half of it: encodings, quotes, rows with too many values."""

from __future__ import annotations

from tests.bad_input.case import Case, cells, content, lines, quarantined, refused

TEXTS: list[Case] = [
    quarantined(
        "a row with a value too few",
        "has 8 values, the header has 9",
        deliver=lines(lambda all: [*all[:5], all[5].replace(",", "", 1), *all[6:]]),
        source="csv",
    ),
    quarantined(
        "a row with a value too many",
        "has 10 values, the header has 9",
        deliver=lines(lambda all: [*all[:5], "x," + all[5], *all[6:]]),
        source="csv",
    ),
    refused(
        "a quote that is never closed",
        "a quote that opens a value is never closed",
        deliver=lines(lambda all: [*all[:5], all[5].replace(",", ',"', 1), *all[6:]]),
        source="csv",
    ),
    refused(
        "a NUL byte in a text",
        "is NUL, so it is not text in UTF-8",
        deliver=content(lambda old: old.replace(b",a,", b",\0,", 1)),
        source="csv",
    ),
    refused(
        "a line of more than 1 MB",
        "a row is longer than 1,048,576 bytes",
        deliver=cells("kind", "z" * 3_000_000),
        source="csv",
    ),
    refused(
        "a UTF-16 file",
        "it is UTF-16; declare data.source.encoding: utf-16, or deliver UTF-8",
        deliver=content(lambda old: old.decode().encode("utf-16")),
        source="csv",
    ),
    quarantined(
        "a row with bytes that are no UTF-8",
        "is not UTF-8 in column 'kind'",
        deliver=content(lambda old: old.replace(b",a,", b",caf\xe9,", 1)),
        source="csv",
    ),
    refused(
        "a Latin-1 file",
        "rows are bad",
        "is not UTF-8 in column 'kind'",
        deliver=content(lambda old: old.replace(b",a,", b",caf\xe9,")),
        source="csv",
        bad=69,
    ),
    refused(
        "a header that is no UTF-8",
        "its header is not UTF-8 at column 'k\\\\xefnd'",
        deliver=content(lambda old: old.replace(b"kind", b"k\xefnd", 1)),
        source="csv",
    ),
    refused("a file without its header", "is missing", deliver=lines(lambda all: all[1:]), source="csv"),
    refused(
        "a semicolon between values where a comma is declared",
        "column 'id;at;x;n;kind;paid;day;price;y' has a name that is refused",
        deliver=content(lambda old: old.replace(b",", b";")),
        source="csv",
    ),
]
