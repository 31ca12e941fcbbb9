"""Each failed result has one consequence, by its severity and by whether its rows are known."""

from __future__ import annotations

from itertools import product

from airflow_mlops.core.validation.severities import route, told
from airflow_mlops.core.validation.suite import ExpectationResult


def result(severity: str, *, success: bool = False, by_row: bool = False) -> ExpectationResult:
    rows = (3,) if by_row else ()
    return ExpectationResult("expect_x", "a", severity, success, len(rows), by_row, rows, declared="min_value 1")


def test_every_failed_result_goes_to_exactly_one_place_and_a_success_to_none() -> None:
    results = [
        result(severity, success=success, by_row=by_row)
        for severity, success, by_row in product(("critical", "warning", "info"), (True, False), (True, False))
    ]
    routed = route(results)
    places = [*routed.critical_rows, *routed.critical_whole, *routed.warnings, *routed.infos]
    assert sorted(map(id, places)) == sorted(id(one) for one in results if not one.success)
    assert all(one.severity == "critical" and one.by_row for one in routed.critical_rows)
    assert all(one.severity == "critical" and not one.by_row for one in routed.critical_whole)
    assert {one.severity for one in routed.warnings} == {"warning"}
    assert {one.severity for one in routed.infos} == {"info"}


def test_what_is_told_names_the_column_the_limit_and_the_count() -> None:
    assert told([result("critical", by_row=True)]) == "a: expect_x (min_value 1, 1 row)"
