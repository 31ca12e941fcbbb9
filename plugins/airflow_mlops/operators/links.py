"""The buttons of a task in the Airflow UI: the page of its model, and what it made in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class NotedLink(BaseOperatorLink):
    """A button that leads where the task has noted in its ``addresses``, by the name of the button."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address, empty if the task noted none; Airflow calls this in the worker when the task ends."""
        addresses: dict[str, str] = getattr(operator, "addresses", {})
        return addresses.get(self.name, "")


class ModelPageLink(NotedLink):
    """The button that opens the page of the model."""

    name = "Model page"


class MlflowRunLink(NotedLink):
    """The button that opens the run of a training in MLflow."""

    name = "MLflow run"


class MlflowVersionLink(NotedLink):
    """The button that opens a registered version in MLflow."""

    name = "MLflow version"


def mlflow_page(tracking_uri: str, path: str) -> str:
    """Return the address of a page of an MLflow server, without a name and a password; empty if there is no server.

    >>> mlflow_page("http://ann:secret@mlflow.example:5000/", "models/delay/versions/3")
    'http://mlflow.example:5000/#/models/delay/versions/3'
    >>> mlflow_page("sqlite:///mlflow.db", "models/delay/versions/3")
    ''
    """
    server = urlsplit(tracking_uri)
    if server.scheme not in ("http", "https"):
        return ""
    host = server.netloc.rpartition("@")[2]
    return urlunsplit((server.scheme, host, f"{server.path.rstrip('/')}/", "", f"/{path}"))
