"""Each kind of everyday data that used to go wrong, through ``airflow-mlops try --json``.

The page ``docs/explanation/data-as-it-arrives.md`` lists the kinds.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops.cli import main
from tests.integration.try_project import COLUMNS, DELIVERY, as_lines, good_rows, try_loop, write_project
from tests.unit.core.sources.workbooks import workbook

Capture = pytest.CaptureFixture[str]
Changed = dict[str, Any]
FOLDER = "in/2013-01-13"
WHOLE: Changed = {"rows_in": 100, "published": 100, "quarantined": 0, "refused": None, "reasons": {}, "warnings": []}


def counts(shown: dict[str, Any]) -> tuple[int, int, int]:
    """Return rows that arrived, are published, are in quarantine."""
    return shown["rows_in"], shown["published"], shown["quarantined"]


def changed(column: str, *values: str) -> list[list[str]]:
    """Return the good rows with the first values of a column replaced."""
    rows = good_rows()
    for row, value in zip(rows, values, strict=False):
        row[list(COLUMNS).index(column)] = value
    return rows


def error_of(loop: Path, capsys: Capture) -> str:
    """Return the error of a wrong declaration."""
    assert main(["try", str(loop), "--root", str(loop.parent), "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


def parts(count: int = 50, *, unit: str = "us", **columns: pa.Array) -> pa.Table:
    """Return the rows of a Parquet file, with some columns as given."""
    moments = [datetime(2013, 1, 7 + n % 6, 10, tzinfo=UTC) for n in range(count)]
    usual = {
        "id": pa.array(range(count), pa.int64()),
        "at": pa.array(moments, pa.timestamp(unit, tz="UTC")),
        "name": pa.array(["a"] * count),
        "x": pa.array([n % 10 + 0.5 for n in range(count)]),
        "y": pa.array([float(n * 7 % 11) for n in range(count)]),
    }
    return pa.table({**usual, **columns})


def write_parts(project: Path, files: dict[str, pa.Table]) -> None:
    """Write Parquet files below the folder of the partition."""
    for name, rows in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path)


def test_a_stray_quote_costs_its_own_line(tmp_path: Path, capsys: Capture) -> None:
    rows = good_rows(200)
    rows[50][2] = rows[120][2] = '"bolt M8'
    shown = try_loop(write_project(tmp_path, {DELIVERY: as_lines(rows)}), capsys)
    assert counts(shown) == (200, 198, 2)
    assert shown["reasons"] == {
        "has text behind the quote that closes a value; write a quote within a value twice": 1,
        "has a quote that opens a value and is never closed": 1,
    }


def test_a_null_among_whole_numbers_leaves_them_whole(tmp_path: Path, capsys: Capture) -> None:
    large = [str(2**53 + 1 + n) for n in range(100)]
    columns = {"x": {"type": "int"}}
    whole = try_loop(write_project(tmp_path, {DELIVERY: as_lines(changed("x", *large))}, columns=columns), capsys)
    large[3] = ""
    (tmp_path / DELIVERY).write_text(as_lines(changed("x", *large)))
    shown = try_loop(tmp_path / "loop.yaml", capsys)
    assert {name: shown[name] for name in WHOLE} == WHOLE
    assert shown["features"] == whole["features"] == {"name": "str", "x": "Int64"}


def test_a_label_of_truth_values_may_be_missing(tmp_path: Path, capsys: Capture) -> None:
    rows = changed("y", *(str(n % 10 > 4).lower() for n in range(100)))
    rows[3][-1] = ""
    loop = write_project(
        tmp_path,
        {DELIVERY: as_lines(rows)},
        columns={"y": {"type": "bool"}},
        train={"function": "fitting:classifiers"},
        gates=[{"metric": "log_loss", "at_most": 1}],
    )
    shown = try_loop(loop, capsys, "--fit")
    assert counts(shown) == (100, 100, 0)
    assert (shown["fit"]["logistic"]["kept"], shown["fit"]["logistic"]["error"]) == (True, None)
    assert shown["fit"]["logistic"]["metrics"]["accuracy"] == 1


def test_a_label_may_be_one_of_three_texts(tmp_path: Path, capsys: Capture) -> None:
    rows = changed("y", *(("early", "on time", "late")[n % 10 // 4] for n in range(100)))
    rows[3][-1] = ""
    loop = write_project(
        tmp_path,
        {DELIVERY: as_lines(rows)},
        columns={"y": {"type": "text"}},
        contract={"nulls": [""]},
        data={"classes": ["early", "on time", "late"]},
        train={"function": "fitting:classifiers"},
        gates=[{"metric": "log_loss", "at_most": 1}, {"metric": "f1_macro", "better_than": "dummy"}],
    )
    shown = try_loop(loop, capsys, "--fit")
    assert counts(shown) == (100, 100, 0)
    assert (shown["fit"]["logistic"]["kept"], shown["fit"]["logistic"]["error"]) == (True, None)
    assert shown["fit"]["logistic"]["metrics"]["balanced_accuracy"] > 0.8
    assert shown["warnings"] == [], "a gate that fails is a warning"


@pytest.mark.parametrize("with_contract", [True, False])
def test_parts_of_several_writers_are_one_partition(tmp_path: Path, capsys: Capture, with_contract: bool) -> None:
    source = {"kind": "parquet", "uri": "in/{partition}/*.parquet"}
    loop = write_project(tmp_path, data={"source": source} | ({} if with_contract else {"contract": None}))
    files = {
        "a": parts(id=pa.array(range(50), pa.int32()), x=pa.array([0.5, 1.5] * 25, pa.float32())),
        "b": parts(id=pa.array(range(50, 100)), unit="ns", name=pa.nulls(50)),
        "c": parts(
            id=pa.array(range(100, 150), pa.int16()),
            unit="ms",
            name=pa.array(["b"] * 50, pa.large_string()).dictionary_encode(),
        ),
    }
    write_parts(tmp_path, {f"{FOLDER}/{name}.parquet": rows for name, rows in files.items()})
    shown = try_loop(loop, capsys)
    assert counts(shown) == (150, 150, 0)
    assert shown["features"] == {"name": "str", "x": "float64"}


REGIONS = ("eu", "us", "__HIVE_DEFAULT_PARTITION__")


def write_regions(project: Path) -> None:
    """Write a week in a folder for each region, as Hive does."""
    for place, region in enumerate(REGIONS):
        rows = parts(id=pa.array(range(50 * place, 50 * place + 50)))
        write_parts(project, {f"in/dt=2013-01-13/region={region}/part-0.parquet": rows})


@pytest.mark.parametrize("uri", ["in/dt={partition}/", "in/dt={partition}/*/*.parquet"])
def test_values_in_the_path_are_a_column(tmp_path: Path, capsys: Capture, uri: str) -> None:
    source = {"kind": "parquet", "uri": uri, "path_columns": ["region"]}
    loop = write_project(tmp_path, data={"source": source}, columns={"region": {"type": "text"}})
    write_regions(tmp_path)
    shown = try_loop(loop, capsys)
    assert counts(shown) == (150, 150, 0)
    assert shown["warnings"] == []
    assert shown["features"]["region"] == "str"


@pytest.mark.parametrize("uri", ["in/dt={partition}/", "in/dt={partition}/*.parquet", "in/dt={partition}/*/*.parquet"])
def test_values_in_the_path_are_never_lost_in_silence(tmp_path: Path, capsys: Capture, uri: str) -> None:
    loop = write_project(tmp_path, data={"source": {"kind": "parquet", "uri": uri}})
    write_regions(tmp_path)
    shown = try_loop(loop, capsys)
    words = "; ".join([shown["refused"] or "", *shown["warnings"]])
    assert "region=eu, region=us" in words
    assert "declare data.source.path_columns: [region]" in words
    assert (shown["refused"] is None) == (shown["published"] == 150)


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M:%S+00",
        "%Y-%m-%d %H:%M:%S.123456+00:00",
        "%Y-%m-%dT%H:%M:%S.000Z",
        "%Y-%m-%d %H:%M:%S.000000 UTC",
        "%Y-%m-%d %H:%M:%S.000 +0000",
    ],
)
def test_moments_are_read_as_databases_write_them(tmp_path: Path, capsys: Capture, form: str) -> None:
    moments = [datetime(2013, 1, 7 + n % 6, 10, n % 60, tzinfo=UTC).strftime(form) for n in range(100)]
    shown = try_loop(write_project(tmp_path, {DELIVERY: as_lines(changed("at", *moments))}), capsys)
    assert {name: shown[name] for name in WHOLE} == WHOLE


def test_clocks_without_a_zone_are_refused_with_what_to_declare(tmp_path: Path, capsys: Capture) -> None:
    clocks = [f"{7 + n % 6:02}/01/2013 10:{n % 60:02}" for n in range(100)]
    refused = try_loop(write_project(tmp_path, {DELIVERY: as_lines(changed("at", *clocks))}), capsys)
    assert counts(refused) == (100, 0, 100)
    assert "declare zone or format in the contract" in refused["refused"]
    declared = {"at": {"type": "time", "format": "%d/%m/%Y %H:%M", "zone": "Europe/Berlin"}}
    shown = try_loop(write_project(tmp_path, columns=declared), capsys)
    assert {name: shown[name] for name in WHOLE} == WHOLE


def test_truth_values_are_read_as_postgresql_writes_them(tmp_path: Path, capsys: Capture) -> None:
    rows = changed("name", *("tf"[n % 2] for n in range(99)), "")
    shown = try_loop(
        write_project(tmp_path, {DELIVERY: as_lines(rows)}, columns={"name": {"type": "bool"}}),
        capsys,
    )
    assert shown["features"] == {"name": "boolean", "x": "float64"}
    assert {name: shown[name] for name in WHOLE} == WHOLE


def european() -> bytes:
    """Return a week as a European spreadsheet writes it: titles, another delimiter, decimal commas, a total."""
    rows = [
        [n, at, "Mutter für Bolzen", f"1.{x.replace('.', ',').zfill(5)}", y.replace(".", ",")]
        for n, at, _, x, y in good_rows()
    ]
    text = "Lager Nord\n\n" + as_lines([*rows, ["Summe", "", "", "100.450,0", ""]], delimiter=";")
    return text.encode("cp1252")


def test_a_european_export_is_read_as_it_is_declared(tmp_path: Path, capsys: Capture) -> None:
    source = {
        "kind": "csv",
        "uri": "in/{partition}.csv",
        "delimiter": ";",
        "decimal": ",",
        "thousands": ".",
        "skip_rows": 2,
        "encoding": "cp1252",
    }
    shown = try_loop(write_project(tmp_path, {DELIVERY: european()}, data={"source": source}), capsys)
    assert counts(shown) == (101, 100, 1)
    assert shown["reasons"] == {"id: is no int": 1, "at: is null": 1}


def test_a_european_export_without_a_declaration_is_refused_with_the_likely_mistake(
    tmp_path: Path, capsys: Capture
) -> None:
    text = as_lines(changed("x", "1,5"), delimiter=";")
    shown = try_loop(write_project(tmp_path, {DELIVERY: text}), capsys)
    assert shown["published"] == 0
    assert "is that the delimiter which the file has?" in shown["refused"]


def test_decimal_commas_are_refused_with_what_to_declare(tmp_path: Path, capsys: Capture) -> None:
    text = as_lines(changed("x", *["1,5"] * 100), delimiter=";")
    source = {"kind": "csv", "uri": "in/{partition}.csv", "delimiter": ";"}
    shown = try_loop(write_project(tmp_path, {DELIVERY: text}, data={"source": source}), capsys)
    assert (shown["published"], shown["reasons"]) == (0, {"x: is no float": 100})
    assert "declare decimal or thousands in data.source" in shown["refused"]


def test_a_workbook_keeps_numbers_and_times(tmp_path: Path, capsys: Capture) -> None:
    cells: list[list[Any]] = [
        [int(n), datetime.fromisoformat(at).replace(tzinfo=None), name, float(x), float(y)]
        for n, at, name, x, y in good_rows()
    ]
    book = workbook({"bolts": [list(COLUMNS), *cells, ["Total", None, None, 500, None]]})
    loop = write_project(
        tmp_path,
        {"in/2013-01-13.xlsx": book},
        data={"source": {"kind": "xlsx", "uri": "in/{partition}.xlsx"}},
        columns={"at": {"type": "time", "zone": "Europe/Berlin"}},
    )
    shown = try_loop(loop, capsys)
    assert shown["refused"] is None
    assert counts(shown) == (101, 100, 1)
    assert shown["features"] == {"name": "str", "x": "float64"}


def test_a_row_without_its_time_is_a_bad_row(tmp_path: Path, capsys: Capture) -> None:
    rows = [*good_rows(), ["100", "", "Total", "550.0", "99999.0"]]
    shown = try_loop(write_project(tmp_path, {DELIVERY: as_lines(rows)}), capsys)
    assert counts(shown) == (101, 100, 1)
    assert shown["reasons"] == {"at: is null": 1}


def test_names_that_tables_refuse_are_renamed_or_ignored(tmp_path: Path, capsys: Capture) -> None:
    header = ["id", "at", "partition", "driver's age", "y", "R&D cost", "", "nai\u0308ve"]
    rows = [[*row, "1", "2", "3.5"] for row in good_rows()]
    loop = write_project(
        tmp_path,
        {DELIVERY: as_lines(rows, header=header)},
        contract={"ignore": ["R&D*", ""]},
        columns={
            "name": {"type": "text", "from": "partition"},
            "x": {"type": "float", "from": "driver's age"},
            "naïve": {"type": "float"},
        },
    )
    shown = try_loop(loop, capsys)
    assert {name: shown[name] for name in WHOLE} == WHOLE
    assert shown["features"] == {"name": "str", "x": "float64", "naïve": "float64"}


def test_names_that_differ_in_case_alone_are_a_wrong_declaration(tmp_path: Path, capsys: Capture) -> None:
    loop = write_project(tmp_path, {DELIVERY: as_lines(good_rows())}, columns={"X": {"type": "float"}})
    assert "'x' and 'X' differ only in case" in error_of(loop, capsys)


def test_one_file_of_all_partitions_is_cut_by_its_time(tmp_path: Path, capsys: Capture) -> None:
    start = datetime(2013, 1, 1, tzinfo=UTC)
    rows = [
        [str(n), (start + timedelta(hours=n)).isoformat(), "bolt", f"{n % 10}.5", f"{n * 7 % 11}.0"]
        for n in range(24 * 60)
    ]
    source = {"kind": "csv", "uri": "in/all.csv"}
    loop = write_project(tmp_path, {"in/all.csv": as_lines(rows)}, data={"source": source})
    assert counts(try_loop(loop, capsys, "--partition", "2013-01-20")) == (168, 168, 0)
    newest = try_loop(loop, capsys)
    assert (newest["partition"], newest["published"]) == ("2013-03-03T00:00:00", 144)


@pytest.mark.parametrize(("day", "hours"), [(9, 24), (10, 23), (11, 24)])
def test_a_local_day_has_the_hours_of_its_clock(tmp_path: Path, capsys: Capture, day: int, hours: int) -> None:
    # In New York, the clock of 2013-03-10 jumps from two to three.
    texts = [f"2013-03-{day:02} {hour:02}:30:00" for hour in range(24) if (day, hour) != (10, 2)]
    rows = [[str(n), text, "bolt", f"{n % 10}.5", f"{n * 7 % 11}.0"] for n, text in enumerate(texts)]
    loop = write_project(
        tmp_path,
        {f"in/2013-03-{day:02}.csv": as_lines(rows)},
        data={
            "source": {"kind": "csv", "uri": "in/{start:%Y-%m-%d}.csv"},
            "every": "@daily",
            "from": "2013-03-08",
            "timezone": "America/New_York",
        },
        columns={"at": {"type": "time", "zone": "America/New_York"}},
    )
    end = f"2013-03-{day + 1}T{5 if day < 10 else 4:02}:00:00"
    shown = try_loop(loop, capsys, "--partition", end)
    assert counts(shown) == (hours, hours, 0)
    assert shown["warnings"] == []


def test_files_named_by_the_other_end_of_their_period_are_refused_with_the_placeholder(
    tmp_path: Path, capsys: Capture
) -> None:
    text = as_lines(
        [[str(n), f"2013-01-13T{n % 24:02}:30:00Z", "bolt", f"{n % 10}.5", f"{n * 7 % 11}.0"] for n in range(48)]
    )
    shown = try_loop(write_project(tmp_path, {DELIVERY: text}, data={"every": "@daily"}), capsys)
    assert counts(shown) == (48, 0, 48)
    assert "write {start} there, for example {start:%Y-%m-%d}" in shown["refused"]


def test_another_partition_s_delivery_is_warned_of(tmp_path: Path, capsys: Capture) -> None:
    text = as_lines(good_rows()).replace("2013-01-", "2012-11-")
    shown = try_loop(write_project(tmp_path, {DELIVERY: text}), capsys)
    assert shown["published"] == 100
    assert "100 of 100 rows lie before the partition" in shown["warnings"][0]


def test_a_date_that_is_known_ahead_is_a_feature(tmp_path: Path, capsys: Capture) -> None:
    text = as_lines([[*row, "2013-03-01"] for row in good_rows()], header=[*COLUMNS, "due"])
    refused = try_loop(write_project(tmp_path, {DELIVERY: text}, columns={"due": {"type": "date"}}), capsys)
    assert refused["refused"].startswith("leakage: due lies after the row's time in 100.0% of the rows")
    assert "known_ahead: true" in refused["refused"]
    shown = try_loop(write_project(tmp_path, columns={"due": {"type": "date", "known_ahead": True}}), capsys)
    assert counts(shown) == (100, 100, 0)
    assert "due" in shown["features"]


@pytest.mark.parametrize("named", ["2013-01-16", "2013-01-16T12:00:00"])
def test_a_key_off_the_grid_is_refused_with_the_keys_that_may_be_meant(
    tmp_path: Path, capsys: Capture, named: str
) -> None:
    shown = try_loop(write_project(tmp_path, {DELIVERY: as_lines(good_rows())}), capsys, "--partition", named)
    assert counts(shown) == (0, 0, 0)
    assert "lies in partition 2013-01-20T00:00:00" in shown["refused"]
    assert "the partition before it is 2013-01-13T00:00:00" in shown["refused"]


def write_database(path: Path, rows: list[list[str]]) -> None:
    """Write rows into a table of SQLite, empty values as null."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE bolts (id BIGINT, at TEXT, name TEXT, x DOUBLE, y DOUBLE)")
        values = [[cell or None for cell in row] for row in rows]
        database.executemany("INSERT INTO bolts VALUES (?, ?, ?, ?, ?)", values)
        database.commit()


