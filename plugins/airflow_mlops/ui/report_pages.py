"""Serve stored reports in the Airflow UI to users who may read the model's watch Dag.

A report has an opaque origin: the browser gives it no cookies, no storage and no network. Our own report runs no
scripts; Evidently's runs its own scripts in that sandbox. Pages are not rendered here but read from the evidence.

This module does not postpone annotations: FastAPI would read a guard in text form as a parameter of the address.
"""

import re

from fastapi import APIRouter, Depends, HTTPException, Response

from airflow_mlops.core.declaration.partition_key import partition_key
from airflow_mlops.core.errors import DataError, LedgerError
from airflow_mlops.core.report.kept_reports import Engine, newest_page
from airflow_mlops.core.report.page_headers import POLICIES
from airflow_mlops.ui.guards import MODEL, require_watch_access

router = APIRouter()


@router.get("/reports/{model}/{partition}", dependencies=[Depends(require_watch_access)])
def own_report(model: str, partition: str) -> Response:
    """Answer with our newest stored report of a partition."""
    return read_report(model, partition, "own")


@router.get("/reports/{model}/{partition}/evidently", dependencies=[Depends(require_watch_access)])
def evidently_report(model: str, partition: str) -> Response:
    """Answer with Evidently's newest stored report of a partition."""
    return read_report(model, partition, "evidently")


def read_report(model: str, partition: str, engine: Engine) -> Response:
    """Return the newest stored page; 404 if there is none, 500 if it cannot be read or was changed."""
    from airflow_mlops.core.ledger.evidence_files import EvidenceFiles
    from airflow_mlops.core.ledger.sql_ledger import SqlLedger
    from airflow_mlops.hooks.workspace import WorkspaceHook

    if not re.fullmatch(MODEL, model):
        raise HTTPException(404, "no such model")
    try:
        key = partition_key(partition)
    except DataError:
        raise HTTPException(404, "no such partition") from None
    stores = WorkspaceHook().stores()
    try:
        evidence = EvidenceFiles(stores.lake / model / "evidence")
        page = newest_page(SqlLedger(stores.ledger_url, model), evidence, key, engine)
    except LedgerError:
        raise HTTPException(500, "the report cannot be read as it was kept") from None
    if page is None:
        raise HTTPException(404, "no report of this partition was kept")
    return Response(page, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICIES[engine]})
