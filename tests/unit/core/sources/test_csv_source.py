"""A CSV source: every cell as text, every broken row set aside with its reason, no other row shifted."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_mlops.core.declaration.data import Limits
from airflow_mlops.core.errors import DeclarationError, PartitionRefusedError, SourceUnreadableError
from airflow_mlops.core.ports.partitions import BATCH_ROWS, BrokenRow
from airflow_mlops.core.sources import csv_lines, csv_rows
from airflow_mlops.core.sources.csv_dialect import CsvDialect
from airflow_mlops.core.sources.csv_source import CsvFiles

KEY = "2013-01-06T00:00:00"
Cells = list[dict[str, Any]]


def read_csv(folder: Path, content: bytes | str, name: str = "in.csv", **kwargs: Any) -> tuple[Cells, list[BrokenRow]]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return rows_of(CsvFiles(name, root=folder, **kwargs))


def rows_of(source: CsvFiles) -> tuple[Cells, list[BrokenRow]]:
    with source.open(KEY) as arrival:
        assert not arrival.typed
        assert set(arrival.schema.types) <= {pa.string()}
        rows = pa.Table.from_batches(arrival.batches, schema=arrival.schema)
        rows.validate(full=True)
        return rows.to_pylist(), arrival.broken


def refusal_of(folder: Path, content: bytes | str, name: str = "in.csv", **kwargs: Any) -> str:
    with pytest.raises(
        SourceUnreadableError, match=r"partition 2013-01-06T00:00:00: in\.csv\S* cannot be read"
    ) as error:
        read_csv(folder, content, name, **kwargs)
    assert str(folder) not in str(error.value)
    return str(error.value)


def test_every_value_is_the_text_that_stands_there(tmp_path: Path) -> None:
    rows, broken = read_csv(tmp_path, "id,x,y\n007,1e5,NaN\n8,,null\n 9 ,TRUE,2013-01-06\n")
    assert [list(row.values()) for row in rows] == [
        ["007", "1e5", "NaN"],
        ["8", "", "null"],
        [" 9 ", "TRUE", "2013-01-06"],
    ]
    assert broken == []


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("id,x\r\n1,2\r\n3,4\r\n", ","),
        ("id,x\r1,2\r3,4", ","),
        ("\ufeffid,x\n1,2\n3,4", ","),
        ("\n\nid,x\n\n1,2\n\n\n3,4\n\n", ","),
        ("id;x\n1;2\n3;4\n", ";"),
        ("id\tx\n1\t2\n3\t4\n", "\t"),
        ('"id","x"\n"1","2"\n"3","4"', ","),
    ],
)
def test_line_ends_marks_delimiters_quotes_and_empty_lines_make_no_difference(
    tmp_path: Path, content: str, delimiter: str
) -> None:
    assert read_csv(tmp_path, content, dialect=CsvDialect(delimiter=delimiter)) == (
        [{"id": "1", "x": "2"}, {"id": "3", "x": "4"}],
        [],
    )


def test_quotes_may_hold_line_breaks_delimiters_and_quotes(tmp_path: Path) -> None:
    rows, broken = read_csv(tmp_path, '"i\nd",x\n"a\r\nb","say ""1,2"""\n"","c""d"\n')
    assert rows == [{"i\nd": "a\r\nb", "x": 'say "1,2"'}, {"i\nd": "", "x": 'c"d'}]
    assert broken == []


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", lambda content: pa.Codec("zstd").compress(content, asbytes=True)),
        ("GZ", lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:])),
    ],
)
def test_a_compressed_file_is_read_by_its_suffix_and_a_truncated_one_refused(
    tmp_path: Path, suffix: str, compress: Any
) -> None:
    content = "id,x\n" + "".join(f"{number},{number * 7919 % 1009}\n" for number in range(20_000))
    whole = compress(content.encode())
    rows, broken = read_csv(tmp_path, whole, f"in.csv.{suffix}")
    assert (len(rows), rows[-1], broken) == (20_000, {"id": "19999", "x": str(19999 * 7919 % 1009)}, [])
    refusal_of(tmp_path, whole[: len(whole) // 2], f"in.csv.{suffix}")
    refusal_of(tmp_path, content, f"in.csv.{suffix}")


def test_a_row_with_too_few_or_too_many_values_is_set_aside_and_shifts_nothing(tmp_path: Path) -> None:
    rows, broken = read_csv(tmp_path, "id,x,y\n1,2,3\n4,5\n6,7,8,9,10\n11,12,13\n,\n")
    assert [row["id"] for row in rows] == ["1", "11"]
    assert broken == [
        BrokenRow("4,5", "has 2 values, the header has 3", "in.csv, line 3"),
        BrokenRow("6,7,8,9,10", "has 5 values, the header has 3", "in.csv, line 4"),
        BrokenRow(",", "has 2 values, the header has 3", "in.csv, line 6"),
    ]


def test_a_row_that_is_not_utf_8_is_set_aside_and_the_others_are_kept(tmp_path: Path) -> None:
    rows, broken = read_csv(
        tmp_path, b"id,x\n1,caf\xe9\n2\n3,caf\xc3\xa9\n\xff,\x80,4\n5,\xe2\x82\n6,z\n7,\xed\xa0\x80"
    )
    assert [list(row.values()) for row in rows] == [["3", "café"], ["6", "z"]]
    assert sorted(broken, key=lambda row: row.at) == [
        BrokenRow("1,caf\\xe9", "is not UTF-8 in column 'x'", "in.csv, line 2"),
        BrokenRow("2", "has 1 values, the header has 2", "in.csv, line 3"),
        BrokenRow("\\xff,\\x80,4", "has 3 values, the header has 2", "in.csv, line 5"),
        BrokenRow("5,\\xe2\\x82", "is not UTF-8 in column 'x'", "in.csv, line 6"),
        BrokenRow("7,\\xed\\xa0\\x80", "is not UTF-8 in column 'x'", "in.csv, line 8"),
    ]


def test_rows_in_are_rows_out_and_rows_set_aside(tmp_path: Path) -> None:
    lines = [b"%d,x" % n if n % 7 else b"%d" % n if n % 2 else b"%d,\xff" % n for n in range(300_000)]
    rows, broken = read_csv(tmp_path, b"id,x\n" + b"\n".join(lines))
    assert [row["id"] for row in rows] == [str(n) for n in range(300_000) if n % 7]
    assert sorted(int(row.at.rpartition(" ")[2]) - 2 for row in broken) == list(range(0, 300_000, 7))
    assert all(row.text.startswith(str(int(row.at.rpartition(" ")[2]) - 2)) for row in broken)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty: there is not even a header"),
        (b"\n\r\n", "it is empty: there is not even a header"),
        ("id,x\n1,2\n".encode("utf-16"), "it is UTF-16; declare data.source.encoding: utf-16, or deliver UTF-8"),
        ("id,x\n1,2\n".encode("utf-16-le"), "byte 1 is NUL, so it is not text in UTF-8"),
        (b"id,x\n1,2\n3,\x00\n", "byte 11 is NUL"),
        (b"PAR1\x15\x04\x15\x00", "byte 7 is NUL"),
        (b"id,\xff\n1,2\n", r"its header is not UTF-8 at column '\\\\xff'"),
        (b'id,x\n1,"2\n3,4\n5,6\n', "a quote that opens a value is never closed"),
        (b'id,x\n1,"2', "a quote that opens a value is never closed"),
        (b'id,x\n"1,2', "a quote that opens a value is never closed"),
        (b'id,"x\n1,2\n', "its header is not CSV: unexpected end of data"),
        (b"id,x\n1," + b"z" * 10_000_000, "a row is longer than 1,048,576 bytes, or a quote is never closed"),
        (b'id,x\n1,"' + b"2,3\n" * 3_000_000, "a row is longer than 1,048,576 bytes, or a quote is never closed"),
        (b"x" * 2_000_000, r"its header is not CSV: field larger|its header is longer than 1,048,576 bytes"),
        (b"a," * 20_000, "its header has 20,001 columns; the limit is 10,000"),
    ],
)
@pytest.mark.bad_input("refused")
def test_what_is_no_csv_is_unreadable_in_plain_words(tmp_path: Path, content: bytes, reason: str) -> None:
    message = refusal_of(tmp_path, content)
    assert re.search(reason, message), message


