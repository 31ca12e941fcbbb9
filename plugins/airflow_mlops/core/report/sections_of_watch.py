"""The parts of the page that the watch has found: drift by columns, performance by slices, checks by their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlops.core.report.page_parts import Section, Table
from airflow_mlops.core.report.partition_findings import PartitionFindings
from airflow_mlops.core.report.report_numbers import interval, pairs, table_of

MOST_LINES = 20
MOST_SLICES = 200
COLUMNS = {
    "column": "column", "verdict": "verdict", "distance": "distance", "p_value": "p", "detectable": "detectable",
    "dispersion": "dispersion", "score": "score", "method": "method", "psi": "PSI", "jensen_shannon": "Jensen–Shannon",
    "ks": "KS", "wasserstein": "Wasserstein", "said": "said",
}  # fmt: skip
FINDINGS = {"column": "column", "what": "what", "verdict": "verdict", "said": "said"}
SLICES = {
    "column": "column", "slice": "value", "verdict": "verdict", "rows": "rows", "value": "metric",
    "interval": "interval", "reference": "on the holdout", "worse_by": "worse by", "p_value": "p", "reason": "reason",
}  # fmt: skip


def drift_section(found: PartitionFindings) -> Section | None:
    """Return what was said of the inputs, column by column, the furthest first."""
    drift, report = found.drift, found.reports.get("drift", {})
    if drift is None:
        return None
    numbers = pairs(
        {
            "rows": drift.rows, "rows of the reference": report.get("reference_rows"),
            "rows that the least effect needs": drift.needed, "alarm rate": drift.alarm_rate,
            "least effect": report.get("min_effect"), "engine": report.get("engine"),
            "threshold": report.get("threshold"),
        }
    )  # fmt: skip
    columns = [{**one, "verdict": _verdict(one, "drifted")} for one in report.get("columns", ())]
    columns.sort(key=lambda one: (one["verdict"] != "alarm", -float(one.get("distance") or 0.0), str(one["column"])))
    findings = [{**one, "verdict": _verdict(one, "alarms")} for one in report.get("findings", ())]
    tables = [
        numbers,
        *(table_of(COLUMNS, columns),) * bool(columns),
        *(table_of(FINDINGS, findings),) * bool(findings),
    ]
    return Section("Inputs", (f"{drift.verdict}: {drift.message}",), tuple(tables))


def performance_section(found: PartitionFindings) -> Section | None:
    """Return the metric with its interval against the holdout, and each slice of it."""
    performance, report = found.performance, found.reports.get("performance", {})
    if performance is None:
        return None
    measured = performance.value is not None
    numbers = pairs(
        {
            "metric": performance.metric, "value": performance.value,
            "interval": interval(performance.low, performance.high) if measured else None,
            "on the holdout": performance.reference, "worse by": performance.worse_by, "allowed": performance.limit,
            "p": performance.p_value, "labelled rows": performance.rows, "scored rows": performance.scored,
        }
    )  # fmt: skip
    judged = report.get("slices") or (performance.slices or {}).get("worst", [])
    judged = sorted(judged, key=lambda one: (one["verdict"] != "alarm", -float(one.get("worse_by") or 0.0)))
    more = len(judged) - MOST_SLICES
    slices = [{**one, "interval": interval(one.get("low"), one.get("high"))} for one in judged[:MOST_SLICES]]
    small = sum((report.get("too_small") or {}).values())
    texts = [
        f"{performance.verdict}: {performance.message}",
        *([performance.no_slices] if performance.no_slices else []),
    ]
    if small:
        texts.append(f"{small:,} slices have too few labelled rows to be judged.")
    if more > 0:
        texts.append(f"{more:,} more slices, none of them worse than these, are in the evidence.")
    return Section("Performance", tuple(texts), (numbers, *(table_of(SLICES, slices),) * bool(slices)))


def check_sections(found: PartitionFindings) -> list[Section]:
    """Return what each check said, with the numbers it rests on and the lists of its evidence."""
    sections = []
    for name, check in sorted(found.checks.items()):
        numbers = check.numbers
        tables = [pairs({key.replace("_", " "): value for key, value in numbers.items()})] if numbers else []
        tables += list_tables(found.reports.get(f"check {name}", {}))
        said = f"{check.verdict}: {check.message}"
        sections.append(Section(f"Check: {name.replace('_', ' ')}", (said,), tuple(tables)))
    return sections


def list_tables(report: Mapping[str, Any]) -> list[Table]:
    """Return a table of each list of records in a piece of evidence, of at most ``MOST_LINES`` lines.

    Keys of rows stay where they are: a page is kept, and a subject who is forgotten must not live on in it.
    """
    lists = [value for value in report.values() if isinstance(value, list) and value]
    records = [value[:MOST_LINES] for value in lists if all(isinstance(one, Mapping) for one in value)]
    return [table_of({key: key.replace("_", " ") for one in of for key in one if key != "key"}, of) for of in records]


def _verdict(one: Mapping[str, Any], alarmed: str) -> str:
    """Return the verdict of a column, or of what was found of one."""
    said = one.get("verdict")
    return str(said) if said is not None else "alarm" if one.get(alarmed) else "no alarm"
