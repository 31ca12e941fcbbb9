"""The page about a scored partition: its checks with their numbers, and the decisions on a retrain.

Everything comes from the ledger and its evidence, so the same history gives the same page. Names of columns, values of
categories and words of libraries may hold anything; they are text here and nothing else.
"""

from __future__ import annotations

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.overview.model_history import metric_points
from airflow_mlops.core.report.page_parts import Section, Table
from airflow_mlops.core.report.partition_findings import PartitionFindings
from airflow_mlops.core.report.report_numbers import format_value
from airflow_mlops.core.report.report_page import html_page
from airflow_mlops.core.report.sections_of_validation import validation_sections
from airflow_mlops.core.report.sections_of_watch import check_sections, drift_section, performance_section
from airflow_mlops.core.workspace import Workspace

COURSE = 26
"""Partitions of the picture of the metric, up to the one that the page is about."""


def watch_report(workspace: Workspace, partition: str) -> str:
    """Return the page about a partition, as HTML.

    Raises
    ------
    NotReadyError
        If nothing is known of the partition.
    """
    findings = PartitionFindings.read(workspace, partition)
    if not (findings.published or findings.scored or findings.checks):
        raise NotReadyError(f"partition {partition} was neither published nor scored")
    sections = [
        summary_section(findings),
        drift_section(findings),
        performance_section(findings, metric_points(workspace.state(), until=partition, partitions=COURSE)),
        *check_sections(findings),
        *validation_sections(findings),
        provenance_section(findings),
    ]
    return html_page(
        f"{workspace.loop.model}, partition {partition}", [section for section in sections if section is not None]
    )


def summary_section(findings: PartitionFindings) -> Section:
    """Return the section with a line for each check and each decision."""
    rows = [("inputs (drift)", findings.drift), ("performance", findings.performance), *sorted(findings.checks.items())]
    judged = [(name, part) for name, part in rows if part is not None]
    lines = [(name, format_value(part.verdict), format_value(part.message)) for name, part in judged]
    if findings.regret:
        lines.append(("regret", format_value(findings.regret.regret), format_value(findings.regret.message)))
    tables = [Table(("what", "verdict", "message"), tuple(lines))] if lines else []
    texts = [] if lines else ["Nothing was judged of this partition."]
    if any(part.historical for _, part in judged):
        texts.append(
            "Historical: newer partitions were decided on before, so nothing here raises an alarm. If the partition "
            "only came out of order, airflow-mlops judge judges it as in the order of the keys."
        )
    decisions = tuple(
        (
            format_value(decision.trigger),
            "retrain" if decision.retrain else "no retrain",
            format_value(decision.cause),
            format_value(decision.reason),
        )
        for decision in findings.decisions
    )
    if decisions:
        tables.append(Table(("asked by", "decided", "cause", "reason"), decisions))
    else:
        texts.append("No decision to retrain was made as of this partition.")
    return Section("What it came to", tuple(texts), tuple(tables))


def provenance_section(findings: PartitionFindings) -> Section:
    """Return the section with the snapshot and the version that the page is about, and the digests of its evidence."""
    scored, published = findings.scored, findings.published
    lines = [
        ("champion that scored it", format_value(scored and scored.champion)),
        ("snapshot that was scored", format_value(scored and scored.snapshot)),
        ("snapshot that is published", format_value(published and published.digest)),
        *((f"evidence of {name}", digest) for name, digest in sorted(findings.digests.items())),
    ]
    other = scored and published and scored.snapshot != published.digest
    texts = ("The partition was published anew since it was scored.",) if other else ()
    unreadable = tuple(
        f"The evidence of {name} cannot be read: {reason}" for name, reason in sorted(findings.lost.items())
    )
    return Section("What this page rests on", (*texts, *unreadable), (Table(("what", "which"), tuple(lines)),))
