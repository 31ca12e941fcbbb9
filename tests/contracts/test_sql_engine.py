"""``engine: sql``: what a database refuses is not fetched, and everything that is recorded is as with ``engine: local``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.contracts.sales_database import Engines, Sales, ingest, postgres_sales, sqlite_sales, traced
from tests.spark.engines import facts, rows_of
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
]


@pytest.fixture(params=["sqlite", "postgres"])
def sales(request: pytest.FixtureRequest, tmp_path: Path) -> Sales:
    """Return an empty table of sales in a database."""
    is_sqlite = request.param == "sqlite"
    made = sqlite_sales(tmp_path) if is_sqlite else postgres_sales(request.getfixturevalue("postgres_url"))
    made.create()
    return made


def spoil(sales: Sales, change: str, where: str) -> None:
    sales.run(f"UPDATE {sales.table} SET {change} WHERE {where}")


def compare(engines: Engines, number: int) -> str:
    """Ingest a week with both engines, assert that all records and rows are equal, and return the refusal."""
    local, sql = engines.workspace("local"), engines.workspace("sql")
    reasons = [ingest(local, number), ingest(sql, number)]
    assert reasons[1].replace(NOT_FETCHED, IN_QUARANTINE) == reasons[0]
    if NOT_FETCHED not in reasons[1]:
        assert facts(sql) == facts(local)
    else:
        refused = [record.details for workspace in (local, sql) for record in workspace.ledger.records()][-1]
        assert refused.stage == "validation"
    assert rows_of(sql, "snapshots") | {week(number): None} == rows_of(local, "snapshots") | {week(number): None}
    return reasons[1]


@pytest.mark.parametrize("by_query", [False, True], ids=["table", "query"])
def test_the_records_of_both_engines_are_equal(tmp_path: Path, sales: Sales, by_query: bool) -> None:
    engines = Engines(tmp_path, sales, SUITE, by_query=by_query)
    for number in range(GOOD_WEEKS):
        sales.sell(number)
        assert compare(engines, number) == ""

    # Two rows are bad by the suite and one by the contract: they go to quarantine, and a null is a warning.
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
        ("y = y + 100", "n >= 0", "y: expect_column_mean_to_be_between failed for the whole partition; observed 1"),
        ("kind = 'a'", "n >= 0", "one_value: kind: 'a' is 100.0% of the values"),
        ("y = y + 4", "n >= 0", "label: the label's mean is"),
        ("y = NULL", "n >= 0", "y: expect_column_mean_to_be_between failed"),
    ],
)
def test_what_the_suite_or_the_history_refuses_leaves_nothing_in_the_lake(
    tmp_path: Path, sales: Sales, change: str, where: str, reason: str
) -> None:
    engines = Engines(tmp_path, sales, SUITE, {"checks": {"at_least": GOOD_WEEKS, "one_value": "critical"}})
    for number in range(GOOD_WEEKS):
        sales.sell(number)
        compare(engines, number)
    sales.sell(3)
    spoil(sales, change, f"id LIKE '3-%' AND {where}")
    assert compare(engines, 3).startswith(reason)
    sql = engines.workspace("sql")
    assert week(3) not in [*sql.snapshots.partitions(), *sql.quarantine.partitions()]
