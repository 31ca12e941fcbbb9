"""Each failed result has one consequence, by its severity and by whether its rows are known."""

from __future__ import annotations

from itertools import product

from airflow_mlops.core.validation.severities import route_failures, summarise_results
from airflow_mlops.core.validation.suite import ExpectationResult


def result(severity: str, *, success: bool = False, by_row: bool = False) -> ExpectationResult:
    rows = (3,) if by_row else ()
    return ExpectationResult("expect_x", "a", severity, success, len(rows), by_row, rows, declared="min_value 1")


def test_every_failed_result_goes_to_exactly_one_place_and_a_success_to_none() -> None:
    results = [
        result(severity, success=success, by_row=by_row)
        for severity, success, by_row in product(("critical", "warning", "info"), (True, False), (True, False))
    ]
    routed = route_failures(results)
    places = [*routed.critical_rows, *routed.critical_whole, *routed.warnings, *routed.infos]
    assert sorted(map(id, places)) == sorted(id(item) for item in results if not item.success)
    assert all(item.severity == "critical" and item.by_row for item in routed.critical_rows)
    assert all(item.severity == "critical" and not item.by_row for item in routed.critical_whole)
    assert {item.severity for item in routed.warnings} == {"warning"}
    assert {item.severity for item in routed.infos} == {"info"}


def test_a_summary_names_the_column_the_limit_and_the_count() -> None:
    assert summarise_results([result("critical", by_row=True)]) == "a: expect_x (min_value 1, 1 row)"
