"""Reports of partitions, kept as evidence: a page is stored once, and the ledger says why it was made."""

from __future__ import annotations

import hashlib
from typing import Literal

from airflow_mlops.core.errors import LedgerError
from airflow_mlops.core.ledger.protocols import EvidenceStore, Ledger
from airflow_mlops.core.ledger.record import canonical_json
from airflow_mlops.core.ledger.watch_details import ReportRendered
from airflow_mlops.core.report.partition_findings import PartitionFindings
from airflow_mlops.core.report.watch_report import watch_report
from airflow_mlops.core.workspace import Workspace

Engine = Literal["own", "evidently"]
HTML = "text/html"
LARGE = 500_000
"""Characters from which a script is kept apart from its page."""


def keep_report(workspace: Workspace, partition: str, why: str, *, engine: Engine = "own") -> str:
    """Draw the page about a partition, keep and record it, and return its digest.

    The same page again changes nothing, so what is recorded is why it was made first.

    Parameters
    ----------
    why : str
        In words: an alarm, or who asked.
    engine : str
        Whose page: ``own``, or ``evidently``.

    Raises
    ------
    NotReadyError
        If nothing is known of the partition; of Evidently's, if it was not scored or there is nothing to compare.
    DeclarationError
        If Evidently is asked for and not installed.
    """
    from airflow_mlops.core.report.evidently_report import drawn_from, evidently_report

    # Evidently numbers the parts of its page by the clock, so what the page is drawn from names it.
    own = watch_report(workspace, partition) if engine == "own" else None
    named = drawn_from(workspace, partition) if own is None else own
    operation = f"report:{partition}:{engine}:{hashlib.sha256(canonical_json(named).encode()).hexdigest()[:32]}"
    known = workspace.ledger.recorded(operation)
    if known is not None:
        return str(known.details.report)
    page = evidently_report(workspace, partition) if own is None else own
    page, parts = without_parts(workspace.evidence, page)
    digest = workspace.evidence.put({"media_type": HTML, "page": page, "parts": parts})
    record = workspace.record_fact(
        workspace.draft(
            ReportRendered(engine=engine, report=digest, media_type=HTML, why=why),
            operation,
            partition,
            evidence=(digest, *parts.values()),
        )
    )
    return record.details.report


def alarms_on(workspace: Workspace, partition: str) -> list[str]:
    """Return what alarmed on a partition, by its name; of a historical one nothing does."""
    return PartitionFindings.recorded(workspace, partition).alarms


def newest_report(ledger: Ledger, partition: str, engine: Engine) -> ReportRendered | None:
    """Return the newest report of a partition; None where there is none."""
    reports = ledger.records(ReportRendered, partition=partition, newest_first=True)
    return next((record.details for record in reports if record.details.engine == engine), None)


def kept_page(ledger: Ledger, evidence: EvidenceStore, partition: str, engine: Engine) -> str | None:
    """Return the newest kept page about a partition; None where there is none.

    Raises
    ------
    LedgerError
        If its evidence is gone, was changed, or is no page.
    """
    report = newest_report(ledger, partition, engine)
    return None if report is None else page_of(evidence, report.report)


def page_of(evidence: EvidenceStore, digest: str) -> str:
    """Return the HTML of a kept report; see :func:`kept_page` for the errors."""
    kept = evidence.get(digest)
    if not isinstance(kept, dict) or kept.get("media_type") != HTML:
        raise LedgerError(f"evidence {digest} is no page")
    page = str(kept["page"])
    for mark, part in kept.get("parts", {}).items():
        page = page.replace(mark, str(evidence.get(part)["text"]), 1)
    return page


def without_parts(evidence: EvidenceStore, page: str) -> tuple[str, dict[str, str]]:
    """Return a page without the scripts that are the same in every report, and the digests of those by their marks.

    Evidently's library is megabytes and stands in each of its pages; it is kept once. A mark is no text that a name
    could be: all names on a page are escaped.
    """
    parts: dict[str, str] = {}
    for piece in page.split("<script>")[1:]:
        script, mark = piece.partition("</script>")[0], f"<!--part {len(parts)}-->"
        if len(script) < LARGE:
            continue
        page = page.replace(script, mark, 1)
        parts[mark] = evidence.put({"media_type": "text/javascript", "text": script})
    return page, parts
