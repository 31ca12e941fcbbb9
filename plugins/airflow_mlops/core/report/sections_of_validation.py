"""The part of the page that validation has found: what Great Expectations said of the snapshot, and its history."""

from __future__ import annotations

from airflow_mlops.core.report.page_parts import Section
from airflow_mlops.core.report.partition_findings import PartitionFindings
from airflow_mlops.core.report.report_numbers import pairs, table_of

EXPECTATIONS = {
    "type": "expectation", "column": "column", "declared": "declared", "severity": "severity", "verdict": "verdict",
    "unexpected": "rows", "observed": "observed",
}  # fmt: skip
HISTORY = {"check": "check", "column": "column", "severity": "severity", "verdict": "verdict", "words": "said"}


def validation_sections(found: PartitionFindings) -> list[Section]:
    """Return what validation said of the published snapshot, what failed first."""
    report = found.reports.get("validation")
    if report is None:
        return []
    results = [
        {**one, "verdict": "met" if one.get("success") else "failed", "unexpected": one.get("unexpected") or None}
        for one in report.get("expectations", ())
    ]
    results.sort(key=lambda one: one["verdict"] == "met")
    failed = sum(one["verdict"] == "failed" for one in results)
    numbers = pairs(
        {
            "rows that arrived": report.get("rows"), "rows that the contract rejected": report.get(
            "rejected_by_contract"), "rows that expectations found bad": report.get("bad_rows"),
        }
    )  # fmt: skip
    said = f"{failed} of {len(results)} expectations failed." if results else "No expectation is declared."
    sections = [
        Section(
            "Validation (Great Expectations)", (said,), (numbers, *(table_of(EXPECTATIONS, results),) * bool(results))
        )
    ]
    history = [
        {**one, "verdict": {"pass": "met", "fail": "failed"}.get(one["verdict"], one["verdict"])}
        for one in report.get("history", ())
    ]
    if history:
        history.sort(key=lambda one: one["verdict"] == "met")
        sections.append(Section("Validation against the loop's own history", (), (table_of(HISTORY, history),)))
    return sections
