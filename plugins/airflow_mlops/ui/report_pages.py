"""The kept reports as pages of the Airflow UI, for those who may read the model's watch Dag.

A report is served from an opaque origin: the browser gives it no cookie, no storage and no address to talk to. Ours
runs nothing; Evidently's runs its own scripts inside that box. Nothing here is drawn: what is served was kept before.

Annotations stay what they are here: as texts, FastAPI would take a guard for a parameter of the address.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response

from airflow_mlops.core.declaration.partition_key import partition_key
from airflow_mlops.core.errors import DataError, LedgerError
from airflow_mlops.core.report.kept_reports import Engine, kept_page
from airflow_mlops.core.report.page_headers import HEADERS, POLICIES

MODEL = r"^[a-z0-9][a-z0-9_-]{0,62}$"


def may_read_watch(model: Annotated[str, Path(pattern=MODEL)], request: Request, user: GetUserDep) -> None:
    """Refuse whoever may not read the watch Dag of the model, and before that whoever is not signed in."""
    requires_access_dag(method="GET", param_dag_id=f"{model}_watch")(request, user)


def reports_app() -> FastAPI:
    """Return the application; it has no route that is not guarded, and none that describes it."""
    app = FastAPI(title="airflow-mlops", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def with_headers(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await go_on(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    guards = [Depends(may_read_watch)]
    app.get("/reports/{model}/{partition}", dependencies=guards)(own_report)
    app.get("/reports/{model}/{partition}/evidently", dependencies=guards)(evidently_report)
    return app


def own_report(model: str, partition: str) -> Response:
    """Answer with our newest kept page about a partition."""
    return answer(model, partition, "own")


def evidently_report(model: str, partition: str) -> Response:
    """Answer with Evidently's newest kept page about a partition."""
    return answer(model, partition, "evidently")


def answer(model: str, partition: str, engine: Engine) -> Response:
    """Return the newest kept page; 404 where there is none, and 500 where it cannot be read as it was kept."""
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
        page = kept_page(SqlLedger(stores.ledger_url, model), evidence, key, engine)
    except LedgerError:
        raise HTTPException(500, "the report cannot be read as it was kept") from None
    if page is None:
        raise HTTPException(404, "no report of this partition was kept")
    return Response(page, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICIES[engine]})
