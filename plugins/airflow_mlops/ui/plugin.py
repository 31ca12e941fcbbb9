"""The Airflow plugin: makes the installed package known to Airflow, and serves kept reports in its UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PREFIX = "/airflow-mlops"


class LazyPages:
    """The pages of :mod:`airflow_mlops.ui.report_pages`, made when the first request comes.

    Every process of Airflow loads its plugins, and only the API server answers requests: no other pays for imports.
    """

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Answer a request, as ASGI asks."""
        await self.app(scope, receive, send)

    @property
    def app(self) -> Any:
        """The application itself."""
        if self._app is None:
            from airflow_mlops.ui.report_pages import reports_app

            self._app = reports_app()
        return self._app


class AirflowMlopsPlugin(AirflowPlugin):
    """Registers the package with Airflow, and its pages, each of which asks who is there. It imports nothing heavy."""

    name = "airflow_mlops"
    fastapi_apps = [  # noqa: RUF012  Airflow's own form
        {"app": LazyPages(), "url_prefix": PREFIX, "name": "airflow-mlops"}
    ]
