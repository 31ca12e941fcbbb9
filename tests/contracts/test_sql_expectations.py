"""Each expectation that a database judges has the verdict and the counts that it has on the rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from airflow_mlops.core.check_declaration import check_suite
from airflow_mlops.core.data.rows_in_database import RowsInDatabase
from airflow_mlops.core.data.take_snapshot import take_snapshot
from airflow_mlops.core.errors import DeclarationError
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.sql_expectations import BY_ROW, OF_ALL, evaluate_suite
from airflow_mlops.core.validation.suite import Expectation
from tests.contracts.sales_database import COLUMNS, Engines, Sales, postgres_sales, sqlite_sales
from tests.unit.core.toy_loop import week


def expect(name: str, **kwargs: Any) -> Expectation:
    return Expectation(type=f"expect_{name}", kwargs=kwargs)


def values(name: str, column: str, **kwargs: Any) -> Expectation:
    return expect(f"column_values_to_{name}", column=column, **kwargs)


BOUNDS: list[dict[str, Any]] = [
    {"min_value": 0},
    {"max_value": 0},
    {"min_value": 5, "max_value": 50},
    {"min_value": 5.0, "max_value": 50, "strict_min": True},
    {"min_value": -1.5, "max_value": 119, "strict_max": True},
]
SHARES: list[dict[str, Any]] = [{}, {"mostly": 0.9}, {"mostly": 0.2}, {"mostly": 1}]
ROW_EXPECTATIONS = [
    *(values("be_between", column, **bounds, **share) for column in "xny" for bounds in BOUNDS for share in SHARES),
    *(values(name, column) for name in ("be_null", "not_be_null") for column in COLUMNS),
    *(values("not_be_null", "kind", **share) for share in SHARES),
    *(values("be_null", "kind", **share) for share in SHARES),
    *(values("be_unique", column, **share) for column in COLUMNS for share in SHARES if column != "at"),
    *(
        values(name, "kind", value_set=members, **share)
        for name in ("be_in_set", "not_be_in_set")
        for members in (
            ["a", "b"],
            ["it's", "50 %", ":start"],
            ["A"],
            ["a", "b", "c", "ü", "it's", "50 %", ":start", "A"],
        )
        for share in SHARES
    ),
    *(values(name, "n", value_set=[1, 2.0, 3]) for name in ("be_in_set", "not_be_in_set")),
    *(expect("column_value_lengths_to_equal", column="kind", value=1, **share) for share in SHARES),
    expect("column_value_lengths_to_be_between", column="kind", min_value=1, max_value=3),
    expect("column_value_lengths_to_be_between", column="kind", max_value=6),
]
TIMES = [values("be_between", "at", min_value="2013-01-05"), values("be_between", "at", max_value="2013-01-05 01:00")]
WHOLE_EXPECTATIONS = [
    *(
        expect(f"column_{name}_to_be_between", column=column, **bounds)
        for name in ("min", "max", "mean", "sum")
        for column in "xny"
        for bounds in BOUNDS
    ),
    *(expect("column_unique_value_count_to_be_between", column=column, **BOUNDS[2]) for column in COLUMNS),
    expect("column_unique_value_count_to_be_between", column="kind", min_value=8, max_value=8),
    expect("table_row_count_to_be_between", min_value=1, max_value=119),
    expect("table_row_count_to_equal", value=119),
    expect("table_row_count_to_equal", value=120),
]


@pytest.fixture(params=["sqlite", "psycopg", "psycopg2"])
def engines(request: pytest.FixtureRequest, tmp_path: Path) -> Engines:
    """Return a declaration over a week with nulls, repeated values, and texts that a query might misread."""
    is_sqlite = request.param == "sqlite"
    sales = (
        sqlite_sales(tmp_path)
        if is_sqlite
        else (postgres_sales(request.getfixturevalue("postgres_url"), import_module(request.param)))
    )
    sales.create()
    sales.sell(0)
    for number, kind in enumerate(("ü", "it''s", "50 %", ":start", "A", "", None)):
        text = "NULL" if kind is None else f"'{kind}'"
        sales.run(f"UPDATE {sales.table} SET kind = {text} WHERE n % 11 = {number}")
    sales.run(f"UPDATE {sales.table} SET x = NULL WHERE n IN (3, 4)")
    sales.run(f"UPDATE {sales.table} SET y = 7.25 WHERE n IN (5, 6, 7)")
    sales.run(f"UPDATE {sales.table} SET n = NULL WHERE n = 9")
    return Engines(tmp_path, sales)


def answers_and_results(engines: Engines, expectations: list[Expectation]) -> Iterator[tuple[Any, Any]]:
    """Yield the answer of the database to each expectation, None without one, and the result on the rows."""
    answers: list[Any] = []

    def judge(rows: RowsInDatabase) -> tuple[tuple[int, ...], str]:
        answers.append(evaluate_suite(rows, expectations, 120))
        return (), ""

    workspace = engines.workspace("sql")
    manifest = take_snapshot(workspace, week(0), judge=judge)
    results = GxValidator().check(workspace.snapshots.read(week(0), version=manifest.version), expectations)
    for number, result in enumerate(results):
        yield answers[0].results.get(number), result


def test_rows_are_judged_as_on_the_rows(engines: Engines) -> None:
    pairs = list(answers_and_results(engines, ROW_EXPECTATIONS))
    for answer, result in pairs:
        assert answer == replace(result, rows=())
    assert {result.success for _, result in pairs} == {True, False}


def test_times_are_judged_by_a_database_that_has_them(engines: Engines) -> None:
    for answer, result in answers_and_results(engines, TIMES):
        assert answer == (None if engines.sales.is_sqlite else replace(result, rows=()))


def test_figures_of_all_rows_are_judged_as_on_the_rows(engines: Engines) -> None:
    for answer, result in answers_and_results(engines, WHOLE_EXPECTATIONS):
        assert replace(answer, observed="") == replace(result, observed="")
        if not result.success:
            assert float(answer.observed) == pytest.approx(float(result.observed), rel=1e-12)


def test_a_sum_at_its_limit_is_left_to_the_rows(engines: Engines) -> None:
    workspace = engines.workspace("sql")
    rows = workspace.snapshots.read(week(0), version=take_snapshot(workspace, week(0)).version)
    total = sum(value for value in rows.column("y").to_pylist())
    for answer, _ in answers_and_results(engines, [expect("column_sum_to_be_between", column="y", min_value=total)]):
        assert answer is None


def test_the_tables_name_what_is_compared_here() -> None:
    compared = {expectation.type for expectation in (*ROW_EXPECTATIONS, *WHOLE_EXPECTATIONS)}
    assert compared == BY_ROW.keys() | OF_ALL.keys()


@pytest.mark.parametrize(
    ("expectation", "words"),
    [
        (
            {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "id", "regex": "^[0-9]+$"}},
            [
                "suite.yaml:1: ",
                "expectations[0].type",
                "expect_column_values_to_match_regex is judged by a database otherwise than on the rows",
            ],
        ),
        (
            {
                "type": "expect_column_values_to_not_be_null",
                "kwargs": {"column": "x", "catch_exceptions": True},
            },
            ["expectations[0].kwargs", "no database judges with catch_exceptions", "declare engine: local"],
        ),
    ],
)
def test_what_no_database_judges_is_refused_where_it_is_declared(
    tmp_path: Path, expectation: dict[str, Any], words: list[str]
) -> None:
    engines = Engines(tmp_path, Sales(lambda: None, is_sqlite=True), [expectation])
    check_suite(engines.workspace("local").loop, tmp_path)
    with pytest.raises(DeclarationError) as refused:
        check_suite(engines.workspace("sql").loop, tmp_path)
    assert [word for word in words if word not in str(refused.value)] == []