def test_a_header_alone_is_a_partition_without_rows(tmp_path: Path) -> None:
    for content in ("id,x\n", "id,x", "id,x\n\n\n"):
        assert read_csv(tmp_path, content) == ([], [])


def test_a_decompression_bomb_ends_at_the_declared_bytes(tmp_path: Path) -> None:
    path = tmp_path / "in.csv.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(b"id,x\n")
        for _ in range(200):
            file.write(b"1,0000000000000\n" * 65_536)
    assert path.stat().st_size < 1_500_000
    with pytest.raises(
        PartitionRefusedError, match=r"in\.csv\.gz it has at least .* bytes, and data\.limits\.bytes is"
    ):
        rows_of(CsvFiles("in.csv.gz", root=tmp_path, limits=Limits(bytes=20_000_000)))


@pytest.mark.parametrize("limits", [Limits(rows=99), Limits(cells=199)])
def test_rows_and_cells_are_limited_while_they_arrive(tmp_path: Path, limits: Limits) -> None:
    content = "id,x\n" + "1,2\n" * 100
    with pytest.raises(PartitionRefusedError, match=r"with in\.csv it has at least \d+ (rows|cells)"):
        read_csv(tmp_path, content, limits=limits)
    assert len(read_csv(tmp_path, content, limits=Limits(rows=100, cells=200))[0]) == 100


