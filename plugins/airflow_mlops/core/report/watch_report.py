"""The page about a scored partition: what was found of it, with the numbers, and what was decided.

Everything comes from the ledger and its evidence, so the same history gives the same page. Names of columns, values of
categories and words of libraries may hold anything; they are text here and nothing else.
"""

from __future__ import annotations

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.report.page_parts import Section, Table
from airflow_mlops.core.report.partition_findings import PartitionFindings
from airflow_mlops.core.report.report_numbers import told
from airflow_mlops.core.report.report_page import html_page
from airflow_mlops.core.report.sections_of_validation import validation_sections
from airflow_mlops.core.report.sections_of_watch import check_sections, drift_section, performance_section
from airflow_mlops.core.workspace import Workspace


def watch_report(workspace: Workspace, partition: str) -> str:
    """Return the page about a partition, as HTML.

    Raises
    ------
    NotReadyError
        If nothing is known of the partition.
    """
    found = PartitionFindings.read(workspace, partition)
    if not (found.published or found.scored or found.checks):
        raise NotReadyError(f"partition {partition} was neither published nor scored")
    sections = [
        summary(found), drift_section(found), performance_section(found), *check_sections(found),
        *validation_sections(found), rests_on(found),
    ]  # fmt: skip
    return html_page(f"{workspace.loop.model}, partition {partition}", [one for one in sections if one is not None])


def summary(found: PartitionFindings) -> Section:
    """Return everything that was judged, a line each, and what was decided."""
    rows = [("inputs (drift)", found.drift), ("performance", found.performance), *sorted(found.checks.items())]
    judged = [(name, part) for name, part in rows if part is not None]
    lines = [(name, told(part.verdict), told(part.message)) for name, part in judged]
    if found.regret:
        lines.append(("regret", told(found.regret.regret), told(found.regret.message)))
    tables = [Table(("what", "verdict", "said"), tuple(lines))] if lines else []
    texts = [] if lines else ["Nothing was judged of this partition."]
    if any(part.historical for _, part in judged):
        texts.append("Historical: newer partitions were decided on before, so nothing here raises an alarm.")
    decisions = tuple(
        (
            told(decision.trigger),
            "retrain" if decision.retrain else "no retrain",
            told(decision.cause),
            told(decision.reason),
        )
        for decision in found.decisions
    )
    if decisions:
        tables.append(Table(("asked by", "decided", "cause", "reason"), decisions))
    else:
        texts.append("No decision to retrain was made as of this partition.")
    return Section("What it came to", tuple(texts), tuple(tables))


def rests_on(found: PartitionFindings) -> Section:
    """Return which rows and which version the page is about, and where the evidence of it is."""
    scored, published = found.scored, found.published
    lines = [
        ("champion that scored it", told(scored and scored.champion)),
        ("snapshot that was scored", told(scored and scored.snapshot)),
        ("snapshot that is published", told(published and published.digest)),
        *((f"evidence of {name}", digest) for name, digest in sorted(found.digests.items())),
    ]
    other = scored and published and scored.snapshot != published.digest
    texts = ("The partition was published anew since it was scored.",) if other else ()
    lost = tuple(f"The evidence of {name} cannot be read: {why}" for name, why in sorted(found.lost.items()))
    return Section("What this page rests on", (*texts, *lost), (Table(("what", "which"), tuple(lines)),))
