"""The Airflow plugin: register the package and its timetable, and serve the pages of models and reports in the UI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from airflow_mlops.timetables.zoned_partitions import ZonedPartitionTimetable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PREFIX = "/airflow-mlops"


class LazyPages:
    """The application of :mod:`airflow_mlops.ui.pages_app`, built at the first request.

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
            from airflow_mlops.ui.pages_app import pages_app

            self._app = pages_app()
        return self._app


def external_views() -> list[dict[str, Any]]:
    """Return where Airflow shows the pages: in its navigation, and beside each Dag, run and task."""
    from urllib.parse import urlsplit

    from airflow.configuration import conf

    prefix = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + PREFIX
    views: list[dict[str, Any]] = [
        {"name": "Models", "href": f"{prefix}/models", "destination": "nav", "url_route": "mlops_models"}
    ]
    return views + [
        {"name": "Model", "href": f"{prefix}/dags/{{DAG_ID}}", "destination": place, "url_route": f"mlops_{place}"}
        for place in ("dag", "dag_run", "task")
    ]


class AirflowMlopsPlugin(AirflowPlugin):
    """The plugin with the timetable, and the pages, which all need a login. It imports nothing heavy."""

    name = "airflow_mlops"
    fastapi_apps = [  # noqa: RUF012  Airflow reads a class attribute
        {"app": LazyPages(), "url_prefix": PREFIX, "name": "airflow-mlops"}
    ]
    external_views = external_views()
    timetables = [ZonedPartitionTimetable]  # noqa: RUF012  so that the scheduler can read a Dag with it
