"""The application of the plugin: every page is guarded, locked by its headers, and none describes the others."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.gzip import GZipMiddleware

from airflow_mlops.core.errors import MlopsError
from airflow_mlops.core.report.page_headers import HEADERS
from airflow_mlops.ui import approval_pages, model_pages, quarantine_pages, report_pages


def pages_app() -> FastAPI:
    """Return the application; there are no routes of documentation."""
    app = FastAPI(title="airflow-mlops", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    app.add_middleware(GZipMiddleware, minimum_size=2_000, compresslevel=5)
    app.include_router(report_pages.router)
    app.include_router(model_pages.router)
    app.include_router(approval_pages.router)
    app.include_router(quarantine_pages.router)
    app.add_exception_handler(MlopsError, model_pages.readable_error)
    app.add_exception_handler(HTTPException, model_pages.http_error)
    app.add_exception_handler(RequestValidationError, model_pages.invalid_request)
    return app