def test_a_file_that_is_mostly_broken_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_BROKEN_ROWS", 10)
    assert len(read_csv(tmp_path, "id,x\n" + "1\n" * 10)[1]) == 10
    for row in ("1\n", "1,\xff\n"):
        message = refusal_of(tmp_path, ("id,x\n" + row * 11).encode("latin-1"))
        assert "more than 10 rows" in message
        assert "the first at in.csv, line 2: it " in message


def test_several_files_are_read_in_the_order_of_the_first_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,x\n1,2\n3\n")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"x,id\n4,5\n6,7,8\n"))
    rows, broken = rows_of(CsvFiles("*.csv*", root=tmp_path))
    assert rows == [{"id": "1", "x": "2"}, {"id": "5", "x": "4"}]
    assert [row.at for row in broken] == ["a.csv, line 3", "b.csv.gz, line 3"]
    with CsvFiles("*.csv*", root=tmp_path).open(KEY) as arrival:
        sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
        files = [{"path": "a.csv", "size": sizes[0]}, {"path": "b.csv.gz", "size": sizes[1]}]
        assert arrival.origin == {"files": files}
    (tmp_path / "c.csv").write_text("id,y\n1,2\n")
    with pytest.raises(
        PartitionRefusedError, match=r"c\.csv has other columns than a\.csv: column 'x' is missing; col"
    ):
        rows_of(CsvFiles("*.csv*", root=tmp_path))


def test_batches_are_no_larger_than_promised(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id\n" + "1\n" * 500_000)
    with CsvFiles("in.csv", root=tmp_path).open(KEY) as arrival:
        sizes = [batch.num_rows for batch in arrival.batches]
    assert sum(sizes) == 500_000
    assert max(sizes) <= BATCH_ROWS


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r", "\0", "é"])
def test_a_delimiter_that_cannot_be_one_is_an_error_of_the_declaration(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(DeclarationError, match=r"data\.source\.delimiter: .* cannot separate values"):
        CsvFiles("{partition}.csv", root=tmp_path, dialect=CsvDialect(delimiter=delimiter))


CELL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8) | st.text(
    ',;"\r\n\t ', max_size=6
)


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=12)))
@example([["\r"], ["\n"], [""]])
@example([["\ufdd0", "\ufeff"]])
def test_any_cells_written_as_csv_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]
) -> None:
    names = [f"c{index}" for index in range(len(cells[0]) if cells else 1)]
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([names, *cells])
    rows, broken = read_csv(tmp_path_factory.getbasetemp(), text.getvalue())
    assert [list(row.values()) for row in rows] == cells
    assert broken == []


@given(st.binary(max_size=60) | st.text('ab,"\n\r', max_size=40).map(str.encode))
def test_any_bytes_are_rows_or_broken_rows_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    try:
        rows, broken = read_csv(tmp_path_factory.getbasetemp(), b"a,b\n" + content)
    except SourceUnreadableError:
        return
    assert all(len(row) == 2 for row in rows)
    assert len(rows) + len(broken) <= len(content.replace(b"\r", b"\n").split(b"\n"))


