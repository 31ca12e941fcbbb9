"""The sections of the page about validation: the results of Great Expectations, and of the checks against history."""

from __future__ import annotations

from airflow_mlops.core.report.page_parts import Section
from airflow_mlops.core.report.partition_findings import PartitionFindings
from airflow_mlops.core.report.report_numbers import table_of, value_table

EXPECTATIONS = {
    "type": "expectation",
    "column": "column",
    "declared": "declared",
    "severity": "severity",
    "verdict": "verdict",
    "unexpected": "rows",
    "observed": "observed",
}
HISTORY = {"check": "check", "column": "column", "severity": "severity", "verdict": "verdict", "words": "message"}


def validation_sections(findings: PartitionFindings) -> list[Section]:
    """Return the sections about the validation of the published snapshot, failures first."""
    report = findings.reports.get("validation")
    if report is None:
        return []
    results = [
        {**entry, "verdict": "met" if entry.get("success") else "failed", "unexpected": entry.get("unexpected") or None}
        for entry in report.get("expectations", ())
    ]
    results.sort(key=lambda entry: entry["verdict"] == "met")
    failed = sum(entry["verdict"] == "failed" for entry in results)
    numbers = value_table(
        {
            "rows that arrived": report.get("rows"),
            "rows that the contract rejected": report.get("rejected_by_contract"),
            "rows that expectations found bad": report.get("bad_rows"),
        }
    )
    sentence = f"{failed} of {len(results)} expectations failed." if results else "No expectation is declared."
    sections = [
        Section(
            "Validation (Great Expectations)",
            (sentence,),
            (numbers, *(table_of(EXPECTATIONS, results),) * bool(results)),
        )
    ]
    history = [
        {**entry, "verdict": {"pass": "met", "fail": "failed"}.get(entry["verdict"], entry["verdict"])}
        for entry in report.get("history", ())
    ]
    if history:
        history.sort(key=lambda entry: entry["verdict"] == "met")
        sections.append(Section("Validation against the loop's own history", (), (table_of(HISTORY, history),)))
    return sections
