"""The page about a scored partition: what was found of it, with the numbers, and what was decided.

Everything comes from the ledger and its evidence, so the same history gives the same page. Names of columns, values of
categories and words of libraries may hold anything; they are text here and nothing else.
"""

from __future__ import annotations

from airflow_mlops.core.errors import NotReadyError
from airflow_mlops.core.report.found_of_partition import FoundOfPartition
from airflow_mlops.core.report.page_parts import Section, Table
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
    found = FoundOfPartition.of(workspace, partition)
    if not (found.published or found.scored or found.checks):
        raise NotReadyError(f"partition {partition} was neither published nor scored")
    sections = [
        summary(found), drift_section(found), performance_section(found), *check_sections(found),
        *validation_sections(found), rests_on(found),
    ]  # fmt: skip
    return html_page(f"{workspace.loop.model}, partition {partition}", [one for one in sections if one is not None])


def summary(found: FoundOfPartition) -> Section:
    """Return everything that was judged, a line each, and what was decided."""
    rows = [("inputs (drift)", found.drift), ("performance", found.performance), *sorted(found.checks.items())]
    lines = [(name, told(judged["verdict"]), told(judged.get("said"))) for name, judged in rows if judged]
    if found.regret:
        lines.append(("regret", told(found.regret.get("regret")), told(found.regret.get("reason"))))
    tables = [Table(("what", "verdict", "said"), tuple(lines))] if lines else []
    texts = [] if lines else ["Nothing was judged of this partition."]
    if any(judged and judged.get("historical") for _, judged in rows):
        texts.append("Historical: newer partitions were decided on before, so nothing here raises an alarm.")
    decisions = tuple(
        (told(one["trigger"]), "retrain" if one["retrain"] else "no retrain", told(one["cause"]), told(one["reason"]))
        for one in found.decisions
    )
    if decisions:
        tables.append(Table(("asked by", "decided", "cause", "reason"), decisions))
    else:
        texts.append("No decision to retrain was made as of this partition.")
    return Section("What it came to", tuple(texts), tuple(tables))


def rests_on(found: FoundOfPartition) -> Section:
    """Return which rows and which version the page is about, and where the evidence of it is."""
    scored, published = found.scored, found.published
    lines = [
        ("champion that scored it", told(scored.get("champion"))),
        ("snapshot that was scored", told(scored.get("snapshot"))),
        ("snapshot that is published", told(published.get("digest"))),
        *((f"evidence of {name}", digest) for name, digest in sorted(found.digests.items())),
    ]
    other = scored and published and scored.get("snapshot") != published.get("digest")
    texts = ("The partition was published anew since it was scored.",) if other else ()
    lost = tuple(f"The evidence of {name} cannot be read: {why}" for name, why in sorted(found.lost.items()))
    return Section("What this page rests on", (*texts, *lost), (Table(("what", "which"), tuple(lines)),))