def write_warehouse(folder: Path, monkeypatch: pytest.MonkeyPatch, query: str, columns: Changed) -> Path:
    """Write a project that reads a query of a database with 1,500 rows, whose x is null in most of them."""
    rows = [[str(n), f"2013-01-{7 + n % 6:02} 10:00:00", "bolt", "", f"{n * 7 % 11}.0"] for n in range(1_500)]
    for row in rows[1_400:]:
        row[3] = "1.5"
    write_database(folder / "warehouse.db", rows)
    connection = {"conn_type": "sqlite", "host": str(folder / "warehouse.db")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    source = {"kind": "sql", "conn_id": "warehouse", "query": query}
    return write_project(folder, data={"source": source}, columns=columns)


def test_a_column_that_begins_with_nulls_has_its_type_from_the_contract(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "SELECT * FROM bolts WHERE at >= :start AND at < :end ORDER BY id"
    loop = write_warehouse(tmp_path, monkeypatch, query, {"at": {"type": "time", "zone": "Europe/London"}})
    shown = try_loop(loop, capsys, "--partition", "2013-01-13")
    assert shown["refused"] is None
    assert counts(shown) == (1_500, 1_500, 0)
    assert shown["features"]["x"] == "float64"


@pytest.mark.parametrize(
    ("query", "part"),
    [
        (
            "WITH gone AS (DELETE FROM bolts WHERE at < :end AND at >= :start RETURNING *) SELECT * FROM gone",
            "DELETE in a WITH",
        ),
        ("SELECT * INTO copied FROM bolts WHERE at >= :start AND at < :end", "INTO"),
    ],
)
def test_a_query_that_can_write_is_a_wrong_declaration(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, query: str, part: str
) -> None:
    loop = write_warehouse(tmp_path, monkeypatch, query, {})
    words = f"data.source.query: the query must be one SELECT that only reads, and it holds {part}"
    assert words in error_of(loop, capsys)


def test_limits_of_a_suite_are_compared_in_the_type_of_their_column(tmp_path: Path, capsys: Capture) -> None:
    rows = [[*row, "" if place == 3 else "2.50"] for place, row in enumerate(good_rows())]
    suite = [
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "at", "min_value": "2013-01-08", "max_value": "2013-12-01"},
        },
        {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "price", "min_value": 1, "max_value": 5}},
    ]
    loop = write_project(
        tmp_path,
        {DELIVERY: as_lines(rows, header=[*COLUMNS, "price"])},
        columns={"price": {"type": "decimal(9, 2)"}},
        suite=suite,
        data={"tolerance": 0.5},
    )
    shown = try_loop(loop, capsys)
    # Seven of 100 rows of each day but one lie before the eighth.
    assert counts(shown) == (100, 83, 17)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"suite": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "size"}}]},
            "suite.yaml: expectations[0].kwargs.column: expect_column_values_to_not_be_null reads 'size'",
        ),
        ({"evaluate": {"slices": ["colour"]}}, "'colour'"),
        ({"notify": {"failed": ["include.nowhere:notifier"]}}, "notify"),
        ({"data": {"from": "2013-02-01", "until": "2013-01-01"}}, "until"),
    ],
)
def test_what_the_files_contradict_is_a_wrong_declaration(
    tmp_path: Path, capsys: Capture, wrong: Changed, words: str
) -> None:
    loop = write_project(tmp_path, {DELIVERY: as_lines(good_rows())}, **wrong)
    assert words in error_of(loop, capsys)


