"""How a file is written is guessed where it allows one reading, and both readings are named where it allows two."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from airflow_mlops.cli import main
from airflow_mlops.core.data.drafting.sniff_dialect import sniff_dialect
from airflow_mlops.core.declaration.contract import read_contract
from airflow_mlops.core.sources.csv_source import CsvFiles

EUROPE = ["Bericht Lager Nord", "", "Auftrag;Datum;Größe (mm);Preis;Bezahlt;PLZ;Temp;"] + [
    f"{n + 1};{1 + n % 28:02}.03.2026 {8 + n % 12:02}:{n % 60:02};{n % 10},5;1.{n:03},00;{'ja' if n % 3 else 'nein'};"
    f"0{1000 + n};{-200 if n % 40 == 0 else n % 19};"
    for n in range(300)
]


def sniffed_keys(folder: Path, content: bytes, name: str = "in.csv") -> dict[str, object]:
    (folder / name).write_bytes(content)
    return sniff_dialect(folder / name).keys


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b"id,x\n1,1.5\n2,2.5\n", {}),
        (b"id;x;y\n1;1,5;2,5\n2;2,5;3,5\n", {"delimiter": ";", "decimal": ","}),
        (b"id\tx\n1\t1,234.5\n2\t2,5\n", {"delimiter": "\t", "thousands": ","}),
        (b"id|x\n1|a\n2|b\n", {"delimiter": "|"}),
        (b"\xef\xbb\xbfid,x\n1,caf\xc3\xa9\n", {}),
        (b"id,x\n1,caf\xe9\n", {"encoding": "cp1252"}),
        ("id,x\n1,café\n".encode("utf-16"), {"encoding": "utf-16"}),
        (b"# made on Monday\nid,x\n1,2.5\n", {"comment": "#"}),
        (b"Report\nof January\nid,x\n1,2.5\n2,2.5\n", {"skip_rows": 2}),
        (b'id,x\n1,"say \\"a\\", b"\n2,c\n', {"escape": "\\"}),
        (b"1,2.5\n2,3.5\n", {"header": ["column_1", "column_2"]}),
        (b"id,ok\n1,yes\n2,no\n", {"true_values": ["yes"], "false_values": ["no"]}),
        (b"id;x\n1;1'234,5\n2;2'345,5\n", {"delimiter": ";", "decimal": ",", "thousands": "'"}),
    ],
)
def test_a_file_that_allows_one_reading_is_read_that_way(
    tmp_path: Path, content: bytes, keys: dict[str, object]
) -> None:
    assert sniffed_keys(tmp_path, content) == keys
    assert sniffed_keys(tmp_path, gzip.compress(content), "in.csv.gz") == keys


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'id,x\n1,"1,5"\n2,2.5\n', "numbers with a decimal comma ('1,5') and with a decimal point ('2.5')"),
        (b"id;x\n1;1.234\n2;2.345\n", "'1.234' is a number with groups of digits, or one with three places"),
        (b"id,x\n1,caf\xe9\n", "as cp1252 there stands 'café'"),
    ],
)
def test_what_allows_two_readings_is_named_with_both(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    assert any(words in line for line in sniff_dialect(tmp_path / "in.csv").undecided)


def suggest(folder: Path, capsys: pytest.CaptureFixture[str], text: str | bytes, *arguments: str) -> str:
    """Draft a contract from one file into ``folder``, and return what the command prints."""
    file = folder / "stock.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["contract", "suggest", str(file), "--into", str(folder / "include"), *arguments]) == 0
    return capsys.readouterr().out


def test_a_european_spreadsheet_is_drafted_as_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = suggest(tmp_path, capsys, "\r\n".join(EUROPE).encode("cp1252"))
    for words in (
        'data.source needs delimiter: ";", encoding: "cp1252", skip_rows: 2, decimal: ",", thousands: "."',
        "NOT DECIDED: the encoding is not UTF-8",
        "Datum is the time of a row",
        "data.every: '@monthly' makes partitions of about 300 rows; Datum goes from 2026-03-01 to 2026-03-28",
    ):
        assert words in shown, words
    contract = read_contract(tmp_path / "include" / "contracts" / "stock.yaml")
    columns = contract.columns
    assert {name: column.type for name, column in columns.items()} == {
        "Auftrag": "int",
        "Datum": "time",
        "Größe (mm)": "float",
        "Preis": "float",
        "Bezahlt": "bool",
        "PLZ": "text",
        "Temp": "int",
    }
    assert (columns["Datum"].format, columns["Datum"].zone) == ("%d.%m.%Y %H:%M", "none")
    assert columns["Größe (mm)"].unit == "mm"
    draft = (tmp_path / "include" / "contracts" / "stock.yaml").read_text()
    assert "-200 stands far from all other values" in draft
    assert "REVIEW: 100% of the values are numbers; with leading zeros" in draft
    suite = (tmp_path / "include" / "expectations" / "stock.yaml").read_text()
    assert "-200 may stand for a missing value; without it: 0 to 27" in suite


def test_days_and_months_that_could_be_either_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{n},{1 + n % 9:02}/{1 + n % 5:02}/2026,1.5\n" for n in range(40))
    suggest(tmp_path, capsys, f"id,day,x\n{rows}")
    draft = (tmp_path / "include" / "contracts" / "stock.yaml").read_text()
    assert 'day: {type: date, format: "%d/%m/%Y", nullable: false}' in draft
    assert "every value could be %m/%d/%Y as well" in draft


def test_numbers_with_words_among_them_are_text_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{n},2026-03-{1 + n % 28:02},{'n.v.' if n == 7 else n / 2}\n" for n in range(40))
    suggest(tmp_path, capsys, f"id,day,x\n{rows}")
    draft = (tmp_path / "include" / "contracts" / "stock.yaml").read_text()
    assert (
        "x: {type: text, nullable: false}  # REVIEW: 98% of the values are numbers; others are not, as 'n.v.'" in draft
    )


def test_names_that_no_contract_can_have_get_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{n},2026-03-{1 + n % 28:02},1.5,2.5,a,b\n" for n in range(40))
    shown = suggest(tmp_path, capsys, f"id,day,R&D cost,partition,Size,size\n{rows}")
    contract = read_contract(tmp_path / "include" / "contracts" / "stock.yaml")
    assert {name: column.from_ for name, column in contract.columns.items()} == {
        "id": None,
        "day": None,
        "r_d_cost": "R&D cost",
        "partition_column": "partition",
        "Size": None,
        "size_2": "size",
    }
    assert "r_d_cost is the column 'R&D cost'" in shown


@pytest.mark.parametrize("keys", [{"delimiter": ";", "decimal": ","}])
def test_what_is_guessed_is_what_the_source_reads(tmp_path: Path, keys: dict[str, object]) -> None:
    (tmp_path / "in.csv").write_text("id;x\n1;1,5\n2;2,5\n")
    sniffed = sniff_dialect(tmp_path / "in.csv")
    assert sniffed.keys == keys
    with CsvFiles("in.csv", root=tmp_path, dialect=sniffed.dialect).open("2026-03-01T00:00:00") as arrival:
        assert [row for batch in arrival.batches for row in batch.to_pylist()] == [
            {"id": "1", "x": "1,5"},
            {"id": "2", "x": "2,5"},
        ]
