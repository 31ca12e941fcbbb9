"""Reports of partitions, kept as evidence: a page is stored once, and the ledger records why it was drawn."""

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

    Idempotent: drawing the same page again adds no record, so the recorded reason is the first one.

    Parameters
    ----------
    why : str
        The reason in words: an alarm, or who asked.
    engine : str
        ``own``, or ``evidently``.

    Raises
    ------
    NotReadyError
        If nothing is known of the partition; of Evidently's, if it was not scored or there is nothing to compare.
    DeclarationError
        If Evidently is asked for and not installed.
    """
    from airflow_mlops.core.report.evidently_report import evidently_report, page_inputs

    # Evidently numbers the parts of its page by the clock, so its page is identified by its inputs.
    own = watch_report(workspace, partition) if engine == "own" else None
    identity = page_inputs(workspace, partition) if own is None else own
    operation = f"report:{partition}:{engine}:{hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:32]}"
    recorded = workspace.ledger.recorded(operation)
    if recorded is not None:
        return str(recorded.details.report)
    page = evidently_report(workspace, partition) if own is None else own
    page, parts = extract_scripts(workspace.evidence, page)
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


def alarming_checks(workspace: Workspace, partition: str) -> list[str]:
    """Return the names of the checks that alarmed on a partition; a historical partition has none."""
    return PartitionFindings.from_ledger(workspace, partition).alarms


def newest_report(ledger: Ledger, partition: str, engine: Engine) -> ReportRendered | None:
    """Return the newest report of a partition; None where there is none."""
    reports = ledger.records(ReportRendered, partition=partition, newest_first=True)
    return next((record.details for record in reports if record.details.engine == engine), None)


def newest_page(ledger: Ledger, evidence: EvidenceStore, partition: str, engine: Engine) -> str | None:
    """Return the HTML of the newest report of a partition; None where there is none.

    Raises
    ------
    LedgerError
        If its evidence is gone, was changed, or is no page.
    """
    report = newest_report(ledger, partition, engine)
    return None if report is None else load_page(evidence, report.report)


def load_page(evidence: EvidenceStore, digest: str) -> str:
    """Return the HTML of a kept report; see :func:`newest_page` for the errors."""
    document = evidence.get(digest)
    if not isinstance(document, dict) or document.get("media_type") != HTML:
        raise LedgerError(f"evidence {digest} is no page")
    page = str(document["page"])
    for mark, part in document.get("parts", {}).items():
        page = page.replace(mark, str(evidence.get(part)["text"]), 1)
    return page


def extract_scripts(evidence: EvidenceStore, page: str) -> tuple[str, dict[str, str]]:
    """Keep large scripts of a page as evidence of their own; return the page with marks, and the digests by mark.

    Evidently's library has megabytes and is in each of its pages; it is kept once. No name on a page can be a mark,
    since all names are escaped.
    """
    parts: dict[str, str] = {}
    for piece in page.split("<script>")[1:]:
        script, mark = piece.partition("</script>")[0], f"<!--part {len(parts)}-->"
        if len(script) < LARGE:
            continue
        page = page.replace(script, mark, 1)
        parts[mark] = evidence.put({"media_type": "text/javascript", "text": script})
    return page, parts