def test_a_partition_may_be_hundreds_of_files(tmp_path: Path, capsys: Capture) -> None:
    files = {f"{FOLDER}/{n:03}.csv": as_lines([row]) for n, row in enumerate(good_rows(300))}
    source = {"kind": "csv", "uri": "in/{partition}/*.csv"}
    shown = try_loop(write_project(tmp_path, files, data={"source": source}), capsys)
    assert counts(shown) == (300, 300, 0)


LABELS = {"source": {"kind": "csv", "uri": "labels/{partition}.csv"}, "delay": 1}


def labels_text(numbers: range) -> str:
    """Return a delivery of labels of rows."""
    return as_lines([[str(n), f"{n * 7 % 11}.0"] for n in numbers], header=["id", "y"])


def test_labels_of_a_source_of_their_own_are_taken_from_every_delivery_that_may_hold_them(
    tmp_path: Path, capsys: Capture
) -> None:
    files = {
        DELIVERY: as_lines([row[:4] for row in good_rows()], header=list(COLUMNS)[:4]),
        "labels/2013-01-13.csv": labels_text(range(90)),
        "labels/2013-01-20.csv": labels_text(range(80, 100)),
    }
    loop = write_project(tmp_path, files, data={"labels": LABELS}, columns={"y": None})
    shown = try_loop(loop, capsys, "--fit")
    assert (shown["published"], shown["fit"]["linear"]["kept"], shown["fit"]["linear"]["error"]) == (100, True, None)
    # The same rows with their labels in them.
    joined = tmp_path / "joined"
    joined.mkdir()
    whole = write_project(joined, {DELIVERY: as_lines(good_rows())})
    assert try_loop(whole, capsys, "--fit")["fit"] == shown["fit"]