def strict_rows(text: str) -> list[list[str]] | None:
    """Return the rows that Python's strict reader finds, None if it refuses the text."""
    try:
        return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:
        return None


@settings(max_examples=500)
@given(text=st.text('ab,"\n\r 1', max_size=40))
@example(text='1,"a\n1,2\nb",5" x,9\n')
@example(text='1,"a\n1,2\nb"\n')
def test_of_any_text_no_row_is_read_that_pythons_strict_reader_does_not_find(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    expected = strict_rows(text)
    try:
        rows, broken = read_csv(tmp_path_factory.getbasetemp(), "c1,c2\n" + text)
    except SourceUnreadableError:
        return
    read = [list(row.values()) for row in rows]
    if expected is not None:
        wide = [row for row in expected if len(row) == 2]
        assert [row for row in wide if row in read] == read
        if not broken:
            assert read == expected


@settings(max_examples=300)
@given(text=st.text('ab,"\n\r 1', max_size=60))
def test_every_physical_line_is_in_a_row_or_set_aside_or_empty(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    try:
        rows, broken = read_csv(tmp_path_factory.getbasetemp(), ("c1,c2\n" + text).encode())
    except SourceUnreadableError:
        return
    lines = io.StringIO(text, newline=None).read().splitlines()
    filled = sum(1 for line in lines if line)
    within = sum(len(re.findall(r"\r\n|\r|\n", value)) for row in rows for value in row.values())
    empty_within = sum(
        1 for row in rows for value in row.values() for line in re.split(r"\r\n|\r|\n", value)[1:-1] if not line
    )
    set_aside = sum(1 for row in broken if row.text)
    assert len({row.at for row in broken}) == len(broken)
    assert len(rows) + within - empty_within + set_aside == filled


QUOTE = {51: '"', 121: '"'}
STRAY = "".join(f"{n},{QUOTE.get(n, '')}bolt M{n},{n / 2}\n" for n in range(1, 201))


def test_a_stray_quote_costs_its_own_line_and_no_other(tmp_path: Path) -> None:
    rows, broken = read_csv(tmp_path, "id,name,x\n" + STRAY)
    assert [row.at for row in broken] == ["in.csv, line 52", "in.csv, line 122"]
    assert [row.text for row in broken] == ['51,"bolt M51,25.5', '121,"bolt M121,60.5']
    assert "has text behind the quote that closes a value" in broken[0].reason
    assert "has a quote that opens a value and is never closed" in broken[1].reason
    assert len(rows) == 198
    assert all(row["name"] == f"bolt M{row['id']}" and float(row["x"]) == int(row["id"]) / 2 for row in rows)


@pytest.mark.parametrize(
    ("content", "kept", "lines"),
    [
        ('1,5" nail\n2,b\n', ["2"], [2]),
        ('1,"5" nail"\n2,b\n', ["2"], [2]),
        ('1, "a"\n2,b\n', ["2"], [2]),
        ('1,"a"b\n2,b\n', ["2"], [2]),
        ('1,"a\n2,b\n3,"c"\n', ["2", "3"], [2]),
        # The lines between are no rows: one broken value of three lines.
        ('1,"a\nno row\nc"d\n2,b\n', ["2"], [2, 3, 4]),
        # A whole value of three lines in a row that is too short, or broken further on: none of its lines is a row.
        ('1,2,"a\n3,4\nc"\n5,b\n', ["5"], [2, 3, 4]),
        ('"a\n3,4\nc",5" x\n5,b\n', ["5"], [2, 3, 4]),
        # After one stray quote the next that is never closed is another, and not the sign of a missing end.
        ('1,"2\n3,4\n"5,6\n7,8\n', ["3", "7"], [2, 4]),
        ('1,"2\n3,"4\n' + "5,6\n" * 400_000, ["5"] * 400_000, [2, 3]),
    ],
)
@pytest.mark.bad_input("quarantined")
def test_what_the_grammar_does_not_allow_is_set_aside_line_by_line(
    tmp_path: Path, content: str, kept: list[str], lines: list[int]
) -> None:
    rows, broken = read_csv(tmp_path, "id,x\n" + content)
    assert [row["id"] for row in rows] == kept
    assert [row.at for row in broken] == [f"in.csv, line {line}" for line in lines]


def test_the_place_where_the_text_is_cut_into_blocks_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_csv(tmp_path, "id,name,x\r\n" + STRAY.replace("\n", "\r\n") + '7,"a\r\n""b",1\r\n')
    for size in (1, 2, 3, 7, 64, 1000):
        monkeypatch.setattr(csv_lines, "BLOCK_BYTES", size)
        assert read_csv(tmp_path, "id,name,x\r\n" + STRAY.replace("\n", "\r\n") + '7,"a\r\n""b",1\r\n') == whole
    assert whole[0][-1] == {"id": "7", "name": 'a\r\n"b', "x": "1"}


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        (b"id;x\n1;caf\xe9\n2;\x80\n", {"delimiter": ";", "encoding": "cp1252"}),
        ("id,x\n1,café\n2,€\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("Report\n, 2013\nid,x\n1,café\n2,€\n".encode(), {"skip_rows": 2}),
        ('# made on Monday, "\n\nid,x\n# and, more\n1,café\n# "\n2,€\n'.encode(), {"comment": "#"}),
        ("1,café\n2,€\n".encode(), {"names": ("id", "x")}),
        ("id,x,\n1,café,\n2,€,\n".encode(), {}),
        ("id,x,,\n1,café,,\n2,€,,\n".encode(), {}),
        ("'id','x'\n'1','café'\n2,€\n".encode(), {"quote": "'"}),
        ("id\x01x\n1\x01café\n2\x01€\n".encode(), {"delimiter": "\x01", "quote": None}),
        (b"id|x\n1|caf\xe9\n2|\x80\n3|\x81\n", {"delimiter": "|", "encoding": "cp1252"}),
    ],
)
def test_a_declared_dialect_is_read(tmp_path: Path, content: bytes, dialect: dict[str, Any]) -> None:
    rows, broken = read_csv(tmp_path, content, dialect=CsvDialect(**dialect))
    assert rows == [{"id": "1", "x": "café"}, {"id": "2", "x": "€"}]
    assert [row.reason for row in broken] == (["is not CP1252 in column 'x'"] if b"\x81" in content else [])


def test_an_escape_takes_the_meaning_from_a_sign_and_quotes_none(tmp_path: Path) -> None:
    text = 'id,x\n1,say \\"a\\"\n2,a\\,b\n3,"a\\"b"\n4,a\\\\\n5,"a\\\\"\n'
    rows, broken = read_csv(tmp_path, text, dialect=CsvDialect(escape="\\"))
    assert [row["x"] for row in rows] == ['say "a"', "a,b", 'a"b', "a\\", "a\\"]
    assert broken == []
    rows, broken = read_csv(tmp_path, 'id,x\n1,5" nail\n2,"a\n3,b"\n', dialect=CsvDialect(quote=None))
    assert ([row["x"] for row in rows], broken) == (['5" nail', '"a', 'b"'], [])


def test_a_value_in_a_column_without_a_name_makes_a_broken_row(tmp_path: Path) -> None:
    rows, broken = read_csv(tmp_path, "id,x,,\n1,2,,\n3,4,5,\n6,7,,8\n9,0,,\n")
    assert rows == [{"id": "1", "x": "2"}, {"id": "9", "x": "0"}]
    assert [(row.text, row.reason, row.at) for row in broken] == [
        ("3,4,5,", "has a value in a column without a name", "in.csv, line 3"),
        ("6,7,,8", "has a value in a column without a name", "in.csv, line 4"),
    ]


@pytest.mark.parametrize(
    ("dialect", "words"),
    [
        ({"quote": "ab"}, "must be one ASCII character"),
        ({"escape": "\n"}, "must be one ASCII character"),
        ({"quote": ","}, "is the delimiter already"),
        ({"comment": '"'}, "is the quote already"),
        ({"encoding": "klingon"}, "is no encoding of text"),
        ({"encoding": "base64"}, "is no encoding of text"),
    ],
)
def test_a_sign_without_a_meaning_of_its_own_is_an_error_of_the_declaration(
    dialect: dict[str, Any], words: str
) -> None:
    with pytest.raises(DeclarationError, match=words):
        CsvDialect(**dialect)
