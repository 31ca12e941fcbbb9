"""Reports of partitions, kept as evidence: a page is stored once, and the ledger says why it was made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from airflow_mlops.core.governance.port import EvidenceStore, Ledger
from airflow_mlops.core.governance.record import Record
from airflow_mlops.core.watch.report.watch_report import watch_report
from airflow_mlops.core.workspace import Workspace

Engine = Literal["own", "evidently"]
HTML = "text/html"


def keep_report(workspace: Workspace, partition: str, why: str) -> str:
    """Draw the page about a partition, keep and record it, and return its digest.

    The same page again changes nothing, so what is recorded is why it was made first.

    Parameters
    ----------
    why : str
        In words: an alarm, or who asked.

    Raises
    ------
    NotReadyError
        If nothing is known of the partition.
    """
    page = watch_report(workspace, partition)
    digest = workspace.evidence.put({"media_type": HTML, "page": page})
    workspace.record_fact(
        workspace.draft(
            "report_rendered", f"report:{partition}:own:{digest[:32]}", partition, evidence=(digest,),
            engine="own", media_type=HTML, report=digest, why=why,
        )
    )  # fmt: skip
    return digest


def newest_report(records: Iterable[Record], partition: str, engine: Engine) -> dict[str, Any] | None:
    """Return the details of the newest report of a partition; None where there is none."""
    of = [one for one in records if one.kind == "report_rendered" and one.partition == partition]
    return next((dict(one.details) for one in reversed(of) if one.details["engine"] == engine), None)


def kept_page(ledger: Ledger, evidence: EvidenceStore, partition: str, engine: Engine) -> str | None:
    """Return the newest kept page about a partition; None where there is none.

    Raises
    ------
    LedgerError
        If its evidence is gone, was changed, or is no page.
    """
    found = newest_report(ledger.records(), partition, engine)
    return None if found is None else page_of(evidence, str(found["report"]))


def page_of(evidence: EvidenceStore, digest: str) -> str:
    """Return the HTML of a kept report; see :func:`kept_page` for the errors."""
    from airflow_mlops.core.errors import LedgerError

    kept = evidence.get(digest)
    if not isinstance(kept, dict) or kept.get("media_type") != HTML:
        raise LedgerError(f"evidence {digest} is no page")
    return str(kept["page"])
