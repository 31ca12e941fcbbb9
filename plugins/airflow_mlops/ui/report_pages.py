"""Serve stored reports in the Airflow UI to users who may read the model's watch Dag.

A report has an opaque origin: the browser gives it no cookies, no storage and no network. Our own report runs no
scripts; Evidently's runs its own scripts in that sandbox. Pages are not rendered here but read from the evidence.

This module does not postpone annotations: FastAPI would read a guard in text form as a parameter of the address.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response

from airflow_mlops.core.declaration.partition_key import partition_key
from airflow_mlops.core.errors import DataError, LedgerError
from airflow_mlops.core.report.kept_reports import Engine, newest_page
from airflow_mlops.core.report.page_headers import HEADERS, POLICIES

MODEL = r"^[a-z0-9][a-z0-9_-]{0,62}$"


def require_watch_access(model: Annotated[str, Path(pattern=MODEL)], request: Request, user: GetUserDep) -> None:
    """Raise HTTP 401 or 403 unless the user is signed in and may read the watch Dag of the model."""
    requires_access_dag(method="GET", param_dag_id=f"{model}_watch")(request, user)


def reports_app() -> FastAPI:
    """Return the application; every route is guarded, and there are no routes of documentation."""
    app = FastAPI(title="airflow-mlops", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    guards = [Depends(require_watch_access)]
    app.get("/reports/{model}/{partition}", dependencies=guards)(own_report)
    app.get("/reports/{model}/{partition}/evidently", dependencies=guards)(evidently_report)
    return app


def own_report(model: str, partition: str) -> Response:
    """Answer with our newest stored report of a partition."""
    return read_report(model, partition, "own")


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
