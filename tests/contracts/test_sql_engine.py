"""``engine: sql``: what a database refuses is not fetched, and what is recorded is as with ``engine: local``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from airflow_mlops.core.errors import SourceUnreachableError
from airflow_mlops.core.validation.gx_validator import GxValidator
from airflow_mlops.core.validation.judge_in_database import take_judged_snapshot
from airflow_mlops.core.validation.suite import Expectation, ExpectationResult
from airflow_mlops.core.validation.validate_snapshot import validate_snapshot
from airflow_mlops.core.workspace import Workspace
from tests.contracts.sales_database import COLUMNS, Engines, Sales, ingest, postgres_sales, sqlite_sales, traced
from tests.same_records import facts, rows_of
from tests.unit.core.toy_loop import week

GOOD_WEEKS = 3
NOT_FETCHED = "all of them are in the database, and no row was fetched"
IN_QUARANTINE = "all of them are in quarantine"


def expect(name: str, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{name}", "kwargs": kwargs, "severity": severity}


SUITE = [
    expect("column_values_to_be_between", column="x", min_value=-50, max_value=50),
    expect("column_values_to_be_in_set", column="kind", value_set=["a", "b", "c"]),
    expect("column_mean_to_be_between", column="y", min_value=-5, max_value=5),
    expect("table_row_count_to_be_between", min_value=20, max_value=10_000),
    expect("column_values_to_not_be_null", "warning", column="kind"),
    expect("column_values_to_be_between", "info", column="at", min_value="2012-01-01"),
]


CHECKS = {"at_least": GOOD_WEEKS, "one_value": "critical", "label": "critical"}


def fill(engines: Engines) -> None:
    """Publish the good weeks with both engines."""
    for number in range(GOOD_WEEKS):
        engines.sales.sell(number)
        assert compare(engines, number) == ""


@pytest.fixture(params=["sqlite", "postgres"])
def sales(request: pytest.FixtureRequest, tmp_path: Path) -> Sales:
    """Return an empty table of sales in a database."""
    is_sqlite = request.param == "sqlite"
    made = sqlite_sales(tmp_path) if is_sqlite else postgres_sales(request.getfixturevalue("postgres_url"))
    made.create()
    return made


def spoil(sales: Sales, change: str, where: str) -> None:
    sales.run(f"UPDATE {sales.table} SET {change} WHERE {where}")


def normal(reason: str) -> str:
    """Return a reason as it would be of fetched rows, with sums of floats to ten digits."""
    return re.sub(r"\d+\.\d{10,}", lambda match: f"{float(match[0]):.10g}", reason.replace(NOT_FETCHED, IN_QUARANTINE))


def compare(engines: Engines, number: int) -> str:
    """Ingest a week with both engines, assert that all records and rows are equal, and return the refusal."""
    local, sql = engines.workspace("local"), engines.workspace("sql")
    reasons = [ingest(local, number), ingest(sql, number)]
    assert normal(reasons[1]) == normal(reasons[0])
    ledgers = [facts(workspace) for workspace in (local, sql)]
    if reasons[0] != reasons[1]:
        # Where a refusal has other last digits, or another last clause, so has its operation, which is made of it.
        refusals = [ledger.pop() for ledger in ledgers]
        assert [refusal[1] for refusal in refusals] == ["partition_refused"] * 2
        assert [refusal[3] for refusal in refusals] == [week(number)] * 2
        assert [refusal[5]["stage"] for refusal in refusals] == ["validation"] * 2
    assert ledgers[1] == ledgers[0]
    return reasons[1]


def assert_nothing_was_written(workspace: Workspace, number: int) -> None:
    assert week(number) not in [*workspace.snapshots.partitions(), *workspace.quarantine.partitions()]


@pytest.mark.parametrize("by_query", [False, True], ids=["table", "query"])
def test_the_records_of_both_engines_are_equal(tmp_path: Path, sales: Sales, by_query: bool) -> None:
    engines = Engines(tmp_path, sales, SUITE, by_query=by_query)
    fill(engines)

    # Two rows are bad by the suite: they go to quarantine, and a null is a warning.
    sales.sell(3)
    spoil(sales, "x = 1000", "id IN ('3-1', '3-2')")
    spoil(sales, "kind = NULL", "id = '3-7'")
    assert compare(engines, 3) == ""
    published = engines.workspace("sql").state().published[week(3)]
    assert (published.rows, published.quarantined) == (118, 2)
    assert published.warnings == ("kind: expect_column_values_to_not_be_null (1 row)",)
    local, sql = engines.workspace("local"), engines.workspace("sql")
    assert rows_of(sql, "quarantine") == rows_of(local, "quarantine")
    assert rows_of(sql, "snapshots") == rows_of(local, "snapshots")
    assert sql.evidence.get(str(published.report)) == local.evidence.get(str(published.report))


@pytest.mark.parametrize(
    ("change", "where", "reason"),
    [
        ("x = 1000", "n < 20", "20 of 120 rows are bad (16.67%)"),
        ("x = 1000, kind = 'z'", "n < 20", "20 of 120 rows are bad (16.67%)"),
        ("y = y + 100", "n >= 0", "y: expect_column_mean_to_be_between failed for the whole partition; observed 1"),
        ("at = '2001-01-01 00:00:00'", "n > 9", "expect_table_row_count_to_be_between failed for the whole partition"),
        ("kind = 'a'", "n >= 0", "one_value: kind: 'a' is 100.0% of the values"),
        ("y = y + 3", "n >= 0", "label: the label's mean is"),
        ("n = NULL", "n >= 0", "empty: n: none of the 120 rows holds a value"),
    ],
)
def test_what_the_suite_or_the_history_refuses_leaves_nothing_in_the_lake(
    tmp_path: Path, sales: Sales, change: str, where: str, reason: str
) -> None:
    engines = Engines(tmp_path, sales, SUITE, {"checks": CHECKS})
    fill(engines)
    sales.sell(GOOD_WEEKS)
    spoil(sales, change, f"id LIKE '{GOOD_WEEKS}-%' AND {where}")
    assert compare(engines, GOOD_WEEKS).startswith(reason)
    assert_nothing_was_written(engines.workspace("sql"), GOOD_WEEKS)
    # The same week, delivered well, is published by either; only the local engine kept a version of what it refused.
    sales.run(f"DELETE FROM {sales.table} WHERE id LIKE '{GOOD_WEEKS}-%'")
    sales.sell(GOOD_WEEKS)
    published = []
    for engine in ("local", "sql"):
        assert ingest(engines.workspace(engine), GOOD_WEEKS) == ""
        published.append(engines.workspace(engine).state().published[week(GOOD_WEEKS)])
    local, sql = published
    assert (sql.digest, sql.report, sql.profile, sql.bins) == (local.digest, local.report, local.profile, local.bins)
    assert sql.version < local.version


@pytest.mark.parametrize(
    ("change", "suite", "reason"),
    [
        ("id = '3-1' WHERE id IN ('3-1', '3-2', '3-3', '3-4', '3-5', '3-6', '3-7', '3-8')", SUITE, "8 of 120 rows are"),
        ("id = NULL WHERE id LIKE '3-1%'", SUITE, "31 of 120 rows are bad"),
        ("y = NULL WHERE id LIKE '3-%'", SUITE, "y: expect_column_mean_to_be_between failed"),
        ("x = 1000 WHERE id LIKE '3-2%'", [*SUITE, expect("column_min_to_be_between", column="at")], "expect"),
        ("kind = 'z' WHERE id LIKE '3-1%'", [], ""),
    ],
    ids=["keys repeat", "no key", "no value", "a time", "no suite"],
)
def test_what_only_the_rows_can_tell_is_judged_on_the_rows(
    tmp_path: Path, sales: Sales, change: str, suite: list[dict[str, Any]], reason: str
) -> None:
    engines = Engines(tmp_path, sales, suite)
    fill(engines)
    sales.sell(GOOD_WEEKS)
    sales.run(f"UPDATE {sales.table} SET {change}")
    assert reason in compare(engines, GOOD_WEEKS)


def test_columns_of_another_name_masked_columns_and_a_key_of_two_columns_are_judged_alike(
    tmp_path: Path, sales: Sales
) -> None:
    columns = {name: rule for name, rule in COLUMNS.items() if name != "kind"}
    columns |= {"sort": {"type": "text", "from": "kind", "mask": True}}
    suite = [expect("column_values_to_not_be_null", column="sort"), SUITE[0], SUITE[2]]
    engines = Engines(tmp_path, sales, suite, {"key": ["id", "n"], "checks": CHECKS}, columns)
    fill(engines)
    sales.sell(GOOD_WEEKS)
    spoil(sales, "id = '3-1'", "id = '3-2'")  # another row of this name, with another n
    spoil(sales, "kind = NULL", "id = '3-9'")
    assert compare(engines, GOOD_WEEKS) == ""
    sales.sell(GOOD_WEEKS + 1)
    spoil(sales, "kind = NULL", "id LIKE '4-2%'")
    assert compare(engines, GOOD_WEEKS + 1).startswith("11 of 120 rows are bad")
    assert_nothing_was_written(engines.workspace("sql"), GOOD_WEEKS + 1)


def test_rows_that_the_contract_refuses_are_not_among_those_that_the_suite_judges(tmp_path: Path, sales: Sales) -> None:
    levels = {"kind": {"type": "category", "levels": ["a", "b", "c"], "unseen": "error"}}
    engines = Engines(tmp_path, sales, SUITE, {"checks": CHECKS}, {**COLUMNS, **levels})
    fill(engines)
    # They would break the mean if they were, and are few enough for the quarantine.
    sales.sell(GOOD_WEEKS)
    spoil(sales, "kind = 'z', y = 100000", "id IN ('3-1', '3-2')")
    assert compare(engines, GOOD_WEEKS) == ""
    assert engines.workspace("sql").state().published[week(GOOD_WEEKS)].quarantined == 2
    # What refuses the good rows leaves the others in the database, too.
    sales.sell(GOOD_WEEKS + 1)
    spoil(sales, "y = y + 3", "id LIKE '4-%'")
    spoil(sales, "kind = 'z', y = 100000", "id IN ('4-1', '4-2')")
    assert compare(engines, GOOD_WEEKS + 1).startswith("label: the label's mean is")
    assert_nothing_was_written(engines.workspace("sql"), GOOD_WEEKS + 1)
    # Too many of both kinds are refused where they are read, with the most frequent reason of all.
    sales.sell(GOOD_WEEKS + 2)
    spoil(sales, "x = 1000", "id LIKE '5-1%'")
    spoil(sales, "kind = 'z'", "id IN ('5-2', '5-3')")
    assert compare(engines, GOOD_WEEKS + 2).startswith("33 of 120 rows are bad")


def test_a_week_that_changed_is_judged_again_before_it_replaces_what_was_published(
    tmp_path: Path, sales: Sales
) -> None:
    engines = Engines(tmp_path, sales, SUITE)
    fill(engines)
    spoil(sales, "y = y + 1", "id = '1-1'")
    assert compare(engines, 1) == ""
    published = engines.workspace("sql").state().published[week(1)]
    assert published.publication == 2
    spoil(sales, "x = 1000", "id LIKE '1-%'")
    assert compare(engines, 1).startswith("120 of 120 rows are bad")
    workspace = engines.workspace("sql")
    assert workspace.state().published[week(1)] == published
    assert workspace.snapshots.read(week(1)).num_rows == 120


def test_the_rows_leave_their_database_once_and_only_if_they_are_accepted(tmp_path: Path) -> None:
    sales = sqlite_sales(tmp_path)
    sales.create()
    engines = Engines(tmp_path, sales, SUITE)
    for number, shift in enumerate((0.0, 1000.0)):
        sales.sell(number, shift=shift)
        with traced(sales) as (connect, statements):
            reason = ingest(engines.workspace("sql", connect), number)
        fetching = [text for text in statements if text.startswith("SELECT *") and "1 = 0" not in text]
        assert (bool(reason), len(fetching)) == (number == 1, 1 - number)
        assert [text for text in statements if text.startswith("WITH")]


def test_an_expectation_that_was_met_in_the_database_is_not_checked_again(tmp_path: Path, sales: Sales) -> None:
    engines = Engines(tmp_path, sales, [*SUITE, expect("column_sum_to_be_between", column="x", min_value=-(10**6))])
    sales.sell(0)
    spoil(sales, "x = 99", "id = '0-3'")
    workspace = engines.workspace("sql")
    manifest = take_judged_snapshot(workspace, week(0))
    assert set(range(1, len(SUITE) + 1)) - set(manifest.passed) == ({5} if sales.is_sqlite else set())
    checked: list[str] = []

    class Listening(GxValidator):
        def check(self, rows: pa.Table, expectations: Sequence[Expectation]) -> list[ExpectationResult]:
            checked.extend(expectation.type for expectation in expectations)
            return super().check(rows, expectations)

    assert validate_snapshot(workspace, manifest, Listening()).quarantined == 1
    assert checked == ["expect_column_values_to_be_between"] * (2 if sales.is_sqlite else 1)

    # Another suite is checked whole: what was met is no answer to it.
    checked.clear()
    engines.suite = SUITE
    validate_snapshot(engines.workspace("sql"), manifest, Listening())
    assert len(checked) == len(SUITE)


def hooked(sales: Sales, hook: Callable[[psycopg.Connection[Any]], None]) -> Callable[[], Any]:
    """Return a function that connects to PostgreSQL and calls a hook once, when a query was answered."""
    left = [hook]

    class Hooked(psycopg.Cursor[Any]):
        def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
            result = super().execute(query, *args, **kwargs)
            if str(query).startswith("WITH") and left:
                left.pop()(self.connection)
            return result

    def connect() -> Any:
        connection = sales.connect()
        connection.cursor_factory = Hooked
        return connection

    return connect


def test_rows_that_change_between_the_suite_and_the_fetch_are_not_seen(tmp_path: Path, postgres_url: str) -> None:
    sales = postgres_sales(postgres_url)
    sales.create()
    engines = Engines(tmp_path, sales, SUITE)
    sales.sell(0)
    assert ingest(engines.workspace("local"), 0) == ""
    connect = hooked(sales, lambda _: spoil(sales, "x = 1000", "n >= 0"))
    assert ingest(engines.workspace("sql", connect), 0) == ""
    assert facts(engines.workspace("sql")) == facts(engines.workspace("local"))


def test_a_database_that_goes_away_in_the_middle_is_tried_again(tmp_path: Path, postgres_url: str) -> None:
    sales = postgres_sales(postgres_url)
    sales.create()
    engines = Engines(tmp_path, sales, SUITE)
    sales.sell(0)

    def cut(connection: psycopg.Connection[Any]) -> None:
        sales.run(f"SELECT pg_terminate_backend({connection.info.backend_pid})")

    with pytest.raises(SourceUnreachableError, match="does not answer"):
        ingest(engines.workspace("sql", hooked(sales, cut)), 0)
    workspace = engines.workspace("sql")
    assert list(workspace.ledger.records()) == []
    assert_nothing_was_written(workspace, 0)
    assert ingest(workspace, 0) == ""
