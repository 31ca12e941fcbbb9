"""A drafted contract and suite accept the data they were drafted from, and list their guesses."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyarrow import orc

from airflow_mlops.cli import main
from airflow_mlops.core.data.drafting.learn_columns import FileForm, open_file
from airflow_mlops.core.data.drafting.personal_columns import guess_privacy
from airflow_mlops.core.data.drafting.suggest_contract import quote_yaml
from airflow_mlops.core.data.enforce_contract import Enforcement, Interval
from airflow_mlops.core.data.shape import derive_shape
from airflow_mlops.core.declaration.contract import Contract, read_contract
from airflow_mlops.core.declaration.data import Data
from airflow_mlops.core.declaration.key_columns import key_columns
from airflow_mlops.core.declaration.read_loop import read_strict_yaml
from airflow_mlops.core.sources.xlsx_rows import SheetForm
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.suggest_suite import widen_range
from airflow_mlops.core.validation.suite import read_suite
from tests.unit.core.sources.workbooks import workbook

HOUSE = Path(__file__).parents[5]
FLIGHTS = HOUSE / "include" / "data" / "flights_air_time"
EVER = Interval(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2100-01-01"))

ORDERS = """order_no,placed at,shipped,price,pieces,zip,mail,gift,country,weight,at,remark
1001,2013-01-01 10:00,2013-01-02,1.50,3,01234,ann@example.org,true,NO,NA,2013-01-01T10:00:00Z,
1002,2013-01-01 11:00:30,2013-01-03,2,-4,99999,bob@example.org,False,DE,1.5,2013-01-01T11:00:00+01:00,
1003,2013-01-02 11:00,,1e3,5,10000,eve@example.org,,on,2.5,2013-01-01 10:00Z,
"""


def suggest(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["contract", "suggest", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def draft(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> Contract:
    code, _, fault = suggest(capsys, *arguments, "--into", folder, "--name", "drafted")
    assert code == 0, fault
    return read_contract(folder / "contracts" / "drafted.yaml")


def assert_accepts(folder: Path, files: list[Path], form: FileForm | None = None) -> int:
    """Assert that the drafts in ``folder`` refuse no row, and return the number of expectations."""
    contract = read_contract(folder / "contracts" / "drafted.yaml")
    suite = read_suite(folder / "expectations" / "drafted.yaml")
    label = next(name for name in contract.columns if name not in (*key_columns(contract.key), contract.time))
    data = Data.model_validate(
        {
            "source": {"kind": "parquet", "uri": "{partition}.parquet"},
            "key": contract.key,
            "time": contract.time,
            "label": label,
        }
    )
    batches = []
    for file in files:
        with open_file(file, files, form or FileForm()) as arrival:
            shape = derive_shape(data, contract, arrival.schema, None, typed=arrival.typed, untyped=arrival.untyped)
            enforcement = Enforcement(shape, data, EVER)
            for batch in arrival.batches:
                rows, reasons = enforcement.read(batch)
                assert reasons == {}
                batches.append(rows)
    results = GxValidator().check(pa.Table.from_batches(batches), suite)
    assert [result.reason for result in results if not result.success] == []
    return len(results)


@pytest.mark.skipif(not FLIGHTS.is_dir(), reason="`make data` writes the flights")
def test_the_draft_of_flights_accepts_the_flights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(FLIGHTS.glob("*.parquet"))[:6]
    contract = draft(tmp_path, capsys, *files)
    assert (contract.key, contract.time) == ("flight_id", "scheduled_departure")
    assert contract.columns["air_time"].nullable
    assert not contract.columns["carrier"].nullable
    assert {column.privacy for column in contract.columns.values()} == {"none"}
    assert assert_accepts(tmp_path, files) > 15


@pytest.mark.parametrize("packed", [False, True])
def test_types_of_csv_are_those_that_every_value_plainly_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], packed: bool
) -> None:
    file = tmp_path / ("orders.csv.gz" if packed else "orders.csv")
    file.write_bytes(gzip.compress(ORDERS.encode()) if packed else ORDERS.encode())
    contract = draft(tmp_path / "include", capsys, file)
    assert {name: column.type for name, column in contract.columns.items()} == {
        "order_no": "int",
        "placed at": "time",
        "shipped": "date",
        "price": "float",
        "pieces": "int",
        "zip": "text",
        "mail": "text",
        "gift": "bool",
        "country": "text",
        "weight": "text",
        "at": "time",
        "remark": "text",
    }
    assert (contract.columns["placed at"].zone, contract.columns["at"].zone) == ("none", "UTC")
    assert {name for name, column in contract.columns.items() if column.nullable} == {"shipped", "gift", "remark"}
    assert (contract.key, contract.time) == ("order_no", "at")
    assert {name for name, column in contract.columns.items() if column.privacy == "personal"} == {"zip", "mail"}
    text = (tmp_path / "include" / "contracts" / "drafted.yaml").read_text()
    assert "float if 'NA' mean null: then add them to nulls" in text
    assert "REVIEW: no value was seen" in text
    assert_accepts(tmp_path / "include", [file])


def test_every_type_of_parquet_that_is_kept_is_drafted_and_others_are_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pa.table(
        {
            "key": pa.array(["a", "b"], pa.large_string()),
            "small": pa.array([1, 2], pa.int8()),
            "real": pa.array([1.5, float("nan")], pa.float32()),
            "price": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
            "yes": [True, False],
            "day": pa.array([1, 2], pa.date32()),
            "clock": pa.array([1, 2], pa.timestamp("ms")),
            "moment": pa.array([1, 2], pa.timestamp("us", tz="Europe/Oslo")),
            "coded": pa.array(["x", "x"]).dictionary_encode(),
            "nothing": pa.nulls(2),
            "listed": [[1], [2]],
        }
    )
    file = tmp_path / "table.parquet"
    pq.write_table(table, file)
    contract = draft(tmp_path, capsys, file, "--time", "moment")
    assert {name: column.type for name, column in contract.columns.items()} == {
        "key": "text",
        "small": "int",
        "real": "float",
        "price": "decimal(10, 2)",
        "yes": "bool",
        "day": "date",
        "clock": "time",
        "moment": "time",
        "coded": "text",
        "nothing": "text",
    }
    assert contract.ignore == ("listed",)
    assert not contract.columns["real"].finite
    assert_accepts(tmp_path, [file])


def test_a_column_that_some_files_lack_is_optional(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "2013-01-06.csv", tmp_path / "2013-01-13.csv"]
    files[0].write_text("id,at\n1,2013-01-01\n2,2013-01-02\n")
    files[1].write_text("id,at,more\n3,2013-01-08,x\n")
    contract = draft(tmp_path, capsys, *files)
    assert contract.columns["more"].optional
    assert not contract.columns["id"].optional
    assert_accepts(tmp_path, files)


def test_without_a_folder_both_drafts_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(ORDERS)
    code, out, _ = suggest(capsys, file)
    assert code == 0
    contract, suite = out.split("\n---\n")
    assert "contract: orders\nkey: order_no\ntime: at\n" in contract
    assert "# Guessed: order_no is the key, as it is never null and never repeats" in contract
    assert "ann@example.org" not in out
    assert suite.startswith("# A draft from 3 rows")
    assert [path.name for path in tmp_path.iterdir()] == ["orders.csv"]


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(ORDERS)
    (tmp_path / "expectations").mkdir()
    (tmp_path / "expectations" / "orders.yaml").write_text("mine")
    code, _, fault = suggest(capsys, file, "--into", tmp_path)
    assert code == 1
    assert "stands there already and is not replaced" in fault
    assert (tmp_path / "expectations" / "orders.yaml").read_text() == "mine"
    assert not (tmp_path / "contracts").exists()


RECORDS = [
    {"order": 1001, "placed": "2013-01-01T10:00:00Z", "price": 1.5, "gift": True, "zip": "01234"},
    {"order": 1002, "placed": "2013-01-02T10:00:00+01:00", "price": 1e3, "gift": None, "zip": "99999", "note": "x"},
    {"order": 1003, "placed": "2013-01-03T10:00:00Z", "price": -2, "gift": False, "zip": "10000"},
]


@pytest.mark.parametrize("name", ["orders.jsonl", "orders.ndjson.gz", "orders.json"])
def test_types_of_json_lines_are_those_that_every_value_plainly_has(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    content = "".join(f"{json.dumps(record)}\n" for record in RECORDS).encode()
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    contract = draft(tmp_path, capsys, file)
    assert (contract.key, contract.time) == ("order", "placed")
    assert {name: column.type for name, column in contract.columns.items()} == {
        "order": "int",
        "placed": "time",
        "price": "float",
        "gift": "bool",
        "zip": "text",
        "note": "text",
    }
    assert not contract.columns["price"].nullable
    assert contract.columns["note"].nullable
    assert_accepts(tmp_path, [file])


def test_lines_that_are_no_records_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_text("".join(f"{json.dumps(record)}\n" for record in RECORDS) + '{"order": 1004, "pl\n[1]\n')
    code, out, _ = suggest(capsys, file, "--into", tmp_path)
    assert code == 0
    assert "guessed: 2 rows could not be split into columns and were left out" in out


def orders_sheet(folder: Path, *, titles: bool = True) -> Path:
    moments = [datetime(2013, 1, day, 10, 30) for day in (1, 2, 3)]  # noqa: DTZ001
    rows: list[list[Any]] = [["order", "placed", "day", "price", "gift", "zip"]]
    for number, moment in enumerate(moments):
        rows.append([1001 + number, moment, moment.date(), number * 1.5, number == 1, f"0123{number}"])
    above = [["Orders of the week"], [None, "exported by", "the shop"], []] if titles else []
    file = folder / "orders.xlsx"
    file.write_bytes(workbook({"notes": [["nothing"]], "orders": [*above, *rows]} if titles else {"orders": rows}))
    return file


def test_a_sheet_is_drafted_from_with_the_titles_above_its_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = orders_sheet(tmp_path)
    code, out, fault = suggest(capsys, file, "--sheet", "orders", "--into", tmp_path, "--name", "drafted")
    assert code == 0, fault
    assert 'guessed: data.source needs sheet: "orders", skip_rows: 3' in out
    contract = read_contract(tmp_path / "contracts" / "drafted.yaml")
    assert (contract.key, contract.time) == ("order", "placed")
    types = {name: (column.type, column.zone) for name, column in contract.columns.items()}
    assert types == {
        "order": ("int", "UTC"),
        "placed": ("time", "none"),
        "day": ("date", "UTC"),
        "price": ("float", "UTC"),
        "gift": ("bool", "UTC"),
        "zip": ("text", "UTC"),
    }
    assert_accepts(tmp_path, [file], FileForm(sheet=SheetForm("orders", 3)))


def test_a_sheet_whose_first_row_is_its_header_needs_no_key_of_the_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, fault = suggest(capsys, orders_sheet(tmp_path, titles=False), "--into", tmp_path)
    assert code == 0, fault
    assert "data.source needs" not in out


def test_an_orc_file_has_its_own_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moments = pa.array([datetime(2013, 1, day, tzinfo=UTC) for day in (1, 2)], pa.timestamp("us", tz="UTC"))
    table = pa.table({"id": ["a", "b"], "at": moments, "price": pa.array([1, 2], pa.decimal128(9, 2)), "l": [[1], [2]]})
    file = tmp_path / "orders.orc"
    orc.write_table(table, file)
    contract = draft(tmp_path, capsys, file)
    assert {name: column.type for name, column in contract.columns.items()} == {
        "id": "text",
        "at": "time",
        "price": "decimal(9, 2)",
    }
    assert contract.ignore == ("l",)
    assert_accepts(tmp_path, [file])


def put_in_folders(folder: Path, kind: str) -> list[Path]:
    """Write a file of one row into a folder of each of two shops."""
    files = []
    for shop, region in ((7, "S%C3%BCd"), (8, "__HIVE_DEFAULT_PARTITION__")):
        file = folder / "dt=2013-01-06" / f"shop={shop}" / f"region={region}" / f"a.{kind}"
        file.parent.mkdir(parents=True)
        table = pa.table({"id": [f"order-{shop}"], "at": pa.array([datetime(2013, 1, 2)], pa.timestamp("us"))})  # noqa: DTZ001
        if kind == "csv":
            file.write_text(f"id,at\norder-{shop},2013-01-02 00:00:00\n")
        else:
            (pq if kind == "parquet" else orc).write_table(table, file)
        files.append(file)
    return files


@pytest.mark.parametrize("kind", ["parquet", "orc", "csv"])
def test_columns_in_the_paths_are_drafted_where_they_are_named(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = put_in_folders(tmp_path / "in", kind)
    named = ["--path-column", "shop", "--path-column", "region"]
    code, out, fault = suggest(capsys, *files, *named, "--into", tmp_path, "--name", "drafted")
    assert code == 0, fault
    assert 'guessed: data.source needs path_columns: ["shop", "region"]' in out
    assert "NOT DECIDED: the files lie in folders dt=…; --path-column dt makes their values a column" in out
    assert "folders shop=" not in out
    contract = read_contract(tmp_path / "contracts" / "drafted.yaml")
    assert {name: contract.columns[name].type for name in ("shop", "region")} == {"shop": "int", "region": "text"}
    assert (contract.columns["shop"].nullable, contract.columns["region"].nullable) == (False, True)
    assert_accepts(tmp_path, files, FileForm(path_columns=("shop", "region")))


FAULTS: dict[str, tuple[dict[str, str], list[str], str]] = {
    "no key": ({"a.csv": "x,at\n1,2013-01-01\n1,2013-01-01\n"}, [], "no column tells all rows apart"),
    "no time": ({"a.csv": "id\n1\n2\n"}, [], "no column holds dates or times"),
    "a key that repeats": ({"a.csv": "x,at\n1,2013-01-01\n1,2013-01-02\n"}, ["--key", "x"], "'x' cannot be the key"),
    "a key that repeats in the next file": (
        {"a.csv": "x,at\n1,2013-01-01\n", "b.csv": "x,at\n1,2013-01-02\n"},
        ["--key", "x"],
        "'x' cannot be the key",
    ),
    "a time that is none": ({"a.csv": "x,at\n1,2013-01-01\n"}, ["--time", "x"], "'x' cannot be the time: it holds int"),
    "an unknown column": ({"a.csv": "x,at\n1,2013-01-01\n"}, ["--key", "xx"], "did you mean 'x'?"),
    "no rows": ({"a.csv": "x,at\n"}, [], "there is no row"),
    "a bad name": ({"a.csv": "x,at\n1,2013-01-01\n"}, ["--name", "../A"], "'../A' is no name"),
    "two kinds": ({"a.csv": "x\n1\n", "b.parquet": ""}, [], "files of the kind csv, parquet were given"),
    "no such file": ({}, [], "a.csv is not there yet"),
    "no kind that is drafted from": ({"a.avro": ""}, [], "all have to be of one kind: .parquet, .orc, .csv, .jsonl or"),
    "no JSON lines": ({"a.jsonl": "[\n1\n]\n"}, [], "there is no row"),
    "text in place of a workbook": ({"a.xlsx": "x,at\n"}, [], "a.xlsx cannot be read: it is no xlsx workbook"),
    "text in place of ORC": ({"a.orc": "x,at\n"}, [], "a.orc cannot be read"),
    "a path without the column": (
        {"a.csv": "x,at\n1,2013-01-01\n"},
        ["--path-column", "region"],
        "lies in no folder region=…",
    ),
    "a kind without columns in paths": (
        {"a.jsonl": "{}\n"},
        ["--path-column", "region"],
        "a json source has no path_columns; leave out --path-column, or deliver parquet, orc, csv",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_drafted_is_said_in_one_line(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, arguments, words = FAULTS[fault]
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    files = [tmp_path / name for name in texts or ["a.csv"]]
    code, out, error = suggest(capsys, *files, *arguments)
    assert (code, out) == (1, "")
    assert words in error
    assert "1970" not in error
    assert error.count("\n") == 1


def test_a_sheet_that_is_not_there_is_named_beside_those_that_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, fault = suggest(capsys, orders_sheet(tmp_path), "--sheet", "sales")
    assert code == 1
    assert "there is no sheet 'sales'; there are notes, orders" in fault


def test_files_whose_types_differ_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    pq.write_table(pa.table({"id": [1], "x": [1]}), files[0])
    pq.write_table(pa.table({"id": [2], "x": [1.5]}), files[1])
    _, _, fault = suggest(capsys, *files)
    assert "b.parquet: column 'x' has the type double; the files before have int64" in fault


@pytest.mark.parametrize(
    ("name", "texts", "tag"),
    [
        ("contactEmail", [], "personal"),
        ("e_mail", [], "personal"),
        ("phone_number", [], "personal"),
        ("Last Name", [], "personal"),
        ("date_of_birth", [], "personal"),
        ("iban", [], "personal"),
        ("ip_address", [], "personal"),
        ("gender", [], "sensitive"),
        ("salary", [], "sensitive"),
        ("x", ["ann@example.org", "bob@example.org"], "personal"),
        ("x", ["+49 30 123456"], "personal"),
        ("x", ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"], "personal"),
        ("x", ["10.0.0.1"], "personal"),
        ("trip", [], None),
        ("shipping", [], None),
        ("carrier_name", [], None),
        ("humid", [], None),
        ("x", ["DE00 3704 0044 0532 0130 00"], None),
        ("x", ["2013-01-06", "1234567"], None),
        ("emails_sent", [], None),
        ("flight_id", ["2013-02-23-9E3329-JFK-1900"], None),
    ],
)
def test_columns_that_look_personal_are_tagged(name: str, texts: list[str], tag: str | None) -> None:
    guess = guess_privacy(name, texts)
    assert (guess and guess[0]) == tag


@settings(max_examples=200)
@given(text=st.text(min_size=1, max_size=12))
def test_any_text_is_quoted_so_that_yaml_reads_it_back(text: str, tmp_path_factory: Any) -> None:
    # A declaration never holds a template, quoted or not: reading refuses it, by a rule of its own.
    assume(not any(mark in text for mark in ("{{", "{%")))
    file = tmp_path_factory.getbasetemp() / "quoted.yaml"
    file.write_text(f"key: {quote_yaml(text)}\nlist: [{quote_yaml(text, always=True)}]\n", encoding="utf-8", newline="")
    assert read_strict_yaml(file)[0] == {"key": text, "list": [text]}


@settings(max_examples=300)
@given(*[st.floats(allow_nan=False, allow_infinity=False)] * 2)
def test_a_widened_range_holds_what_was_seen_and_keeps_its_sign(first: float, second: float) -> None:
    low, high = sorted((first, second))
    below, above = map(float, widen_range(low, high))
    assert below <= low <= high <= above
    assert below >= 0 or low < 0
    assert above <= 0 or high > 0 or low == high == 0


def test_texts_with_few_values_are_named_as_possible_categories(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{row},2013-01-01T10:00:00Z,shop{row % 3},free text {row},{row}.5" for row in range(60)]
    file = tmp_path / "sales.csv"
    file.write_text("\n".join(["sale,at,shop,remark,pieces", *lines]))
    contract = draft(tmp_path / "include", capsys, file)
    text = (tmp_path / "include" / "contracts" / "drafted.yaml").read_text()
    assert "# Text with few values, which a model reads as such if it is type: category: shop.\n" in text
    assert contract.columns["shop"].type == "text"
    as_category = text.replace('"shop": {type: text', '"shop": {type: category').replace(
        "shop: {type: text", "shop: {type: category"
    )
    (tmp_path / "category.yaml").write_text(as_category)
    assert read_contract(tmp_path / "category.yaml").columns["shop"].type == "category"
