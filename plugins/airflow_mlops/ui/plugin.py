"""The Airflow plugin: register the package and its timetable, and serve the stored reports in the UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from airflow_mlops.timetables.zoned_partitions import ZonedPartitionTimetable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PREFIX = "/airflow-mlops"


class LazyPages:
    """The application of :mod:`airflow_mlops.ui.report_pages`, built at the first request.

    Every process of Airflow loads its plugins, and only the API server answers requests: the others skip the imports.
    """

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Answer an ASGI request."""
        await self.app(scope, receive, send)

    @property
    def app(self) -> Any:
        """The FastAPI application."""
        if self._app is None:
            from airflow_mlops.ui.report_pages import reports_app

            self._app = reports_app()
        return self._app


class AirflowMlopsPlugin(AirflowPlugin):
    """The plugin with the timetable, and the pages of reports, which all need a login. It imports nothing heavy."""

    name = "airflow_mlops"
    fastapi_apps = [  # noqa: RUF012  Airflow reads a class attribute
        {"app": LazyPages(), "url_prefix": PREFIX, "name": "airflow-mlops"}
    ]
    timetables = [ZonedPartitionTimetable]  # noqa: RUF012  so that the scheduler can read a Dag with it
