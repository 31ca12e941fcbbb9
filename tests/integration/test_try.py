"""``airflow-mlops try``: what a loop would make of a partition, with nothing kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops.cli import main
from tests.integration.try_project import try_loop

KEY = "2013-01-13T00:00:00"
LOOP = """\
model: bolts
owner: warehouse
data:
  source: {kind: csv, uri: "in/{partition}.csv", delimiter: ";", decimal: ",", encoding: cp1252, skip_rows: 1}
  every: "@weekly"
  from: 2013-01-06
  contract: contract.yaml
  key: id
  time: at
  label: y
  tolerance: 0.1
train: {function: "candidates:candidates"}
gates:
  - {metric: mae, at_most: 0.5}
"""
CONTRACT = """\
contract: bolts
key: id
time: at
columns:
  id: {type: int, nullable: false}
  at: {type: time, zone: Europe/Berlin, format: "%d.%m.%Y %H:%M"}
  name: {type: text}
  size: {type: float}
  y: {type: float}
"""
CANDIDATES = """\
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer


def candidates(seed):
    numbers = make_column_transformer(("passthrough", ["size"]))
    return {
        "linear": make_pipeline(numbers, LinearRegression()),
        "own": make_pipeline(numbers, FunctionTransformer(abs), LinearRegression()),
        "wrong": make_pipeline(make_column_transformer(("passthrough", ["length"])), LinearRegression()),
    }
"""


def lines(count: int = 100) -> list[str]:
    """Return the lines of a week as a European spreadsheet writes them."""
    return [
        f'{n};{7 + n % 6:02}.01.2013 10:{n % 60:02};"Schraube für ""M{n}""";{n % 10},5;{3 * (n % 10) + 1},5'
        for n in range(count)
    ]


def write_project(folder: Path, rows: list[str], *, loop: str = LOOP) -> Path:
    """Write a project with one week, and return the path of its declaration."""
    (folder / "in").mkdir()
    (folder / "loop.yaml").write_text(loop)
    (folder / "contract.yaml").write_text(CONTRACT)
    (folder / "candidates.py").write_text(CANDIDATES)
    text = "\n".join(["Lager Nord", "id;at;name;size;y", *rows]) + "\n"
    (folder / "in" / "2013-01-13.csv").write_bytes(text.encode("cp1252"))
    return folder / "loop.yaml"


def test_the_newest_partition_is_published_and_its_bad_rows_are_listed_by_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines()
    rows[3] = rows[3].replace('"Schraube', '"Schraube" ')
    rows[4] = rows[4].replace(",5;", ",5 mm;")
    rows[5] = rows[5].replace("2013 10", "2013 25")
    shown = try_loop(write_project(tmp_path, rows), capsys)
    assert shown == {
        "partition": KEY,
        "rows_in": 100,
        "published": 97,
        "quarantined": 3,
        "refused": None,
        "reasons": {
            "size: is no float": 1,
            "at: is no time with a zone": 1,
            "has text behind the quote that closes a value; write a quote within a value twice": 1,
        },
        "warnings": [],
        "waits": [
            "shadow_100: 97 of the 97 rows of a partition are in its share, so min_rows (100) takes 2 partitions; "
            "min_rows: 97 would take one",
            "canary_10: 9 of the 97 rows of a partition are in its share, so min_rows (100) takes 12 partitions; "
            "min_rows: 9 would take one",
            "canary_50: 48 of the 97 rows of a partition are in its share, so min_rows (100) takes 3 partitions; "
            "min_rows: 48 would take one",
        ],
        "features": {"name": "str", "size": "float64"},
        "fit": {},
    }


def test_with_a_fit_every_candidate_is_fitted_saved_and_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = try_loop(write_project(tmp_path, lines()), capsys, "--fit", "--partition", "2013-01-13")["fit"]
    assert set(fit) == {"linear", "own", "wrong"}
    assert (fit["linear"]["kept"], fit["linear"]["error"]) == (True, None)
    assert fit["linear"]["metrics"]["mae"] < 1e-6
    assert (fit["own"]["kept"], fit["own"]["metrics"]) == (False, {})
    assert "not trusted" in fit["own"]["error"]
    assert (fit["wrong"]["kept"], fit["wrong"]["metrics"]) == (False, {})
    assert "raised" in fit["wrong"]["error"]


def test_a_partition_that_is_refused_says_why_and_publishes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [line.replace(",5;", ";") if n % 3 else line for n, line in enumerate(lines())]
    rows[:40] = [line.replace("2013", "13") for line in rows[:40]]
    shown = try_loop(write_project(tmp_path, rows), capsys, "--fit")
    assert shown["refused"].startswith("40 of 100 rows are bad (40.00%); the declared tolerance is 10.00%")
    assert (shown["rows_in"], shown["published"], shown["quarantined"]) == (100, 0, 40)
    assert shown["reasons"] == {"at: is no time with a zone": 40}
    assert (shown["features"], shown["fit"]) == ({}, {})


def test_where_there_is_no_partition_the_ticks_that_were_searched_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = write_project(
        tmp_path, lines(), loop=LOOP.replace("from: 2013-01-06", "from: 2013-01-20\n  until: 2013-02-03")
    )
    shown = try_loop(loop, capsys)
    assert shown["refused"] == (
        "no partition from 2013-01-20T00:00:00 to 2013-02-03T00:00:00 is there: correct data.source, or name a "
        "partition with --partition"
    )
    named = try_loop(loop, capsys, "--partition", "2013-01-27")
    assert named["refused"] == "partition 2013-01-27T00:00:00: in/2013-01-27.csv is not there yet"


def test_a_wrong_declaration_is_an_error_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = write_project(tmp_path, lines(), loop=LOOP.replace("candidates:candidates", "candidates:nothing"))
    assert main(["try", str(loop), "--root", str(tmp_path), "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "train.function" in shown.err


def test_a_person_sees_rows_reasons_columns_and_gates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = lines()
    rows[4] = rows[4].replace(",5;", ",5 mm;")
    loop = write_project(tmp_path, rows, loop=LOOP.replace("at_most: 0.5", "at_least: 0.5"))
    assert main(["try", str(loop), "--root", str(tmp_path), "--fit"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "rows in      100",
        "size: is no float",
        "key 4: size: '4,5 mm' is no float",
        "size                     float64",
        "candidate    linear: can be kept",
        "gate fail",
        "warning      candidate linear does not pass the gates",
    ):
        assert words in shown, words


def test_the_newest_partition_of_one_file_is_that_of_its_newest_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = LOOP.replace("in/{partition}.csv", "in/2013-01-13.csv").replace("@weekly", "@daily")
    shown = try_loop(write_project(tmp_path, lines(), loop=declared), capsys)
    assert (shown["partition"], shown["refused"]) == ("2013-01-13T00:00:00", None)
    assert shown["rows_in"] == shown["published"] == sum(n % 6 == 5 for n in range(100))
