"""An MLflow server or store: the client, the experiment of one model, and errors that name both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from airflow_mlops.core.fault_point import write
from airflow_mlops.core.lake import lock_file
from airflow_mlops.core.ports.registry import RegistryUnavailableError, VersionGoneError
from airflow_mlops.core.registry.registry_names import require_model_name

SQLITE = "sqlite:///"
ANSWER_SECONDS = 10.0
"""Timeout of the health check of a server."""


class MlflowServer:
    """MLflow as one model sees it.

    Parameters
    ----------
    uri : str
        ``http://127.0.0.1:5000`` or ``sqlite:////data/mlflow.db``.
    model : str
        Name of the registered model and of its experiment.
    artifact_location : str, optional
        Address of the artefacts of the experiment; the server's own choice if not given.
    """

    def __init__(self, uri: str, model: str, *, artifact_location: str | None = None) -> None:
        self.uri, self.model, self._location = uri, require_model_name(model), artifact_location

    @property
    def is_remote(self) -> bool:
        """Whether it is a server, and no database file."""
        return self.uri.startswith("http")

    @cached_property
    def client(self) -> Any:
        """MLflow's client."""
        from mlflow import MlflowClient

        with lock_database_file(self.uri):
            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def write(self, call: str, /, *arguments: Any, **named: Any) -> Any:
        """Return the answer to a call of MLflow's client that changes the store, between two fault points."""
        return write("mlflow", self.client, call, *arguments, **named)

    def ensure_experiment(self) -> Any:
        """Return the experiment of the model, made if there is none."""
        from mlflow.exceptions import MlflowException

        experiment = self.client.get_experiment_by_name(self.model)
        if experiment is not None:
            return experiment
        try:
            return self.client.get_experiment(
                self.write("create_experiment", self.model, artifact_location=self._location)
            )
        except MlflowException:
            experiment = self.client.get_experiment_by_name(self.model)  # somebody else made it meanwhile
            if experiment is None:
                raise
            return experiment

    def require_answer(self) -> None:
        """Raise RegistryUnavailableError within seconds where a server is down; MLflow's client retries for minutes."""
        if not self.is_remote:
            return
        try:
            httpx.get(f"{self.uri}/health", timeout=ANSWER_SECONDS)
        except httpx.TransportError as error:
            raise RegistryUnavailableError(
                f"{self.model}: MLflow at {self.uri} does not answer: {type(error).__name__}: {error}"
            ) from error

    @contextmanager
    def translate_errors(self, action: str, *, version: str | None = None) -> Iterator[None]:
        """Translate MLflow's errors into one that names the model, the server and the action."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if version is not None and error.error_code == "RESOURCE_DOES_NOT_EXIST" and "Version" in str(error):
                raise VersionGoneError(f"{self.model}: MLflow at {self.uri} has no version {version}") from error
            raise RegistryUnavailableError(f"{self.model}: MLflow at {self.uri} could not {action}: {error}") from error


@contextmanager
def lock_database_file(uri: str) -> Iterator[None]:
    """Lock a database file while it is opened: of two processes that find it empty, MLflow lets both make its tables.

    Nothing is locked for other stores, and in a folder that cannot be written, where no tables can be made.
    """
    file = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or not os.access(file.parent, os.W_OK):
        yield
        return
    with lock_file(file.with_name(f"{file.name}.lock")):
        yield