def test_labels_that_have_not_come_are_named_with_the_ticks_that_were_searched(tmp_path: Path, capsys: Capture) -> None:
    files = {DELIVERY: as_lines([row[:4] for row in good_rows()], header=list(COLUMNS)[:4])}
    loop = write_project(tmp_path, files, data={"labels": LABELS}, columns={"y": None})
    shown = try_loop(loop, capsys, "--fit")
    assert shown["published"] == 100
    assert shown["fit"]["every candidate"]["error"] == (
        "no labels of 2013-01-13T00:00:00 have come from 2013-01-13T00:00:00 to 2013-01-20T00:00:00: correct "
        "data.labels, or name an older partition with --partition"
    )


def as_file(kind: str, rows: list[list[str]]) -> bytes:
    """Return rows of text as a file of a kind."""
    if kind == "xlsx":
        return workbook({"bolts": [list(COLUMNS), *rows]})
    if kind == "json":
        return "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows).encode()
    return as_lines(rows).encode()


@pytest.mark.parametrize("kind", ["csv", "json", "xlsx"])
def test_files_of_each_kind_may_be_named_by_the_start_of_a_day(tmp_path: Path, capsys: Capture, kind: str) -> None:
    rows = [[str(n), f"2013-01-10T{n % 24:02}:30:00Z", "bolt", f"{n % 10}.5", f"{n * 7 % 11}.0"] for n in range(48)]
    loop = write_project(
        tmp_path,
        {f"in/20130110.{kind}": as_file(kind, rows)},
        data={"source": {"kind": kind, "uri": f"in/{{start:%Y%m%d}}.{kind}"}, "every": "@daily"},
    )
    shown = try_loop(loop, capsys, "--partition", "2013-01-11")
    assert shown["refused"] is None
    assert counts(shown) == (48, 48, 0)
