"""The sections of the page about the watch: drift by columns, performance by slices, checks by their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_mlops.core.charts.bar_chart import Bar, bar_chart
from airflow_mlops.core.charts.distance_strip import Strip, distance_strips
from airflow_mlops.core.charts.metric_chart import MetricPoint, metric_chart
from airflow_mlops.core.report.page_parts import Section, Table
from airflow_mlops.core.report.partition_findings import PartitionFindings
from airflow_mlops.core.report.report_numbers import format_interval, table_of, value_table

MOST_LINES = 20
MOST_SLICES = 200
COLUMNS = {
    "column": "column",
    "verdict": "verdict",
    "distance": "distance",
    "p_value": "p",
    "detectable": "detectable",
    "dispersion": "dispersion",
    "score": "score",
    "method": "method",
    "psi": "PSI",
    "jensen_shannon": "Jensen–Shannon",
    "ks": "KS",
    "wasserstein": "Wasserstein",
    "message": "message",
}
FINDINGS = {"column": "column", "what": "what", "verdict": "verdict", "message": "message"}
SLICES = {
    "column": "column",
    "slice": "value",
    "verdict": "verdict",
    "rows": "rows",
    "value": "metric",
    "interval": "interval",
    "reference": "on the holdout",
    "worse_by": "worse by",
    "p_value": "p",
    "reason": "reason",
}


def drift_section(findings: PartitionFindings) -> Section | None:
    """Return the section about drift, column by column, the largest distance first."""
    drift, report = findings.drift, findings.reports.get("drift", {})
    if drift is None:
        return None
    numbers = value_table(
        {
            "rows": drift.rows,
            "rows of the reference": report.get("reference_rows"),
            "rows that the least effect needs": drift.needed,
            "alarm rate": drift.alarm_rate,
            "least effect": report.get("min_effect"),
            "engine": report.get("engine"),
            "threshold": report.get("threshold"),
        }
    )
    columns = [{**entry, "verdict": _verdict(entry, "drifted")} for entry in report.get("columns", ())]
    columns.sort(
        key=lambda entry: (entry["verdict"] != "alarm", -float(entry.get("distance") or 0.0), str(entry["column"]))
    )
    finding_rows = [{**entry, "verdict": _verdict(entry, "alarms")} for entry in report.get("findings", ())]
    tables = [
        numbers,
        *(table_of(COLUMNS, columns),) * bool(columns),
        *(table_of(FINDINGS, finding_rows),) * bool(finding_rows),
    ]
    picture = moved_columns(columns, report.get("min_effect"))
    pictures = tuple(filter(None, [picture, strips_of_columns(columns)]))
    return Section("Inputs", (f"{drift.verdict}: {drift.message}",), tuple(tables), pictures)


def moved_columns(columns: Sequence[Mapping[str, Any]], least: float | None) -> str:
    """Return how far the columns moved as a picture, of the first ``MOST_LINES``; empty where it was not measured."""
    measured = [entry for entry in columns if entry.get("distance") is not None][:MOST_LINES]
    bars = [
        Bar(str(entry["column"]), float(entry["distance"]), entry["verdict"] == "alarm", least) for entry in measured
    ]
    return bar_chart(bars, label="how far each column moved; dashed: the least effect that matters")


def strips_of_columns(columns: Sequence[Mapping[str, Any]]) -> str:
    """Return each column's distance beside those of the reference's own windows as a picture; empty without them."""
    strips = [
        Strip(
            str(entry["column"]),
            float(entry["distance"]),
            tuple(float(usual) for usual in entry["reference_distances"]),
            entry["verdict"] == "alarm",
        )
        for entry in columns
        if entry.get("distance") is not None and entry.get("reference_distances")
    ]
    return distance_strips(
        strips[:MOST_LINES],
        label="how far each column lies from the reference; grey dots: each reference window from the other ones",
    )


def performance_section(findings: PartitionFindings, course: Sequence[MetricPoint] = ()) -> Section | None:
    """Return the section about the metric, with its interval, the holdout and the slices, and its ``course`` so far."""
    performance, report = findings.performance, findings.reports.get("performance", {})
    if performance is None:
        return None
    measured = performance.value is not None
    numbers = value_table(
        {
            "metric": performance.metric,
            "value": performance.value,
            "interval": format_interval(performance.low, performance.high) if measured else None,
            "on the holdout": performance.reference,
            "worse by": performance.worse_by,
            "allowed": performance.limit,
            "p": performance.p_value,
            "labelled rows": performance.rows,
            "scored rows": performance.scored,
        }
    )
    judged = report.get("slices") or (performance.slices or {}).get("worst", [])
    judged = sorted(judged, key=lambda entry: (entry["verdict"] != "alarm", -float(entry.get("worse_by") or 0.0)))
    omitted = len(judged) - MOST_SLICES
    slices = [
        {**entry, "interval": format_interval(entry.get("low"), entry.get("high"))} for entry in judged[:MOST_SLICES]
    ]
    small = sum((report.get("too_small") or {}).values())
    texts = [
        f"{performance.verdict}: {performance.message}",
        *([performance.no_slices] if performance.no_slices else []),
    ]
    if small:
        texts.append(f"{small:,} slices have too few labelled rows to be judged.")
    if omitted > 0:
        texts.append(f"{omitted:,} more slices, none of them worse than these, are in the evidence.")
    picture = metric_chart(course, [], metric=performance.metric)
    tables = (numbers, *(table_of(SLICES, slices),) * bool(slices))
    return Section("Performance", tuple(texts), tables, (picture,) * bool(picture))


def check_sections(findings: PartitionFindings) -> list[Section]:
    """Return a section for each check, with its numbers and the lists of its evidence."""
    sections = []
    for name, check in sorted(findings.checks.items()):
        numbers = check.numbers
        tables = [value_table({key.replace("_", " "): value for key, value in numbers.items()})] if numbers else []
        tables += list_tables(findings.reports.get(f"check {name}", {}))
        sentence = f"{check.verdict}: {check.message}"
        sections.append(Section(f"Check: {name.replace('_', ' ')}", (sentence,), tuple(tables)))
    return sections


def list_tables(report: Mapping[str, Any]) -> list[Table]:
    """Return a table of each list of records in a piece of evidence, of at most ``MOST_LINES`` lines.

    Keys of rows are left out: a page is kept, and must not identify a subject whose data are erased.
    """
    lists = [value for value in report.values() if isinstance(value, list) and value]
    tables = []
    for values in lists:
        if all(isinstance(value, Mapping) for value in values):
            records = values[:MOST_LINES]
            keys = [key for record in records for key in record if key != "key"]
            tables.append(table_of({key: key.replace("_", " ") for key in keys}, records))
    return tables


def _verdict(entry: Mapping[str, Any], alarmed: str) -> str:
    """Return the verdict of a column or of a finding; ``alarmed`` is the key of the flag of entries without one."""
    verdict = entry.get("verdict")
    return str(verdict) if verdict is not None else "alarm" if entry.get(alarmed) else "no alarm"
